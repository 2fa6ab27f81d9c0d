"""Paired comparison of two models by the sums of their terms over the same blocks of examples."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Sums(NamedTuple):
    """Sums of one term or of several, whose means are added up.

    Attributes:
        numerators: float64 `[terms, blocks]`.
        weights: float64 `[terms, blocks]`.
    """

    numerators: np.ndarray
    weights: np.ndarray

    @property
    def value(self) -> float:
        """The sum of the terms' means over all blocks."""
        return float(np.sum(self.numerators.sum(axis=1) / self.weights.sum(axis=1)))


class Gain(NamedTuple):
    """How much better one model is than another.

    Attributes:
        value: the difference of the means, positive where it is better.
        low: lower bound of its one-sided interval.
    """

    value: float
    low: float


def sums(scalars: Mapping[str, np.ndarray], terms: Sequence[str]) -> Sums:
    """The sums of some terms.

    Args:
        scalars: `[blocks]` by `term/numerator` and `term/weight`, as of `Engine.evaluate_by_batch`.
        terms: names.
    """
    both = ([np.asarray(scalars[f"{name}/{field}"], np.float64) for name in terms] for field in ("numerator", "weight"))
    return Sums(*map(np.stack, both))


def gain(one: Sums, other: Sums, larger_is_better: bool, level: float) -> Gain:
    """How much better `one` is than `other`, with a lower bound by Student's t over the blocks.

    The means are ratios of sums; their difference has the variance of its linearization (Cochran, "Sampling
    techniques", 1977, section 6.4). Terms of the same block are not independent, so they are added up before.

    Args:
        one: sums of one model.
        other: sums of the other one, on the same two or more blocks.
        larger_is_better: whether a larger mean is better.
        level: probability of the bound, as 0.95.
    """
    totals, count = one.weights.sum(axis=1, keepdims=True), one.weights.shape[1]
    differences = (one.numerators - other.numerators) * (1.0 if larger_is_better else -1.0)
    means = differences.sum(axis=1, keepdims=True) / totals
    residuals = np.sum((differences - means * one.weights) / totals, axis=0)  # [blocks]
    error = np.sqrt(count / (count - 1) * np.sum(residuals**2))
    value = float(means.sum())
    return Gain(value, value - float(stats.t.ppf(level, count - 1)) * float(error))
