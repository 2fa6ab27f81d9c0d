"""The mixture of model, copy and retrieval in dynamic evaluation, segment by segment."""

import numpy as np

from zoo.errors import NonFinite
from zoo.predict.language_models.context_retrieval import ContextRetrieval
from zoo.predict.language_models.fixed_share import FixedShareMixture


class SegmentMixture:
    """Mixes the log-probabilities of a text, whose segments come in order.

    Args:
        retrieval: retrieval for this text; None mixes model and copy only.
    """

    def __init__(self, retrieval: ContextRetrieval | None):
        self._retrieval = retrieval
        # Retrieval begins from the mixture of model and copy, which tokens without an earlier context keep.
        self._both, self._all = FixedShareMixture(2), FixedShareMixture(3)

    @property
    def weights(self) -> list[float]:
        """Weights of the model, the copy and, if it is there, retrieval in the next token's probability."""
        return (self._all if self._retrieval else self._both).weights

    def add(self, first: int, static: np.ndarray, dynamic: np.ndarray) -> np.ndarray:
        """Log P by model, copy, the mixture of both, the mixture of all and, if it is there, retrieval.

        Args:
            first: index of the segment's first token in the text.
            static: log P of the segment's tokens by the model, `[tokens]`.
            dynamic: their log P by the copy, where it may be not finite.

        Returns:
            Float64 `[4 or 5, tokens]`.

        Raises:
            NonFinite: the model's output is not finite.
        """
        if not np.isfinite(static).all():
            raise NonFinite(f"the model's output after token {first - 1} is not finite; expected a trained model")
        # A copy that has diverged gives a token probability 0: this token only, as scoring must not look at later ones.
        dynamic = np.where(np.isfinite(dynamic), dynamic, -np.inf)
        rows = [static.tolist(), dynamic.tolist()]
        both = [self._both.add(*values) for values in zip(*rows)]
        if self._retrieval is None:
            return np.stack([*rows, both, both])
        retrieved = self._retrieval.log_probabilities(first, both)
        return np.stack([*rows, both, [self._all.add(*values) for values in zip(*rows, retrieved)], retrieved])
