"""Random bits as a pure function of (seed, step, stream, place in the global batch).

A stateful generator makes a run depend on the hardware: every replica draws the same mask, a resumed run repeats old
ones, and a batch cut in two draws others. Here a bit is *computed* from where it is needed, by integer hashing, so any
split of a batch draws the same bits; the same in XLA and in plain graphs; and a fused hash costs next to nothing.

The hash is the 32-bit finaliser of MurmurHash3 (Appleby, 2011), two rounds of it, under a key of 64 bits.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

_local = threading.local()


class Statistic(NamedTuple):
    """A mean over the global batch that a variable follows: variable += rate * (numerator / weight - variable)."""

    variable: keras.Variable
    rate: float
    numerator: tf.Tensor
    weight: tf.Tensor


class Scope:
    """Where in the run the code at hand is; a forward pass is traced inside one.

    Attributes:
        seed: of the run.
        step: scalar, the number of the step.
        first_row: scalar, the place of the slice's first row in the global batch.
        row_weights: `[batch]`, 0 for padding; None where all rows count.
        split: whether the slice is a part of the global batch only.
        statistics: what layers measured on the slice, to be added up over the global batch.
    """

    def __init__(self, seed, step, first_row, row_weights=None, split=False):
        self.seed = seed
        self.step = step
        self.first_row = first_row
        self.row_weights = row_weights
        self.split = split
        self.statistics: list[Statistic] = []
        self.streams = 0

    def next_stream(self) -> int:
        """Numbers the noises of one forward pass in the order in which they are drawn."""
        self.streams += 1
        return self.streams


@contextlib.contextmanager
def scope(
    seed: int,
    step: tf.Tensor,
    first_row: tf.Tensor,
    row_weights: tf.Tensor | None = None,
    split: bool = False,
) -> Iterator[Scope]:
    """Makes the noise inside a function of the seed, the step and the rows' places in the global batch.

    Args: as the attributes of `Scope`; the seed is any integer of up to 64 bits.
    """
    outer = current()
    _local.scope = Scope(seed, step, first_row, row_weights, split)
    try:
        yield _local.scope
    finally:
        _local.scope = outer


def current() -> Scope | None:
    """The scope the caller is in; None outside the engine. Each replica's thread has its own."""
    return getattr(_local, "scope", None)


def followed(value: tf.Tensor, statistic: Statistic) -> tf.Tensor:
    """The next value of a variable that follows a statistic; the same where nothing was measured."""
    mean = tf.math.divide_no_nan(statistic.numerator, statistic.weight)
    return value + tf.where(statistic.weight > 0, statistic.rate * (mean - value), tf.zeros_like(value))


def bits(shape: tf.Tensor | tuple[int, ...], key: tuple[tf.Tensor, tf.Tensor], first_row: tf.Tensor | int = 0):
    """Draws 32 random bits for each element.

    Args:
        shape: `[batch, ...]`.
        key: from `scope_key` or `seed_key`.
        first_row: the place of row 0 in the global batch.

    Returns:
        uint32 of the given shape; element `[i, ...]` depends on the key, on `first_row + i` and its place in the row.
    """
    shape = tf.convert_to_tensor(shape, tf.int32)
    rows, width = shape[0], tf.reduce_prod(shape[1:])
    row = _uint(tf.cast(first_row, tf.int32) + tf.range(rows))
    row_key = _mix(_mix(row + key[0]) ^ key[1])
    column = _uint(tf.range(width)) * _constant(0x9E3779B9)
    mixed = _mix(_mix(column[None, :] + row_key[:, None]) ^ (key[1] + row)[:, None])
    return tf.reshape(mixed, shape)


def uniform(shape, key, first_row=0) -> tf.Tensor:
    """float32 in [0, 1) with 24 random bits each, drawn like `bits`."""
    drawn = tf.bitwise.right_shift(bits(shape, key, first_row), _constant(8))
    return tf.cast(drawn, tf.float32) * 2.0**-24


def scope_key(where: Scope) -> tuple[tf.Tensor, tf.Tensor]:
    """The key of the next noise in a scope."""
    return _key(where.seed, tf.cast(where.step, tf.int32), where.next_stream())


def seed_key(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The key for a Keras seed, two integers as from `keras.random.SeedGenerator.next()`."""
    return _mix(_uint(seed[0]) + _constant(1)), _mix(_uint(seed[1]) ^ _mix(_uint(seed[0])))


def _key(seed: int, step: tf.Tensor, stream: int) -> tuple[tf.Tensor, tf.Tensor]:
    low, high = _constant(seed), _constant(seed >> 32)
    start = _mix(_mix(low + _constant(0x3C6EF372)) ^ high)
    stepped = _mix(start + _uint(step) * _constant(0x9E3779B9))
    first = _mix(stepped ^ (_constant(stream) * _constant(0x85EBCA77)))
    second = _mix(_mix(_uint(step) ^ _constant(0x27D4EB2F)) + start + _constant(stream) * _constant(0xC2B2AE3D))
    return first, second


def _constant(value: int) -> tf.Tensor:
    return tf.constant(value & 0xFFFFFFFF, tf.uint32)


def _uint(value: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.cast(value, tf.int32), tf.uint32)


def _mix(value: tf.Tensor) -> tf.Tensor:
    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    value = xor(value, shift(value, _constant(16))) * _constant(0x85EBCA6B)
    value = xor(value, shift(value, _constant(13))) * _constant(0xC2B2AE35)
    return xor(value, shift(value, _constant(16)))
