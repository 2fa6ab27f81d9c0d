"""Metrics of a regression from its predictions, with bootstrap intervals."""

import numpy as np
from scipy import stats

from zoo.metrics import classification


def scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Metrics by name, in the values' own units.

    `mse` and `mae` are the mean squared and absolute error, `r2` the share of the variance that is explained,
    `pearson` and `spearman` correlations. Correlations and `r2` are missing where nothing varies.

    Args:
        predicted: `[examples]`.
        true: `[examples]`.
    """
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    found = {"mse": float(np.mean((predicted - true) ** 2)), "mae": float(np.mean(np.abs(predicted - true)))}
    spread = float(np.var(true))
    if spread > 0:
        found["r2"] = 1.0 - found["mse"] / spread
    if spread > 0 and np.var(predicted) > 0:
        found["pearson"] = _correlation(predicted, true)
        found["spearman"] = _correlation(stats.rankdata(predicted), stats.rankdata(true))
    return found


def judged(predicted: np.ndarray, true: np.ndarray, final: bool = False) -> dict[str, float]:
    """`scores`, and where it is `final` the 95 % intervals besides: `mse_low`, `mse_high`."""
    found = scores(predicted, true)
    return classification.with_ends(found, _intervals(predicted, true, list(found))) if final else found


def _intervals(predicted: np.ndarray, true: np.ndarray, names: list[str]) -> dict[str, tuple[float, float]]:
    def compute(counts: np.ndarray) -> dict[str, np.ndarray]:
        rows = []
        for row in counts:
            drawn = np.repeat(np.arange(len(true)), row.astype(int))
            rows.append(scores(predicted[drawn], true[drawn]))
        return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}

    return classification.bootstrap(compute, len(true), 1000, 0, 0.95)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])
