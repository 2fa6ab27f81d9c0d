"""What a learner of `--refine=parameters` is: a loss, its optimizer, and the columns that it adds to the examples.

`EntropyLoss` (losses.py), `Deyo`, `Roid` and `Shot` are learners. `MeanTeacher` (cotta.py) is one without `columns`:
its teacher is made by the stage.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from zoo.terms import Term


class Recent(NamedTuple):
    """The recent examples, as a loss may want to see them.

    Attributes:
        examples: `[examples, ...]` in the model's dtype.
        logits: `[examples, classes]` by the model before the step.
        mean_probabilities: moving average of the mean probabilities of earlier batches, `[classes]`; zeros at first.
        features: computes the inputs of the last layer, `[examples, width]`.
        draw: for what is random.
    """

    examples: np.ndarray
    logits: np.ndarray
    mean_probabilities: np.ndarray
    features: Callable[[], np.ndarray]
    draw: np.random.Generator


class Learner(Protocol):
    """A loss with its settings.

    Attributes:
        optimizer: one of `zoo.engine.optimizers.NAMES`.
        learning_rate: a constant.
        trains_features: whether all layers but the last one learn; else the scales and shifts of the normalisations.
        source_share: part of the way back to the source's weights after each batch; 0: none.
    """

    optimizer: str
    learning_rate: float
    trains_features: bool
    source_share: float

    def columns(self, recent: Recent) -> dict[str, Any]:
        """Columns `[examples, ...]` beside `x` and `real`."""

    def term(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> Term:
        """The loss of a batch with the columns `x`, `real` (1, or 0 where padded) and those of `columns`."""
