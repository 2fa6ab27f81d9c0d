"""Paired comparisons of two models: by examples, or by seeds; and Holm's correction for several comparisons."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from zoo.metrics import classification, linear_baselines
from zoo.metrics.classification import OfCounts


class Difference(NamedTuple):
    """How much larger a metric of one model is than that of another.

    Attributes:
        value: the difference.
        low: lower end of its 95 % interval.
        high: upper end.
        p: two-sided p-value of no difference.
    """

    value: float
    low: float
    high: float
    p: float


class Measured(NamedTuple):
    """Metrics of a model on a test set.

    Attributes:
        values: each metric on all examples.
        resamples: each metric on resamples of the examples, float64 `[resamples]`, NaN where it is undefined.
    """

    values: dict[str, float]
    resamples: dict[str, np.ndarray]

    def interval(self, name: str) -> tuple[float, float]:
        """The 95 % percentile interval of a metric."""
        low, high = np.nanquantile(self.resamples[name], (0.025, 0.975))
        return float(low), float(high)


def accuracy(one: np.ndarray, other: np.ndarray) -> Difference:
    """Accuracy of `one` minus that of `other`: McNemar's exact test, see `mcnemar`.

    The interval is that of `linear_baselines.accuracy_lead` (Agresti and Min, 2005).

    Args:
        one: whether each example is answered correctly, bool `[examples]`.
        other: the same of the other model.
    """
    return Difference(*linear_baselines.accuracy_lead(one, other), mcnemar(one, other))


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """The two-sided exact p-value of McNemar's test (1947): a binomial test of the examples that only one answers.

    Args:
        one: whether each example is answered correctly, bool `[examples]`.
        other: the same of the other model.
    """
    wins, losses = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


def measure(compute: OfCounts, examples: int, resamples: int) -> Measured:
    """The metrics of a model on all examples and on resamples of them, which are the same for every model.

    Args:
        compute: metrics as a function of how often each example counts.
        examples: number of examples.
        resamples: number of resamples.
    """
    whole = {name: float(values[0]) for name, values in compute(np.ones((1, examples))).items()}
    drawn = classification.resampled(compute, examples, resamples, 0)
    names = [name for name, value in whole.items() if not np.isnan(value) and not np.isnan(drawn[name]).all()]
    return Measured({name: whole[name] for name in names}, {name: drawn[name] for name in names})


def bootstrap(one: Measured, other: Measured) -> dict[str, Difference]:
    """Differences of all metrics that both models have, `one` minus `other`, by a paired bootstrap over the examples.

    The p-value is twice the smaller tail of the resampled differences beyond 0, with one resample added to each
    (Davison and Hinkley, "Bootstrap methods and their application", 1997, ch. 4). A resample in which a metric is
    undefined is left out of it.
    """
    result = {}
    for name in [name for name in one.values if name in other.values]:
        drawn = one.resamples[name] - other.resamples[name]
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn):
            low, high = np.quantile(drawn, (0.025, 0.975))
            tail = min(np.sum(drawn <= 0), np.sum(drawn >= 0)) + 1
            p = min(1.0, 2 * tail / (len(drawn) + 1))
            result[name] = Difference(one.values[name] - other.values[name], float(low), float(high), float(p))
    return result


def by_seeds(one: Sequence[float], other: Sequence[float]) -> Difference:
    """The mean difference over the seeds, `one` minus `other`, with Student's paired t-test and interval.

    Args:
        one: the metric of one model for each seed.
        other: that of the other model for the same seeds, two or more.
    """
    differences = np.subtract(np.asarray(one, np.float64), np.asarray(other, np.float64))
    mean, error = float(differences.mean()), float(stats.sem(differences))
    if error == 0.0:
        # The same difference for each seed: the statistic is infinite, or there is no difference at all.
        return Difference(mean, mean, mean, 0.0 if mean else 1.0)
    freedom = len(differences) - 1
    half = float(stats.t.ppf(0.975, freedom)) * error
    return Difference(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom)))


def holm(values: Sequence[float]) -> list[float]:
    """P-values adjusted so that the chance of any false rejection among them stays below the level (Holm, 1979)."""
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(values, np.float64)[order] * factors), 1.0)
    result = np.empty(len(values))
    result[order] = adjusted
    return result.tolist()
