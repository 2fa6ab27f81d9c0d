"""A classifier beside logistic regression and, for tables, gradient boosting on the same test examples."""

from collections.abc import Callable, Mapping

import numpy as np

from zoo.data.splits import Splits
from zoo.metrics import boosting, classification, linear_baselines
from zoo.metrics.logits import two_class_logits

_SAID = {"baseline": "logistic regression", "boosting": "gradient boosting"}
_RESAMPLES = 1000


class ClassComparison:
    """A model, multinomial logistic regression and perhaps gradient boosting on the same split.

    Args:
        data: the splits; the linear model is fitted to the training split, its strength chosen on the validation split.
        metrics: an `Experiment.compute_metrics`, the model's own.
        table: the same splits as boosting reads them, see `boosting.classes`; None: no boosting.
    """

    def __init__(self, data: Splits, metrics: Callable[..., Mapping[str, float]], table: Splits | None = None):
        self._data, self._metrics, self._table = data, metrics, table
        self._predicted: np.ndarray | None = None
        self._problem = boosting.too_long(table, len(data.classes)) if table is not None else ""

    def compute_metrics(self, means, outputs, columns, final: bool) -> Mapping[str, float]:
        """An `Experiment.compute_metrics`: the model's own; keeps its predictions of the final evaluation."""
        if final:
            self._predicted = two_class_logits(np.asarray(outputs["logits"])).argmax(axis=-1)
        return self._metrics(means, outputs, columns, final)

    def metrics(self) -> dict[str, float]:
        """An `Experiment.baseline`: `test/baseline_accuracy` and `test/boosting_accuracy`, and the model's lead.

        The latter are `test/accuracy_over_baseline` and `_boosting`, with the ends of their 95 % intervals.
        """
        answers = {"baseline": linear_baselines.linear_predictions(self._data)}
        if self._table is not None and not self._problem:
            answers["boosting"] = boosting.classes(self._table)
        true, weights = self._data.test["y"], self._data.test.get("weight")
        result = {
            f"test/{name}_accuracy": float(np.average(predicted == true, weights=weights))
            for name, predicted in answers.items()
        }
        if self._predicted is not None:
            for name, predicted in answers.items():
                lead = _lead(self._predicted == true, predicted == true, weights)
                names = (f"test/accuracy_over_{name}{end}" for end in ("", "_low", "_high"))
                result |= dict(zip(names, lead))
        return result

    def conclusion(self, result: Mapping[str, float]) -> list[str]:
        """An `Experiment.conclusion`: the accuracies, and the model's lead over the others."""
        lines = []
        for name, said in _SAID.items():
            lead, low, high = (result.get(f"test/accuracy_over_{name}{end}") for end in ("", "_low", "_high"))
            if lead is not None:
                lines.append(
                    f"test accuracy: {100 * result['test/accuracy']:.1f} %; {said}: "
                    f"{100 * result[f'test/{name}_accuracy']:.1f} %; lead {100 * lead:+.1f} points (95 % interval "
                    f"{100 * low:+.1f} to {100 * high:+.1f})"
                )
        return [*lines, *([self._problem] if self._problem else [])]


def _lead(one: np.ndarray, other: np.ndarray, weights: np.ndarray | None) -> tuple[float, float, float]:
    """See `linear_baselines.accuracy_lead`; of weighted examples with a bootstrap interval."""
    if weights is None:
        return linear_baselines.accuracy_lead(one, other)
    weights = np.asarray(weights, np.float64)
    gains = weights * (one.astype(np.float64) - other)

    def compute(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"lead": classification.ratio(counts @ gains, counts @ weights)}

    low, high = classification.bootstrap(compute, len(gains), _RESAMPLES, 0, 0.95)["lead"]
    return float(gains.sum() / weights.sum()), low, high
