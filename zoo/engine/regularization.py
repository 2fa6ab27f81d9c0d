"""Penalties on the weights, added once per step after the gradients are reduced: never once per replica."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from zoo.engine.private_apis import all_layers
from zoo.models.layers import BatchNorm

Penalty = Callable[[], tf.Tensor]
_NORMALISATIONS = (
    BatchNorm,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)


def decayed(model: keras.Model) -> list[keras.Variable]:
    """The variables that weight decay and L2 apply to: matrices and tensors of higher rank, whatever their names.

    Biases and the scale and shift of normalisation layers are exempt, whatever their rank, as in BERT (Devlin et al.,
    2019, appendix A.2): shrinking them regularizes nothing and harms small models.
    """
    exempt = set()
    for layer in all_layers(model):
        if isinstance(layer, _NORMALISATIONS):
            exempt |= {id(variable) for variable in layer.weights}
        exempt.add(id(getattr(layer, "bias", None)))
    return [v for v in model.trainable_variables if len(v.shape) >= 2 and id(v) not in exempt]


def penalty(model: keras.Model, l2: float, l1: float = 0.0) -> Penalty | None:
    """The penalty as a function to trace: `l2 * sum(w^2) + l1 * sum(|w|)` plus the layers' own Keras regularizers.

    Returns:
        None if there is nothing to add.
    """
    shrunk = decayed(model) if l2 or l1 else []
    regularized = [variable for variable in model.trainable_variables if getattr(variable, "regularizer", None)]
    if not shrunk and not regularized:
        return None

    def value() -> tf.Tensor:
        squares = [l2 * tf.reduce_sum(tf.square(variable.value)) for variable in shrunk] if l2 else []
        sizes = [l1 * tf.reduce_sum(tf.abs(variable.value)) for variable in shrunk] if l1 else []
        penalties = squares + sizes + [variable.regularizer(variable.value) for variable in regularized]
        return tf.add_n([tf.cast(each, tf.float32) for each in penalties])

    return value


def gradients(value: Penalty, variables: Sequence[tf.Variable]) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The penalty and its gradient for each variable (zeros where it has none)."""
    with tf.GradientTape() as tape:
        total = value()
    return total, tape.gradient(total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
