"""Random changes of training texts, inside the graph: tokens that are left out, and tokens that trade places.

Wei and Zou, "EDA: easy data augmentation techniques for boosting performance on text classification tasks", 2019,
section 2: random deletion and random swap. A token that is left out is gone, as there and in the word dropout of Iyyer
et al. ("Deep unordered composition rivals syntactic methods for text classification", 2015, section 3.2), and no [UNK]
or [MASK] takes its place: most tokenizers here have no such token that the network has learned.

The draw is a function of seed, step and place in the global batch (`zoo.randomness`), so each epoch sees other changes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from zoo import randomness


class TokenAugmentation(NamedTuple):
    """What is changed at random.

    Attributes:
        drop: probability that a token is left out. At least one token of a text stays.
        swap: probability that a token is chosen; the chosen ones of a text trade places in random pairs, where one may
            be left over. EDA's share of swaps is half of it, as each swap moves two tokens.
        special_ids: ids that stay where they are, [CLS] and [SEP]; so does padding (0).
    """

    drop: float = 0.0
    swap: float = 0.0
    special_ids: Sequence[int] = ()


def before(forward: Callable[..., Any], augmentation: TokenAugmentation) -> Callable[..., Any]:
    """A `forward(model, batch, training)` whose training batches are changed first.

    Args:
        forward: reads the column `tokens`, and `segments` of pairs.
        augmentation: what is changed; where that is nothing, `forward` itself is returned.
    """
    if not augmentation.drop and not augmentation.swap:
        return forward

    @functools.wraps(forward)
    def augmented(model, batch, training: bool):
        return forward(model, changed(batch, augmentation) if training else batch, training)

    return augmented


def changed(batch: dict[str, tf.Tensor], augmentation: TokenAugmentation) -> dict[str, tf.Tensor]:
    """The batch with other tokens; to be called inside the engine's forward pass.

    Args:
        batch: `tokens` int32 `[batch, time]`, padded with 0 at the end, where the time is static; for pairs of texts
            also `segments` int32 `[batch, time]`, 1 at the second text. Tokens stay in the text that they are of.
        augmentation: what is changed.
    """
    tokens, segments = batch["tokens"], batch.get("segments")
    if augmentation.swap:
        for text in _texts(tokens, segments, augmentation.special_ids):
            tokens = _swapped(tokens, text, augmentation.swap)
    if augmentation.drop:
        texts = _texts(tokens, segments, augmentation.special_ids)
        tokens, segments = _dropped(tokens, segments, texts, augmentation.drop)
    return {**batch, "tokens": tokens} | ({} if segments is None else {"segments": segments})


def _texts(tokens: tf.Tensor, segments: tf.Tensor | None, special_ids: Sequence[int]) -> list[tf.Tensor]:
    """Which tokens of the one text, or of each of two, may be changed: bool `[batch, time]` each."""
    free = tokens != 0
    for id in special_ids:
        free &= tokens != id
    return [free] if segments is None else [free & (segments == 0), free & (segments == 1)]


def _swapped(tokens: tf.Tensor, text: tf.Tensor, rate: float) -> tf.Tensor:
    """The tokens after swaps inside of `text`."""
    scores = _scores(tokens)
    chosen = text & (scores < rate)
    count = tf.reduce_sum(tf.cast(chosen, tf.int32), axis=1, keepdims=True)  # [batch, 1]
    # The chosen positions in random order, then all others; neighbours in this order are pairs.
    order = tf.argsort(tf.where(chosen, scores, 2.0), stable=True)  # [batch, time]
    ranks = tf.range(tokens.shape[1])[None, :]  # [1, time]
    partners = tf.where(ranks < count - count % 2, tf.bitwise.bitwise_xor(ranks, 1), ranks)
    sources = tf.gather(tf.gather(order, partners, batch_dims=1), tf.argsort(order), batch_dims=1)
    return tf.gather(tokens, sources, batch_dims=1)


def _dropped(
    tokens: tf.Tensor, segments: tf.Tensor | None, texts: list[tf.Tensor], rate: float
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """The tokens and segments without some of each text; padding takes their room at the end."""
    scores = _scores(tokens)
    dropped = tf.zeros_like(tokens, tf.bool)
    for text in texts:
        highest = tf.reduce_max(tf.where(text, scores, -1.0), axis=1, keepdims=True)
        # The highest score stays, so that a text of which all would be dropped keeps any one of its tokens.
        dropped |= text & (scores < rate) & (scores < highest)
    width = tokens.shape[1]
    order = tf.argsort(tf.range(width)[None, :] + width * tf.cast(dropped, tf.int32))  # [batch, time]
    stays = tf.gather(tf.logical_not(dropped), order, batch_dims=1)
    tokens, segments = (
        column if column is None else tf.where(stays, tf.gather(column, order, batch_dims=1), 0)
        for column in (tokens, segments)
    )
    return tokens, segments


def _scores(tokens: tf.Tensor) -> tf.Tensor:
    scope = randomness.current()
    return randomness.uniform(tf.shape(tokens), randomness.scope_key(scope), scope.first_row)  # [batch, time]
