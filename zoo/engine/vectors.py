"""Vectors that are lists of tensors, one for each variable, and the steps that are made of them."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf


class Proposal(NamedTuple):
    """A step that was tried.

    Attributes:
        direction: what plain gradient descent is to follow with the rate of the schedule; zeros where the step is
            not to be made.
        state: new values of the optimizer's variables, by name.
        scalars: what is reported, float32 by name.
    """

    direction: list[tf.Tensor]
    state: dict[str, tf.Tensor]
    scalars: dict[str, tf.Tensor]


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


def choose(condition: tf.Tensor, one: Sequence[tf.Tensor], other: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The first vector where a scalar is true, else the second."""
    return [tf.where(condition, *pair) for pair in zip(one, other, strict=True)]
