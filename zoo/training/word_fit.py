"""Weights of `WordLogits`: multinomial logistic regression on the features of the training words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data import cache as caches
from zoo.data.datasets import tag_schemes
from zoo.data.text import word_features
from zoo.metrics import entities
from zoo.models.word_logits import WordLogits

# Numbers of hash buckets, and the most numbers in a table: 16 MB. With 1,350 sentences the features of 82,000 are used.
_BUCKETS = (2**18, 2**16, 2**14)
_MOST_WEIGHTS = 2**22
# Passes, learning rate and words of a step: more passes change the F1 of held-out sentences by less than a point.
_PASSES, _RATE, _BATCH = 8, 0.3, 256
# Adagrad's first sum of squares: larger than that of a rare feature, whose first step would be the largest.
_FIRST_SQUARES = 0.01
# Parts of the sentences for held-out logits; two, which cost less, of as many words as make their models as good.
_FOLDS, _MANY, _FEWER_FOLDS = 4, 100_000, 2
# Candidates for what is taken from the logit of O: an entity is rare, so the best guess for one is often below 1/2.
_LOWERED = tuple(np.arange(0.0, 3.1, 0.5).tolist())
# Part of the name of a cached file: raised when the fit changes.
_FORMAT = b"1"


class WordWeights(NamedTuple):
    """Weights of a `WordLogits` layer, and what the network learns beside.

    Attributes:
        table: float32 `[buckets, tags]`.
        bias: float32 `[tags]`.
        held_out: float32 `[words, tags]`, logits of the training words by models that did not learn from their part.
    """

    table: np.ndarray
    bias: np.ndarray
    held_out: np.ndarray

    def layer(self) -> WordLogits:
        """The layer "word_logits" with these weights."""
        buckets, tags = self.table.shape
        layer = WordLogits(tags, buckets, name="word_logits")
        layer.build((None, None, None))
        layer.set_weights([self.table, self.bias])
        return layer


def fit(
    rows: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    names: Sequence[str],
    scheme: str,
    cache: Path | None = None,
    notes: list[str] | None = None,
) -> WordWeights:
    """Fits the linear tagger to the training sentences; twenty seconds for 57,000 words and 7 tags on one core.

    Args:
        rows: words of each row.
        tags: tag of each word.
        names: all tags in the order of the labels.
        scheme: the scheme of the tags. For entities, the logit of O is lowered by what is best for the F1 of held-out
            words; not in `held_out`, whose cross-entropy a network is to improve.
        cache: cache folder; None disables the cache.
        notes: gets a line where the cache is damaged or cannot be written.
    """
    text = "\0".join(f"{word}\1{tag}" for pair in zip(rows, tags) for word, tag in zip(*pair))
    lengths = np.array([len(row) for row in rows], np.int64)
    key = ("\0".join([scheme, *names]).encode("utf8", "surrogatepass"), text.encode("utf8", "surrogatepass"))
    name = caches.name_of(b"words", _FORMAT, *key, lengths.tobytes())
    return WordWeights(**caches.cached(cache, name, lambda: _fit(rows, tags, names, scheme), notes))


def _fit(rows, tags, names: Sequence[str], scheme: str) -> caches.Arrays:
    label_of = {name: label for label, name in enumerate(names)}
    labels = np.array([label_of[tag] for row in tags for tag in row], np.int64)
    buckets = next((size for size in _BUCKETS if size * len(names) <= _MOST_WEIGHTS), _BUCKETS[-1])
    features = word_features.features(rows, buckets)
    folds = _FOLDS if len(labels) <= _MANY else _FEWER_FOLDS
    # Neighbouring sentences have words in common, so each fold is a stretch of them.
    fold = np.repeat(np.arange(len(rows)) * folds // len(rows), [len(row) for row in rows])  # [words]
    held_out = np.zeros((len(labels), len(names)), np.float32)
    for number in np.unique(fold):
        inside = fold == number
        if not inside.all():
            learned = _weights(features[~inside], labels[~inside], len(names), buckets)
            held_out[inside] = _logits(features[inside], learned)
    weights = _weights(features, labels, len(names), buckets)
    bias = weights[0].copy()
    weights[0] = 0.0
    if scheme == tag_schemes.IOB2:
        bias[0] -= _lowered(held_out, rows, tags, names, scheme)
    return {"table": weights, "bias": bias, "held_out": held_out}


def _weights(features: np.ndarray, labels: np.ndarray, tags: int, buckets: int) -> np.ndarray:
    """Weights `[buckets, tags]`, the bias in bucket 0: the mean over all steps of Adagrad (Duchi et al., 2011)."""
    from scipy import sparse

    words = len(labels)
    features = np.concatenate([np.zeros((words, 1), features.dtype), features], axis=1)  # [words, 1 + features]
    weights, weighted = np.zeros((2, buckets, tags), np.float32)
    squares, step, generator = np.full((buckets, 1), _FIRST_SQUARES, np.float32), 0, np.random.default_rng(0)
    for _ in range(_PASSES):
        order = generator.permutation(words)
        for first in range(0, words, _BATCH):
            chosen = order[first : first + _BATCH]
            used, which = np.unique(features[chosen], return_inverse=True)
            ends = np.arange(len(chosen) + 1) * features.shape[1]
            here = sparse.csr_matrix((np.ones(which.size, np.float32), which.ravel(), ends), (len(chosen), len(used)))
            errors = _softmax(here @ weights[used])
            errors[np.arange(len(chosen)), labels[chosen]] -= 1.0
            gradient = here.T @ errors  # [used, tags]
            # One rate for all tags of a feature: a tag that it has never had is learned as carefully.
            squares[used] += np.square(gradient).sum(axis=1, keepdims=True)
            change = _RATE * gradient / np.sqrt(squares[used])
            weights[used] -= change
            weighted[used] -= step * change
            step += 1
    # The mean over the steps of sums of changes: a change at step t is in all but the first t of them.
    return weights - weighted / step


def _logits(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    from scipy import sparse

    ends = np.arange(len(features) + 1) * features.shape[1]
    counts = np.ones(features.size, np.float32)
    return sparse.csr_matrix((counts, features.ravel(), ends), (len(features), len(weights))) @ weights + weights[0]


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _lowered(held_out: np.ndarray, rows: Sequence[Any], tags, names: Sequence[str], scheme: str) -> float:
    """What to take from the logit of O for the best F1 of the held-out words; the least of equally good ones."""

    def f1(lowered: float) -> float:
        logits = held_out.copy()
        logits[:, 0] -= lowered
        best = iter(logits.argmax(axis=1).tolist())
        return entities.scores(tags, [[names[next(best)] for _ in row] for row in rows], scheme)["f1"]

    return max(_LOWERED, key=f1)
