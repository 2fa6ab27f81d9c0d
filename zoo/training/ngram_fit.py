"""Weights of `NgramLogits`: two logistic regressions on the tokens and n-grams of the training texts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data import cache as caches
from zoo.data.text import tokenizer as tokenizers
from zoo.data.text import tokenizer_training
from zoo.metrics import linear_baselines
from zoo.models import ngram_logits
from zoo.training import subword_fit

# Largest primes below 2^14, 2^16 and 2^18: remainders of a prime are the more evenly spread ones.
_BUCKETS = (16_381, 65_521, 262_139)
# Buckets per n-gram that is used: one n-gram in five shares its bucket.
_BUCKETS_PER_NGRAM = 4
# Most numbers in a table, 64 MB: a hundred classes have fewer buckets.
_MOST_WEIGHTS = 2**24
# Candidates for the inverse L2 strength of features scaled to length 1.
_STRENGTHS = (3.0, 10.0, 30.0, 100.0)
# Parts that the training texts are cut in; a model learns from all but one.
_FOLDS = 5
# With more texts, one fold is enough to choose the strength by; and with more texts times outputs, all folds would take
# longer than the network: with 40 classes of 2,250 speeches 106 s of one core, else 63.
_MANY, _MANY_TARGETS = 5_000, 20_000
# Logit of a class that all texts of a fold have, or none.
_CERTAIN = 5.0
# Part of the name of a cached file: raised when the fit changes.
_FORMAT = b"5"


class NgramWeights(NamedTuple):
    """Weights of a `NgramLogits` layer.

    Attributes:
        table: float32 `[features, 1 + 3 * outputs]`.
        bias: float32 `[outputs]`.
    """

    table: np.ndarray
    bias: np.ndarray

    def layer(self, vocabulary: int, order: int = 2, excluded: Sequence[int] = ()) -> ngram_logits.NgramLogits:
        """The layer "ngrams" with these weights; the arguments are those of `fit`."""
        outputs, buckets = len(self.bias), len(self.table) - vocabulary
        layer = ngram_logits.NgramLogits(outputs, vocabulary, buckets, order, excluded, name="ngrams")
        layer.build((None, None))
        layer.set_weights([self.table, self.bias])
        return layer


def order_of(texts: Sequence[str]) -> int:
    """Largest n that is worth its time: 2 for words, 3 where tokens are characters, as in Chinese."""
    return 2 if linear_baselines.has_spaces(texts) else 3


def fit(
    tokens: np.ndarray,
    labels: np.ndarray,
    vocabulary: int,
    classes: int,
    order: int = 2,
    excluded: Sequence[int] = (),
    spellings: Sequence[str | None] | None = None,
    cache: Path | None = None,
    notes: list[str] | None = None,
) -> NgramWeights:
    """Fits both linear models to the training split; their strength and scale by cross-validation within it.

    A few seconds for 1,000 sentences, a minute or two for 25,000 long texts, on two cores.

    Args:
        tokens: int32 `[texts, time]`, padded with 0 at the end.
        labels: int32 `[texts]`; of several labels 0 or 1, `[texts, labels]`, which are fitted one by one.
        vocabulary: number of ids, 0 for padding included.
        classes: number of classes; two have one logit, that of class 1. Several labels have one each.
        order: largest n of the n-grams; 2 for words, 3 for characters.
        excluded: ids that are no words, such as those of [CLS] and [SEP].
        spellings: the token of each id, None for one that is no word: tokens of the first model share weights with
            those that are spelled alike, see `subword_fit`. None: they do not.
        cache: cache folder; None disables the cache.
        notes: gets a line where the cache is damaged or cannot be written.
    """
    sizes = f"{vocabulary} {classes} {order} {sorted(excluded)} {spellings} {tokens.shape}"
    data = (np.ascontiguousarray(array).tobytes() for array in (tokens, labels))
    features = _Features(vocabulary, order, tuple(excluded))
    name = caches.name_of(b"ngrams", _FORMAT, sizes.encode(), *data)
    return NgramWeights(**caches.cached(cache, name, lambda: _fit(tokens, labels, classes, features, spellings), notes))


def spellings_of(words: tokenizers.Tokenizer, texts: Sequence[str]) -> list[str | None] | None:
    """The `spellings` for `fit`; None where tokens are characters, as in Chinese, and have no parts."""
    if order_of(texts) > 2:
        return None
    spellings = [words.token(id) for id in range(words.vocabulary_size)]
    return [None if spelling in tokenizer_training.SPECIAL else spelling for spelling in spellings]


class _Features(NamedTuple):
    """How features are made of tokens; see `ngram_logits.ngrams`."""

    vocabulary: int
    order: int
    excluded: tuple[int, ...]

    def of(self, tokens: np.ndarray, buckets: int) -> Any:
        """Sparse float64 `[texts, features]`, 1 where a text has a feature."""
        from scipy import sparse

        rows, columns = ngram_logits.ngrams(tokens, self.vocabulary, buckets, self.order, self.excluded)
        return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(tokens), self.vocabulary + buckets))


def _fit(
    tokens: np.ndarray, labels: np.ndarray, classes: int, maker: _Features, spellings: Sequence[str | None] | None
) -> caches.Arrays:
    outputs = 1 if classes == 2 and labels.ndim == 1 else classes
    buckets, least = _buckets(maker.of(tokens, _BUCKETS[-1]), maker.vocabulary, outputs)
    features = maker.of(tokens, buckets)
    if labels.ndim == 1:
        return _fitted(features, labels, outputs, least, spellings)
    parts = [_fitted(features, labels[:, label].astype(np.int32), 1, least, spellings) for label in range(outputs)]
    tables = np.stack([each["table"] for each in parts])  # [labels, features, 4]
    # The values of the first model do not depend on the labels; a label without weights has them, too.
    weights = [tables[:, :, column].T for column in (1, 2, 3)]
    bias = np.concatenate([each["bias"] for each in parts])
    return {"table": np.concatenate([tables[:, :, 0].max(axis=0)[:, None], *weights], axis=1), "bias": bias}


def _fitted(
    features: Any, labels: np.ndarray, outputs: int, least: int, spellings: Sequence[str | None] | None
) -> caches.Arrays:
    """The table and the bias of both models, see `NgramWeights`."""
    texts, size = features.shape
    counts = np.asarray(features.sum(axis=0)).ravel()  # [features]
    used = np.flatnonzero(counts >= least)
    table, bias = np.zeros((size, 1 + 3 * outputs)), np.zeros(outputs)
    if len(used):
        targets, inverse = _targets(labels, outputs), np.log((1 + texts) / (1 + counts[used])) + 1
        if spellings is None:
            tfidf = _Weighted(features[:, used], targets, lambda features, target: inverse)
        else:
            spelled = subword_fit.subwords(spellings, features[:, : len(spellings)])
            tfidf = subword_fit.Family.of(features, used, inverse, spelled, targets)
        naive_bayes = _Weighted(features[:, used], targets, _log_count_ratio)
        first, second = (_chosen(family, labels) for family in (tfidf, naive_bayes))
        scale = _scale(first.held_out + second.held_out, labels)
        bias = scale * (first.model.bias + second.model.bias)
        numbers = used if spellings is None else slice(None)
        values, weights = tfidf.columns(first.model)  # [features, 1 or outputs], [features, outputs]
        table[numbers, :1], table[numbers, 1 : 1 + outputs] = values[:, :1], scale * weights
        values, weights = naive_bayes.columns(second.model)
        table[used, 1 + outputs :] = np.concatenate([values, scale * weights], axis=1)
    return {"table": table.astype(np.float32), "bias": bias.astype(np.float32)}


# Values of the features, float `[features]`, from those of the texts and the targets of one output.
_Values = Callable[[Any, np.ndarray], np.ndarray]


class _Linear(NamedTuple):
    """One logistic regression per output, of features times `values`, scaled to length 1."""

    values: np.ndarray  # [features, outputs]
    weights: np.ndarray  # [features, outputs]
    bias: np.ndarray  # [outputs]

    def scaled(self, factor: float) -> "_Linear":
        """The model whose logits are larger by a factor."""
        return self._replace(weights=factor * self.weights, bias=factor * self.bias)


class _Weighted(NamedTuple):
    """Linear models of features that have values and are scaled to length 1."""

    features: Any  # sparse [texts, features], 1 where a text has a feature
    targets: np.ndarray  # bool [texts, outputs]
    values: _Values

    def fit(self, chosen: np.ndarray, strength: float, start: _Linear | None = None) -> _Linear:
        """The model of some of the texts; liblinear does not use the start."""
        features = self.features[chosen]

        def one(target: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
            values = self.values(features, target)
            return values, *_logistic(_weighted(features, values), target, strength)

        values, weights, bias = zip(*map(one, self.targets[chosen].T))
        return _Linear(np.stack(values, axis=1), np.stack(weights, axis=1), np.array(bias))

    def logits(self, model: _Linear, chosen: np.ndarray) -> np.ndarray:
        """Logits `[texts, outputs]` of some of the texts."""
        pairs, features = zip(model.values.T, model.weights.T), self.features[chosen]
        return np.stack([_weighted(features, values) @ weights for values, weights in pairs], axis=1) + model.bias

    def columns(self, model: _Linear) -> tuple[np.ndarray, np.ndarray]:
        """Values of the features, and weights times values, both `[features, outputs]`."""
        return model.values, model.values * model.weights


# Linear models of the training texts, with the three methods of `_Weighted`.
_Family = _Weighted | subword_fit.Family


class _Chosen(NamedTuple):
    """The linear model of the best strength, and the logits of all texts by models that did not learn from them."""

    model: _Linear | subword_fit.Model
    held_out: np.ndarray  # [texts, outputs]


def _chosen(family: _Family, labels: np.ndarray) -> _Chosen:
    """The strength with the smallest cross-entropy of held-out texts, and all logits at the best scale for these."""
    texts = len(labels)
    folds = np.random.default_rng(0).permutation(texts) % min(_FOLDS, texts)
    is_large = texts > _MANY or family.targets.size > _MANY_TARGETS
    tried = 1 if is_large else folds.max() + 1
    logits = np.zeros((len(_STRENGTHS), *family.targets.shape))
    for fold in range(tried):
        _cross_fit(family, _STRENGTHS, folds == fold, logits)
    inside = folds < tried
    losses = [_cross_entropy(each[inside] * _scale(each[inside], labels[inside]), labels[inside]) for each in logits]
    best = int(np.argmin(losses))
    for fold in range(tried, folds.max() + 1):
        _cross_fit(family, _STRENGTHS[best : best + 1], folds == fold, logits[best : best + 1])
    held_out = logits[best]
    scale = _scale(held_out, labels)
    return _Chosen(family.fit(np.ones(texts, bool), _STRENGTHS[best]).scaled(scale), scale * held_out)


def _cross_fit(family: _Family, strengths: Sequence[float], inside: np.ndarray, logits: np.ndarray) -> None:
    """Writes the logits `[strengths, texts, outputs]` of the texts of a fold, by models fitted to all others."""
    model = None
    for strength, each in zip(strengths, logits):
        model = family.fit(~inside, strength, model)
        each[inside] = family.logits(model, inside)


def _logistic(features: Any, target: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Weights and bias of a logistic regression; where all texts have the class or none has it, a bias alone."""
    import threadpoolctl
    from sklearn.linear_model import LogisticRegression

    if target.all() or not target.any():
        return np.zeros(features.shape[1]), _CERTAIN if target.all() else -_CERTAIN
    # Of many threads on short vectors, most wait for each other: up to seventy times slower where cores are shared.
    # The default tolerance, 1e-4, costs twice the time and changes no accuracy.
    with threadpoolctl.threadpool_limits(1):
        model = LogisticRegression(C=strength, solver="liblinear", tol=0.01, random_state=0).fit(features, target)
    return model.coef_[0], float(model.intercept_[0])


def _weighted(features: Any, values: np.ndarray) -> Any:
    """Each text's features times their values, scaled to length 1."""
    from scipy import sparse
    from sklearn.preprocessing import normalize

    return normalize(features @ sparse.diags(values), copy=False)


def _log_count_ratio(features: Any, target: np.ndarray) -> np.ndarray:
    """The naive Bayes log-count ratio of each feature (Wang and Manning, 2012, section 2.3), smoothed by 1."""
    inside, outside = (1 + np.asarray(features[rows].sum(axis=0)).ravel() for rows in (target, ~target))
    return np.log(inside / inside.sum()) - np.log(outside / outside.sum())


def _targets(labels: np.ndarray, outputs: int) -> np.ndarray:
    """Whether a text has the class of each output, bool `[texts, outputs]`; a single output is that of class 1."""
    return labels[:, None] == (np.arange(outputs) if outputs > 1 else np.ones(1, int))


def _scale(logits: np.ndarray, labels: np.ndarray) -> float:
    """The factor of the logits that minimizes the cross-entropy (inverse temperature; Guo et al., 2017)."""
    from scipy import optimize

    return float(optimize.minimize_scalar(lambda scale: _cross_entropy(logits * scale, labels), bounds=(0.05, 20.0)).x)


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean over texts, with targets that are never certain, as a class may be free of errors by chance.

    The targets are those of Platt, "Probabilistic outputs for support vector machines" (1999), section 2.2.
    """
    from scipy import special

    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    chances, smoothing = special.log_softmax(logits, axis=1), 2.0 / (len(labels) + 2.0)
    right = chances[np.arange(len(labels)), labels]
    return float(-np.mean((1.0 - smoothing) * right + smoothing * chances.mean(axis=1)))


def _buckets(features: Any, vocabulary: int, outputs: int) -> tuple[int, int]:
    """Number of buckets for the n-grams, and how many texts must have a feature: 2 where there are too few buckets."""
    most = max(size for size in _BUCKETS if size == _BUCKETS[0] or size * (1 + 3 * outputs) <= _MOST_WEIGHTS)
    counts = np.asarray(features.sum(axis=0)).ravel()[vocabulary:]
    least = 1 if (counts >= 1).sum() <= most // 2 else 2
    wanted = _BUCKETS_PER_NGRAM * (counts >= least).sum()
    return next((size for size in _BUCKETS if wanted <= size <= most), most), least
