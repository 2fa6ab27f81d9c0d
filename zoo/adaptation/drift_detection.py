"""Whether a stream has changed its kind, so that what was seen before says nothing of what comes."""

from typing import Any

import numpy as np
from scipy import stats

from zoo.adaptation import guards
from zoo.metrics.logits import two_class_logits
from zoo.predict.predictors.cloning import compiled
from zoo.predict.predictors.predictor import Classifier

# Examples on either side of a change; of fewer, chance would tell of changes.
_FEWEST = 32
# The probability that an example is further from what is usual than one from before the change, or the reverse: 0.5
# where nothing has changed, and so large by chance in one of ten million comparisons of 32 with 32.
_SURE = 0.9


class Drift:
    """Remembers how usual the answers of the trained model have been, and says where that changes at once.

    Two groups of examples are compared by the distances of their answers from the usual ones of the same class
    (`Guards.relative_distances`), by ranks alone: the statistic is that of Mann and Whitney ("On a test of whether one
    of two random variables is stochastically larger than the other", 1947). The trained model is asked, not the one
    that changes, so that a change of the model is never taken for one of the stream; and within the class, so that
    other shares of the classes are none.

    Args:
        predictor: of the trained model.
        judge: of the data that it was trained for.
        memory: how many examples are remembered.
    """

    def __init__(self, predictor: Classifier, judge: guards.Guards, memory: int):
        self._predictor, self._guards, self._memory = compiled(predictor), judge, memory
        self._far = np.zeros(0)

    def update(self, batch: Any) -> int:
        """Takes note of a batch.

        Args:
            batch: examples as the predictor takes them.

        Returns:
            How many of the last examples are to be remembered: where the stream has changed, those of the new kind (at
            least the batch), else all.
        """
        found = self._guards.relative_distances(two_class_logits(self._predictor.logits(batch)))
        # Not finite is further than anything.
        found = np.nan_to_num(found, nan=np.inf, posinf=np.inf)
        self._far = np.concatenate([self._far, found])[-max(self._memory, len(found)) :]
        new = max(len(batch), _FEWEST)
        if len(self._far) - new < _FEWEST:
            return len(self._far)
        earlier, late = self._far[:-new], self._far[-new:]
        share = stats.mannwhitneyu(late, earlier, method="asymptotic").statistic / (len(late) * len(earlier))
        if max(share, 1 - share) >= _SURE:
            self._far = late
        return len(self._far)

    def forget(self) -> None:
        """As if nothing had been seen."""
        self._far = np.zeros(0)
