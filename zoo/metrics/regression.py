"""Regression metrics with bootstrap intervals."""

import numpy as np
from scipy import stats

from zoo.metrics import classification


def scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Metrics by name, in the values' own units.

    `mse` and `mae` are the mean squared and absolute error, `rmse` the root of the first, `r2` the fraction of
    explained variance, `pearson` and `spearman` correlations. Correlations and `r2` are omitted for constant values.

    Args:
        predicted: `[examples]`.
        true: `[examples]`.
    """
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    errors = predicted - true
    metrics = {"mse": float(np.mean(errors**2)), "rmse": float(np.mean(errors**2)) ** 0.5}
    metrics["mae"] = float(np.mean(np.abs(errors)))
    # Not by the variance: rounded, that of equal values may be above 0.
    if np.ptp(true) > 0:
        metrics["r2"] = 1.0 - metrics["mse"] / float(np.var(true))
    if np.ptp(true) > 0 and np.ptp(predicted) > 0:
        metrics["pearson"] = _correlation(predicted, true)
        metrics["spearman"] = _correlation(stats.rankdata(predicted), stats.rankdata(true))
    return metrics


def evaluate(predicted: np.ndarray, true: np.ndarray, final: bool = False) -> dict[str, float]:
    """The metrics of `scores`, and if `final` their 95 % intervals: `mse_low`, `mse_high`."""
    metrics = scores(predicted, true)
    if not final:
        return metrics
    intervals = classification.bootstrap(of_counts(predicted, true), len(true), 1000, 0, 0.95)
    return classification.with_intervals(metrics, intervals)


def of_counts(predicted: np.ndarray, true: np.ndarray) -> classification.OfCounts:
    """The metrics as a function of how often each example is drawn, `[rows, examples]`; arguments as in `scores`."""
    names = list(scores(predicted, true))

    def compute(counts: np.ndarray) -> dict[str, np.ndarray]:
        rows = []
        for row in counts:
            indices = np.repeat(np.arange(len(true)), row.astype(int))
            rows.append(scores(predicted[indices], true[indices]))
        return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}

    return compute


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])
