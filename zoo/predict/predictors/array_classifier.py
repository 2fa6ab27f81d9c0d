"""A trained classifier, loaded from the folder of its run: its predictions, and how good they are."""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import BadInput, NonFinite
from zoo.metrics.logits import class_probabilities
from zoo.predict.predictors import array_inputs
from zoo.predict.predictors import litert as runtimes

# Each size is compiled once; a batch is padded to the next one. 1 is for streams, 256 keeps the devices busy.
_SIZES = (1, 16, 256)


class ArrayClassifier:
    """A classifier of examples of one shape.

    Attributes:
        model: from `[batch, *shape]` to logits `[batch, classes]`.
        classes: names in the order of the logits.
        shape: of one example.
        largest: intensity of a pixel that the model was trained on, 0 for features of any scale.
        features: names of the columns of a table that the model was trained on; empty where none were kept.
        dtype: of the examples; uint8 for raw pixels of 0 to 255, float32 for features.
        lite: what may answer for one example at a time.
    """

    def __init__(
        self, model: keras.Model, classes: tuple[str, ...], largest: float = 0.0, features: tuple[str, ...] = ()
    ):
        self.model = model
        self.features = features
        self.largest = largest
        self.classes = classes
        self.shape = tuple(model.input_shape[1:])
        self.dtype = np.dtype(model.inputs[0].dtype)
        self.lite: runtimes.Lite | None = None
        # Of any number of rows, so that it is traced once. TensorFlow takes all functions of one line of code for one
        # that is traced again and again, and warns; of a partial it cannot.
        signature = [tf.TensorSpec((None, *self.shape), self.dtype)]
        self._forward = tf.function(functools.partial(model, training=False), signature, autograph=False)

    def probabilities(self, examples: np.ndarray) -> np.ndarray:
        """The probability of each class, float32 `[examples, classes]`; see `logits` for what it takes and raises."""
        return class_probabilities(self.logits(examples)).astype(np.float32)

    def logits(self, examples: np.ndarray) -> np.ndarray:
        """The model's output, batch by batch.

        Args:
            examples: `[examples, *shape]`, also none; numbers that the model's dtype can hold.

        Returns:
            float32 `[examples, classes]`.

        Raises:
            BadInput: the shape is another, or a value is NaN, infinite or out of range.
            NonFinite: the model's output is.
        """
        if not isinstance(examples, np.ndarray):
            examples = np.asarray(examples)
        array_inputs.check_shape(examples, self.shape)
        if self.largest and examples.size and examples.max() > self.largest:
            raise BadInput(f"a value is {examples.max():g}, expected 0 to {self.largest:g} as in the training data")
        starts = range(0, len(examples), _SIZES[-1])
        found = [self._batch(examples[first : first + _SIZES[-1]], first) for first in starts]
        return np.concatenate([np.zeros((0, len(self.classes)), np.float32), *found])

    def prepared(self, examples: np.ndarray) -> np.ndarray:
        """The examples as the model takes them: of its dtype; see `logits` for what is raised."""
        array_inputs.check_shape(examples, self.shape)
        return array_inputs.numbers(examples, self.dtype, 0)

    def read(self, path: str | Path) -> np.ndarray:
        """The examples of a file; see `inputs.read`."""
        return array_inputs.read(path, self.shape, self.dtype, self.features)

    def lines(self, stream: Iterable[bytes]) -> Iterator[array_inputs.InputLine]:
        """The examples of a stream; see `inputs.lines`."""
        return array_inputs.lines(stream, self.shape, self.dtype)

    def _batch(self, examples: np.ndarray, first: int) -> np.ndarray:
        size = next(size for size in _SIZES if size >= len(examples))
        padded = np.zeros((size, *self.shape), self.dtype)
        padded[: len(examples)] = array_inputs.numbers(examples, self.dtype, first)

        def compiled() -> np.ndarray:
            return self._forward(tf.constant(padded)).numpy()[: len(examples)].astype(np.float32)

        found = self.lite(["x"], [padded], compiled) if self.lite and size == 1 else compiled()
        wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(wrong):
            raise NonFinite(
                f"the model's output for example {first + wrong[0]} is not finite; expected a trained model"
            )
        return found
