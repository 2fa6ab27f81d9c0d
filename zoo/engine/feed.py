"""Feeds the compiled loop: the data's columns on the device, and the rows that each step reads."""

import weakref
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from zoo.data import mapped_files
from zoo.data.batches import Batches

# Batches read ahead from disk: enough to hide a slow read, few enough to stay small in memory.
_AHEAD = 4
# Memory of one chunk: its index and, if the data is on disk, its batches.
_CHUNK_BYTES = 64 << 20
# Bytes of mapped files in this process' memory after which they are let go, and those that the system maps with a row.
_MAPPED_BYTES, _MAPPED_AROUND = 128 << 20, 64 << 10


class Chunk(NamedTuple):
    """Data of some steps, in one shape whatever their number.

    Attributes:
        columns: data by name, `[examples, ...]`.
        index: int32 `[most steps, rows]`, rows of the columns, -1 for padding.
        widths: int32 `[most steps]`, index of each batch's width in `Batches.widths`.
        first_step: scalar int32.
        steps: scalar int32, number of steps in the chunk.
    """

    columns: dict[str, tf.Tensor]
    index: tf.Tensor
    widths: tf.Tensor
    first_step: tf.Tensor
    steps: tf.Tensor


class Feed:
    """Cuts batches into chunks of one shape, so that the loop is traced and compiled once.

    Args:
        batches: batches in memory (the columns become tensors once, steps gather by index) or on disk (the rows of a
            chunk are prefetched, in the same order).
        steps_per_loop: most steps of a chunk; a chunk that would be large has fewer.
        parts: replicas x micro-batches x slices; the batch is padded to a multiple of it.
    """

    def __init__(self, batches: Batches, steps_per_loop: int, parts: int):
        self._batches = batches
        self._width = -(-batches.batch_size // parts) * parts
        row_bytes = self._width * (4 + (_example_bytes(batches) if batches.on_disk else 0))
        self.steps = min(steps_per_loop, max(1, _CHUNK_BYTES // row_bytes))
        self._columns = None
        if not batches.on_disk:
            self._columns = {name: tf.constant(column) for name, column in batches.columns.items()}
        self._ahead = None
        self._next_step = -1

    def chunk(self, first_step: int, steps: int) -> Chunk:
        """The data of `steps` steps, at most `self.steps`."""
        index = self._batches.indices(first_step, steps)
        if self._columns is None:
            rows = np.arange(index.size, dtype=np.int32).reshape(index.shape)
            columns, rows = self._read_ahead(first_step, steps), np.where(index < 0, -1, rows)
        else:
            columns, rows = self._columns, index
        padded = np.full((self.steps, self._width), -1, np.int32)
        padded[:steps, : index.shape[1]] = rows
        widths = np.zeros(self.steps, np.int32)
        widths[:steps] = self._batches.width_numbers(first_step, steps)
        return Chunk(columns, tf.constant(padded), tf.constant(widths), tf.constant(first_step), tf.constant(steps))

    def _read_ahead(self, first_step: int, steps: int) -> dict[str, tf.Tensor]:
        if self._ahead is None or first_step != self._next_step:
            self._ahead = iter(self._stream(first_step))
        self._next_step = first_step + steps
        batches = [next(self._ahead) for _ in range(steps)]
        # Padded to the full chunk, as another shape would need another compilation.
        batches += [batches[-1]] * (self.steps - steps)
        return {name: tf.concat([batch[name] for batch in batches], axis=0) for name in batches[0]}

    def _stream(self, first_step: int) -> tf.data.Dataset:
        columns = self._batches.columns
        names = list(columns)
        row_bytes = _example_bytes(self._batches) + _MAPPED_AROUND * len(names)
        every = max(1, _MAPPED_BYTES // (self._width * row_bytes))

        # TensorFlow keeps `read` until the process ends: with it, the data's files would stay.
        source = weakref.ref(self._batches)

        def read(step):
            batches = source()
            if batches is None:
                raise StopIteration
            index = batches.indices(int(step), 1)[0]
            if not step % every:
                mapped_files.release(batches.columns.values())
            mapped_files.prefetch(batches.columns.values(), index)
            # At full width, as the graph needs fixed shapes; the loop cuts the rows to the batch's width.
            batch = batches.rows(index)
            return [batch[name] for name in names]

        def load(step):
            values = tf.numpy_function(read, [step], [tf.as_dtype(columns[name].dtype) for name in names])
            for name, value in zip(names, values, strict=True):
                value.set_shape([self._batches.batch_size, *columns[name].shape[1:]])
            return dict(zip(names, values, strict=True))

        steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
        return steps.map(load, num_parallel_calls=2, deterministic=True).prefetch(_AHEAD)


def _example_bytes(batches: Batches) -> int:
    return sum(column.nbytes // len(column) for column in batches.columns.values())
