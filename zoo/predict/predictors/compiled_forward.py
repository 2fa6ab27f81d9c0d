"""Compiled forward pass of a text model, for any number of token sequences of any length."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import NonFinite
from zoo.predict.predictors.compiled_programs import CompiledPrograms, doubled_size, next_size, zero_padded
from zoo.predict.predictors.litert import Lite

# Each pair of batch size and padded length is compiled once, in a third of a second; 1 is for streams, 256 keeps the
# cores busy.
_SIZES = (1, 16, 256)
_NARROWEST = 32


class CompiledForward:
    """The forward pass of a model, in batches of rows of similar length, which do not affect each other.

    Args:
        model: takes int32 `[batch, time]`, padded with 0 at the end, and possibly inputs without a time axis.
        max_length: length of the longest row.
        exactly: whether rows may not be padded beyond `max_length`, where a position embedding may end.
        then: function of the model's output, compiled with it; or None.

    Attributes:
        lite: LiteRT version for single rows, or None; `then` is not applied to its output.
    """

    def __init__(
        self,
        model: keras.Model,
        max_length: int,
        exactly: bool = False,
        then: Callable[[tf.Tensor], tf.Tensor | Sequence[tf.Tensor]] | None = None,
    ):
        self._model, self._then = model, then
        self._names = [each.name for each in model.inputs]
        self._widest = max_length if exactly else -(-max_length // _NARROWEST) * _NARROWEST
        self._programs = CompiledPrograms(self._called)
        self.lite: Lite | None = None

    def width(self, length: int) -> int:
        """Padded width of a row with `length` tokens, one of the few widths that programs are compiled for.

        Widths double: the loop over a text ends with the longest one, so padding costs next to nothing.
        """
        return doubled_size(length, _NARROWEST, self._widest)

    def batches(
        self, columns: Mapping[str, np.ndarray], texts: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """The batches, short rows first: indices of their rows, and the outputs for them.

        Args:
            columns: `length` `[rows]`, and the model's inputs by name; a single input is `tokens`. Missing `segments`
                are 0. Columns of the shape of `tokens`, and those `[rows, time, ...]`
                with its time, are cut to the padded length of a batch.
            texts: int `[rows]`, index of the text that a row belongs to; None where rows are texts.

        Raises:
            NonFinite: the model's output is not finite; names the text.
        """
        for rows, inputs in self.fed(columns):
            if self.lite and len(rows) == 1:
                outputs = [self.lite(self._names, inputs, lambda: self._compiled(inputs)[1])]  # noqa: B023 - called at once
                finite = np.isfinite(outputs[0]).all(axis=-1)
            else:
                finite, *outputs = (part[: len(rows)] for part in self._compiled(inputs))
            if not finite.all():
                wrong = rows[~finite].min()
                number = wrong if texts is None else texts[wrong]
                raise NonFinite(f"the model's output for text {number} is not finite; expected a trained model")
            yield rows, outputs

    def fed(self, columns: Mapping[str, np.ndarray]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """The batches, short rows first: indices of their rows, and the model's padded inputs; see `batches`."""
        order = np.argsort(columns["length"], kind="stable")
        for first in range(0, len(order), _SIZES[-1]):
            rows = order[first : first + _SIZES[-1]]
            yield rows, self._inputs(columns, rows, int(columns["length"][rows[-1]]))

    def _compiled(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        return [part.numpy() for part in self._programs(list(map(tf.constant, inputs)))]

    def _inputs(self, columns: Mapping[str, np.ndarray], rows: np.ndarray, longest: int) -> list[np.ndarray]:
        size, width = next_size(len(rows), _SIZES), self.width(longest)
        inputs = []
        for name in self._names if len(self._names) > 1 else ["tokens"]:
            column, shape = columns.get(name), (size, width)
            if column is not None and column.shape != columns["tokens"].shape:
                # Places have no time axis, whatever their number.
                has_time = column.ndim > 2 and column.shape[1] == columns["tokens"].shape[1]
                shape = (*shape, *column.shape[2:]) if has_time else (size, *column.shape[1:])
            inputs.append(np.zeros(shape, np.int32) if column is None else zero_padded(column[rows, :longest], shape))
        return inputs

    def _called(self, inputs: list[tf.Tensor]) -> list[tf.Tensor]:
        outputs = self._model(inputs if len(inputs) > 1 else inputs[0], training=False)
        # The first of several outputs is the task's.
        logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=range(1, logits.shape.rank))  # [batch]
        results = logits if self._then is None else self._then(logits)
        return [finite, *(results if isinstance(results, (list, tuple)) else [results])]
