"""Views of an image that show what it shows: moved by a pixel, turned or sized a little, mirrored; averaged answers.

Which of them a model's data allow is asked of its validation split: a mirrored shoe is a shoe, a mirrored 5 is none. A
stage of `zoo.adaptation.refiner` answers by the mean of the probabilities of all views (test-time augmentation:
Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012, section 4.1).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.adaptation.refiner import Forward, StreamContext
from zoo.adaptation.stages.pose import warped
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# By which the accuracy on the validation split may fall: one standard error of a thousand examples at 0.9.
_TOLERANCE = 0.01
_TINY = 1e-300


class View(NamedTuple):
    """A way to look at images.

    Attributes:
        change: angle in radians, logarithm of the size, and the moves right and down as shares of the sides.
        mirrored: left and right exchanged before.
    """

    change: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    mirrored: bool = False

    def of(self, images: np.ndarray) -> np.ndarray:
        """The images as they look so, uint8 of the same shape."""
        images = images[:, :, ::-1] if self.mirrored else images
        return warped(images, np.tile(self.change, (len(images), 1))) if any(self.change) else images


# A pixel of 28, six degrees, eight percent: less than what the damage of the first severity comes to.
_CANDIDATES = (
    *(View((0.0, 0.0, right / 28, down / 28)) for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1))),
    *(View((angle, 0.0, 0.0, 0.0)) for angle in (0.1, -0.1)),
    *(View((0.0, size, 0.0, 0.0)) for size in (0.08, -0.08)),
    View(mirrored=True),
)


def allowed(predictor: Classifier, source: HeldOut) -> list[View]:
    """The images as they are, and the views by which the accuracy on the validation split falls by a point at most.

    Raises:
        BadInput: the model takes no images.
    """
    if not predictor.takes_images:
        raise BadInput("--refine=views: views are of images, the model takes none")
    least = float((source.logits.argmax(axis=1) == source.labels).mean()) - _TOLERANCE

    def right(view: View) -> float:
        return float((predictor.logits(view.of(source.examples)).argmax(axis=1) == source.labels).mean())

    return [View(), *(view for view in _CANDIDATES if right(view) >= least)]


def averaged(views: Sequence[View], images: np.ndarray, forward: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The mean of the probabilities of some views, float64 `[examples, classes]`; `forward` gives logits."""
    return sum(class_probabilities(forward(view.of(images))) for view in views) / len(views)


class Views:
    """Answers by the mean of the probabilities of all views that the validation split allows."""

    name, target = "views", "input"
    # A mean is less sure than what it is of: on damaged training images a score below 1 was rare, and never a loss.
    max_score_ratio, restarts_each_batch = 1.0, True

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Chooses the views.

        Raises:
            BadInput: the model takes no images.
        """
        self._views, self._on = allowed(predictor, source), False

    def propose(self, seen: StreamContext) -> str:
        """Shows all views."""
        if len(self._views) < 2:
            return "the validation split allows no other view"
        self._on = True
        return ""

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Logarithms of the mean probabilities, or the logits as they are."""
        if not self._on:
            return inner(examples)
        return np.log(np.maximum(averaged(self._views, examples, inner), _TINY))

    def state(self) -> bool:
        """Whether views are shown."""
        return self._on

    def load(self, state: bool) -> None:
        """Sets it."""
        self._on = state
