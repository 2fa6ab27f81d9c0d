"""Answers from inside of an encoder: a classifier behind each layer but the last, fitted to a run that has ended.

The encoder stays as it is, and each layer's pooled output goes through a softmax regression of its own: DeeBERT's
second stage (Xin et al., "DeeBERT: dynamic early exiting for accelerating BERT inference", 2020, section 3.2), where
the layers are frozen, too.
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

# Training examples that are learned from: ten for each number of a layer 384 wide. Each costs a forward pass.
_EXAMPLES = 4000
# The inverse of the L2 penalty, for inputs of variance 1. Small: the encoder has seen these examples, so that its upper
# layers tell them apart better than new ones, and a weak penalty would take that at its word. It matters little: at a
# risk of 0.01 a MiniLM computes 4.5, 4.1 and 3.9 layers for SST-2's validation split with 0.001, 0.01 and 0.1.
_STRENGTH = 0.01
# A logit of a class that no training example has.
_ABSENT = -30.0


@dataclasses.dataclass(frozen=True)
class ExitHeads:
    """The classifiers.

    Attributes:
        weights: float64 `[exits, width, classes]`.
        biases: float64 `[exits, classes]`.
        model: digest of the weights of the model that they belong to.
        examples: of the training split, that they were fitted to.
    """

    weights: np.ndarray
    biases: np.ndarray
    model: str
    examples: int

    def logits(self, number: int, pooled: np.ndarray) -> np.ndarray:
        """What follows a layer's pooled output `[rows, width]`: float64 `[rows, classes]`.

        Raises:
            NonFinite: the layer's output is.
        """
        found = pooled.astype(np.float64) @ self.weights[number] + self.biases[number]
        if not np.isfinite(found).all():
            raise NonFinite(f"the output of layer {number} is not finite; expected a trained model")
        return found

    def save(self, workdir: str | Path) -> None:
        """Writes them beside a run, in one stroke; model.keras stays as it is.

        Raises:
            BadInput: the file cannot be written.
        """
        found = {"model": self.model, "examples": self.examples}
        found |= {"weights": self.weights.tolist(), "biases": self.biases.tolist()}
        files.write(files.absolute(workdir) / NAME, json.dumps(found) + "\n")


def load(workdir: str | Path, predictor: TextClassifier) -> ExitHeads:
    """The exits that `ExitHeads.save` left beside a run.

    Args:
        workdir: of the run.
        predictor: `predictor.load(workdir)`.

    Raises:
        BadInput: there are none, or they are damaged or another model's.
    """
    path = files.absolute(workdir) / NAME
    found = folders.read_json(path.parent, NAME)
    try:
        weights, biases = (np.array(found[name], np.float64) for name in ("weights", "biases"))
        exits = ExitHeads(weights, biases, found["model"], int(found["examples"]))
        layered = LayerwiseEncoder(predictor.model)
        good = weights.shape == (layered.layers - 1, layered.width, len(predictor.classes))
        good = good and biases.shape == (len(weights), len(predictor.classes))
        good = good and bool(np.isfinite(weights).all() and np.isfinite(biases).all())
    except (KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise BadInput(f"{path} is damaged: remove it, and fit the exits again")
    if exits.model != digest(predictor.model):
        raise BadInput(f"{path} belongs to another model than {folders.MODEL}: remove it, and fit the exits again")
    return exits


def of_run(workdir: str | Path, predictor: TextClassifier, save: bool = False) -> ExitHeads:
    """The exits beside a run, else fitted to its own training split.

    Args:
        workdir: of the run.
        predictor: `predictor.load(workdir)`.
        save: whether to write those that had to be fitted beside the run.

    Raises:
        BadInput: the run's data cannot be read any more, the model has no layers to leave out, or the file is damaged.
    """
    workdir = files.absolute(workdir)
    if os.path.lexists(workdir / NAME):
        return load(workdir, predictor)
    LayerwiseEncoder(predictor.model)
    train = run_data.run_texts(folders.read_run(workdir)).train
    found = fit(predictor, run_data.as_examples(predictor, train), train.labels)
    if save:
        found.save(workdir)
    return found


def fit(
    predictor: TextClassifier, texts: Sequence[Example], labels: np.ndarray, examples: int = _EXAMPLES, seed: int = 0
) -> ExitHeads:
    """Fits a softmax regression to what each layer but the last makes of the training texts.

    Args:
        predictor: whose model stays as it is.
        texts: of the training split.
        labels: int `[texts]`.
        examples: texts that are drawn of them at most.
        seed: of the draw.

    Raises:
        BadInput: the model has no layers to leave out, or the texts are of one class.
    """
    layered = LayerwiseEncoder(predictor.model)
    chosen = np.random.default_rng(seed).permutation(len(texts))[:examples]
    labels = np.asarray(labels)[chosen]
    if len(np.unique(labels)) < 2:
        raise BadInput(f"exits are fitted to {len(chosen)} training texts of one class; expected two classes or more")
    pooled, _ = layered.everything(predictor, [texts[index] for index in chosen])
    found = [_regression(each, labels, len(predictor.classes)) for each in pooled]
    weights, biases = (np.stack(part) for part in zip(*found))
    return ExitHeads(weights, biases, digest(predictor.model), len(chosen))


def _regression(pooled: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[width, classes]` and biases `[classes]` of a softmax regression."""
    from sklearn.linear_model import LogisticRegression

    pooled = pooled.astype(np.float64)
    mean, scale = pooled.mean(axis=0), pooled.std(axis=0)
    # A column that never changes says nothing.
    scale = np.where(scale > 0, scale, 1.0)
    fitted = LogisticRegression(C=_STRENGTH, max_iter=1000).fit((pooled - mean) / scale, labels)
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if kernel.shape[1] == 1:
        # Of two classes there is the second one's.
        kernel, bias = two_class_logits(kernel), two_class_logits(bias)
    weights, biases = np.zeros((pooled.shape[1], classes)), np.full(classes, _ABSENT)
    weights[:, fitted.classes_] = kernel / scale[:, None]
    biases[fitted.classes_] = bias - mean @ (kernel / scale[:, None])
    return weights, biases
