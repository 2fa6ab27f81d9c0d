"""Exit heads: a classifier after each layer of a trained encoder but the last.

The encoder is frozen, and each layer's pooled output has its own softmax regression, as in DeeBERT's second stage (Xin
et al., "DeeBERT: dynamic early exiting for accelerating BERT inference", 2020, section 3.2).
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo import files
from zoo import workdir as folders
from zoo.errors import BadInput, NonFinite
from zoo.metrics.logits import two_class_logits
from zoo.predict.early_exit.layerwise_encoder import LayerwiseEncoder
from zoo.predict.evaluation import run_data
from zoo.predict.predictors.cloning import digest
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.predict.predictors.text_inputs import Example

NAME = "exits.json"

# Training examples to fit to: ten for each number of a layer 384 wide. Each costs a forward pass.
_EXAMPLES = 4000
# Inverse of the L2 penalty, for inputs of variance 1. Small, as the encoder was trained on these examples: its upper
# layers separate them better than new ones, and a weak penalty would overfit to that. It matters little: at a risk of
# 0.01 a MiniLM computes 4.5, 4.1 and 3.9 layers for SST-2's validation split with 0.001, 0.01 and 0.1.
_STRENGTH = 0.01
# The logit of a class without training examples.
_ABSENT = -30.0


@dataclasses.dataclass(frozen=True)
class ExitHeads:
    """The classifiers after the layers.

    Attributes:
        weights: float64 `[exits, width, classes]`.
        biases: float64 `[exits, classes]`.
        model: digest of the weights of their model.
        examples: number of training examples that they were fitted to.
    """

    weights: np.ndarray
    biases: np.ndarray
    model: str
    examples: int

    def logits(self, number: int, pooled: np.ndarray) -> np.ndarray:
        """Logits float64 `[rows, classes]` from a layer's pooled output `[rows, width]`.

        Raises:
            NonFinite: the layer's output is not finite.
        """
        logits = pooled.astype(np.float64) @ self.weights[number] + self.biases[number]
        if not np.isfinite(logits).all():
            raise NonFinite(f"the output of layer {number} is not finite; expected a trained model")
        return logits

    def save(self, workdir: str | Path) -> None:
        """Writes the exit heads into a run's folder, atomically; model.keras does not change.

        Raises:
            BadInput: the file cannot be written.
        """
        fields = {"model": self.model, "examples": self.examples}
        fields |= {"weights": self.weights.tolist(), "biases": self.biases.tolist()}
        files.write(files.absolute(workdir) / NAME, json.dumps(fields) + "\n")


def load(workdir: str | Path, predictor: TextClassifier) -> ExitHeads:
    """The exit heads that `ExitHeads.save` wrote into a run's folder.

    Args:
        workdir: folder of the run.
        predictor: the run's classifier, `zoo.load(workdir)`.

    Raises:
        BadInput: the file is missing or damaged, or belongs to another model.
    """
    path = files.absolute(workdir) / NAME
    fields = folders.read_json(path.parent, NAME)
    try:
        weights, biases = (np.array(fields[name], np.float64) for name in ("weights", "biases"))
        exits = ExitHeads(weights, biases, fields["model"], int(fields["examples"]))
        encoder = LayerwiseEncoder(predictor.model)
        good = weights.shape == (encoder.layers - 1, encoder.width, len(predictor.classes))
        good = good and biases.shape == (len(weights), len(predictor.classes))
        good = good and bool(np.isfinite(weights).all() and np.isfinite(biases).all())
    except (KeyError, TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise BadInput(f"{path} is damaged: remove it, and fit the exits again")
    if exits.model != digest(predictor.model):
        raise BadInput(f"{path} belongs to another model than {folders.MODEL}: remove it, and fit the exits again")
    return exits


def load_or_fit(workdir: str | Path, predictor: TextClassifier, save: bool = False) -> ExitHeads:
    """The exit heads in a run's folder; if there are none, new ones fitted to the run's training split.

    Args:
        workdir: folder of the run.
        predictor: the run's classifier, `zoo.load(workdir)`.
        save: whether to write fitted heads into the folder.

    Raises:
        BadInput: the run's data cannot be read any more, the model has no layers to skip, or the file is damaged.
    """
    workdir = files.absolute(workdir)
    if os.path.lexists(workdir / NAME):
        return load(workdir, predictor)
    LayerwiseEncoder(predictor.model)
    train = run_data.run_texts(folders.read_run(workdir)).train
    exits = fit(predictor, run_data.as_examples(predictor, train), train.labels)
    if save:
        exits.save(workdir)
    return exits


def fit(
    predictor: TextClassifier, texts: Sequence[Example], labels: np.ndarray, examples: int = _EXAMPLES, seed: int = 0
) -> ExitHeads:
    """Fits a softmax regression to the pooled output of each layer but the last on training texts.

    Args:
        predictor: the run's classifier; its model does not change.
        texts: training texts.
        labels: int `[texts]`.
        examples: most texts to fit to, drawn at random.
        seed: seed of the draw.

    Raises:
        BadInput: the model has no layers to skip, or the texts are of one class.
    """
    encoder = LayerwiseEncoder(predictor.model)
    chosen = np.random.default_rng(seed).permutation(len(texts))[:examples]
    labels = np.asarray(labels)[chosen]
    if len(np.unique(labels)) < 2:
        raise BadInput(f"exits are fitted to {len(chosen)} training texts of one class; expected two classes or more")
    pooled, *_ = encoder.all_layers(predictor, [texts[index] for index in chosen])
    heads = [_regression(each, labels, len(predictor.classes)) for each in pooled]
    weights, biases = (np.stack(part) for part in zip(*heads))  # [exits, width, classes], [exits, classes]
    return ExitHeads(weights, biases, digest(predictor.model), len(chosen))


def _regression(pooled: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[width, classes]` and biases `[classes]` of a softmax regression."""
    from sklearn.linear_model import LogisticRegression

    pooled = pooled.astype(np.float64)
    mean, scale = pooled.mean(axis=0), pooled.std(axis=0)
    # A constant column has no information.
    scale = np.where(scale > 0, scale, 1.0)
    fitted = LogisticRegression(C=_STRENGTH, max_iter=1000).fit((pooled - mean) / scale, labels)
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if kernel.shape[1] == 1:
        # With two classes scikit-learn fits the second one's logit alone.
        kernel, bias = two_class_logits(kernel), two_class_logits(bias)
    weights, biases = np.zeros((pooled.shape[1], classes)), np.full(classes, _ABSENT)
    weights[:, fitted.classes_] = kernel / scale[:, None]
    biases[fitted.classes_] = bias - mean @ (kernel / scale[:, None])
    return weights, biases
