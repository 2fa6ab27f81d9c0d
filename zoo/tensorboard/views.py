"""What is to be seen of one evaluation besides its curves; nothing here knows how it is written or drawn."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]


class PrecisionRecallInputs(NamedTuple):
    """What precision and recall are computed from.

    Attributes:
        labels: bool `[examples]`.
        scores: float `[examples]`, 0 to 1.
        weights: `[examples]`, or None for 1 each.
    """

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None = None


class EvaluationView(NamedTuple):
    """By tag: pictures uint8 `[height, width, 3]`, texts in Markdown, curves of precision against recall."""

    images: Mapping[str, np.ndarray] = {}
    texts: Mapping[str, str] = {}
    curves: Mapping[str, PrecisionRecallInputs] = {}


Visualize = Callable[[Arrays, Arrays], EvaluationView]


class ProjectorPoints(NamedTuple):
    """Vectors for the embedding projector.

    Attributes:
        vectors: float32 `[points, width]`.
        labels: column name -> one text for each point.
        images: uint8 `[points, height, width, 3]`, or None.
    """

    vectors: np.ndarray
    labels: Mapping[str, Sequence[str]]
    images: np.ndarray | None = None
