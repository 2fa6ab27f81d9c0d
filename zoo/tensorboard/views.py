"""Data types of TensorBoard views (`EvaluationView`) and projector points, independent of how they are written."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]


class PrecisionRecallInputs(NamedTuple):
    """Inputs of a precision-recall curve.

    Attributes:
        labels: bool `[examples]`.
        scores: float `[examples]`, 0 to 1.
        weights: `[examples]`, or None for 1 each.
    """

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None = None


class EvaluationView(NamedTuple):
    """Images uint8 `[height, width, 3]`, Markdown texts and precision-recall curves of one evaluation, by tag."""

    images: Mapping[str, np.ndarray] = {}
    texts: Mapping[str, str] = {}
    curves: Mapping[str, PrecisionRecallInputs] = {}


Visualize = Callable[[Arrays, Arrays], EvaluationView]


class ProjectorPoints(NamedTuple):
    """Vectors for the embedding projector.

    Attributes:
        vectors: float32 `[points, width]`.
        labels: column name -> one text per point.
        images: uint8 pictures `[points, height, width]` or `[points, height, width, 3]`, or None.
    """

    vectors: np.ndarray
    labels: Mapping[str, Sequence[str]]
    images: np.ndarray | None = None
