"""N-gram logits: a linear classifier of a text's tokens and n-grams of tokens.

It is the "wide" half of a wide and deep model (Cheng et al., 2016): its logits are mixed with a network's. On a few
thousand texts such a classifier is hard to beat (Wang and Manning, 2012), and a mixture with a good network is better
than either (Mesnil et al., 2014). Its weights come from `zoo.training.ngram_fit`; the gradient does not reach them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from zoo.models import logits_mixture

# A prime below 2^13: with fewer than 2^18 buckets no product leaves int32, which every runtime can compute.
_FACTOR = 8191
MOST_BUCKETS = 2**18
# First weight of the network's logits in the mixture, for the evaluations during training; the one of the finished
# model is chosen on the validation split. The network learns alone, as in Mesnil et al. (2014): beside logits that
# explain the training texts it would learn nothing. Small, as a network from scratch is the weaker of the two on a few
# thousand texts.
NETWORK_SHARE = 0.2


def ngram_buckets(tokens: Any, order: int, buckets: int) -> list[Any]:
    """Hashes of n-grams of 2 to `order` neighbouring ids, in [0, buckets).

    Args:
        tokens: array or tensor int32 `[batch, time]`.
        order: largest n.
        buckets: number of buckets, below 2^18.

    Returns:
        For each n an array or tensor `[batch, time - n + 1]`.
    """
    hashes, last = [], tokens % buckets
    for size in range(2, order + 1):
        # The added 1 keeps an n-gram apart from a shorter one behind an id of 0.
        last = ((last[:, :-1] + 1) * _FACTOR + tokens[:, size - 1 :] % buckets) % buckets
        hashes.append(last)
    return hashes


def ngrams(
    tokens: np.ndarray, vocabulary: int, buckets: int, order: int = 2, excluded: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """The features of texts as `NgramLogits` computes them; a token is its own feature, n-grams follow.

    Args:
        tokens: int32 `[texts, time]`, padded with 0 at the end.
        vocabulary: number of ids.
        buckets: number of buckets of the n-grams.
        order: largest n.
        excluded: ids that are no words, such as those of [CLS] and [SEP].

    Returns:
        Text numbers and feature numbers, int `[features of all texts]`: once for each text that has the feature.
    """
    real = mask = (tokens != 0) & ~np.isin(tokens, excluded)
    rows, columns = [np.nonzero(mask)[0]], [tokens[mask]]
    for size, hashes in enumerate(ngram_buckets(tokens, order, buckets), 2):
        mask = mask[:, :-1] & real[:, size - 1 :]
        rows.append(np.nonzero(mask)[0])
        columns.append(hashes[mask] + vocabulary)
    size = vocabulary + buckets
    return np.divmod(np.unique(np.concatenate(rows).astype(np.int64) * size + np.concatenate(columns)), size)


@keras.saving.register_keras_serializable(package="zoo")
class FirstTokens(keras.layers.Layer):
    """The first tokens of each text: int32 `[batch, time]` to `[batch, min(time, count)]`."""

    def __init__(self, count: int, **kwargs):
        super().__init__(**kwargs)
        self.count = int(count)

    def call(self, tokens: Any) -> Any:
        return tokens[:, : self.count]

    def compute_output_spec(self, tokens):
        return keras.KerasTensor((tokens.shape[0], None), tokens.dtype)

    def get_config(self):
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable(package="zoo")
class NgramLogits(keras.layers.Layer):
    """Logits of the tokens and n-grams that a text has: int32 `[batch, time]` to float32 `[batch, outputs]`.

    A text's features are the tokens and n-grams in it, each counted once. The logits are the sum of two linear models
    of them, each with features that have values and are scaled to length 1 together. In the first model the value is
    the inverse document frequency (TF-IDF), of a token with its subwords, in the second one the naive Bayes log-count
    ratio of the output's class (Wang and Manning, 2012, section 2.3).

    Args:
        outputs: number of logits.
        vocabulary: number of ids, 0 for padding included.
        buckets: number of buckets that n-grams are hashed to, below 2^18.
        order: largest n.
        excluded: ids that are no words, such as those of [CLS] and [SEP].

    Attributes:
        table: `[vocabulary + buckets, 1 + 3 * outputs]`: of each feature the value in the first model, its weights
            there times the value, the values in the second model, and its weights there times these. All are 0 for a
            feature that no training text had, but those of a token in the first model, which come from its subwords.
        bias: `[outputs]`.
    """

    def __init__(
        self, outputs: int, vocabulary: int, buckets: int, order: int = 2, excluded: Sequence[int] = (), **kwargs
    ):
        # float32 under any precision policy: sums of hundreds of weights.
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not 0 < buckets < MOST_BUCKETS:
            raise ValueError(f"buckets is {buckets}: expected 1 to {MOST_BUCKETS - 1:,}")
        self.outputs, self.vocabulary, self.buckets = int(outputs), int(vocabulary), int(buckets)
        self.order, self.excluded = int(order), tuple(map(int, excluded))

    def build(self, input_shape):
        shape = (self.vocabulary + self.buckets, 1 + 3 * self.outputs)
        self.table = self.add_weight(shape, initializer="zeros", trainable=False, name="table")
        self.bias = self.add_weight((self.outputs,), initializer="zeros", trainable=False, name="bias")

    def call(self, tokens: Any) -> Any:
        table = tf.convert_to_tensor(self.table)
        return without_bias(tokens, self, lambda features: tf.gather(table, features)) + self.bias

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.outputs)

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(self.compute_output_shape(tokens.shape), "float32")

    def get_config(self):
        own = {name: getattr(self, name) for name in ("outputs", "vocabulary", "buckets", "order")}
        return {**super().get_config(), **own, "excluded": list(self.excluded)}


def with_ngrams(logits: Any, ngram_logits: Any) -> Any:
    """The mixture of a network's logits and those of n-grams, Keras tensors float32 `[batch, outputs]`."""
    return logits_mixture.LogitsMixture(NETWORK_SHARE, name=logits_mixture.LAYER)(logits, ngram_logits)


def without_bias(tokens: Any, layer: NgramLogits, lookup: Callable[[Any], Any]) -> Any:
    """The layer's output without its bias, in operations that every runtime can read.

    Args:
        tokens: int32 `[batch, time]`.
        layer: its settings are read, not its weights.
        lookup: from feature numbers `[batch, features]` to their rows of the table.
    """
    real = ops.not_equal(tokens, 0)
    for each in layer.excluded:
        real = ops.logical_and(real, ops.not_equal(tokens, each))
    # Feature 0 is padding, whose weights are 0.
    features, mask = [ops.where(real, tokens, 0)], real
    for size, hashes in enumerate(ngram_buckets(tokens, layer.order, layer.buckets), 2):
        mask = ops.logical_and(mask[:, :-1], real[:, size - 1 :])
        features.append(ops.where(mask, hashes + layer.vocabulary, 0))
    # In order, a feature stands beside its copies: only the first one counts.
    ordered = ops.sort(ops.concatenate(features, axis=1), axis=1)  # [batch, features]
    is_first = ops.cast(ops.not_equal(ordered[:, 1:], ordered[:, :-1]), "float32")  # [batch, features - 1]
    is_first = ops.concatenate([ops.ones_like(ordered[:, :1], dtype="float32"), is_first], axis=1)
    rows = lookup(ordered) * ops.expand_dims(is_first, 2)  # [batch, features, 1 + 3 * outputs]
    totals, squares = ops.sum(rows, axis=1), ops.sum(ops.square(rows), axis=1)  # [batch, 1 + 3 * outputs]
    first, second = slice(1, 1 + layer.outputs), slice(1 + layer.outputs, 1 + 2 * layer.outputs)
    # A text of unknown features has length 0, and totals of 0.
    inverse_lengths = ops.rsqrt(ops.maximum(squares, 1e-12))
    logits = totals[:, first] * inverse_lengths[:, :1]
    return logits + totals[:, 1 + 2 * layer.outputs :] * inverse_lengths[:, second]


def contributions(layer: NgramLogits, tokens: np.ndarray) -> np.ndarray:
    """What each token of one text adds to the logits, float64 `[time, outputs]`; without the bias, they sum to these.

    A feature's part is shared by the places where it occurs, an n-gram's by its tokens.

    Args:
        layer: a layer with its weights.
        tokens: int32 `[time]`, padded with 0 at the end.
    """
    outputs, table = layer.outputs, np.asarray(layer.table, np.float64)
    real = mask = (tokens != 0) & ~np.isin(tokens, layer.excluded)
    starts, features, sizes = [np.flatnonzero(real)], [tokens[real]], [np.ones(int(real.sum()), int)]
    for size, [hashes] in enumerate(ngram_buckets(tokens[None], layer.order, layer.buckets), 2):
        mask = mask[:-1] & real[size - 1 :]
        starts.append(np.flatnonzero(mask))
        features.append(hashes[mask] + layer.vocabulary)
        sizes.append(np.full(int(mask.sum()), size))
    unique, which, counts = np.unique(np.concatenate(features), return_inverse=True, return_counts=True)
    rows = table[unique]
    inverse = 1 / np.sqrt(np.maximum(np.square(rows).sum(axis=0), 1e-12))  # [1 + 3 * outputs]
    parts = rows[:, 1 : 1 + outputs] * inverse[0]
    parts = parts + rows[:, 1 + 2 * outputs :] * inverse[1 + outputs : 1 + 2 * outputs]  # [features, outputs]
    shares = np.zeros((len(tokens), outputs))
    for start, size, feature in zip(np.concatenate(starts), np.concatenate(sizes), which):
        shares[start : start + size] += parts[feature] / counts[feature] / size
    return shares
