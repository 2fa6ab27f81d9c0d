"""Batch normalisation over groups of neighbouring rows ("ghost" batches: Hoffer et al., 2017, section 4).

Over the whole batch it would depend on the hardware, as replicas and micro-batches hold a part each. Over groups of a
fixed size it does not, and needs no communication inside the forward pass.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from zoo import randomness


class Normalized(NamedTuple):
    """Values and statistics of groups.

    Attributes:
        values: `[rows, ..., width]`, mean 0 and variance 1 in each group; 0 for padding.
        mean: `[groups, 1, ..., width]`.
        variance: `[groups, 1, ..., width]`.
        has_rows: `[groups, 1, ..., 1]`, 1 where a group has rows of a weight above 0.
    """

    values: tf.Tensor
    mean: tf.Tensor
    variance: tf.Tensor
    has_rows: tf.Tensor


def normalize(x: tf.Tensor, weights: tf.Tensor, group: int, epsilon: float) -> Normalized:
    """Normalises each group of `group` rows.

    Args:
        x: float32 `[rows, ..., width]`.
        weights: `[rows]` or `[rows, ...]` without the width; 0 leaves a row or a position out (padding, a mask).
        group: rows per group; the last one may have fewer.
        epsilon: added to the variance.
    """
    rows = tf.shape(x)[0]
    missing = -rows % group
    grouped = tf.pad(x, [[0, missing]] + [[0, 0]] * (x.shape.rank - 1))
    grouped = tf.reshape(grouped, tf.concat([[-1, group], tf.shape(x)[1:]], 0))  # [groups, group, ..., width]
    weights = _grouped_weights(x, weights, group, missing)
    axes = list(range(1, x.shape.rank))
    count = tf.reduce_sum(weights, axes, keepdims=True)
    # A weight for each row stands for all of its positions.
    count *= tf.cast(tf.reduce_prod(tf.shape(grouped)[1:-1]) // tf.reduce_prod(tf.shape(weights)[1:-1]), tf.float32)
    # Padding is 0 on both sides of the statistics: divided by the standard deviation of few or no rows, it would grow
    # 30-fold in each layer of a deep network, and 0 * infinity is not a number.
    counted = weights > 0
    zeros = tf.zeros_like(grouped)
    grouped = tf.where(counted, grouped, zeros)
    mean = tf.math.divide_no_nan(tf.reduce_sum(grouped, axes, keepdims=True), count)
    centered = tf.where(counted, grouped - mean, zeros)
    variance = tf.math.divide_no_nan(tf.reduce_sum(tf.square(centered), axes, keepdims=True), count)
    values = centered * tf.math.rsqrt(variance + epsilon)
    values = tf.reshape(values, tf.concat([[-1], tf.shape(x)[1:]], 0))[:rows]
    return Normalized(values, mean, variance, tf.cast(count > 0, tf.float32))


def statistic(variable: keras.Variable, rate: float, values: tf.Tensor, has_rows: tf.Tensor) -> randomness.Statistic:
    """The update of a moving statistic by the mean of `values` over the groups that have rows."""
    total = tf.reduce_sum(tf.reshape(values * has_rows, [-1, values.shape[-1]]), axis=0)  # [width]
    return randomness.Statistic(variable, rate, tf.stop_gradient(total), tf.reduce_sum(has_rows))


def _grouped_weights(x: tf.Tensor, weights: tf.Tensor, group: int, missing) -> tf.Tensor:
    """`[groups, group, ..., 1]`, with as many axes as the grouped values."""
    weights = tf.pad(weights, [[0, missing]] + [[0, 0]] * (weights.shape.rank - 1))
    inner = [size if size is not None else tf.shape(weights)[axis] for axis, size in enumerate(weights.shape)][1:]
    ones = [1] * (x.shape.rank - weights.shape.rank)
    return tf.reshape(weights, [-1, group, *inner, *ones])
