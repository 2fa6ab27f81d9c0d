"""Arithmetic of vectors that are lists of tensors, and how a loss changes along a line."""

from collections.abc import Sequence

import tensorflow as tf

# Changes of the loss below this share of it are within the rounding of a float32 sum over thousands of examples.
_ROUNDING = 1e-5


def dot(left: Sequence[tf.Tensor], right: Sequence[tf.Tensor]) -> tf.Tensor:
    """The scalar product of two vectors, float32, or float64 for tensors of float64."""
    wide = tf.float64 if any(each.dtype == tf.float64 for each in left) else tf.float32
    products = [tf.cast(one, wide) * tf.cast(two, wide) for one, two in zip(left, right, strict=True)]
    # Columns first: one long chain of additions rounds more.
    return tf.add_n([tf.reduce_sum(tf.reduce_sum(each, axis=0)) if each.shape.rank else each for each in products])


def plus(left: Sequence[tf.Tensor], right: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The sum of two vectors."""
    return [one + two for one, two in zip(left, right, strict=True)]


def times(factor: tf.Tensor | float, vector: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """A vector times a scalar."""
    return [tf.cast(factor, each.dtype) * each for each in vector]


def difference(loss: tf.Tensor, other: tf.Tensor, slope: tf.Tensor, other_slope: tf.Tensor) -> tf.Tensor:
    """`other - loss` of two points; where rounding hides it, from the slopes at both.

    The slopes of losses that are nearly equal still say which is lower (Hager and Zhang, "A new conjugate gradient
    method with guaranteed descent and an efficient line search", 2005, section 4).

    Args:
        loss: loss of the first point.
        other: loss of the second.
        slope: derivative at the first point along the line from it to the second, times the distance.
        other_slope: the same at the second.
    """
    plain = tf.cast(other - loss, slope.dtype)
    by_slopes = 0.5 * (slope + other_slope)
    return tf.where(tf.abs(plain) <= _ROUNDING * tf.cast(tf.abs(loss), slope.dtype), by_slopes, plain)
