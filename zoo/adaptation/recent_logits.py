"""Logits of a stream's recent examples before the stages on the output, of which only a new batch is computed."""

from typing import Any

import numpy as np

from zoo.adaptation.stage import LogitsFn


class RecentLogits:
    """Remembers logits as long as neither the model nor its input changes.

    Several stages on the output ask for those of the same examples: four hundred would be computed for each of them,
    and for each single example of a stream.
    """

    def __init__(self):
        self._logits: np.ndarray | None = None
        self._pairs: tuple[tuple[Any, np.ndarray], ...] = ()

    @property
    def logits(self) -> np.ndarray | None:
        """Those of the recent examples, `[examples, classes]`; None where none are remembered."""
        return self._logits

    def load(self, logits: np.ndarray | None) -> None:
        """Sets the logits of the recent examples, or of none."""
        self._logits, self._pairs = logits, ()

    def forget(self) -> None:
        """The model or its input may have changed."""
        self.load(None)

    def update(self, recent: Any, batch: Any, forward: LogitsFn) -> None:
        """Adds a batch.

        Args:
            recent: the recent examples, which end with the batch and else are the last of those before.
            batch: the new examples.
            forward: computes logits `[examples, classes]`.
        """
        new, kept = forward(batch), len(recent) - len(batch)
        if self._logits is None or kept > len(self._logits):
            # All of them: an input stage that has just aligned these very images knows them again.
            self._logits = forward(recent) if kept else new
        else:
            self._logits = np.concatenate([self._logits[len(self._logits) - kept :], new])
        self._pairs = (recent, self._logits), (batch, new)

    def through(self, forward: LogitsFn) -> LogitsFn:
        """The same function; for the recent examples and the batch of `update` it returns what is remembered."""

        def remembered(examples: Any) -> np.ndarray:
            found = next((logits for known, logits in self._pairs if known is examples), None)
            return forward(examples) if found is None else found

        return remembered
