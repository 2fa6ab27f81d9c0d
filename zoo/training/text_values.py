"""Regression of texts: the values' unit, and the fields of such an experiment."""

from typing import Any, NamedTuple

import numpy as np

from zoo.data.datasets.text_splits import TextDataset
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, linear_baselines
from zoo.tensorboard import task_views
from zoo.training import test_predictions
from zoo.training.text_labels import shown


class Unit(NamedTuple):
    """What 0 and 1 of a network mean in the values' own units.

    A network starts near 0, so it learns standardised values; metrics are reported in the values' own units.
    """

    centre: float = 0.0
    scale: float = 1.0

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """Values as the network learns them, float32."""
        return ((values - self.centre) / self.scale).astype(np.float32)


def unit_of(values: np.ndarray) -> Unit:
    """Mean and standard deviation of the training values.

    Raises:
        BadInput: all are equal.
    """
    if values.min() == values.max():
        raise BadInput(f"all values to learn are {values[0]:g}: expected different values")
    return Unit(float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)))


def of_values(config: Any, dataset: TextDataset, unit: Unit, show: task_views.Texts) -> dict[str, Any]:
    """Fields of an experiment with a value per text, all but its `forward`.

    Args:
        config: config with `baseline`.
        dataset: the texts.
        unit: the unit in which the network learns.
        show: texts of some examples, for TensorBoard.
    """
    centre, scale = unit
    return {
        "compute_metrics": evaluation_report.regression(scale, centre),
        "predictions": test_predictions.of_values(dataset.origins, scale, centre, shown(dataset.test.texts)),
        "visualize": task_views.regression(show, scale, centre),
        "baseline": (lambda: linear_baselines.ridge(dataset)) if config.baseline else None,
    }
