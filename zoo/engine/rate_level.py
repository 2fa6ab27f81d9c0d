"""A factor of all learning rates, which the run sets between two steps by what it has seen."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo.engine import private_apis
from zoo.engine.optimizers import Group
from zoo.engine.state import array

# Its name in a checkpoint.
NAME = "rate_level"


class LeveledRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate times a variable.

    Args:
        rate: a schedule, or a number.
        level: float32 scalar.
    """

    def __init__(self, rate: keras.optimizers.schedules.LearningRateSchedule | float, level: tf.Variable):
        self._rate, self._level = rate, level

    def __call__(self, step) -> tf.Tensor:
        """The float32 rate of a step."""
        rate = self._rate(step) if callable(self._rate) else self._rate
        return tf.cast(rate, tf.float32) * tf.convert_to_tensor(self._level)

    def get_config(self):
        # Incomplete: no file stores a schedule, as the run's flags make it again.
        return {}


def attach(groups: Sequence[Group]) -> tf.Variable:
    """Multiplies the rates of all groups with one variable, 1 at first; in the strategy's scope.

    Returns:
        The variable. It belongs to the run's state: a resumed run goes on with its value.
    """
    level = tf.Variable(1.0, trainable=False)
    for group in groups:
        rate = private_apis.learning_rate(group.optimizer)
        if isinstance(rate, keras.Variable):
            rate = float(array(rate))
        group.optimizer.learning_rate = LeveledRate(rate, level)
    return level
