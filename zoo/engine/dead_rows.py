"""Examples of weight 0: what they hold must not reach the gradient, not even as 0 times NaN."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from zoo.data.batches import Batches

_CHUNK = 65_536


def may_be_non_finite(batches: Batches) -> bool:
    """Whether a column may hold NaN or infinity; a column on disk may, as it is not read for this."""
    return any(map(_may_be_non_finite, batches.columns.values()))


def replaced(batch: Mapping[str, tf.Tensor], weights: tf.Tensor) -> dict[str, tf.Tensor]:
    """The columns with a living row in the place of each dead one, whose gradient is then 0 times a number.

    Args:
        batch: columns `[rows, ...]`.
        weights: `[rows]`, 0 for a dead row. Where all are dead, NaN and infinity become 0.
    """
    is_dead = tf.equal(weights, 0.0)
    rows = tf.range(tf.shape(weights)[0])
    first = tf.argmax(tf.cast(~is_dead, tf.int32), output_type=tf.int32)
    index = tf.where(is_dead, first, rows)
    return {name: _finite(tf.gather(column, index), is_dead) for name, column in batch.items()}


def _finite(column: tf.Tensor, is_dead: tf.Tensor) -> tf.Tensor:
    if not column.dtype.is_floating:
        return column
    by_row = tf.reshape(is_dead, [-1] + [1] * (column.shape.rank - 1))
    return tf.where(by_row & ~tf.math.is_finite(column), tf.zeros_like(column), column)


def _may_be_non_finite(column: np.ndarray) -> bool:
    if not np.issubdtype(column.dtype, np.inexact):
        return False
    if isinstance(column, np.memmap):
        return True
    return any(not np.isfinite(column[first : first + _CHUNK]).all() for first in range(0, len(column), _CHUNK))
