"""CoTTA (`--learner=cotta`): a student learns the pseudo-labels of a slowly moving mean teacher, which answers.

Wang et al., "Continual test-time domain adaptation", 2022, section 3. Two differences: the paper trains all weights,
here only scales and shifts learn, as with the other losses, so that the statistics stay as fitted; and the paper
averages the views of an image (test-time augmentation) only where the source model is unsure, here always.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.engine.state import array
from zoo.terms import Term


class MeanTeacher(NamedTuple):
    """Cross-entropy with the teacher's probabilities; the teacher is the moving average of the student.

    Attributes:
        optimizer: the student's, one of `zoo.engine.optimizers.NAMES`.
        learning_rate: a constant.
        decay: share of the old teacher in the moving average, per batch of the stream.
        restored: share of the student's weights that return to the source's after each batch (stochastic restoration).
        memory: size of a memory that holds all classes alike (RoTTA, rotta.py); 0: all recent examples are learned.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    decay: float = 0.999
    restored: float = 0.01
    memory: int = 0

    trains_features, source_share = False, 0.0

    def term(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> Term:
        """The loss of a batch with the columns `x`, `real` (its weights) and `wanted`, the teacher's probabilities."""
        logits = tf.cast(model(batch["x"], training=False), tf.float32)
        return Term(tf.nn.softmax_cross_entropy_with_logits(batch["wanted"], logits), batch["real"])

    def update(
        self, student: Sequence[Any], teacher: Sequence[Any], source: Sequence[np.ndarray], draw: np.random.Generator
    ) -> None:
        """Moves the teacher towards the student, then restores some of the student's weights.

        Args:
            student: its trainable variables.
            teacher: the same variables of the teacher.
            source: their values before the stream.
            draw: chooses the weights that are restored.
        """
        for own, followed, first in zip(student, teacher, source):
            value = array(own)
            followed.assign(self.decay * array(followed) + (1 - self.decay) * value)
            own.assign(np.where(draw.random(value.shape) < self.restored, first, value))


COTTA = MeanTeacher()
