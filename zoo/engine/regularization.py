"""Penalties on the weights, added once per step after the gradients are reduced: never once per replica."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from zoo.engine.private_apis import all_layers
from zoo.engine.state import array, copies, named
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


class Start(NamedTuple):
    """The weights that `--l2_sp` pulls towards.

    Attributes:
        factor: number that the squared distance is multiplied by.
        variables: the model's variables that are pulled.
        values: their values at the start of the run, each device's own copy; they belong to the run's state, as the
            file that they come from may change.
    """

    factor: float
    variables: list[keras.Variable]
    values: list[tf.Variable]

    def restart(self) -> None:
        """Takes the present weights for the start."""
        for variable, value in zip(self.variables, self.values, strict=True):
            value.assign(array(variable))

    def penalty(self) -> tf.Tensor:
        """`factor * sum((w - start)^2)`."""
        pairs = zip(self.variables, self.values, strict=True)
        distances = [
            tf.reduce_sum(tf.square(variable.value - tf.convert_to_tensor(value))) for variable, value in pairs
        ]
        return self.factor * tf.add_n([tf.cast(each, tf.float32) for each in distances])


def start(
    strategy: tf.distribute.Strategy, model: keras.Model, factor: float, new_layers: Collection[str] = ()
) -> Start | None:
    """What `--l2_sp` pulls towards: L2-SP of Li et al., "Explicit inductive bias for transfer learning", 2018, 3.1.

    Args:
        strategy: strategy of the run.
        model: the model.
        factor: number that the squared distance is multiplied by; with 0 there is None.
        new_layers: names of the layers that no pretrained weights are for, which are not pulled.
    """
    if not factor:
        return None
    matrices = {id(variable) for variable in decayed(model)}
    by_name = named(model, lambda variable: variable)
    pulled = [each for name, each in by_name.items() if id(each) in matrices and name.split("/")[2] not in new_layers]
    return Start(factor, pulled, copies(strategy, pulled)) if pulled else None


def penalty(model: keras.Model, l2: float, l1: float = 0.0, start: Start | None = None) -> Penalty | None:
    """The penalty as a function to trace.

    `l2 * sum(w^2) + l1 * sum(|w|)`, that of `start`, and the layers' own Keras regularizers.

    Returns:
        None if there is nothing to add.
    """
    shrunk = decayed(model) if l2 or l1 else []
    regularized = [variable for variable in model.trainable_variables if getattr(variable, "regularizer", None)]
    if not shrunk and not regularized and start is None:
        return None

    def value() -> tf.Tensor:
        squares = [l2 * tf.reduce_sum(tf.square(variable.value)) for variable in shrunk] if l2 else []
        sizes = [l1 * tf.reduce_sum(tf.abs(variable.value)) for variable in shrunk] if l1 else []
        squares += [] if start is None else [start.penalty()]
        penalties = squares + sizes + [variable.regularizer(variable.value) for variable in regularized]
        return tf.add_n([tf.cast(each, tf.float32) for each in penalties])

    return value


def gradients(value: Penalty, variables: Sequence[tf.Variable]) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The penalty and its gradient for each variable (zeros where it has none)."""
    with tf.GradientTape() as tape:
        total = value()
    return total, tape.gradient(total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
