"""The probabilities of two models as one, token by token, never far from the better one's.

A Bayesian mixture over who is right: the first model alone (half of the prior), or both by turns, as in "fixed share"
(Herbster and Warmuth, "Tracking the best expert", 1998) with a rate of switching that falls as one over the tokens so
far (Shamir and Merhav, "Low-complexity sequential lossless coding for piecewise-stationary memoryless sources", 1999;
van Erven, Grünwald and de Rooij, "Catching up faster by switching sooner", 2012). It knows no rate to choose. After any
number of tokens n, whatever they are, its loss in nats is above

    the first model's                                          by at most log 2;
    the second model's                                         by at most log(4 n);
    that of the best way to switch between them m times        by at most log(4 n) + m log n.
"""

import math


class FixedShareMixture:
    """Mixes log-probabilities of the same tokens by two models."""

    def __init__(self):
        self._tokens = 0
        # Logarithms of the weights: the first alone; by turns, now the first; by turns, now the second.
        self._weights = math.log(1 / 2), math.log(1 / 4), math.log(1 / 4)

    @property
    def second(self) -> float:
        """How much of the next token's probability is the second model's."""
        return math.exp(self._weights[2])

    def add(self, first: float, second: float) -> float:
        """Log P of one token by the mixture, from the two models'; then who was right weighs more.

        Args:
            first: finite.
            second: may be minus infinity, for a model that gives no probability.
        """
        alone, one, other = self._weights
        joint = alone + first, one + first, other + second
        found = _sum(_sum(joint[0], joint[1]), joint[2])
        alone, one, other = (each - found for each in joint)
        self._tokens += 1
        # The product of all that stay is 1 / tokens.
        switch, stay = -math.log(self._tokens + 1), math.log(self._tokens / (self._tokens + 1))
        self._weights = alone, _sum(one + stay, other + switch), _sum(other + stay, one + switch)
        return found


def _sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
