"""Fixed share: a mixture of two models' token probabilities whose loss is never far above the better model's.

A Bayesian mixture over two hypotheses: the first model alone is right (half of the prior), or both alternate, as in
"fixed share" (Herbster and Warmuth, "Tracking the best expert", 1998), with a switching rate that falls as one over the
number of tokens so far (Shamir and Merhav, "Low-complexity sequential lossless coding for piecewise-stationary
memoryless sources", 1999; van Erven, Grünwald and de Rooij, "Catching up faster by switching sooner", 2012), so there
is no rate to tune. After any n tokens, its loss in nats exceeds

    the first model's loss                                         by at most log 2;
    the second model's loss                                        by at most log(4 n);
    the loss of the best way to switch between them m times        by at most log(4 n) + m log n.
"""

import math


class FixedShareMixture:
    """Mixes two models' log-probabilities of the same tokens."""

    def __init__(self):
        self._tokens = 0
        # Log weights: the first alone; alternating, now the first; alternating, now the second.
        self._weights = math.log(1 / 2), math.log(1 / 4), math.log(1 / 4)

    @property
    def second(self) -> float:
        """Weight of the second model in the next token's probability."""
        return math.exp(self._weights[2])

    def add(self, first: float, second: float) -> float:
        """Log P of one token by the mixture; afterwards the model that predicted it better has more weight.

        Args:
            first: log P by the first model, finite.
            second: log P by the second model; minus infinity for probability 0.
        """
        alone, one, other = self._weights
        joint = alone + first, one + first, other + second
        total = _sum(_sum(joint[0], joint[1]), joint[2])
        alone, one, other = (each - total for each in joint)
        self._tokens += 1
        # The product of all factors `stay` so far is 1 / (tokens + 1).
        switch, stay = -math.log(self._tokens + 1), math.log(self._tokens / (self._tokens + 1))
        self._weights = alone, _sum(one + stay, other + switch), _sum(other + stay, one + switch)
        return total


def _sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
