"""T3A (`--refine=t3a`): the last layer's weights are replaced by class prototypes that follow the stream.

Iwasawa and Matsuo, "Test-time classifier adjustment module for model-agnostic domain generalization", 2021, section 3.
Each class has a support set: its weight vector in the last layer, and the features of the recent examples that are
predicted to be of it, of which those of low entropy are kept. The prototype is their mean direction, and the logit of a
class the product of an example's features with it. Two differences: the support sets are made again from the recent
examples at each batch, as features change with the model; and one factor brings the logits to the model's scale, for
the stages on the output, which changes no prediction.

Such logits lie elsewhere than the model's. So their score is relative to validation's logits by the same prototypes.
On damaged training images of MNIST and Fashion-MNIST prototypes helped a model as it was trained, for the most part
(noise, fog), and harmed on unshifted images and after the statistics had been fitted; the score told neither. So they
are left out there.
"""

from typing import Any

import numpy as np

from zoo.adaptation import guards
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages.features import last_features
from zoo.engine.state import array
from zoo.metrics import temperature_scaling
from zoo.metrics.logits import softmax
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

_TINY = 1e-12


# Median relative distance of the logits (see guards.py), about 1 without a shift. 400 images stay below 1.5.
_SHIFTED = 2.0


class T3a:
    """Answers by prototypes.

    Args:
        kept: examples of lowest entropy that each support set keeps (the paper's M; it chooses among 1, 5, 20, 50, 100
            and all on data of the source).
        limit: score after / before above which the model's own logits are kept: nearly all gains were below 1.05.
            None: prototypes always, as in the paper.
    """

    name, target, max_score_ratio, restarts_each_batch = "t3a", "model", None, False

    def __init__(self, kept: int = 20, limit: float | None = 1.05):
        self._kept, self.limit = kept, limit

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Reads the last layer's weights, and their scale on the validation split.

        Raises:
            BadInput: the last layer is not a dense layer of one input.
        """
        self._features = last_features(predictor, "--refine=t3a")
        kernel = array(predictor.model.layers[-1].kernel).astype(np.float64)  # [width, classes]
        # One logit of two classes: its negative is that of the other one.
        self._weights = np.concatenate([-kernel, kernel], axis=1).T if kernel.shape[1] == 1 else kernel.T
        self._prototypes = None
        self._source, self._source_features = source, self._read(source.examples)
        logits = self._source_features @ _normalized(self._weights).T
        temperatures = [temperature_scaling.temperature(each, source.labels) for each in (logits, source.logits)]
        self._scale = temperatures[1].temperature / temperatures[0].temperature
        self._guards = guards.Guards(source)

    def propose(self, context: StreamContext) -> str:
        """Makes the support sets of the recent examples, and their prototypes."""
        self._prototypes = None
        if self.limit is not None and context.changed:
            return "another stage has changed the model or its input"
        if self.limit is not None and self._guards.median_relative_distance(context.logits) < _SHIFTED:
            return "the logits have not shifted"
        features = self._read(context.recent)
        found = prototypes(self._weights, features, context.logits, self._kept)
        validation = HeldOut(None, self._source.labels, self._scale * (self._source_features @ found.T))
        after = guards.Guards(validation).score(self._scale * (features @ found.T))
        ratio = after.ratio_to(self._guards.score(context.logits))
        if self.limit is not None and not ratio < self.limit:
            return f"expected error times distance: after / before is {ratio:.2f}, limit {self.limit}"
        self._prototypes = found
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Products of features and prototypes; `inner`'s logits while there are none."""
        if self._prototypes is None:
            return inner(examples)
        return self._scale * (self._read(examples) @ self._prototypes.T)

    def state(self) -> np.ndarray | None:
        """The prototypes `[classes, width]`."""
        return self._prototypes

    def load(self, state: np.ndarray | None) -> None:
        """Sets them."""
        self._prototypes = state

    def _read(self, examples: Any) -> np.ndarray:
        return self._features.logits(examples).astype(np.float64)  # [examples, width]


def prototypes(weights: np.ndarray, features: np.ndarray, logits: np.ndarray, kept: int) -> np.ndarray:
    """Mean directions `[classes, width]` of the support sets, of length 1.

    Args:
        weights: the last layer's, `[classes, width]`: the first member of each support set.
        features: `[examples, width]`.
        logits: the examples' by the model, `[examples, classes]`.
        kept: members of lowest entropy that a set keeps.
    """
    supports = _normalized(np.concatenate([weights, features]))
    # The weights are classified like features, without the bias.
    probabilities = softmax(np.concatenate([weights @ weights.T, logits]))
    entropies = -np.sum(probabilities * np.log(np.maximum(probabilities, _TINY)), axis=1)
    classes = np.concatenate([np.arange(len(weights)), logits.argmax(axis=1)])
    sums = []
    for number in range(len(weights)):
        members = np.flatnonzero(classes == number)
        sums.append(supports[members[np.argsort(entropies[members], kind="stable")[:kept]]].sum(axis=0))
    return _normalized(np.stack(sums))


def _normalized(vectors: np.ndarray) -> np.ndarray:
    """Vectors `[..., width]` of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY)
