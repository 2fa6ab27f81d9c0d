"""Losses and metrics as weighted sums (numerator, weight), which add up to the same value for any split of a batch."""

from typing import NamedTuple

import tensorflow as tf


class Term(NamedTuple):
    """One loss or metric on a slice of the batch, reported as sum(values * weights) / sum(weights).

    The sums run over the *global* batch or the whole evaluation set; it is never a mean of means.

    Attributes:
        values: `[batch, ...]`, one value per example or per token.
        weights: a number, `[batch]` (one per example), or a tensor of the values' rank that broadcasts to them; 0
            leaves a value out (padding, an unlabelled token).
    """

    values: tf.Tensor
    weights: tf.Tensor | float = 1.0


class Output(NamedTuple):
    """Model outputs that an evaluation collects, for metrics that are not means; training ignores them.

    Attributes:
        values: `[batch, ...]`, one entry per example.
    """

    values: tf.Tensor


class WeightedSum(NamedTuple):
    """The two scalars of a term, which may be added over micro-batches, replicas and batches."""

    numerator: tf.Tensor
    weight: tf.Tensor


def sums(name: str, term: Term, row_weights: tf.Tensor) -> WeightedSum:
    """Sums a term over the rows of a slice.

    Args:
        name: name of the term, for error messages.
        term: values with a leading batch dimension.
        row_weights: `[batch]`, 1 for an example and 0 for padding.

    Raises:
        ValueError: the values do not have one entry per row of the batch.
    """
    weighted, weights = weigh(name, term, row_weights)
    return WeightedSum(tf.reduce_sum(weighted), tf.reduce_sum(weights))


def weigh(name: str, term: Term, row_weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Values times weights, and the weights, both float32 of the values' shape; see `sums`."""
    values = tf.cast(tf.convert_to_tensor(term.values), tf.float32)
    if values.shape.rank == 0 or not values.shape[:1].is_compatible_with(row_weights.shape):
        raise ValueError(
            f"term {name!r} has values of shape {values.shape}: expected one entry per example, "
            f"[{row_weights.shape[0]}, ...]; return unreduced losses, the engine adds them up"
        )
    by_row = [-1] + [1] * (values.shape.rank - 1)
    weights = tf.cast(term.weights, tf.float32)
    if weights.shape.rank == 1:
        weights = tf.reshape(weights, by_row)
    elif weights.shape.rank not in (0, values.shape.rank):
        raise ValueError(
            f"term {name!r} has weights of shape {weights.shape}: expected a number, [batch] or {values.shape}"
        )
    weights = tf.broadcast_to(weights * tf.reshape(row_weights, by_row), tf.shape(values))
    # Where the weight is 0 the value may be anything, NaN included: 0 * NaN would be NaN.
    return tf.where(weights == 0.0, tf.zeros_like(values), values) * weights, weights
