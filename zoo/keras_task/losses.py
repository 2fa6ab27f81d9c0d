"""A Keras loss as a term: one value per example, and weights whose sum is what Keras divides by."""

import math
from typing import Any

import keras
import tensorflow as tf

from zoo.engine import private_apis
from zoo.errors import BadInput
from zoo.keras_task.compiled import LossPart
from zoo.terms import Term

_MEANS = ("sum_over_batch_size", "mean")


def check(part: LossPart) -> None:
    """Refuses a loss that adds up in another way than as a mean.

    Raises:
        BadInput: names the loss, and the reduction to use.
    """
    reduction = part.loss.reduction
    if type(part.loss).__call__ is not keras.losses.Loss.__call__:
        raise BadInput(f"the loss {part.name!r} overrides __call__, which adds up by itself: expected call() alone")
    if reduction not in (*_MEANS, "mean_with_sample_weight"):
        raise BadInput(
            f"the loss {part.name!r} has reduction={reduction!r}, which depends on the number of examples: expected "
            "'sum_over_batch_size', with a learning rate as many times as large as the batch for 'sum'"
        )


def term(part: LossPart, y_true: Any, y_pred: Any, sample_weight: tf.Tensor | None) -> Term:
    """Values and weights of a loss, without its factor.

    `sum_over_batch_size` divides the weighted sum by the number of values, whatever the examples' weights are, or by
    the number of those that are not masked; `mean_with_sample_weight` divides by the sum of the weights.

    Args:
        part: the loss.
        y_true: targets `[batch, ...]`.
        y_pred: the model's output, with its mask if it has one.
        sample_weight: `[batch]`, or of the values' rank; None for 1 each.

    Raises:
        BadInput: the loss returns one number for the batch, or the mask does not fit its values.
    """
    convert = keras.ops.convert_to_tensor
    y_true, dtype = None if y_true is None else convert(y_true, dtype=part.loss.dtype), part.loss.dtype
    values = part.loss.call(y_true, _with_mask(convert(y_pred, dtype=dtype), y_pred))
    mask = _mask(part, values, y_pred)
    values = convert(values)
    if not values.shape.rank:
        raise BadInput(
            f"the loss {part.name!r} returns one number for all examples: expected one for each, [batch, ...]; leave "
            "the mean over the first dimension to the engine (give Dice and Tversky an axis)"
        )
    weights: tf.Tensor | float = 1.0 if mask is None else tf.cast(mask, values.dtype)
    if sample_weight is None:
        return Term(values, weights)
    sample_weight = aligned(tf.cast(sample_weight, values.dtype), values)
    if part.loss.reduction in _MEANS:
        return Term(values * sample_weight, weights)
    return Term(values, tf.broadcast_to(sample_weight * weights, tf.shape(values)))


def per_row(term: Term) -> tf.Tensor:
    """The means of a term's values over all dimensions but the first, `[batch]`."""
    values = tf.convert_to_tensor(term.values)
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))


def is_plain(term: Term) -> bool:
    """Whether each value has the weight 1, so that several such losses are one."""
    return not tf.is_tensor(term.weights)


def aligned(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Weights `[batch]`, `[batch, 1]` or `[batch, time]` in a shape that broadcasts to the values' first axes.

    Keras' own alignment squeezes a last dimension of 1 as well, and broadcasts from the last axis on.
    """
    rank = values.shape.rank
    if weights.shape.rank > rank and math.prod(weights.shape[rank:]) == 1:
        return tf.reshape(weights, tf.shape(weights)[:rank])
    return tf.reshape(weights, tf.concat([tf.shape(weights), [1] * (rank - weights.shape.rank)], 0))


def _with_mask(converted: tf.Tensor, y_pred: Any) -> tf.Tensor:
    mask = private_apis.mask_of(y_pred)
    if mask is not None and converted is not y_pred:
        private_apis.set_mask(converted, mask)
    return converted


def _mask(part: LossPart, values: tf.Tensor, y_pred: Any) -> tf.Tensor | None:
    """The mask of the model's output and of the loss's own values, of the values' rank."""
    masks = [private_apis.mask_of(each) for each in (y_pred, values)]
    masks = [tf.cast(mask, tf.bool) for mask in masks if mask is not None]
    for mask in masks:
        if mask.shape.rank != values.shape.rank:
            raise BadInput(
                f"the loss {part.name!r} has values of shape {values.shape}, and the model's output has a mask of "
                f"shape {mask.shape}: expected one value for each entry of the mask; stop the mask before the output"
            )
    if not masks:
        return None
    return masks[0] if len(masks) == 1 else tf.logical_and(*masks)
