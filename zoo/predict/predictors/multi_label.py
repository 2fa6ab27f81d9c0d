"""Multi-label classification: which labels a row of a table, or a text, has."""

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from scipy import special

from zoo import workdir as folders
from zoo.data.datasets import delimited_format
from zoo.data.datasets.column_schema import TableSchema
from zoo.errors import BadInput
from zoo.metrics import label_thresholds
from zoo.metrics.label_thresholds import LabelThresholds
from zoo.model_info import ModelInfo
from zoo.predict.predictors import text_classifier
from zoo.predict.predictors.array_classifier import ArrayClassifier


class Label(NamedTuple):
    """A label that an example has, by its name, and its probability."""

    label: str
    probability: float


class MultiLabel:
    """A multi-label classifier.

    Attributes:
        network: from examples to a logit for each label; an `ArrayClassifier` or a `TextClassifier`.
        classes: names of the labels.
        decision: tuned thresholds; None: 0.5 for each label.
    """

    task = "multi_label"

    def __init__(self, network: Any, decision: LabelThresholds | None = None):
        self.network, self.decision, self.classes = network, decision, network.classes
        self.model, self.read, self.lines = network.model, network.read, network.lines
        self.reads_text, self.pair_column = network.reads_text, network.pair_column
        self.logits, self.file_format = network.logits, network.file_format
        if not self.reads_text:
            self.features, self.columns, self.shape = network.features, network.columns, network.shape

    @property
    def thresholds(self) -> np.ndarray:
        """Probability of each label from which on it is predicted, float64 `[labels]`."""
        return np.array(self.decision.values if self.decision else [label_thresholds.PLAIN] * len(self.classes))

    def predict(self, examples: Any, top: int = 1) -> list[list[Label]]:
        """The labels of each example, the most probable first; see `probabilities` and `Predictor`."""
        probabilities = self.probabilities(examples)
        answers = []
        for row, has in zip(probabilities, self.decide(probabilities)):
            ranked = sorted(np.flatnonzero(has).tolist(), key=lambda label: -row[label])
            answers.append([Label(self.classes[label], float(row[label])) for label in ranked])
        return answers

    def probabilities(self, examples: Any) -> np.ndarray:
        """The probability of each label, float32 `[examples, labels]`; see `logits` of the network."""
        return special.expit(self.logits(examples).astype(np.float64)).astype(np.float32)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Which labels the examples have, bool `[examples, labels]`, from their probabilities."""
        return np.asarray(probabilities) >= self.thresholds


def load(workdir: Path, info: ModelInfo, model: keras.Model, columns: TableSchema | None) -> MultiLabel:
    """Loads the multi-label classifier of a run.

    Args:
        workdir: folder of the run.
        info: content of its model.json.
        model: its model.
        columns: what the table's columns are; None where all are complete numbers, and for texts.

    Raises:
        BadInput: the model does not have an output for each label, or the thresholds do not fit.
    """
    labels = info.classes or ()
    if model.output_shape[-1] != len(labels):
        raise BadInput(
            f"{workdir}: {folders.MODEL} has {model.output_shape[-1]} outputs, {folders.ABOUT} has {len(labels)} "
            "labels; expected the two files of one run"
        )
    if info.input == "text":
        network = text_classifier.load(workdir, info, model, labels)
    else:
        network = ArrayClassifier(model, labels, 0.0, info.features, columns)
        network.file_format = delimited_format.of_model(info.file_format)
    decision = None if info.decision is None else LabelThresholds.from_json(info.decision, len(labels))
    return MultiLabel(network, decision)
