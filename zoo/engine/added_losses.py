"""Losses that layers add beside `forward` (`add_loss`, activity regularizers), as terms of the objective.

Keras adds each of them to the loss of what is on the device. So a loss that is a sum over the rows, and one that is a
mean over them, as those of activity regularizers, mean different things for a slice of a batch. Which of the two a loss
is shows where it is computed for some rows at once and for half of them at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from zoo.terms import WeightedSum

MEAN, SUM = "added_loss_mean", "added_loss_sum"
TERMS = (MEAN, SUM)
_TOLERANCE = 1e-3


class Kinds(NamedTuple):
    """What the layers' losses are, in the order in which they are added.

    Attributes:
        of: for each loss `MEAN` (over the rows, or the same for any rows) or `SUM` (over the rows).
        slices: slices of the global batch.
    """

    of: tuple[str, ...] = ()
    slices: int = 1

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms, which are part of the objective."""
        return tuple(name for name in TERMS if name in self.of)


def sums(losses: Sequence[tf.Tensor], kinds: Kinds | None, row_weights: tf.Tensor) -> dict[str, WeightedSum]:
    """The terms of a slice.

    Args:
        losses: what the layers have added, each a scalar or `[...]`, whose sum counts, as in Keras.
        kinds: what they are; None before it is known: means.
        row_weights: `[rows]`, 0 for padding.
    """
    kinds = kinds or Kinds((MEAN,) * len(losses))
    totals: dict[str, tf.Tensor] = {}
    for loss, kind in zip(losses, kinds.of, strict=True):
        value = tf.reduce_sum(tf.cast(loss, tf.float32))
        totals[kind] = totals[kind] + value if kind in totals else value
    # Weights that add up to 1 over the global batch make a sum of a mean.
    weights = {MEAN: tf.reduce_sum(row_weights), SUM: tf.constant(1.0 / kinds.slices)}
    numerators = {MEAN: lambda value: value * weights[MEAN], SUM: lambda value: value}
    return {name: WeightedSum(numerators[name](totals[name]), weights[name]) for name in kinds.terms}


def kind(whole: np.ndarray, halves: Sequence[np.ndarray]) -> str | None:
    """Whether a loss is a mean or a sum over the rows, from its value for all rows and for each half; None: neither."""
    sizes = 0.5 * sum(map(np.abs, halves)) + np.abs(whole)
    if np.abs(whole - 0.5 * sum(halves)) <= _TOLERANCE * sizes:
        return MEAN
    return SUM if np.abs(whole - sum(halves)) <= _TOLERANCE * sizes else None
