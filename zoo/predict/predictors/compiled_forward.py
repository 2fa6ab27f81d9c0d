"""A model of tokens as a few compiled programs: rows of any number and length in, outputs out."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import NonFinite
from zoo.predict.predictors.compiled_programs import CompiledPrograms, doubled_size, next_size, zero_padded
from zoo.predict.predictors.litert import Lite

# Each pair of a size and a width is compiled once, a third of a second; 1 is for streams, 256 keeps the cores busy.
_SIZES = (1, 16, 256)
_NARROWEST = 32


class CompiledForward:
    """The forward pass of a model, in batches of rows of similar length; who shares a batch changes nothing.

    Args:
        model: its inputs are int32 `[batch, time]`, padded with 0 at the end, and perhaps others that have no time.
        max_length: of the longest row.
        exactly: whether no row may be padded beyond `max_length`, where a table of positions may end.
        then: what is made of the model's output inside of the program, or None.

    Attributes:
        lite: what may answer for one row at a time; nothing is made of its output then.
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
        """Numbers of rows, short ones first, and the outputs at them.

        Args:
            columns: `length` `[rows]`, and the model's inputs by their names; of a model with one input it is `tokens`.
                `segments` may be missing: all 0. Columns of `tokens`' shape are cut to the width of a batch.
            texts: int `[rows]`, the number of the text that a row is of; None where rows are texts.

        Raises:
            NonFinite: the model's output is; names the text.
        """
        for chosen, inputs in self.fed(columns):
            if self.lite and len(chosen) == 1:
                found = [self.lite(self._names, inputs, lambda: self._compiled(inputs)[1])]  # noqa: B023 - called at once
                finite = np.isfinite(found[0]).all(axis=-1)
            else:
                finite, *found = (part[: len(chosen)] for part in self._compiled(inputs))
            if not finite.all():
                wrong = chosen[~finite].min()
                number = wrong if texts is None else texts[wrong]
                raise NonFinite(f"the model's output for text {number} is not finite; expected a trained model")
            yield chosen, found

    def fed(self, columns: Mapping[str, np.ndarray]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Numbers of rows, short ones first, and the model's inputs for them, filled up with padding; see `batches`."""
        order = np.argsort(columns["length"], kind="stable")
        for first in range(0, len(order), _SIZES[-1]):
            chosen = order[first : first + _SIZES[-1]]
            yield chosen, self._inputs(columns, chosen, int(columns["length"][chosen[-1]]))

    def _compiled(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        return [part.numpy() for part in self._programs(list(map(tf.constant, inputs)))]

    def _inputs(self, columns: Mapping[str, np.ndarray], chosen: np.ndarray, longest: int) -> list[np.ndarray]:
        size, width = next_size(len(chosen), _SIZES), self.width(longest)
        made = []
        for name in self._names if len(self._names) > 1 else ["tokens"]:
            column, shape = columns.get(name), (size, width)
            if column is not None and column.shape != columns["tokens"].shape:
                shape = (size, *column.shape[1:])
            made.append(np.zeros(shape, np.int32) if column is None else zero_padded(column[chosen, :longest], shape))
        return made

    def _called(self, inputs: list[tf.Tensor]) -> list[tf.Tensor]:
        found = self._model(inputs if len(inputs) > 1 else inputs[0], training=False)
        # Of several outputs the first is the task's.
        found = found[0] if isinstance(found, (list, tuple)) else found
        finite = tf.reduce_all(tf.math.is_finite(found), axis=range(1, found.shape.rank))
        made = found if self._then is None else self._then(found)
        return [finite, *(made if isinstance(made, (list, tuple)) else [made])]
