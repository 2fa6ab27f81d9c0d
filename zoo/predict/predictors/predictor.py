"""The interface of predictors, one class per task, each loaded from a finished run.

A new task needs such a class, a line in `loading` and in `zoo.predict.evaluation.evaluate`, and its output format in
`zoo.cli.predict_formats`.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from zoo.metrics.decisions import Decision
from zoo.predict.predictors.array_inputs import InputLine
from zoo.predict.predictors.litert import Lite
from zoo.predict.predictors.text_inputs import Example

# An array `[examples, ...]`, texts, or pairs of texts.
Examples = np.ndarray | Sequence[Example]


class Predictor(Protocol):
    """A trained model with the code that reads its examples.

    Attributes:
        task: task of the run, as in model.json.
        model: the Keras model.
        reads_text: whether examples are texts or pairs of texts; else they are arrays.
        pair_column: column of the second texts in a file of pairs; empty where examples are not pairs.
    """

    task: str
    model: keras.Model
    reads_text: bool
    pair_column: str

    def read(self, path: str | Path, **columns: str) -> Examples:
        """The examples of a file; predictors of texts take `text_column`, and those of pairs `pair_column`.

        Raises:
            BadInput: names the file, what is wrong and what was expected.
        """

    def lines(self, stream: Iterable[bytes]) -> Iterator[InputLine]:
        """The examples of a stream, one per line; a line that cannot be read has an error instead."""

    def predict(self, examples: Examples, top: int = 1) -> Sequence[Any]:
        """One prediction per example, in the type of the task.

        Args:
            examples: any number, also 0.
            top: candidates per prediction, where only the most probable of very many are returned.

        Raises:
            BadInput: an example is not of the kind that the model reads.
            NonFinite: the model's output is not finite.
        """


class Classifier(Predictor, Protocol):
    """A predictor of classes.

    Attributes:
        classes: class names in the order of the labels.
        takes_images: whether examples are raw images, uint8 `[height, width]` or `[height, width, channels]`.
        decision: how probabilities become a class; None: the most probable one.
        lite: LiteRT version for single examples, or None.
    """

    classes: tuple[str, ...]
    takes_images: bool
    decision: Decision | None
    lite: Lite | None

    def logits(self, examples: Examples) -> np.ndarray:
        """The model's output, float32 `[examples, classes]`; `[examples, 1]` where two classes share one logit."""

    def probabilities(self, examples: Examples) -> np.ndarray:
        """Class probabilities, float32 `[examples, classes]`."""

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """The decided labels, int64 `[examples]`, from probabilities `[examples, classes]`."""

    def with_model(self, model: keras.Model, classes: tuple[str, ...]) -> "Classifier":
        """A predictor that reads the same examples for another model, without LiteRT."""
