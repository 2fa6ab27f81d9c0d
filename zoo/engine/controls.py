"""What the run may change between two steps: a factor of all learning rates, and the weight decay, as variables."""

from collections.abc import Sequence

import tensorflow as tf

from zoo.engine import rate_level
from zoo.engine.optimizers import Group
from zoo.errors import BadInput

# Begins their names in a checkpoint.
PREFIX = "controls/"
RATE, DECAY = "rate_factor", "weight_decay"


def attach(groups: Sequence[Group]) -> dict[str, tf.Variable]:
    """Puts both into the optimizers of all groups; in the strategy's scope.

    Returns:
        float32 scalars: `rate_factor`, 1 at first, and `weight_decay`, at first the optimizers' own.

    Raises:
        BadInput: Muon, which has two decays.
    """
    for group in groups:
        if hasattr(group.optimizer, "adam_weight_decay"):
            raise BadInput(
                "--controller, --rate_factors and --weight_decays set one weight decay, and muon has two: "
                "expected another --optimizer, such as adamw"
            )
    decay = tf.Variable(float(groups[0].optimizer.weight_decay or 0.0), trainable=False)
    for group in groups:
        # Keras reads it in every step, so that a variable takes effect in a compiled one, too.
        group.optimizer.weight_decay = decay
    return {RATE: rate_level.attach(groups), DECAY: decay}
