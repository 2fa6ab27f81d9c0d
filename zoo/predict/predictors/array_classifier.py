"""Classification of arrays: images, or rows of a table."""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from zoo.data.datasets.column_schema import TableSchema
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.errors import BadInput, NonFinite
from zoo.metrics import decisions
from zoo.metrics.decisions import Decision
from zoo.metrics.logits import class_probabilities
from zoo.predict.predictors import array_inputs
from zoo.predict.predictors.litert import Lite

# Each size is compiled once; a batch is padded to the next one. 1 is for streams, 256 keeps the devices busy.
_SIZES = (1, 16, 256)


class ArrayClassifier:
    """A classifier of examples of one shape.

    Attributes:
        model: from `[batch, *shape]` to logits `[batch, classes]`.
        classes: class names in the order of the logits.
        largest: largest pixel value of the training data, 0 for features of any scale.
        features: column names of the training table; empty where none were kept.
        columns: what the table's columns are; None where all are complete numbers.
        shape: shape of one example.
        dtype: dtype of the examples; uint8 for raw pixels of 0 to 255, float32 for features.
        resize: how image files of any size are read, as the training read them; None: only those of the input's size.
        file_format: how the delimited files of the training were written, as far as flags said so.
        decision: how probabilities become a class; None: the most probable one.
        lite: LiteRT version for single examples, or None.
    """

    task, reads_text, pair_column = "classification", False, ""

    def __init__(
        self,
        model: keras.Model,
        classes: tuple[str, ...],
        largest: float = 0.0,
        features: tuple[str, ...] = (),
        columns: TableSchema | None = None,
    ):
        self.model = model
        self.columns = columns
        self.features = features
        self.largest = largest
        self.classes = classes
        self.shape = tuple(model.input_shape[1:])
        self.dtype = np.dtype(model.inputs[0].dtype)
        self.resize: str | None = None
        self.file_format = FOUND
        self.lite: Lite | None = None
        self.decision: Decision | None = None
        # Any number of rows, so that it is traced once. TensorFlow takes all functions of one line of code for one
        # that is traced again and again, and warns; with a partial it cannot.
        signature = [tf.TensorSpec((None, *self.shape), self.dtype)]
        self._forward = tf.function(functools.partial(model, training=False), signature, autograph=False)

    @property
    def takes_images(self) -> bool:
        """Whether examples are raw images, uint8 `[height, width]` or `[height, width, channels]`."""
        return len(self.shape) in (2, 3) and self.dtype == np.uint8

    def predict(self, examples: np.ndarray, top: int = 1) -> np.ndarray:
        """The probabilities of all classes, whatever `top` is; see `Predictor`."""
        return self.probabilities(examples)

    def probabilities(self, examples: np.ndarray) -> np.ndarray:
        """Class probabilities, float32 `[examples, classes]`; arguments and errors as in `logits`."""
        return class_probabilities(self.logits(examples)).astype(np.float32)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """See `Classifier`."""
        return decisions.decide(self.decision, probabilities)

    def logits(self, examples: np.ndarray) -> np.ndarray:
        """The model's output, computed in batches.

        Args:
            examples: `[examples, *shape]`, any number of them; values must fit the model's dtype.

        Returns:
            float32 `[examples, classes]`.

        Raises:
            BadInput: the shape is wrong, or a value is NaN, infinite or out of range.
            NonFinite: the model's output is not finite.
        """
        if not isinstance(examples, np.ndarray):
            examples = np.asarray(examples)
        array_inputs.check_shape(examples, self.shape)
        if self.largest and examples.size and examples.max() > self.largest:
            raise BadInput(f"a value is {examples.max():g}, expected 0 to {self.largest:g} as in the training data")
        starts = range(0, len(examples), _SIZES[-1])
        batches = [self._batch(examples[first : first + _SIZES[-1]], first) for first in starts]
        return np.concatenate([np.zeros((0, len(self.classes)), np.float32), *batches])

    def prepared(self, examples: np.ndarray) -> np.ndarray:
        """The examples in the model's dtype; errors as in `logits`."""
        array_inputs.check_shape(examples, self.shape)
        return array_inputs.numbers(examples, self.dtype, 0, may_lack=self.columns is not None)

    def read(self, path: str | Path, form: DelimitedFormat | None = None) -> np.ndarray:
        """The examples of a file; `form`: how it is written, None as the training's. See `array_inputs.read`."""
        form = form or self.file_format
        return array_inputs.read(path, self.shape, self.dtype, self.features, self.columns, self.resize, form)

    def lines(self, stream: Iterable[bytes]) -> Iterator[array_inputs.InputLine]:
        """The examples of a stream; see `array_inputs.lines`."""
        return array_inputs.lines(stream, self.shape, self.dtype, self.columns)

    def with_model(self, model: keras.Model, classes: tuple[str, ...]) -> "ArrayClassifier":
        """See `Classifier`."""
        other = ArrayClassifier(model, classes, self.largest, self.features, self.columns)
        other.resize, other.file_format = self.resize, self.file_format
        other.decision = self.decision if classes == self.classes else None
        return other

    def _batch(self, examples: np.ndarray, first: int) -> np.ndarray:
        """Logits of at most 256 examples, of which the first one has the number `first`."""
        size = next(size for size in _SIZES if size >= len(examples))
        padded = np.zeros((size, *self.shape), self.dtype)
        may_lack = self.columns is not None
        padded[: len(examples)] = array_inputs.numbers(examples, self.dtype, first, may_lack=may_lack)

        def compiled() -> np.ndarray:
            return self._forward(tf.constant(padded)).numpy()[: len(examples)].astype(np.float32)

        logits = self.lite(["x"], [padded], compiled) if self.lite and size == 1 else compiled()
        wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(wrong):
            raise NonFinite(
                f"the model's output for example {first + wrong[0]} is not finite; expected a trained model"
            )
        return logits
