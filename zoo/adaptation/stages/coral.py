"""Correlation alignment (`--refine=coral`): the model learns from labelled images that look like the stream.

Sun, Feng and Saenko, "Return of frustratingly easy domain adaptation", 2016. The validation images, whose labels are
known, are recoloured until their mean, spectrum and covariance are those of the recent images (recolouring.py), and a
copy of the model is trained on them for a few hundred steps. The class proportions of the recent images come from
class_proportions.py, so that a stream of one class does no harm.

What the copy is worth can be estimated better than for other changes. A fifth of the recoloured images is held out: the
threshold of its confidences that tells right from wrong (average thresholded confidence: Garg et al., 2022) is that of
the shifted data, not of the clean ones. Where the stream is shifted in a way that recolouring cannot imitate, rotated
for example, the copy is unsure of the stream's images and sure of the recoloured ones, and the change is refused.

Where copy and model mostly agree, both answer: they have seen the classes in different ways, and err less together (an
ensemble: Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep ensembles", 2017).
"""

from typing import Any

import keras
import numpy as np

from zoo.adaptation import guards, image_inputs
from zoo.adaptation.distinct_examples import distinct
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages import normalization
from zoo.adaptation.stages.input_shift import SHIFTED, InputShift
from zoo.adaptation.stages.recoloured_training import RecolouredTraining
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# Fewer different recent images tell too little of a covariance; fewer labelled ones would be learned by heart.
_FEWEST, _FEWEST_SOURCE = 32, 200
# Score after / before. Above the first, on lightly damaged training images, losses were as frequent as gains; where the
# score before is at least ten times validation's, there is more to gain than to lose, and the second counts.
_LIMIT, _LIMIT_FAR, _FAR = 0.4, 0.65, 10.0
# Share of the recent images on which copy and model agree, from which both answer, and the copy's weight then. Chosen
# on damaged training images of two networks: where they agree less, one is wrong, and both together err more.
_ALIKE, _WEIGHT = 0.7, 2 / 3
_TINY = 1e-12
# The copy is trained again once the recent images are this many times those that it was trained for, or when its
# expected error on them has grown by so much.
_GROWTH, _WORSE = 1.5, 0.1


class Coral:
    """Trains a copy of the model on validation images that are recoloured like the stream.

    Args:
        optional: whether to go without it where the model or the validation split does not allow it.
    """

    name, target = "coral", "model"
    max_score_ratio, restarts_each_batch = None, False

    def __init__(self, optional: bool = False):
        self._optional = optional

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Keeps the labelled images.

        Raises:
            BadInput: the model takes no images, or the validation split lacks some; an optional stage then proposes
                nothing.
        """
        self._active, self._together, self._seen, self._error = False, False, 0, 1.0
        self._obstacle = _obstacle(predictor, source)
        if self._optional and not self._obstacle and not _is_quick(predictor.model):
            self._obstacle = "only perceptrons are trained quickly; others are by --refine=coral"
        if self._obstacle:
            if not self._optional:
                raise BadInput(f"--refine=coral: {self._obstacle}")
            return
        self._training, self._shift = RecolouredTraining(predictor, source), InputShift(predictor, source)
        self._guards = guards.Guards(source)

    def propose(self, context: StreamContext) -> str:
        """Trains the copy if that is due, and answers by it if it is expected to err less."""
        self._active = False
        if self._obstacle:
            return self._obstacle
        recent = context.recent
        if (number := distinct(recent)) < _FEWEST:
            return f"{number} different images are too few, expected {_FEWEST}"
        if context.aligned:
            return "the images are aligned"
        if self._shift.measure(recent, context.logits, not context.changed) < SHIFTED:
            return "the images have not shifted"
        before = self._guards.score(context.logits)
        ratio, limit = self._score(recent).ratio_to(before), _LIMIT
        if self._guards.times_usual(before) >= _FAR:
            limit = _LIMIT_FAR
        if not ratio < limit:
            return f"expected error times distance: after / before is {ratio:.2f}, limit {limit}"
        agreement = (self._training.logits(recent).argmax(axis=1) == context.logits.argmax(axis=1)).mean()
        self._active, self._together = True, bool(agreement >= _ALIKE)
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits of the trained copy, on the scale of the model's, or of both; `inner`'s while the stage is off."""
        if not self._active:
            return inner(examples)
        copy = self._training.logits(examples)
        if not self._together:
            return copy
        both = _WEIGHT * class_probabilities(copy) + (1 - _WEIGHT) * class_probabilities(inner(examples))
        return np.log(both + _TINY)

    def state(self) -> Any:
        """Whether the copy answers, and the copy."""
        if self._obstacle:
            return None
        kept = {"active": self._active, "together": self._together, "seen": self._seen, "error": self._error}
        return kept | {"copy": self._training.state()}

    def load(self, state: Any) -> None:
        """Sets them."""
        if self._obstacle:
            return
        # Former versions had the copy alone.
        self._active, self._together = state["active"], state.get("together", False)
        if state["copy"] is not self._training.state():
            self._seen, self._error = state["seen"], state["error"]
            self._training.load(state["copy"])

    def _score(self, recent: Any) -> guards.Score:
        """The copy's score on the recent images, after training it where that is due."""
        if self._seen <= len(recent) < _GROWTH * self._seen:
            score = self._training.score(recent)
            if score.error < self._error + _WORSE:
                return score
        self._training.train(recent)
        score = self._training.score(recent)
        self._seen, self._error = len(recent), score.error
        return score


def _is_quick(model: keras.Model) -> bool:
    """Whether all weights are of layers that take `[examples, channels]`: no convolutions or inner models."""
    return all(
        isinstance(layer.input, keras.KerasTensor) and len(layer.input.shape) == 2
        for layer in model.layers
        if layer.weights
    )


def _obstacle(predictor: Classifier, source: HeldOut) -> str:
    """Why there is nothing to learn from; "" where there is."""
    if not image_inputs.may_be_images(predictor):
        return "the model takes no images"
    if len(source.labels) < _FEWEST_SOURCE:
        return f"the validation split has {len(source.labels)} images; expected {_FEWEST_SOURCE}"
    if not normalization.can_fit(predictor.model):
        return "the model has no batch normalisation or last dense layer of [examples, channels] to fit"
    missing = set(range(len(predictor.classes))) - set(source.labels.tolist())
    name = predictor.classes[min(missing)] if missing else None
    return f"the validation split has no image of {name!r}; expected each class" if missing else ""
