"""Counter-based random numbers: random bits as a pure function of (seed, step, stream, row in the global batch).

A stateful generator makes a run depend on the hardware: every replica draws the same mask, a resumed run repeats old
masks, and a batch cut in two draws different ones. Here a bit is *computed* from its position by integer hashing, so
any split of a batch draws the same bits, in XLA and in plain graphs alike; and a fused hash costs next to nothing.

The hash is two rounds of the 32-bit finaliser of MurmurHash3 (Appleby, 2011), keyed with 64 bits.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

_local = threading.local()


class Statistic(NamedTuple):
    """An update of a moving average by a mean over the global batch.

    variable += rate * (numerator / weight - variable)
    """

    variable: keras.Variable
    rate: float
    numerator: tf.Tensor
    weight: tf.Tensor


class Scope:
    """The position of a forward pass in the run; each forward pass is traced inside a scope.

    Attributes:
        seed: the run's seed.
        step: scalar, the step number.
        first_row: scalar, index of the slice's first row in the global batch.
        row_weights: `[batch]`, 0 for padding; None where all rows count.
        split: whether the slice is only a part of the global batch.
        batch_rows: rows of the global batch; 0 where it is not known.
        group: rows per group of Keras' batch normalisation; 0 for what `batch_rows` gives.
        is_by_row: for each of Keras' draws, whether its first dimension is that of the rows, as two traces with another
            number of rows have shown; None where nobody has looked.
        uses_moving_statistics: whether batch normalisation is computed as outside of training, where a row does not
            depend on the others.
        first_sizes: the first dimension of each of Keras' draws so far.
        mixes_rows: whether rows have been permuted.
        statistics: updates that layers measured on the slice, to be summed over the global batch.
    """

    def __init__(
        self,
        seed,
        step,
        first_row,
        row_weights=None,
        split=False,
        batch_rows=0,
        group=0,
        is_by_row=None,
        uses_moving_statistics=False,
    ):
        self.seed = seed
        self.step = step
        self.first_row = first_row
        self.row_weights = row_weights
        self.split = split
        self.batch_rows = batch_rows
        self.group = group
        self.is_by_row = is_by_row
        self.uses_moving_statistics = uses_moving_statistics
        self.first_sizes: list[int | None] = []
        self.mixes_rows = False
        self.statistics: list[Statistic] = []
        self.streams = 0

    def next_stream(self) -> int:
        """The number of the next random draw in this forward pass."""
        self.streams += 1
        return self.streams

    def next_draw(self, first_size: int | None) -> bool:
        """Whether Keras' next draw, whose first dimension is given, is one by row."""
        number = len(self.first_sizes)
        self.first_sizes.append(first_size)
        rows = None if self.row_weights is None else self.row_weights.shape[0]
        if first_size is None or first_size != rows:
            return False
        # The size of a weight may be that of the batch by chance.
        return self.is_by_row is None or number >= len(self.is_by_row) or self.is_by_row[number]


@contextlib.contextmanager
def scope(
    seed: int,
    step: tf.Tensor,
    first_row: tf.Tensor,
    row_weights: tf.Tensor | None = None,
    split: bool = False,
    **more,
) -> Iterator[Scope]:
    """Makes random draws inside a function of the seed, the step and the row index in the global batch.

    The arguments are the attributes of `Scope`; the seed is any integer of up to 64 bits.
    """
    outer = current()
    _local.scope = Scope(seed, step, first_row, row_weights, split, **more)
    try:
        yield _local.scope
    finally:
        _local.scope = outer


def current() -> Scope | None:
    """The caller's scope; None outside the engine. Each replica's thread has its own scope."""
    return getattr(_local, "scope", None)


def moving_average(value: tf.Tensor, statistic: Statistic) -> tf.Tensor:
    """The next value of a moving average; unchanged where the statistic has no weight."""
    mean = tf.math.divide_no_nan(statistic.numerator, statistic.weight)
    return value + tf.where(statistic.weight > 0, statistic.rate * (mean - value), tf.zeros_like(value))


def bits(shape: tf.Tensor | tuple[int, ...], key: tuple[tf.Tensor, tf.Tensor], first_row: tf.Tensor | int = 0):
    """Draws 32 random bits for each element.

    Args:
        shape: `[batch, ...]`.
        key: from `scope_key`, `stream_key` or `seed_key`.
        first_row: index of row 0 in the global batch.

    Returns:
        uint32 of the given shape; element `[i, ...]` depends on the key, on `first_row + i` and its index in the row.
    """
    shape = tf.convert_to_tensor(shape, tf.int32)
    rows, width = shape[0], tf.reduce_prod(shape[1:])
    row = _uint(tf.cast(first_row, tf.int32) + tf.range(rows))
    row_key = mix(mix(row + key[0]) ^ key[1])
    column = _uint(tf.range(width)) * _constant(0x9E3779B9)
    mixed = mix(mix(column[None, :] + row_key[:, None]) ^ (key[1] + row)[:, None])  # [batch, row_size]
    return tf.reshape(mixed, shape)  # [batch, ...]


def uniform(shape, key, first_row=0) -> tf.Tensor:
    """Uniform float32 in [0, 1) with 24 random bits each, drawn like `bits`."""
    drawn = tf.bitwise.right_shift(bits(shape, key, first_row), _constant(8))
    return tf.cast(drawn, tf.float32) * 2.0**-24


def scope_key(scope: Scope) -> tuple[tf.Tensor, tf.Tensor]:
    """The key of the next random draw in a scope."""
    return stream_key(scope.seed, tf.cast(scope.step, tf.int32), scope.next_stream())


def seed_key(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The key of a Keras seed: two integers as `keras.random.SeedGenerator.next()` gives them."""
    return mix(_uint(seed[0]) + _constant(1)), mix(_uint(seed[1]) ^ mix(_uint(seed[0])))


def stream_key(seed: int, step: tf.Tensor, stream: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The key of a stream of random bits; layers have the streams from 1 on, in the order of their draws."""
    low, high = _constant(seed), _constant(seed >> 32)
    start = mix(mix(low + _constant(0x3C6EF372)) ^ high)
    stepped = mix(start + _uint(step) * _constant(0x9E3779B9))
    first = mix(stepped ^ (_constant(stream) * _constant(0x85EBCA77)))
    second = mix(mix(_uint(step) ^ _constant(0x27D4EB2F)) + start + _constant(stream) * _constant(0xC2B2AE3D))
    return first, second


def _constant(value: int) -> tf.Tensor:
    return tf.constant(value & 0xFFFFFFFF, tf.uint32)


def _uint(value: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.cast(value, tf.int32), tf.uint32)


def mix(value: tf.Tensor) -> tf.Tensor:
    """The finaliser of MurmurHash3: uint32 to uint32."""
    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    value = xor(value, shift(value, _constant(16))) * _constant(0x85EBCA6B)
    value = xor(value, shift(value, _constant(13))) * _constant(0xC2B2AE35)
    return xor(value, shift(value, _constant(16)))
