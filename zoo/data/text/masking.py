"""Masked language modelling: which tokens are hidden, drawn anew each time a text is read, inside the graph.

Devlin et al., "BERT" (2019), section 3.1; dynamic masking as of Liu et al., "RoBERTa" (2019), section 4.1. The draw is
a function of seed, step and place in the global batch (`zoo.randomness`), and so of seed, epoch and example.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from zoo import randomness

# Of the chosen tokens: the shares that become [MASK], and any other token; the rest stays as it is.
_HIDDEN, _OTHER = 0.8, 0.1


class MaskingRules(NamedTuple):
    """What may be hidden, and how.

    Attributes:
        mask: id of [MASK].
        special_ids: ids that are never chosen, [CLS] and [SEP]; padding (0) never is either.
        vocabulary: ids are less.
        rate: share of the tokens that are chosen.
        continues: bool `[vocabulary]`, which ids are pieces inside of a word, to choose whole words; None for tokens.
    """

    mask: int
    special_ids: Sequence[int]
    vocabulary: int
    rate: float = 0.15
    continues: np.ndarray | None = None

    def most(self, width: int) -> int:
        """How many tokens of a row are chosen at most."""
        return max(1, math.ceil(self.rate * width))


class Masked(NamedTuple):
    """Rows with hidden tokens.

    Attributes:
        tokens: int32 `[batch, time]` as the network reads them.
        positions: int32 `[batch, most]` in the row, of the chosen tokens.
        labels: int32 `[batch, most]`, what stood there.
        weights: float32 `[batch, most]`, 0 where fewer were chosen.
    """

    tokens: tf.Tensor
    positions: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor


def masked(tokens: tf.Tensor, rules: MaskingRules) -> Masked:
    """Hides some tokens of each row; to be called inside the engine's forward pass.

    Of n tokens that may be hidden, round(rate * n) are, at least one. Of whole words as many as fit into that number,
    one after the other; none that is larger than it, unless all are: then one is, up to its `most`-th piece.

    Args:
        tokens: int32 `[batch, time]`, padded with 0; the time is known when the graph is made.
        rules: see there.
    """
    where, shape = randomness.current(), tf.shape(tokens)
    free = tokens != 0
    for id in rules.special_ids:
        free &= tokens != id
    scores = randomness.uniform(shape, randomness.scope_key(where), where.first_row)
    if rules.continues is not None:
        scores = tf.gather(scores, _word_starts(tokens, rules.continues), batch_dims=1)
    room = tf.maximum(1, _rounded(rules.rate, tf.reduce_sum(tf.cast(free, tf.int32), axis=1)))[:, None]
    scores = tf.where(free, scores, -1.0)
    if rules.continues is not None:
        scores = _fitting(scores, room)
    top, positions = tf.math.top_k(scores, rules.most(tokens.shape[1]))
    taken = _taken(top, scores, rules.continues is not None)
    chosen = (top >= 0) & (taken <= tf.maximum(room, taken[:, :1]))
    labels = tf.gather(tokens, positions, batch_dims=1)
    read = tf.where(chosen, _replaced(labels, where, rules), labels)
    rows = tf.broadcast_to(tf.range(shape[0])[:, None], tf.shape(positions))
    hidden = tf.tensor_scatter_nd_update(tokens, tf.stack([rows, positions], axis=-1), read)
    return Masked(hidden, positions, labels, tf.cast(chosen, tf.float32))


def _word_starts(tokens: tf.Tensor, continues: np.ndarray) -> tf.Tensor:
    """Where the word of each token begins, int32 `[batch, time]`."""
    begins = tf.logical_not(tf.gather(tf.constant(continues), tokens))
    positions = tf.where(begins, tf.range(tf.shape(tokens)[1]), 0)
    # A running maximum, as TensorFlow has none: 128 comparisons for each token are nothing.
    earlier = tf.linalg.band_part(tf.ones([tokens.shape[1], tokens.shape[1]], tf.int32), -1, 0)
    return tf.reduce_max(positions[:, None, :] * earlier, axis=-1)


def _fitting(scores: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
    """The scores without those of words that are larger than the room, if there are others."""
    # The pieces of one word have one score.
    pieces = tf.reduce_sum(tf.cast(scores[:, None, :] == scores[:, :, None], tf.int32), axis=-1)
    fits = (pieces <= room) & (scores >= 0)
    return tf.where(fits | ~tf.reduce_any(fits, axis=1, keepdims=True), scores, -1.0)


def _taken(top: tf.Tensor, scores: tf.Tensor, words: bool) -> tf.Tensor:
    """How many tokens are chosen when this one is, with all of its word and all that come before it."""
    if not words:
        return tf.broadcast_to(tf.range(1, top.shape[1] + 1), tf.shape(top))
    return tf.reduce_sum(tf.cast(scores[:, None, :] >= top[:, :, None], tf.int32), axis=-1)


def _replaced(labels: tf.Tensor, where: randomness.Scope, rules: MaskingRules) -> tf.Tensor:
    """[MASK] for most, any token for some, itself for the rest."""
    draw = randomness.uniform(tf.shape(labels), randomness.scope_key(where), where.first_row)
    other = randomness.uniform(tf.shape(labels), randomness.scope_key(where), where.first_row)
    # Not padding, which would end the text.
    other = 1 + tf.cast(other * (rules.vocabulary - 1), tf.int32)
    return tf.where(draw < _HIDDEN, rules.mask, tf.where(draw < _HIDDEN + _OTHER, other, labels))


def _rounded(rate: float, count: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.floor(rate * tf.cast(count, tf.float32) + 0.5), tf.int32)
