"""A mixture of a language model and an n-gram model of the same text.

On a few million characters a small network needs many passes for what counting gives at once: which token follows the
last few ones. So its probabilities are mixed with those of an interpolated Witten-Bell model (see
`zoo.metrics.ngram_baseline`), linearly, as in Mikolov et al., "Empirical evaluation and combination of advanced
language modeling techniques" (2011). The counts come from `zoo.training.ngram_counts`; no gradient reaches them.

A history of h tokens is found by two hashes, as an entry of a bucket; its next tokens stand one after the other.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

# Two hashes of a history, modulo primes below 2^18 and with factors below 2^13, so that no product leaves int32.
_PRIMES, _FACTORS = (262_139, 262_133), (8_191, 6_151)
# Entries of a bucket, and the fields of each: check, first of its next tokens, their number, occurrences, kinds.
SLOTS, FIELDS = 4, 5
# Most next tokens that are kept for histories of 1, 2 and more tokens; the others' mass goes to the shorter history.
WIDTHS = (256, 64, 32)
# The gate's logits are its weights times this, as a learning rate fit for a network moves them by 1 in a training.
GATE_SCALE = 10.0


def hashes(nearest_first: Sequence[Any]) -> list[tuple[Any, Any]]:
    """The hashes of a history after each of its tokens, nearest first.

    Args:
        nearest_first: int arrays or tensors `[...]`, the last token, the one before it, and so on.

    Returns:
        For each number of tokens h = 1, 2, ... the two hashes, `[...]` each, both in [0, 2^18).
    """
    found, last = [], [0 * nearest_first[0] + 1] * 2
    for tokens in nearest_first:
        last = [
            (((each + 1) * factor) % prime + tokens) % prime for each, factor, prime in zip(last, _FACTORS, _PRIMES)
        ]
        found.append(tuple(last))
    return found


def check_of(second: Any, length: int) -> Any:
    """What an entry is recognised by: the second hash and the number of tokens, below 2^22 and so exact in float32."""
    return second * 16 + length


class Found(NamedTuple):
    """What is known of the histories of one length; all float32 `[batch, time]` but the lists."""

    total: Any  # occurrences, 0 for an unknown history
    kinds: Any  # different tokens that followed it
    counts: Any  # [batch, time, width], of the kept next tokens
    tokens: Any  # int32 [batch, time, width], 0 where there is none


class Tables(NamedTuple):
    """Functions from int32 indices to rows of the layer's tables."""

    slots: Callable[[Any], Any]  # [..., SLOTS * FIELDS]
    pairs: Callable[[Any], Any]  # [..., 2]
    gate: Callable[[Any], Any]  # [..., 1]


@keras.saving.register_keras_serializable(package="zoo")
class NgramMixture(keras.layers.Layer):
    """Mixes logits `[batch, time, vocabulary]` with an n-gram model of tokens int32 `[batch, time]`: log-probabilities.

    Args:
        vocabulary: number of ids; 0 is padding.
        longest: tokens of the longest history.
        buckets: number of buckets of histories.
        entries: number of (history, next token) pairs.

    Attributes:
        unigram: `[vocabulary]`, probabilities without a history.
        slots: `[buckets, SLOTS, FIELDS]`, the histories.
        pairs: `[entries + WIDTHS[0], 2]`, next token and count, those of a history together, frequent ones first.
        gate: `[longest + 1]`, trained: how far the network is trusted, by the length of the longest known history.
    """

    def __init__(self, vocabulary: int, longest: int, buckets: int, entries: int, **kwargs):
        # float32 under any precision policy: sums of probabilities.
        super().__init__(**{**kwargs, "dtype": "float32"}, autocast=False)
        self.vocabulary, self.longest = int(vocabulary), int(longest)
        self.buckets, self.entries = int(buckets), int(entries)

    def build(self, *shapes):
        def constant(name, *shape):
            return self.add_weight(shape, initializer="zeros", trainable=False, name=name, autocast=False)

        self.unigram = constant("unigram", self.vocabulary)
        self.slots = constant("slots", self.buckets, SLOTS, FIELDS)
        self.pairs = constant("pairs", self.entries + WIDTHS[0], 2)
        self.gate = self.add_weight((self.longest + 1,), initializer="zeros", name="gate", autocast=False)

    def call(self, logits: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        return self.mix(logits, self.histories(tokens))

    def compute_output_spec(self, logits, tokens):
        return keras.KerasTensor(logits.shape, "float32")

    def get_config(self):
        own = {name: getattr(self, name) for name in ("vocabulary", "longest", "buckets", "entries")}
        return {**super().get_config(), **own}

    def histories(self, tokens: Any) -> Any:
        """The last tokens at each position, nearest first, 0 before the text: `[batch, time, longest]`."""
        return ops.stack(last_tokens(tokens, self.longest), axis=2)

    def mix(self, logits: tf.Tensor, histories: tf.Tensor) -> tf.Tensor:
        """Log-probabilities of all tokens after histories `[batch, time, longest]`."""
        return mixed(logits, tf.unstack(histories, axis=2), self, self._tables(), tf.convert_to_tensor(self.unigram))

    def label_log_probabilities(self, own: tf.Tensor, tokens: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Log-probabilities of labels `[batch, time]` in the text that was counted, as if they had not been.

        Each label's own occurrence is taken from the counts (leave one out): else the n-gram model would be certain.

        Args:
            own: the network's log-probabilities of the labels, float32 `[batch, time]`.
            tokens: int32 `[batch, time]`.
            labels: the token after each.
        """
        tables = self._tables()
        probability, known = tf.gather(tf.convert_to_tensor(self.unigram), labels), tf.zeros_like(labels)
        for length, found in enumerate(_found(last_tokens(tokens, self.longest), self.buckets, tables), 1):
            count = tf.reduce_sum(tf.where(found.tokens == labels[:, :, None], found.counts, 0.0), axis=2)
            own_count, own_kind = tf.minimum(count, 1.0), tf.cast(count == 1.0, tf.float32)
            total, kinds = found.total - own_count, found.kinds - own_kind
            rest = found.total - tf.reduce_sum(found.counts, axis=2) + kinds  # mass of shorter histories
            mixture = (count - own_count + rest * probability) / tf.maximum(total + kinds, 1.0)
            probability = tf.where(total > 0.0, mixture, probability)
            known = tf.where(total > 0.0, length, known)
        gates = tables.gate(known)[:, :, 0]
        parts = tf.math.log_sigmoid(gates) + own, tf.math.log_sigmoid(-gates) + tf.math.log(probability)
        return tf.reduce_logsumexp(tf.stack(parts), axis=0)

    def _tables(self) -> Tables:
        slots = tf.reshape(tf.convert_to_tensor(self.slots), [self.buckets, SLOTS * FIELDS])
        gate = GATE_SCALE * tf.convert_to_tensor(self.gate)[:, None]
        pairs = tf.convert_to_tensor(self.pairs)
        return Tables(*(functools.partial(tf.gather, table) for table in (slots, pairs, gate)))


def last_tokens(tokens: Any, longest: int) -> list[Any]:
    """The last tokens at each position, nearest first, 0 before the text: `longest` times int32 `[batch, time]`."""
    padded = ops.pad(tokens, [[0, 0], [longest - 1, 0]])
    return [padded[:, longest - 1 - back : -back if back else None] for back in range(longest)]


def mixed(logits: Any, nearest_first: Sequence[Any], layer: NgramMixture, tables: Tables, unigram: Any) -> Any:
    """The layer's output, in operations that every runtime can read.

    Args:
        logits: float `[batch, time, vocabulary]`.
        nearest_first: the last tokens at each position, see `last_tokens`.
        layer: its settings are read, not its weights.
        tables: its tables.
        unigram: its probabilities without a history, `[vocabulary]`.
    """
    known, ones = ops.zeros_like(nearest_first[0]), ops.ones_like(nearest_first[0])
    probabilities = ops.zeros_like(logits, dtype="float32") + unigram  # [batch, time, vocabulary]
    row, time = (ops.expand_dims(ops.cumsum(ones, axis=axis) - 1, 2) for axis in (0, 1))
    # From no history to the longest: what has been found of a shorter one gets what the longer one leaves.
    for length, found in enumerate(_found(nearest_first, layer.buckets, tables), 1):
        whole = ops.expand_dims(ops.maximum(found.total + found.kinds, 1.0), 2)
        shares = found.counts / whole  # [batch, time, width]
        probabilities = probabilities * (1.0 - ops.sum(shares, axis=2, keepdims=True))
        # The tokens of a history differ, but for 0, where nothing is added.
        added = ops.take_along_axis(probabilities, found.tokens, axis=2) + shares
        zeros = ops.zeros_like(found.tokens)
        places = ops.stack([row + zeros, time + zeros, found.tokens], axis=3)
        probabilities = ops.scatter_update(probabilities, ops.reshape(places, (-1, 3)), ops.reshape(added, (-1,)))
        known = ops.where(ops.greater(found.total, 0.0), length, known)
    share = ops.sigmoid(tables.gate(known))  # [batch, time, 1]
    own = ops.softmax(ops.cast(logits, "float32"), axis=2)
    return ops.log(share * own + (1.0 - share) * probabilities)


def _found(nearest_first: Sequence[Any], buckets: int, tables: Tables) -> list[Found]:
    """What is known of the histories of 1, 2, ... tokens."""
    results, is_whole = [], ops.not_equal(nearest_first[0], 0)
    for length, (first, second) in enumerate(hashes(nearest_first), 1):
        is_whole = ops.logical_and(is_whole, ops.not_equal(nearest_first[length - 1], 0))
        rows = tables.slots(first % buckets)  # [batch, time, SLOTS * FIELDS]
        check, fields = check_of(second, length), [0.0] * (FIELDS - 1)
        for slot in range(0, SLOTS * FIELDS, FIELDS):
            is_same = ops.logical_and(ops.equal(ops.cast(rows[:, :, slot], "int32"), check), is_whole)
            fields = [
                each + ops.where(is_same, rows[:, :, slot + 1 + number], 0.0) for number, each in enumerate(fields)
            ]
        start, kept, total, kinds = (ops.expand_dims(each, 2) for each in fields)
        places = np.arange(width_of(length), dtype=np.int32)[None, None]
        is_inside = ops.less(places, ops.cast(kept, "int32"))  # [batch, time, width]
        pairs = tables.pairs(ops.where(is_inside, ops.cast(start, "int32") + places, 0))
        counts = ops.where(is_inside, pairs[..., 1], 0.0)
        tokens = ops.where(is_inside, ops.cast(pairs[..., 0], "int32"), 0)
        results.append(Found(total[:, :, 0], kinds[:, :, 0], counts, tokens))
    return results


def width_of(length: int) -> int:
    """Most next tokens of histories of a length."""
    return WIDTHS[min(length, len(WIDTHS)) - 1]
