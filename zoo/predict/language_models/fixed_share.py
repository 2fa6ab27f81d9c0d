"""Fixed share: a mixture of models' token probabilities whose loss is never far above the best model's.

A Bayesian mixture over two hypotheses: the first model alone is right (half of the prior), or all K models alternate,
as in "fixed share" (Herbster and Warmuth, "Tracking the best expert", 1998), with a switching rate that falls as one
over the number of tokens so far (Shamir and Merhav, "Low-complexity sequential lossless coding for piecewise-stationary
memoryless sources", 1999; van Erven, Grünwald and de Rooij, "Catching up faster by switching sooner", 2012), so there
is no rate to tune. After any n tokens, its loss in nats exceeds

    the first model's loss                                         by at most log 2;
    another model's loss                                           by at most log(2 K n);
    the loss of the best way to switch between them m times        by at most log(2 K n) + m log((K - 1) n).

The first bound does not depend on the number of models, nor on what the others are.
"""

import math


class FixedShareMixture:
    """Mixes several models' log-probabilities of the same tokens.

    Args:
        experts: number of models, the first included; two or more.
    """

    def __init__(self, experts: int = 2):
        self._tokens = 0
        # Log weights: the first model alone, and each model where they alternate.
        self._alone, self._alternating = math.log(1 / 2), [-math.log(2 * experts)] * experts

    @property
    def second(self) -> float:
        """Weight of the second model in the next token's probability."""
        return math.exp(self._alternating[1])

    @property
    def weights(self) -> list[float]:
        """Weight of each model in the next token's probability; they sum to 1."""
        first, *others = map(math.exp, self._alternating)
        return [math.exp(self._alone) + first, *others]

    def add(self, *log_probabilities: float) -> float:
        """Log P of one token by the mixture; afterwards the models that predicted it better have more weight.

        Args:
            log_probabilities: log P by each model; the first one's is finite, another's is minus infinity for
                probability 0.
        """
        alone = self._alone + log_probabilities[0]
        joint = [weight + value for weight, value in zip(self._alternating, log_probabilities, strict=True)]
        total = _sum([alone, *joint])
        self._alone, joint = alone - total, [each - total for each in joint]
        self._tokens += 1
        # The product of all factors `stay` so far is 1 / (tokens + 1).
        stay = math.log(self._tokens / (self._tokens + 1))
        switch = -math.log((self._tokens + 1) * (len(joint) - 1))
        self._alternating = [
            _sum([each + (stay if index == to else switch) for index, each in enumerate(joint)])
            for to in range(len(joint))
        ]
        return total


def _sum(values: list[float]) -> float:
    """log(sum(exp(values)))."""
    high = max(values)
    return high if high == -math.inf else high + math.log(math.fsum(math.exp(value - high) for value in values))
