"""Baselines of a regression on the same split as the network: ridge regression and gradient boosting."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from zoo.data.splits import Splits
from zoo.metrics import boosting, classification, regression

# Candidates for the L2 strength; chosen on the validation split, as the network's weights are.
_STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
_RESAMPLES = 1000
_SAID = {"baseline": "ridge regression", "boosting": "gradient boosting"}


class Comparison:
    """A network, ridge regression and gradient boosting on the same split.

    Args:
        data: the splits; NaN in `x` is a missing value, which boosting reads as it is.
        linear: the same splits as a linear model reads them, scaled and complete.
    """

    def __init__(self, data: Splits, linear: Splits):
        self._data = data
        self._linear = linear
        self._predicted: np.ndarray | None = None

    def remembering(self, report: Callable, scale: float, centre: float) -> Callable:
        """An `Experiment.compute_metrics` that also keeps the network's values of the final evaluation."""

        def compute(means, outputs, columns, final: bool) -> dict[str, float]:
            if final:
                self._predicted = np.asarray(outputs["logits"][:, 0], np.float64) * scale + centre
            return report(means, outputs, columns, final)

        return compute

    def metrics(self) -> dict[str, float]:
        """The scores of both: `test/baseline_rmse`, `test/boosting_rmse`; and how much smaller the network's RMSE is.

        The latter are `test/rmse_below_baseline` and `_boosting`, with the ends of their 95 % bootstrap intervals.
        """
        true, found = self._data.test["y"], {}
        values = {"baseline": ridge(self._linear), "boosting": boosting.values(self._data)}
        for name, predicted in values.items():
            scores = regression.scores(predicted, true)
            found |= {f"test/{name}_{metric}": scores[metric] for metric in ("rmse", "mae", "r2") if metric in scores}
            if self._predicted is not None:
                lead = rmse_lead(self._predicted, predicted, true)
                names = (f"test/rmse_below_{name}{end}" for end in ("", "_low", "_high"))
                found |= dict(zip(names, lead))
        return found

    def conclusion(self, result: Mapping[str, float]) -> Sequence[str]:
        """How the network compares, for the end of a run."""
        lines = []
        for name, said in _SAID.items():
            lead, low, high = (result.get(f"test/rmse_below_{name}{end}") for end in ("", "_low", "_high"))
            if lead is not None:
                lines.append(
                    f"RMSE of {said} on the same test examples: {result[f'test/{name}_rmse']:.4g}; the network's is "
                    f"{lead:+.4g} smaller (95 % interval {low:.4g} to {high:.4g})"
                )
        return lines


def ridge(data: Splits) -> np.ndarray:
    """Values that ridge regression predicts for the test split, `[examples]`."""
    from sklearn.linear_model import Ridge

    train, validation = data.train, data.validation
    models = [Ridge(alpha=each).fit(train["x"], train["y"], sample_weight=train.get("weight")) for each in _STRENGTHS]
    return _best(models, validation["x"], validation["y"]).predict(data.test["x"])


def ridge_weights(data: Splits, centre: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights of ridge regression of standardised values, of the strength with the smallest validation error.

    Args:
        data: splits whose `x` is scaled and complete.
        centre: value that becomes 0.
        scale: size of one unit.

    Returns:
        Kernel float32 `[units, 1]` and bias float32 `[1]`.
    """
    from sklearn.linear_model import Ridge

    y, weight = (data.train["y"] - centre) / scale, data.train.get("weight")
    models = [Ridge(alpha=each).fit(data.train["x"], y, sample_weight=weight) for each in _STRENGTHS]
    best = _best(models, data.validation["x"], (data.validation["y"] - centre) / scale)
    return best.coef_.astype(np.float32)[:, None], np.array([best.intercept_], np.float32)


def rmse_lead(one: np.ndarray, other: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """How much smaller the RMSE of one prediction is than that of another, with its 95 % paired bootstrap interval.

    Args:
        one: `[examples]`.
        other: `[examples]`.
        true: `[examples]`.
    """
    squares = np.stack([(np.asarray(each, np.float64) - true) ** 2 for each in (one, other)])  # [2, examples]

    def lead(counts: np.ndarray) -> dict[str, np.ndarray]:
        roots = np.sqrt(counts @ squares.T / counts.sum(axis=1, keepdims=True))  # [resamples, 2]
        return {"lead": roots[:, 1] - roots[:, 0]}

    ends = classification.bootstrap(lead, len(true), _RESAMPLES, 0, 0.95)["lead"]
    roots = np.sqrt(squares.mean(axis=1))
    return float(roots[1] - roots[0]), float(ends[0]), float(ends[1])


def _best(models: Sequence, x: np.ndarray, y: np.ndarray):
    return min(models, key=lambda model: float(np.mean((model.predict(x) - y) ** 2)))
