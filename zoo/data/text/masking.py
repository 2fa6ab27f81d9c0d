"""Dynamic masking for masked language modelling (MLM), inside the graph.

Devlin et al., "BERT" (2019), section 3.1; masks are drawn again each time a text is read, as in Liu et al., "RoBERTa"
(2019), section 4.1. The draw is a function of seed, step and row in the global batch (`zoo.randomness`), and so of
seed, epoch and example.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from zoo import randomness

# Fractions of the chosen tokens that become [MASK] and a random token; the rest is unchanged.
_MASKED, _RANDOM = 0.8, 0.1


class MaskingRules(NamedTuple):
    """Which tokens may be masked, and how many.

    Attributes:
        mask: id of [MASK].
        special_ids: ids that are never chosen, [CLS] and [SEP]; padding (0) is never chosen either.
        vocabulary: number of ids.
        rate: fraction of the tokens that are chosen.
        continues: bool `[vocabulary]`, whether an id continues a word, for whole-word masking; None to mask tokens.
    """

    mask: int
    special_ids: Sequence[int]
    vocabulary: int
    rate: float = 0.15
    continues: np.ndarray | None = None

    def most(self, width: int) -> int:
        """Maximum number of chosen tokens in a row of `width` tokens."""
        return max(1, math.ceil(self.rate * width))


class Masked(NamedTuple):
    """Rows with masked tokens.

    Attributes:
        tokens: int32 `[batch, time]`, the network's input.
        positions: int32 `[batch, most]`, positions of the chosen tokens in the row.
        labels: int32 `[batch, most]`, the original tokens at these positions.
        weights: float32 `[batch, most]`, 0 for positions that were not chosen.
    """

    tokens: tf.Tensor
    positions: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor


def masked(tokens: tf.Tensor, rules: MaskingRules) -> Masked:
    """Masks some tokens of each row; to be called inside the engine's forward pass.

    Of n maskable tokens, round(rate * n) are chosen, at least one. Whole words are chosen in random order while they
    fit into that number; larger ones are skipped, unless all are larger: then one is chosen, up to its `most`-th piece.

    Args:
        tokens: int32 `[batch, time]`, padded with 0; the time is static.
        rules: which tokens may be masked, and how many.
    """
    scope, shape = randomness.current(), tf.shape(tokens)
    maskable = tokens != 0
    for id in rules.special_ids:
        maskable &= tokens != id
    scores = randomness.uniform(shape, randomness.scope_key(scope), scope.first_row)  # [batch, time]
    if rules.continues is not None:
        scores = tf.gather(scores, _word_starts(tokens, rules.continues), batch_dims=1)  # [batch, time]
    budget = tf.maximum(1, _rounded(rules.rate, tf.reduce_sum(tf.cast(maskable, tf.int32), axis=1)))[:, None]
    scores = tf.where(maskable, scores, -1.0)
    if rules.continues is not None:
        scores = _without_long_words(scores, budget)
    top, positions = tf.math.top_k(scores, rules.most(tokens.shape[1]))  # [batch, most]
    counts = _cumulative_counts(top, scores, rules.continues is not None)  # [batch, most]
    chosen = (top >= 0) & (counts <= tf.maximum(budget, counts[:, :1]))
    labels = tf.gather(tokens, positions, batch_dims=1)  # [batch, most]
    replacements = tf.where(chosen, _replacements(labels, scope, rules), labels)
    rows = tf.broadcast_to(tf.range(shape[0])[:, None], tf.shape(positions))  # [batch, most]
    masked_tokens = tf.tensor_scatter_nd_update(tokens, tf.stack([rows, positions], axis=-1), replacements)
    return Masked(masked_tokens, positions, labels, tf.cast(chosen, tf.float32))


def _word_starts(tokens: tf.Tensor, continues: np.ndarray) -> tf.Tensor:
    """Position of the first token of each token's word, int32 `[batch, time]`."""
    is_start = tf.logical_not(tf.gather(tf.constant(continues), tokens))  # [batch, time]
    positions = tf.where(is_start, tf.range(tf.shape(tokens)[1]), 0)
    # A running maximum, which TensorFlow lacks: 128 comparisons per token cost almost nothing.
    earlier = tf.linalg.band_part(tf.ones([tokens.shape[1], tokens.shape[1]], tf.int32), -1, 0)  # [time, time]
    return tf.reduce_max(positions[:, None, :] * earlier, axis=-1)  # [batch, time]


def _without_long_words(scores: tf.Tensor, budget: tf.Tensor) -> tf.Tensor:
    """Excludes words with more pieces than the budget (score -1), unless all words have."""
    # The pieces of one word have one score.
    pieces = tf.reduce_sum(tf.cast(scores[:, None, :] == scores[:, :, None], tf.int32), axis=-1)  # [batch, time]
    fits = (pieces <= budget) & (scores >= 0)
    return tf.where(fits | ~tf.reduce_any(fits, axis=1, keepdims=True), scores, -1.0)


def _cumulative_counts(top: tf.Tensor, scores: tf.Tensor, words: bool) -> tf.Tensor:
    """Number of tokens chosen up to each candidate, its whole word included: int32 `[batch, most]`."""
    if not words:
        return tf.broadcast_to(tf.range(1, top.shape[1] + 1), tf.shape(top))
    return tf.reduce_sum(tf.cast(scores[:, None, :] >= top[:, :, None], tf.int32), axis=-1)


def _replacements(labels: tf.Tensor, scope: randomness.Scope, rules: MaskingRules) -> tf.Tensor:
    """[MASK] for 80 %, a random token for 10 %, the token itself for the rest: int32 `[batch, most]`."""
    draw = randomness.uniform(tf.shape(labels), randomness.scope_key(scope), scope.first_row)
    other = randomness.uniform(tf.shape(labels), randomness.scope_key(scope), scope.first_row)
    # Not padding, which would end the text.
    other = 1 + tf.cast(other * (rules.vocabulary - 1), tf.int32)
    return tf.where(draw < _MASKED, rules.mask, tf.where(draw < _MASKED + _RANDOM, other, labels))


def _rounded(rate: float, count: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.floor(rate * tf.cast(count, tf.float32) + 0.5), tf.int32)
