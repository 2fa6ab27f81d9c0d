"""Dropout and batch normalisation that do not depend on the number of devices.

In the engine Keras' own `Dropout` and `BatchNormalization` are the same, bit for bit and at the same speed
(`zoo.engine.keras_layers`), and a model that is made of them loads without the zoo: prefer them in a model of your own.
The zoo's models keep the layers below, because a checkpoint holds the state of Keras' seed generators and the names of
layers, so that runs recorded with these layers could not go on; and because the other layers of the encoders, the LSTMs
and the network for tables exist in the zoo only. `zoo export --format=keras` writes any of them in Keras' own layers.
"""

import keras
import tensorflow as tf

from zoo import randomness
from zoo.errors import BadInput
from zoo.models import group_normalization


class NoisyLayer(keras.layers.Layer):
    """A layer with random bits from `zoo.randomness`.

    Inside the engine they depend on seed, step, the order of the layers and the example's row in the global batch.
    Elsewhere (`model.fit`, a plain call) they are drawn with a Keras seed generator.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Keras does not track a bound method: the engine needs no generator among the model's variables.
        self._next_seed = keras.random.SeedGenerator().next

    def bits(self, shape, by_row: bool = True) -> tf.Tensor:
        """Random uint32 bits `[batch, ...]`; without `by_row` the same for every slice of the batch."""
        *key, first_row = self._key_and_row()
        return randomness.bits(shape, key, first_row if by_row else 0)

    def noise(self, rate: float) -> tf.Tensor:
        """Key and index of the first row, uint32 `[3]`, for bits that are drawn later."""
        if not rate:
            return tf.zeros([3], tf.uint32)
        *key, first_row = self._key_and_row()
        return tf.stack([*key, tf.cast(first_row, tf.uint32)])

    def _key_and_row(self):
        scope = randomness.current()
        if scope is None:
            return *randomness.seed_key(self._next_seed()), tf.constant(0)
        return *randomness.scope_key(scope), tf.convert_to_tensor(scope.first_row)


def apply_dropout(values: tf.Tensor, rate: float, bits: tf.Tensor) -> tf.Tensor:
    """Inverted dropout (Srivastava et al., 2014): a fraction of the values is 0, the others are scaled up."""
    keep = bits >= tf.constant(round(rate * 2**32), tf.uint32)
    return tf.where(keep, values / (1.0 - rate), tf.zeros_like(values))


@keras.saving.register_keras_serializable(package="zoo")
class Dropout(NoisyLayer):
    """Dropout with masks that depend on the example, see `NoisyLayer`.

    Args:
        rate: fraction of elements set to 0, in [0, 1).
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"Dropout rate is {rate}: expected 0 <= rate < 1")
        self.rate = float(rate)
        self.supports_masking = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0.0:
            return inputs
        return apply_dropout(inputs, self.rate, self.bits(tf.shape(inputs)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable(package="zoo")
class BatchNorm(keras.layers.Layer):
    """Ghost batch normalisation: batch normalisation (Ioffe and Szegedy, 2015) over groups of neighbouring rows.

    Over the whole batch it would depend on the hardware, as replicas and micro-batches hold a part each. Over groups of
    a fixed size ("ghost" batches: Hoffer et al., 2017, section 4) it does not, and needs no communication inside the
    forward pass. Padding has no weight and becomes 0. Outside the engine the groups are cut from the layer's input.

    Args:
        group: rows per group; 32 as in the paper's smallest setting, so that 128 can be split in 4. A slice of the
            global batch must be a multiple of it.
        momentum: momentum of the moving statistics that are used outside training, updated once per step.
        epsilon: added to the variance; Keras' default.
    """

    def __init__(self, group: int = 32, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs):
        super().__init__(**kwargs)
        self.group = int(group)
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)

    def build(self, input_shape):
        width = (input_shape[-1],)
        # In float32 under any precision policy, as the statistics are.
        self.gamma = self.add_weight(shape=width, initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=width, initializer="zeros", name="beta", autocast=False)
        # All replicas assign the same value.
        moving = {"trainable": False, "aggregation": "only_first_replica", "autocast": False}
        self.moving_mean = self.add_weight(shape=width, initializer="zeros", name="moving_mean", **moving)
        self.moving_variance = self.add_weight(shape=width, initializer="ones", name="moving_variance", **moving)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)
        scope = randomness.current()
        if training and not (scope is not None and scope.uses_moving_statistics):
            x = self._by_group(x)
        else:
            x = (x - self.moving_mean) * tf.math.rsqrt(self.moving_variance + self.epsilon)
        return tf.cast(x * self.gamma + self.beta, self.compute_dtype)

    def _by_group(self, x: tf.Tensor) -> tf.Tensor:
        """Normalises each group to mean 0 and variance 1: `[batch, ..., width]` to the same shape."""
        scope = randomness.current()
        rows = tf.shape(x)[0]
        weights = tf.ones([rows]) if scope is None or scope.row_weights is None else scope.row_weights
        self._check(x, scope)
        result = group_normalization.normalize(x, weights, self.group, self.epsilon)
        for variable, values in ((self.moving_mean, result.mean), (self.moving_variance, result.variance)):
            statistic = group_normalization.statistic(variable, 1.0 - self.momentum, values, result.has_rows)
            # Inside the engine at the end of the step.
            if scope is not None:
                scope.statistics.append(statistic)
            else:
                variable.assign(randomness.moving_average(variable.value, statistic))
        return result.values

    def _check(self, x: tf.Tensor, scope) -> None:
        if scope is not None and scope.split and x.shape[0] % self.group:
            raise BadInput(
                f"batch normalisation in groups of {self.group} cannot split the batch in slices of {x.shape[0]} rows: "
                "choose a --batch_size that is a multiple of group x replicas x accumulate, or --norm=layer"
            )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "group": self.group, "momentum": self.momentum, "epsilon": self.epsilon}
