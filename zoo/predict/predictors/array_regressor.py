"""Regression of arrays: a value for each row of a table."""

from pathlib import Path

import keras
import numpy as np

from zoo import workdir as folders
from zoo.data.datasets import delimited_format
from zoo.data.datasets.column_schema import TableSchema
from zoo.errors import BadInput
from zoo.model_info import ModelInfo, missing_fields
from zoo.predict.predictors.array_classifier import ArrayClassifier


class ArrayRegressor:
    """A regression of examples of one shape.

    Attributes:
        network: from examples to one logit each, the standardised value.
        centre: value at a logit of 0.
        scale: change of the value per unit of the logit.
    """

    task, reads_text, pair_column, classes = "regression", False, "", ()

    def __init__(self, network: ArrayClassifier, centre: float, scale: float):
        self.network, self.centre, self.scale = network, centre, scale
        self.model, self.read, self.lines = network.model, network.read, network.lines
        self.features, self.columns, self.shape = network.features, network.columns, network.shape
        self.file_format = network.file_format

    def predict(self, examples: np.ndarray, top: int = 1) -> list[float]:
        """The value of each example; see `values` and `Predictor`."""
        return self.values(examples).tolist()

    def values(self, examples: np.ndarray) -> np.ndarray:
        """The value of each example in the units of the training data, float64 `[examples]`; see `logits`."""
        return self.network.logits(examples)[:, 0].astype(np.float64) * self.scale + self.centre


def load(workdir: Path, info: ModelInfo, model: keras.Model, columns: TableSchema | None) -> ArrayRegressor:
    """Loads the regression of a run.

    Args:
        workdir: folder of the run.
        info: content of its model.json.
        model: its model.
        columns: what the table's columns are; None where all are complete numbers.

    Raises:
        BadInput: model.json lacks the unit of the values, or the model has several outputs.
    """
    if info.centre is None or info.scale is None:
        raise missing_fields(workdir, "centre and scale")
    if model.output_shape[-1] != 1:
        raise BadInput(f"{workdir}: {folders.MODEL} has {model.output_shape[-1]} outputs; expected 1 of a regression")
    network = ArrayClassifier(model, ("value",), 0.0, info.features, columns)
    network.file_format = delimited_format.of_model(info.file_format)
    return ArrayRegressor(network, info.centre, info.scale)
