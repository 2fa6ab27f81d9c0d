"""Test-time augmentation (`--refine=views`): the mean prediction of label-preserving views of an image.

Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012, section 4.1. Views are moved
by a pixel, rotated or scaled a little, or mirrored. The validation split decides which of them preserve the class: a
mirrored shoe is a shoe, a mirrored 5 is not a 5.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.adaptation import image_inputs
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages.pose_search import warped
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# How far the accuracy on the validation split may fall: one standard error of a thousand examples at 0.9.
_TOLERANCE = 0.01
_TINY = 1e-300


class View(NamedTuple):
    """A transformation of images.

    Attributes:
        change: rotation in radians, logarithm of the scale, and shifts right and down as shares of the sides.
        mirrored: whether left and right are exchanged first.
    """

    change: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    mirrored: bool = False

    def apply(self, images: np.ndarray) -> np.ndarray:
        """The transformed images, of the same shape and dtype."""
        images = images[:, :, ::-1] if self.mirrored else images
        return warped(images, np.tile(self.change, (len(images), 1))) if any(self.change) else images


# A pixel of 28, six degrees, eight percent: less than corruptions of the first severity.
_CANDIDATES = (
    *(View((0.0, 0.0, right / 28, down / 28)) for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1))),
    *(View((angle, 0.0, 0.0, 0.0)) for angle in (0.1, -0.1)),
    *(View((0.0, size, 0.0, 0.0)) for size in (0.08, -0.08)),
    View(mirrored=True),
)


def allowed(predictor: Classifier, source: HeldOut) -> list[View]:
    """The identity, and each view that lowers the accuracy on the validation split by at most a point.

    Raises:
        BadInput: the model does not take images.
    """
    image_inputs.require(predictor, "views")
    least = float((source.logits.argmax(axis=1) == source.labels).mean()) - _TOLERANCE

    def accuracy(view: View) -> float:
        return float((predictor.logits(view.apply(source.examples)).argmax(axis=1) == source.labels).mean())

    return [View(), *(view for view in _CANDIDATES if accuracy(view) >= least)]


def averaged(views: Sequence[View], images: np.ndarray, forward: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Mean of the views' probabilities, float64 `[examples, classes]`; `forward` computes logits."""
    return sum(class_probabilities(forward(view.apply(images))) for view in views) / len(views)


class Views:
    """Answers with the mean of the probabilities of all allowed views."""

    name, target = "views", "input"
    # A mean is less confident than its parts: on corrupted training images a ratio below 1 was rare, and never a loss.
    max_score_ratio, restarts_each_batch = 1.0, True

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Chooses the views.

        Raises:
            BadInput: the model does not take images.
        """
        self._views, self._on = allowed(predictor, source), False

    def propose(self, context: StreamContext) -> str:
        """Turns the views on."""
        if len(self._views) < 2:
            return "the validation split allows no other view"
        self._on = True
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logarithms of the mean probabilities; the logits of the images themselves while the views are off."""
        if not self._on:
            return inner(examples)
        return np.log(np.maximum(averaged(self._views, examples, inner), _TINY))

    def state(self) -> bool:
        """Whether the views are on."""
        return self._on

    def load(self, state: bool) -> None:
        """Turns them on or off."""
        self._on = state
