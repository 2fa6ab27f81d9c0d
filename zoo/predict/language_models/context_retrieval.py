"""Retrieval of earlier occurrences of the current context, in the text so far and in a text of the reader's own.

The tokens that followed the last k tokens before are counted, for several k, and mixed with the model's probability:

    P_0 = the model's,    P_k(token) = (1 - w) P_(k-1)(token) + w count / total    from the shortest context up.

So a token that the context never had keeps a probability, and only the probability of the token that comes is needed.
These are the counts of prediction by partial matching (Cleary and Witten, "Data compression using adaptive coding and
partial string matching", 1984) as a cache beside a network (Grave, Joulin and Usunier, "Improving neural language
models with a continuous cache", 2017; Khandelwal et al., "Generalization through memorization", 2020), with exact
contexts instead of vectors. Each weight w belongs to a length of context, a class of totals and of numbers of different
tokens, and is the mean, over the recent tokens, of the probability that they came from the counts: online expectation
maximization, without a learning rate (Jelinek and Mercer, "Interpolated estimation of Markov source parameters from
sparse data", 1980).
"""

import math
from collections.abc import Sequence

import numpy as np

from zoo.predict.language_models.context_counts import Counts, FixedCounts, GrowingCounts, Keys, keys

# Lengths of contexts. Characters and Chinese text gain most by up to 6; longer ones, in growing steps, are for repeated
# phrases.
LENGTHS = (1, 2, 3, 4, 5, 6, 8, 11, 16)
# First weight of counts, how many tokens it counts for, and how many recent tokens of its class a weight remembers: see
# `benchmarks.dynamic_neighbours`. A text that stops to repeat itself should not be answered from its past for long.
_FIRST, _PRIOR, _MEMORY = 0.1, 8.0, 1000.0
# Totals from here on, as a power of two, share a weight; so do numbers of different tokens.
_MOST_TOTAL, _MOST_DISTINCT = 7, 4


def lengths(longest: int) -> tuple[int, ...]:
    """The lengths of contexts up to the longest one."""
    return tuple(length for length in LENGTHS if length <= longest)


class ContextRetrieval:
    """Probabilities of the tokens of one text, in its order.

    Args:
        ids: int `[tokens]`. A probability depends on the tokens before it only.
        longest: longest context; see `LENGTHS`.
        neighbours: counts of related text, for the same lengths; None without one.
    """

    def __init__(self, ids: np.ndarray, longest: int, neighbours: FixedCounts | None = None):
        self._lengths = lengths(longest)
        self._keys = keys(ids, self._lengths)
        self._growing = [GrowingCounts() for _ in self._lengths]
        self._neighbours = neighbours
        # For each class of counts: sum of probabilities that the token came from the counts, and number of tokens.
        self._weights: dict[tuple[bool, int, int, int], list[float]] = {}

    def log_probabilities(self, first: int, base: Sequence[float]) -> list[float]:
        """Log P of the tokens from place `first` on, each given all before it; then they belong to the text so far.

        Args:
            first: index of the first token; it continues the call before.
            base: the model's log P of each token.
        """
        places = slice(first, first + len(base))
        wanted = [Keys(*(each[places] for each in one)) for one in self._keys]
        found = self._neighbours.find(wanted) if self._neighbours else []
        # Python's integers are faster than NumPy's, one by one.
        found = [list(map(Counts, *(each.tolist() for each in counts))) for counts in found]
        pairs = [list(zip(*(each.tolist() for each in one))) for one in wanted]
        return [
            self._next(first + place, value, [each[place] for each in pairs], [each[place] for each in found])
            for place, value in enumerate(base)
        ]

    def _next(self, place: int, base: float, at: list[tuple[int, int]], neighbours: list[Counts]) -> float:
        """Log P of the token at a place; the weights and counts learn from it."""
        probability, learned = math.exp(base), []
        lengths = sum(length <= place for length in self._lengths)
        for index in range(lengths):
            sources = [(False, self._growing[index].find(*at[index]))]
            if neighbours:
                sources.append((True, neighbours[index]))
            if not any(counts.total for _, counts in sources):
                # Nor did a longer context occur.
                break
            for is_neighbour, counts in sources:
                if counts.total:
                    weight = self._weight(is_neighbour, index, counts)
                    own = weight[0] / weight[1] * counts.count / counts.total
                    probability = own + (1 - weight[0] / weight[1]) * probability
                    learned.append((weight, own / probability if probability else 0.0))
        for weight, share in learned:
            weight[0] += share
            weight[1] += 1
            if weight[1] > _MEMORY:
                weight[0] *= _MEMORY / weight[1]
                weight[1] = _MEMORY
        for index in range(lengths):
            self._growing[index].add(*at[index])
        return math.log(probability) if probability else -math.inf

    def _weight(self, is_neighbour: bool, index: int, counts: Counts) -> list[float]:
        total = min(counts.total.bit_length() - 1, _MOST_TOTAL)
        # Where no token occurred twice, the total says as much.
        distinct = min(counts.distinct, _MOST_DISTINCT) if counts.distinct < counts.total else 0
        return self._weights.setdefault((is_neighbour, index, total, distinct), [_FIRST * _PRIOR, _PRIOR])
