"""Guards of test-time adaptation: decide without labels whether a change of the model is kept.

They compare two numbers before and after. The *expected error* is the share of predictions whose confidence is below a
threshold, chosen so that on the validation split this share equals the error rate (average thresholded confidence: Garg
et al., "Leveraging unlabeled data to predict out-of-distribution performance", 2022, section 3.2). The *distance* is
the median squared Mahalanobis distance of the logits to the mean of their predicted class, divided by that of
validation examples (Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial
attacks", 2018, section 2). A model that is confident of one wrong class has a small expected error and a large
distance; a hesitant one has the reverse. So the product of both is compared. Neither assumes that a batch contains
several classes.
"""

from typing import NamedTuple

import numpy as np

from zoo.metrics.logits import softmax
from zoo.predict.evaluation.held_out import HeldOut

# The effective number of predicted classes may not fall below this share of what it was before.
_COLLAPSE = 0.5
# Ridge, as a share of the mean variance: the covariance of centred logits is singular.
_RIDGE = 1e-3
_TINY = 1e-9
# A class predicted less often has the median of all: the mean of one or two examples is these examples themselves, so
# that their distances are 0.
_FEWEST = 10
# Added to expected errors: a few hundred examples cannot tell five in a hundred from none.
_CHANCE = 0.05


class Score(NamedTuple):
    """How good predictions look without labels.

    Attributes:
        error: expected error rate.
        distance: median squared Mahalanobis distance of the logits; 1: as in validation.
    """

    error: float
    distance: float

    def ratio_to(self, other: "Score") -> float:
        """The product of this score divided by that of another: below 1 where this one is better."""
        return self.product / other.product

    @property
    def product(self) -> float:
        """(Error + 0.05) times distance, where a distance below 1 counts as 1."""
        return (self.error + _CHANCE) * max(self.distance, 1.0)


class Verdict(NamedTuple):
    """The decision of the guards.

    Attributes:
        before: score without the change.
        after: score with it.
        accepted: whether it is kept.
        reason: why, in words.
    """

    before: Score
    after: Score
    accepted: bool
    reason: str


class Guards:
    """Compares predictions with those on the validation split.

    Args:
        source: the validation split and the source model's logits.
    """

    def __init__(self, source: HeldOut):
        self._class_means = _ClassMeans(source.logits, source.labels)
        distances, predicted = self._class_means.mahalanobis(source.logits), source.logits.argmax(axis=1)
        self._median = max(float(np.median(distances)), _TINY)
        groups = [distances[predicted == label] for label in range(source.logits.shape[1])]
        self._medians = np.array([np.median(group) if len(group) >= _FEWEST else self._median for group in groups])
        self._medians = np.maximum(self._medians, _TINY)
        self._error = float((predicted != source.labels).mean())
        # Slightly lower, so that rounding does not push an example on the threshold below it.
        self._threshold = float(np.quantile(_confidences(source.logits), self._error)) - 1e-6

    def score(self, logits: np.ndarray) -> Score:
        """The score of predictions.

        Args:
            logits: `[examples, classes]`, at least one example.
        """
        if not np.isfinite(logits).all():
            return Score(1.0, float("inf"))
        error = float((_confidences(logits) < self._threshold).mean())
        return Score(error, float(np.median(self._class_means.mahalanobis(logits))) / self._median)

    def times_usual(self, score: Score) -> float:
        """The product of a score divided by that of validation examples."""
        return score.product / Score(self._error, 1.0).product

    def relative_distances(self, logits: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances `[examples]` divided by the median of the predicted class in validation.

        They are about 1 without a shift, in whatever proportions the classes come.
        """
        return self._class_means.mahalanobis(logits) / self._medians[logits.argmax(axis=1)]

    def relative_to_median(self, logits: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances `[examples]` divided by the median in validation."""
        return self._class_means.mahalanobis(logits) / self._median

    def median_relative_distance(self, logits: np.ndarray) -> float:
        """The median of `relative_distances`."""
        return float(np.median(self.relative_distances(logits)))

    def judge(
        self,
        before: np.ndarray,
        after: np.ndarray,
        right_before: float | None = None,
        right_after: float | None = None,
        limit: float | None = None,
        refuse_collapse: bool = True,
    ) -> Verdict:
        """Compares predictions on the same examples before and after a change.

        Args:
            before: logits `[examples, classes]` without the change.
            after: logits `[examples, classes]` with it.
            right_before: accuracy on labelled examples without the change, if there are any.
            right_after: accuracy on them with the change.
            limit: `after.ratio_to(before)` must be below this; None where the stage itself proves the change.
            refuse_collapse: whether to refuse a change after which far fewer classes are predicted, from further away.
        """
        scores = self.score(before), self.score(after)
        if not np.isfinite(after).all():
            return Verdict(*scores, False, "the logits are not finite")
        classes = effective_classes(before), effective_classes(after)
        if refuse_collapse and classes[1] < _COLLAPSE * classes[0] and scores[1].distance > scores[0].distance:
            return Verdict(*scores, False, f"the predictions collapse: {classes[0]:.1f} to {classes[1]:.1f} classes")
        if right_before is not None and right_after is not None and right_after < right_before:
            return Verdict(*scores, False, f"accuracy on the labelled examples falls to {right_after:.3f}")
        if limit is None:
            return Verdict(*scores, True, "on its own evidence")
        ratio = scores[1].ratio_to(scores[0])
        return Verdict(
            *scores, ratio < limit, f"expected error times distance: after / before is {ratio:.2f}, limit {limit}"
        )


class _ClassMeans:
    """Means of the logits by predicted class, and the covariance around them."""

    def __init__(self, logits: np.ndarray, labels: np.ndarray):
        logits = _centred(logits)
        predicted, classes = logits.argmax(axis=1), logits.shape[1]
        # A class that is never predicted has the mean of its true examples, or of all.
        groups = [_first(logits[predicted == label], logits[labels == label], logits) for label in range(classes)]
        self._means = np.stack([group.mean(axis=0) for group in groups])  # [classes, classes]
        covariance = np.cov((logits - self._means[predicted]).T, bias=True)
        # One or two examples, and equal ones, have no variance.
        ridge = _RIDGE * np.trace(covariance) / classes + _TINY
        self._inverse = np.linalg.inv(covariance + ridge * np.eye(classes))

    def mahalanobis(self, logits: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances `[examples]` to the mean of the predicted class."""
        logits = _centred(logits)
        gaps = logits - self._means[logits.argmax(axis=1)]  # [examples, classes]
        return np.einsum("ij,jk,ik->i", gaps, self._inverse, gaps)  # [examples]


def effective_classes(logits: np.ndarray) -> float:
    """Effective number of predicted classes: the exponential of the entropy of their frequencies."""
    shares = np.bincount(logits.argmax(axis=1), minlength=logits.shape[1]) / len(logits)
    return float(np.exp(-np.sum(shares * np.log(np.maximum(shares, 1e-300)))))


def _confidences(logits: np.ndarray) -> np.ndarray:
    return softmax(logits).max(axis=1)


def _centred(logits: np.ndarray) -> np.ndarray:
    """Without their mean: softmax depends on differences of logits only."""
    logits = logits.astype(np.float64)
    return logits - logits.mean(axis=1, keepdims=True)


def _first(*groups: np.ndarray) -> np.ndarray:
    """The first group that is not empty."""
    return next(group for group in groups if len(group))
