"""Penalties on the weights, added once per step after the gradients are reduced: never once per replica."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

Penalty = Callable[[], tf.Tensor]


def decayed(model: keras.Model) -> list[keras.Variable]:
    """The variables that weight decay and L2 shrink: matrices and larger, chosen by identity, never by name.

    Biases and the scale and shift of normalisation layers have one axis and are left alone, as in BERT (Devlin et al.,
    2019, appendix A.2): shrinking them regularizes nothing and harms small models.
    """
    return [variable for variable in model.trainable_variables if len(variable.shape) >= 2]


def penalty(model: keras.Model, l2: float) -> Penalty | None:
    """The weights' penalty as a function to trace, `l2 * sum(w^2)` plus the layers' own Keras regularizers.

    Returns:
        None where there is nothing to add.
    """
    shrunk = decayed(model) if l2 else []
    regularized = [variable for variable in model.trainable_variables if getattr(variable, "regularizer", None)]
    if not shrunk and not regularized:
        return None

    def value() -> tf.Tensor:
        squares = [l2 * tf.reduce_sum(tf.square(variable.value)) for variable in shrunk]
        return tf.add_n(squares + [variable.regularizer(variable.value) for variable in regularized])

    return value


def gradients(value: Penalty, variables: Sequence[tf.Variable]) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The penalty and its gradient for each variable (zeros where it has none)."""
    with tf.GradientTape() as tape:
        total = value()
    return total, tape.gradient(total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
