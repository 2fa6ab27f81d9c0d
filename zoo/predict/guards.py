"""Whether a change of a model is kept, judged without labels.

The score is the information that the answers give about the examples: the entropy of their mean, less their mean
entropy (Bridle et al., "Unsupervised classifiers, mutual information and phantom targets", 1991). It falls where
answers become unsure, and also where all become the same, which lower entropy alone would reward.
"""

from typing import NamedTuple

import numpy as np

from zoo.predict.source import Source

# The classes that are answered, as a number, may not fall below this share of what it was before.
_COLLAPSE = 0.5


class Verdict(NamedTuple):
    """What the guards say of a change.

    Attributes:
        before: the score without it, in nats.
        after: the score with it.
        accepted: whether it is kept.
        reason: why.
    """

    before: float
    after: float
    accepted: bool
    reason: str


def judge(
    before: np.ndarray,
    after: np.ndarray,
    source: Source,
    right_before: float | None = None,
    right_after: float | None = None,
) -> Verdict:
    """Compares the answers to the same examples without and with a change.

    Args:
        before: logits `[examples, classes]`.
        after: likewise.
        source: the data that the model was trained for.
        right_before: accuracy on labelled examples, where there are some.
        right_after: likewise.
    """
    if not np.isfinite(after).all():
        return Verdict(score(before), float("nan"), False, "the answers are not finite")
    scores = score(before), score(after)
    classes = classes_answered(before), classes_answered(after)
    if classes[1] < _COLLAPSE * classes[0]:
        return Verdict(*scores, False, f"the answers fall from {classes[0]:.1f} to {classes[1]:.1f} classes")
    if right_before is not None and right_after < right_before:
        return Verdict(*scores, False, f"accuracy on the labelled examples falls to {right_after:.3f}")
    if not scores[1] > scores[0]:
        return Verdict(*scores, False, "the score does not improve")
    return Verdict(*scores, True, "the score improves")


def score(logits: np.ndarray) -> float:
    """Mutual information of example and answer, in nats, of logits `[examples, classes]`."""
    found = probabilities(logits)
    return _entropy(found.mean(axis=0)) - float(np.mean([_entropy(row) for row in found]))


def classes_answered(logits: np.ndarray) -> float:
    """How many classes are answered: the exponential of their shares' entropy."""
    counts = np.bincount(logits.argmax(axis=1), minlength=logits.shape[1])
    return float(np.exp(_entropy(counts / counts.sum())))


def probabilities(logits: np.ndarray) -> np.ndarray:
    """float64 `[examples, classes]`."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _entropy(shares: np.ndarray) -> float:
    return float(-np.sum(shares * np.log(np.maximum(shares, 1e-300))))
