"""Drift detection: finds an abrupt distribution shift of a stream, after which earlier examples mislead."""

import numpy as np

from zoo.adaptation import guards

# Examples on either side of a shift; with fewer, chance alone looks like a shift.
_FEWEST = 32
# Probability that an example lies further from its class mean after the shift than before it, or nearer: 0.5 without a
# shift, and this large by chance in one of ten million comparisons of 32 with 32.
_SURE = 0.9


class Drift:
    """Detects abrupt shift from the distances of the source model's logits to their class means.

    It compares two groups of examples by the ranks of their distances (`Guards.relative_distances`), with the statistic
    of Mann and Whitney ("On a test of whether one of two random variables is stochastically larger than the other",
    1947). The source model is used, not the adapting one, so that a change of the model does not look like drift; and
    distances are relative within each class, so that label shift does not.

    Args:
        guard: the guards of the source data.
        memory: number of recent examples to compare.
    """

    def __init__(self, guard: guards.Guards, memory: int):
        self._guards, self._memory = guard, memory
        self._distances = np.zeros(0)

    def update(self, logits: np.ndarray) -> int:
        """Adds a batch.

        Args:
            logits: the source model's, `[examples, classes]`.

        Returns:
            How many of the last examples to remember: after a shift those that follow it (at least the batch), else
            all.
        """
        distances = self._guards.relative_distances(logits)
        distances = np.nan_to_num(distances, nan=np.inf, posinf=np.inf)
        self._distances = np.concatenate([self._distances, distances])[-max(self._memory, len(distances)) :]
        new = max(len(logits), _FEWEST)
        if len(self._distances) - new < _FEWEST:
            return len(self._distances)
        earlier, late = self._distances[:-new], self._distances[-new:]
        probability = _probability_above(late, earlier)
        if max(probability, 1 - probability) >= _SURE:
            self._distances = late
        return len(self._distances)

    def forget(self) -> None:
        """Forgets the stream."""
        self._distances = np.zeros(0)


def _probability_above(late: np.ndarray, earlier: np.ndarray) -> float:
    """Share of the pairs in which the late value is larger; equal ones count half (U over its maximum)."""
    ranks = np.sort(earlier)
    wins = np.searchsorted(ranks, late, "left").sum() + np.searchsorted(ranks, late, "right").sum()
    return float(wins) / (2 * len(late) * len(earlier))
