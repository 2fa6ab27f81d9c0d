"""A conformal test martingale: sequential evidence that a stream is not like validation examples, without labels.

The conformal p-value of a score is its rank among those of validation and of the stream so far. If all these examples
are exchangeable, the p-values are independent and uniform (Vovk et al., "Algorithmic learning in a random world", 2005,
section 8.2), whatever the score. Bets on p-values that are not uniform then multiply their wealth by 1 on average: it
ever reaches 1 / level with a probability of at most `level`, however long the stream (Ville's inequality; Vovk,
"Testing randomness online", 2021). NumPy only.
"""

import numpy as np

# Quantiles of the scores at which bins begin: a p-value is then known to less than 1 %, and memory is constant.
_BINS = 128
# Slopes of the bets 1 + slope (p - 1/2); |slope| is at most 2. Small ones for mild shifts, signs for both directions.
_SLOPES = np.array([-2.0, -1.0, -0.4, 0.0, 0.4, 1.0, 2.0])
# Shares of the wealth that change their slope at each example: bets that last, and bets that come and go.
_JUMPS = np.array([0.0, 0.01])
_TINY = 1e-300


class ConformalRanks:
    """Conformal p-values of scores, within categories (Mondrian; Vovk et al., 2005, section 4.5).

    A p-value compares an example with those of its category only, so a change in how frequent the categories are leaves
    the p-values uniform. Scores are binned, and ties are broken at random (with a fixed seed), which keeps them exactly
    uniform.

    Args:
        edges: scores at which bins begin, ascending, from `edges_of`; other examples than `scores`.
        scores: scores of the validation examples, `[examples]`.
        categories: their predicted classes, int `[examples]`.
        count: number of categories.
    """

    def __init__(self, edges: np.ndarray, scores: np.ndarray, categories: np.ndarray, count: int):
        self._edges, bins = edges, len(edges) + 1
        places = categories * bins + np.searchsorted(edges, scores, side="right")
        self._counts = np.bincount(places, minlength=count * bins).reshape(count, bins)
        self._totals = self._counts.sum(axis=1)
        self._draw = np.random.default_rng(0)

    def add(self, scores: np.ndarray, categories: np.ndarray) -> np.ndarray:
        """P-values of the next examples, each compared with those before it, too.

        Args:
            scores: `[examples]`.
            categories: int `[examples]`.

        Returns:
            `[examples]`: small where scores are larger than before.
        """
        places, ties = np.searchsorted(self._edges, scores, side="right"), self._draw.uniform(size=len(scores))
        p_values = np.empty(len(scores))
        for index, (category, place) in enumerate(zip(categories.tolist(), places.tolist())):
            row = self._counts[category]
            row[place] += 1
            self._totals[category] += 1
            p_values[index] = (row[place + 1 :].sum() + ties[index] * row[place]) / self._totals[category]
        return p_values


class Jumpers:
    """Wealths of bets on several kinds of p-values, each of which starts with 1 (Vovk's Simple Jumper, more slopes).

    After t examples a share 1 / (t + 1) of the initial wealth is still held back for shifts that begin later, so
    waiting costs a factor of about t squared, not an exponential one.

    Args:
        kinds: number of kinds of p-values.

    Attributes:
        wealths: wealth on each kind so far, above 0, `[kinds]`.
    """

    def __init__(self, kinds: int):
        self.wealths = np.ones(kinds)
        self._examples = 0
        self._bets = np.zeros((kinds, len(_JUMPS), len(_SLOPES)))
        # Cumulative sums of log bets since they were last 0 (Page, "Continuous inspection schemes", 1954), and when.
        self._sums = np.zeros((kinds, len(_SLOPES)))
        self._starts = np.zeros((kinds, len(_SLOPES)), int)

    def add(self, p_values: np.ndarray) -> None:
        """Bets on the p-values `[kinds]` of one example."""
        self._examples += 1
        new = 1 / self._examples - 1 / (self._examples + 1)
        bets = self._bets + new / self._bets[0].size
        bets += _JUMPS[:, None] * (bets.mean(axis=2, keepdims=True) - bets)
        factors = 1 + _SLOPES * (p_values[:, None] - 0.5)  # [kinds, slopes]
        self._bets = bets * factors[:, None]
        self.wealths = 1 / (self._examples + 1) + self._bets.sum(axis=(1, 2))
        self._sums += np.log(np.maximum(factors, _TINY))
        ended = self._sums <= 0
        self._sums[ended], self._starts[ended] = 0.0, self._examples

    def since(self, kind: int) -> int:
        """Number of the example, from 0, from which on the p-values of a kind were probably not uniform."""
        return int(self._starts[kind, self._sums[kind].argmax()])


def edges_of(scores: np.ndarray) -> np.ndarray:
    """Edges of bins for `ConformalRanks`: quantiles of scores `[examples]`."""
    return np.unique(np.quantile(scores, np.linspace(0, 1, _BINS)))
