"""Logistic regression of words that share weights with similar words: of their subwords, n-grams of characters.

On a few thousand texts most words are rare. As in fastText (Bojanowski et al., "Enriching word vectors with subword
information", 2017, section 3.2) a token's weight is the sum of one of its own and those of the character n-grams in it.
Once fitted, it is a weight of the token again: the model that predicts knows no characters.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Lengths of the n-grams, the signs for a word's begin and end included.
_SHORTEST, _LONGEST = 1, 5
_BEGIN, _END = "^", "$"
_CONTINUES = "##"
# A begin that byte-pair tokenizers write.
_SPACE = "▁"
# Relative change of the loss at which a fit ends, and its most steps: more change no accuracy.
_TOLERANCE, _MOST_STEPS = 1e-4, 100
# Most weights that are fitted together, 2 MB; the minimizer keeps twenty such vectors. Of 40 outputs with 40,000
# weights each, more together cost half as much again, out of the processor's caches.
_MOST_WEIGHTS = 2**18


class Subwords(NamedTuple):
    """The subwords of tokens.

    Attributes:
        values: sparse float64 `[ids, subwords]`: the subword's inverse document frequency where the token has it.
        squares: float64 `[ids]`, the squared length of each row.
    """

    values: Any
    squares: np.ndarray


def subwords(spellings: Sequence[str | None], tokens: Any) -> Subwords:
    """The subwords of tokens, weighted by how few texts have them.

    Args:
        spellings: the token of each id, "##" before one that continues a word; None for ids that are no words.
        tokens: sparse `[texts, ids]`, 1 where a training text has a token.
    """
    from scipy import sparse

    numbers: dict[str, int] = {}
    rows, columns = [], []
    for row, spelling in enumerate(spellings):
        for part in _parts(spelling) if spelling else ():
            rows.append(row)
            columns.append(numbers.setdefault(part, len(numbers)))
    has = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(spellings), len(numbers)))
    counts = np.asarray((tokens @ has > 0).sum(axis=0)).ravel()  # [subwords]
    # Subwords that no training text has say nothing.
    has, counts = has[:, counts > 0], counts[counts > 0]
    values = has @ sparse.diags(np.log((1 + tokens.shape[0]) / (1 + counts)) + 1)
    return Subwords(values.tocsr(), np.asarray(values.multiply(values).sum(axis=1)).ravel())


def _parts(spelling: str) -> Counter:
    """The different n-grams of a token's characters."""
    begins = not spelling.startswith(_CONTINUES)
    text = spelling.removeprefix(_CONTINUES if not begins else _SPACE)
    text = f"{_BEGIN if begins else ''}{text}{_END}"
    lengths = range(_SHORTEST, min(_LONGEST, len(text)) + 1)
    return Counter(text[start : start + size] for size in lengths for start in range(len(text) - size + 1))


class Rows(NamedTuple):
    """Features of texts, whose product with weights is never written out: `inverse * (words + tokens @ subwords)`.

    Attributes:
        words: sparse `[texts, features]`, the value of each feature of a text.
        tokens: sparse `[texts, ids]`, 1 where a text has a token.
        subwords: sparse `[ids, subwords]`.
        inverse: `[texts]`, the inverse length of a text's features.
    """

    words: Any
    tokens: Any
    subwords: Any
    inverse: np.ndarray

    def select(self, chosen: np.ndarray) -> "Rows":
        """Some of the texts."""
        return Rows(self.words[chosen], self.tokens[chosen], self.subwords, self.inverse[chosen])

    def logits(self, model: "Model") -> np.ndarray:
        """Logits `[texts, outputs]`."""
        sums = self.words @ model.weights + self.tokens @ (self.subwords @ model.subword_weights)
        return self.inverse[:, None] * sums + model.bias


class Model(NamedTuple):
    """Weights `[features, outputs]` and `[subwords, outputs]`, and bias `[outputs]`."""

    weights: np.ndarray
    subword_weights: np.ndarray
    bias: np.ndarray

    def scaled(self, factor: float) -> "Model":
        """The model whose logits are larger by a factor."""
        return Model(*(factor * part for part in self))


class Family(NamedTuple):
    """Logistic regressions of TF-IDF features and subwords, scaled to length 1 together.

    Attributes:
        rows: the features of the training texts.
        targets: bool `[texts, outputs]`.
        used: numbers of the features of `rows` among all.
        inverse: inverse document frequency of each of them.
        squares: `[all features]`, the squared value of each feature, subwords included.
    """

    rows: Rows
    targets: np.ndarray
    used: np.ndarray
    inverse: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(
        cls, features: Any, used: np.ndarray, inverse: np.ndarray, subwords: Subwords, targets: np.ndarray
    ) -> "Family":
        """The family for features of texts, sparse `[texts, all features]`, 1 where a text has one, tokens first."""
        from scipy import sparse

        squares, ids = np.zeros(features.shape[1]), subwords.values.shape[0]
        squares[used] = inverse**2
        squares[:ids] += subwords.squares
        lengths = np.sqrt(np.maximum(features @ squares, 1e-12))
        words = (features[:, used] @ sparse.diags(inverse)).tocsr()
        rows = Rows(words, features[:, :ids].tocsr(), subwords.values, 1 / lengths)
        return cls(rows, targets, used, inverse, squares)

    def fit(self, chosen: np.ndarray, strength: float, start: Model | None = None) -> Model:
        """The model of some of the texts."""
        return fit(self.rows.select(chosen), self.targets[chosen], strength, start)

    def logits(self, model: Model, chosen: np.ndarray) -> np.ndarray:
        """Logits `[texts, outputs]` of some of the texts."""
        return self.rows.select(chosen).logits(model)

    def columns(self, model: Model) -> tuple[np.ndarray, np.ndarray]:
        """The value of each feature `[all features, 1]`, and its weights `[all features, outputs]`."""
        weights = np.zeros((len(self.squares), len(model.bias)))
        weights[self.used] = self.inverse[:, None] * model.weights
        of_tokens = self.rows.subwords @ model.subword_weights
        weights[: len(of_tokens)] += of_tokens
        return np.sqrt(self.squares)[:, None], weights


def fit(rows: Rows, targets: np.ndarray, strength: float, start: Model | None = None) -> Model:
    """One logistic regression per output, with an L2 penalty on all weights.

    Args:
        rows: features of the training texts.
        targets: bool `[texts, outputs]`.
        strength: inverse of the penalty's weight.
        start: weights to begin at, such as those of another strength.
    """
    features, subwords, outputs = rows.words.shape[1], rows.subwords.shape[1], targets.shape[1]
    if start is None:
        start = Model(np.zeros((features, outputs)), np.zeros((subwords, outputs)), np.zeros(outputs))
    transposed = [each.T.tocsr() for each in rows[:3]]
    # Outputs are independent of each other; a few together are faster.
    count = max(1, _MOST_WEIGHTS // (features + subwords))
    parts = [slice(first, first + count) for first in range(0, outputs, count)]
    starts = [Model(*(each[..., part] for each in start)) for part in parts]
    models = [_minimum(rows, transposed, targets[:, part], strength, each) for part, each in zip(parts, starts)]
    return Model(*(np.concatenate(each, axis=-1) for each in zip(*models)))


def _minimum(rows: Rows, transposed: Sequence[Any], targets: np.ndarray, strength: float, start: Model) -> Model:
    """The model of the smallest loss, by L-BFGS."""
    import threadpoolctl
    from scipy import optimize, special

    features, outputs = rows.words.shape[1], targets.shape[1]
    targets = targets.astype(float)

    def unpacked(vector: np.ndarray) -> Model:
        weights = vector.reshape(-1, outputs)
        return Model(weights[:features], weights[features:-1], weights[-1])

    def loss_and_gradient(vector: np.ndarray) -> tuple[float, np.ndarray]:
        logits = rows.logits(unpacked(vector))  # [texts, outputs]
        loss = np.logaddexp(0, logits).sum() - (targets * logits).sum()
        change = special.expit(logits) - targets
        scaled = rows.inverse[:, None] * change
        of_words, of_subwords = transposed[0] @ scaled, transposed[2] @ (transposed[1] @ scaled)
        gradient = np.concatenate([of_words, of_subwords, change.sum(axis=0)[None]]).ravel()
        penalized = vector[:-outputs] / strength
        gradient[:-outputs] += penalized
        return loss + penalized @ vector[:-outputs] / 2, gradient

    options = {"maxiter": _MOST_STEPS, "gtol": 0.0, "ftol": _TOLERANCE}
    begin = np.concatenate([np.ravel(each) for each in start])
    # Of many threads on short vectors, most wait for each other.
    with threadpoolctl.threadpool_limits(1):
        found = optimize.minimize(loss_and_gradient, begin, jac=True, method="L-BFGS-B", options=options)
    return unpacked(found.x)
