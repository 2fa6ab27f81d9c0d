"""The answer to one batch by the examples around it, which other examples do not get."""

from typing import Any

import numpy as np

from zoo.adaptation.stage import LogitsFn


class BatchAnswer:
    """Logits of one batch; none at first."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        """Forgets them."""
        self._batch, self._logits = None, None

    def set(self, batch: Any, logits: np.ndarray) -> None:
        """Sets the logits `[examples, classes]` of this very batch."""
        self._batch, self._logits = batch, logits

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Those of the batch; `inner`'s for other examples, which have no neighbours."""
        return self._logits if self._logits is not None and examples is self._batch else inner(examples)
