"""Whether a change of a model is kept, judged without labels.

Two numbers are compared before and after. The *expected error* is the share of answers that are less sure than the
validation split's own share of errors allows (average thresholded confidence: Garg et al., "Leveraging unlabeled data
to predict out-of-distribution performance", 2022, section 3.2). The *distance* says how untypical the answers are: how
far the logits lie from those of validation examples with the same answer, in units of their own covariance (Lee et
al., "A simple unified framework for detecting out-of-distribution samples and adversarial attacks", 2018, section 2),
by the usual distance. A model that is sure of one wrong class has a small expected error and a large distance; one
that hesitates has the reverse. So their product is compared. Neither asks for a mixture of classes, which a stream may
not have.
"""

from typing import NamedTuple

import numpy as np

from zoo.metrics.logits import softmax
from zoo.predict.evaluation.held_out import HeldOut

# The classes that are answered, as a number, may not fall below this share of what it was before.
_COLLAPSE = 0.5
# Of the covariance's mean variance: keeps it invertible, as logits that are shifted alike mean the same.
_RIDGE = 1e-3
# Of expected errors: five in a hundred are what a few hundred examples cannot tell from none.
_CHANCE = 0.05


class Score(NamedTuple):
    """What is expected of answers without labels.

    Attributes:
        error: the share of wrong answers that their confidence lets expect.
        distance: of the median answer from typical ones, 1 being usual.
    """

    error: float
    distance: float

    def ratio_to(self, other: "Score") -> float:
        """The product of both, by that of another score: below 1 where this one is better."""
        return self.product / other.product

    @property
    def product(self) -> float:
        """Of both, where neither is less than what chance and habit make it."""
        return (self.error + _CHANCE) * max(self.distance, 1.0)


class Verdict(NamedTuple):
    """What the guards say of a change.

    Attributes:
        before: the score without it.
        after: the score with it.
        accepted: whether it is kept.
        reason: why.
    """

    before: Score
    after: Score
    accepted: bool
    reason: str


class Guards:
    """What the validation answers look like, and what departs from them.

    Args:
        source: the data that the model was trained for.
    """

    def __init__(self, source: HeldOut):
        self._answers = _ClassMeans(source.logits, source.labels)
        far, given = self._answers.mahalanobis(source.logits), source.logits.argmax(axis=1)
        self._usual = float(np.median(far))
        classes = range(source.logits.shape[1])
        self._usual_of = np.array([np.median(_first(far[given == label], far)) for label in classes])
        self._wrong = float((given != source.labels).mean())
        # An example that lies on it is as sure as it was, whatever rounding makes of it.
        self._sure = float(np.quantile(_confidences(source.logits), self._wrong)) - 1e-6

    def score(self, logits: np.ndarray) -> Score:
        """The score of answers.

        Args:
            logits: `[examples, classes]`, at least one example.
        """
        if not np.isfinite(logits).all():
            return Score(1.0, float("inf"))
        error = float((_confidences(logits) < self._sure).mean())
        return Score(error, float(np.median(self._answers.mahalanobis(logits))) / self._usual)

    def times_usual(self, score: Score) -> float:
        """The product of a score by that of validation examples."""
        return score.product / Score(self._wrong, 1.0).product

    def relative_distances(self, logits: np.ndarray) -> np.ndarray:
        """The distances `[examples]` by what is usual of the same answer: about 1, whatever the classes' shares."""
        return self._answers.mahalanobis(logits) / self._usual_of[logits.argmax(axis=1)]

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
    ) -> Verdict:
        """Compares the answers to the same examples without and with a change.

        Args:
            before: logits `[examples, classes]`.
            after: likewise.
            right_before: accuracy on labelled examples, where there are some.
            right_after: likewise.
            limit: what `after.ratio_to(before)` has to be less than; None where the change has evidence of its own.
        """
        scores = self.score(before), self.score(after)
        if not np.isfinite(after).all():
            return Verdict(*scores, False, "the answers are not finite")
        classes = answered(before), answered(after)
        if classes[1] < _COLLAPSE * classes[0] and scores[1].distance > scores[0].distance:
            return Verdict(*scores, False, f"the answers fall from {classes[0]:.1f} to {classes[1]:.1f} classes")
        if right_before is not None and right_after is not None and right_after < right_before:
            return Verdict(*scores, False, f"accuracy on the labelled examples falls to {right_after:.3f}")
        if limit is None:
            return Verdict(*scores, True, "on evidence of its own")
        by = scores[1].ratio_to(scores[0])
        return Verdict(
            *scores, by < limit, f"expected error times distance comes to {by:.2f}, expected less than {limit}"
        )


class _ClassMeans:
    """Means of the logits by answer, and the covariance around them."""

    def __init__(self, logits: np.ndarray, labels: np.ndarray):
        logits = _centred(logits)
        answers, classes = logits.argmax(axis=1), logits.shape[1]
        # A class that is never answered is where its true examples are, or all.
        groups = [_first(logits[answers == label], logits[labels == label], logits) for label in range(classes)]
        self._means = np.stack([group.mean(axis=0) for group in groups])
        spread = np.cov((logits - self._means[answers]).T, bias=True)
        self._inverse = np.linalg.inv(spread + _RIDGE * np.trace(spread) / classes * np.eye(classes))

    def mahalanobis(self, logits: np.ndarray) -> np.ndarray:
        """Squared distances `[examples]` to the mean of the same answer."""
        logits = _centred(logits)
        gaps = logits - self._means[logits.argmax(axis=1)]
        return np.einsum("ij,jk,ik->i", gaps, self._inverse, gaps)


def answered(logits: np.ndarray) -> float:
    """How many classes are answered: the exponential of their shares' entropy."""
    shares = np.bincount(logits.argmax(axis=1), minlength=logits.shape[1]) / len(logits)
    return float(np.exp(-np.sum(shares * np.log(np.maximum(shares, 1e-300)))))


def _confidences(logits: np.ndarray) -> np.ndarray:
    return softmax(logits).max(axis=1)


def _centred(logits: np.ndarray) -> np.ndarray:
    """Only differences of logits mean something."""
    logits = logits.astype(np.float64)
    return logits - logits.mean(axis=1, keepdims=True)


def _first(*groups: np.ndarray) -> np.ndarray:
    return next(group for group in groups if len(group))
