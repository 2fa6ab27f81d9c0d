"""Dynamic loss scaling for float16 (Micikevicius et al., "Mixed precision training", 2018, section 3.2).

Small gradients are 0 in float16, so the loss is multiplied by a scale and the gradients are divided by it. A scale that
makes a gradient overflow is halved, and its step changes no weight; after many good steps it is doubled. The gradient
of the global batch decides, after the reduction, so all devices skip the same steps.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from zoo.engine import skipping

# As in Keras' LossScaleOptimizer and PyTorch's GradScaler. A step's losses are summed here, not averaged, so large
# batches halve the scale in their first steps.
_FIRST, _GOOD_STEPS = 2.0**15, 2000
# Below, no scale helps: the gradient overflows by itself.
_LEAST = 2.0**-14


class LossScale(NamedTuple):
    """State of the loss scale, each device's own copy.

    Attributes:
        scale: float32 scalar, a power of two.
        good_steps: float32 scalar, steps since the last change.
        skipped: float32 scalar, all steps that changed no weight.
    """

    scale: tf.Variable
    good_steps: tf.Variable
    skipped: tf.Variable


def make(strategy: tf.distribute.Strategy) -> LossScale:
    """The state at the start of a run."""

    def variable(value: float) -> tf.Variable:
        return tf.Variable(
            value,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    with strategy.scope():
        return LossScale(variable(_FIRST), variable(0.0), variable(0.0))


def apply_if_finite(
    state: LossScale, norm: tf.Tensor, variables: Sequence[tf.Variable], apply: Callable[[], None]
) -> dict[str, tf.Tensor]:
    """Runs an update, takes it back where the gradient is not finite, and adapts the scale.

    Args:
        state: the loss scale.
        norm: scalar, the gradient's global norm.
        variables: this replica's copies of all that the update changes.
        apply: the update.

    Returns:
        Scalars: the scale of this step, the steps skipped so far, and the norm: 0 for a skipped step, NaN where no
        scale can help.
    """
    is_finite = tf.math.is_finite(norm)
    scale = tf.convert_to_tensor(state.scale)
    skipping.take_back(is_finite, variables, apply)
    good = tf.convert_to_tensor(state.good_steps) + 1.0
    grows = good >= _GOOD_STEPS
    state.scale.assign(tf.where(is_finite, tf.where(grows, 2.0 * scale, scale), 0.5 * scale))
    state.good_steps.assign(tf.where(is_finite & ~grows, good, 0.0))
    state.skipped.assign_add(tf.where(is_finite, 0.0, 1.0))
    shown = tf.where(is_finite, norm, tf.where(scale > _LEAST, 0.0, norm))
    return {"loss_scale": scale, "skipped_steps": tf.convert_to_tensor(state.skipped), "gradient_norm": shown}
