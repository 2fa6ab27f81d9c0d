"""Whether a change of a model is kept, judged without labels.

The score is how typical the answers are: the less, the farther the logits lie from those of validation examples with
the same answer, in units of their own covariance (Lee et al., "A simple unified framework for detecting
out-of-distribution samples and adversarial attacks", 2018, section 2). Unlike entropy it cannot be won by being sure
of anything, and unlike the information of Bridle et al. (1991) it asks for no mixture of classes, which a stream may
not have.
"""

from typing import NamedTuple

import numpy as np

from zoo.predict.source import Source

# The classes that are answered, as a number, may not fall below this share of what it was before.
_COLLAPSE = 0.5
# Of the covariance's mean variance: keeps it invertible, as logits that are shifted alike mean the same.
_RIDGE = 1e-3


class Verdict(NamedTuple):
    """What the guards say of a change.

    Attributes:
        before: the score without it.
        after: the score with it.
        accepted: whether it is kept.
        reason: why.
    """

    before: float
    after: float
    accepted: bool
    reason: str


class Guards:
    """What the validation answers look like, and what departs from them.

    Args:
        source: the data that the model was trained for.
    """

    def __init__(self, source: Source):
        self._answers = _Answers(source.logits, source.labels)
        self._usual = float(np.median(self._answers.far(source.logits)))

    def score(self, logits: np.ndarray) -> float:
        """Minus the median distance, squared, above that of validation examples; 0 is as typical as those.

        Args:
            logits: `[examples, classes]`, at least one example.
        """
        return self._usual - float(np.median(self._answers.far(logits)))

    def times_usual(self, logits: np.ndarray) -> float:
        """The median distance by that of validation examples: about 1 where nothing has changed."""
        return float(np.median(self._answers.far(logits))) / self._usual

    def judge(
        self,
        before: np.ndarray,
        after: np.ndarray,
        right_before: float | None = None,
        right_after: float | None = None,
        gain: float | None = 0.0,
    ) -> Verdict:
        """Compares the answers to the same examples without and with a change.

        Args:
            before: logits `[examples, classes]`.
            after: likewise.
            right_before: accuracy on labelled examples, where there are some.
            right_after: likewise.
            gain: share of the way to a score of 0 that the change has to make good; None where it has evidence of its
                own.
        """
        if not np.isfinite(after).all():
            return Verdict(self.score(before), float("nan"), False, "the answers are not finite")
        scores = self.score(before), self.score(after)
        classes = answered(before), answered(after)
        if classes[1] < _COLLAPSE * classes[0]:
            return Verdict(*scores, False, f"the answers fall from {classes[0]:.1f} to {classes[1]:.1f} classes")
        if right_before is not None and right_after is not None and right_after < right_before:
            return Verdict(*scores, False, f"accuracy on the labelled examples falls to {right_after:.3f}")
        if gain is None:
            return Verdict(*scores, True, "on evidence of its own")
        if not scores[1] > scores[0]:
            return Verdict(*scores, False, "the answers get less typical")
        if gain and not min(scores[1], 0.0) > (1 - gain) * scores[0]:
            return Verdict(*scores, False, f"the answers get more typical by less than {gain:.0%}")
        return Verdict(*scores, True, "the answers get more typical")


class _Answers:
    """Means of the logits by answer, and the covariance around them."""

    def __init__(self, logits: np.ndarray, labels: np.ndarray):
        logits = _centred(logits)
        answers, classes = logits.argmax(axis=1), logits.shape[1]
        # A class that is never answered is where its true examples are, or all.
        groups = [_first(logits[answers == label], logits[labels == label], logits) for label in range(classes)]
        self._means = np.stack([group.mean(axis=0) for group in groups])
        spread = np.cov((logits - self._means[answers]).T, bias=True)
        self._inverse = np.linalg.inv(spread + _RIDGE * np.trace(spread) / classes * np.eye(classes))

    def far(self, logits: np.ndarray) -> np.ndarray:
        """Squared distances `[examples]` to the mean of the same answer."""
        logits = _centred(logits)
        gaps = logits - self._means[logits.argmax(axis=1)]
        return np.einsum("ij,jk,ik->i", gaps, self._inverse, gaps)


def answered(logits: np.ndarray) -> float:
    """How many classes are answered: the exponential of their shares' entropy."""
    shares = np.bincount(logits.argmax(axis=1), minlength=logits.shape[1]) / len(logits)
    return float(np.exp(-np.sum(shares * np.log(np.maximum(shares, 1e-300)))))


def confidence(logits: np.ndarray) -> float:
    """The mean probability of the answers."""
    return float(probabilities(logits).max(axis=1).mean())


def probabilities(logits: np.ndarray) -> np.ndarray:
    """float64 `[examples, classes]`."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _centred(logits: np.ndarray) -> np.ndarray:
    """Only differences of logits mean something."""
    logits = logits.astype(np.float64)
    return logits - logits.mean(axis=1, keepdims=True)


def _first(*groups: np.ndarray) -> np.ndarray:
    return next(group for group in groups if len(group))
