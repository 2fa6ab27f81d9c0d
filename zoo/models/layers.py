"""Layers whose noise and statistics belong to the examples, not to the device that holds them."""

import keras
import tensorflow as tf

from zoo import randomness
from zoo.errors import BadInput


class NoisyLayer(keras.layers.Layer):
    """A layer with random bits from `zoo.randomness`.

    Inside the engine they depend on seed, step, the order of the layers and the example's place in the global batch.
    Anywhere else (`model.fit`, a plain call) they are drawn from a Keras seed generator.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # As a bound method it is no tracked state of the model: the engine's noise needs none.
        self._next_seed = keras.random.SeedGenerator().next

    def bits(self, shape, by_row: bool = True) -> tf.Tensor:
        """32 bits for each element of `[batch, ...]`; not by row: the same for every slice of the batch."""
        *key, first_row = self._place()
        return randomness.bits(shape, key, first_row if by_row else 0)

    def noise(self, rate: float) -> tf.Tensor:
        """What bits are drawn from, to be drawn elsewhere: the key and the first row's place, uint32 `[3]`."""
        if not rate:
            return tf.zeros([3], tf.uint32)
        *key, first_row = self._place()
        return tf.stack([*key, tf.cast(first_row, tf.uint32)])

    def _place(self):
        where = randomness.current()
        if where is None:
            return *randomness.seed_key(self._next_seed()), tf.constant(0)
        return *randomness.scope_key(where), tf.convert_to_tensor(where.first_row)


def dropped(values: tf.Tensor, rate: float, bits: tf.Tensor) -> tf.Tensor:
    """Inverted dropout (Srivastava et al., 2014): a share of the values is 0, the others grow to keep the mean."""
    keep = bits >= tf.constant(round(rate * 2**32), tf.uint32)
    return tf.where(keep, values / (1.0 - rate), tf.zeros_like(values))


@keras.saving.register_keras_serializable(package="zoo")
class Dropout(NoisyLayer):
    """Dropout whose masks belong to the examples, see `NoisyLayer`.

    Args:
        rate: the share of elements set to 0, in [0, 1).
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
        return dropped(inputs, self.rate, self.bits(tf.shape(inputs)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable(package="zoo")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation (Ioffe and Szegedy, 2015) over groups of neighbours in the global batch.

    Over the whole batch it would depend on the hardware: replicas and micro-batches see a part each. Over groups of a
    fixed size ("ghost" batches: Hoffer et al., 2017, section 4) it does not, and needs no communication inside the
    forward pass. Padding counts for nothing. Outside the engine the groups are cut from whatever batch is given.

    Args:
        group: rows per group; 32 as in the paper's smallest setting, so that 128 can be split in 4. A slice of the
            global batch must be a multiple of it.
        momentum: of the moving statistics that are used outside training, updated once per step.
        epsilon: added to the variance; Keras' own default.
    """

    def __init__(self, group: int = 32, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs):
        super().__init__(**kwargs)
        self.group = int(group)
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)

    def build(self, input_shape):
        width = (input_shape[-1],)
        self.gamma = self.add_weight(shape=width, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=width, initializer="zeros", name="beta")
        # All replicas assign the same value, so the first one's will do.
        moving = {"trainable": False, "aggregation": "only_first_replica"}
        self.moving_mean = self.add_weight(shape=width, initializer="zeros", name="moving_mean", **moving)
        self.moving_variance = self.add_weight(shape=width, initializer="ones", name="moving_variance", **moving)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)
        if training:
            x = self._by_group(x)
        else:
            x = (x - self.moving_mean) * tf.math.rsqrt(self.moving_variance + self.epsilon)
        return tf.cast(x * self.gamma + self.beta, self.compute_dtype)

    def _by_group(self, x: tf.Tensor) -> tf.Tensor:
        """Each group to mean 0 and variance 1, `[batch, ..., width]`."""
        where = randomness.current()
        rows = tf.shape(x)[0]
        weights = tf.ones([rows]) if where is None or where.row_weights is None else where.row_weights
        self._check(x, where)
        missing = -rows % self.group
        grouped = tf.pad(x, [[0, missing]] + [[0, 0]] * (x.shape.rank - 1))
        grouped = tf.reshape(grouped, tf.concat([[-1, self.group], tf.shape(x)[1:]], 0))
        weights = tf.reshape(tf.pad(weights, [[0, missing]]), [-1, self.group] + [1] * (x.shape.rank - 1))
        axes = list(range(1, x.shape.rank))
        inner = tf.cast(tf.reduce_prod(tf.shape(x)[1:-1]), tf.float32)
        count = tf.reduce_sum(weights, axes, keepdims=True) * inner
        mean = tf.math.divide_no_nan(tf.reduce_sum(grouped * weights, axes, keepdims=True), count)
        squares = tf.reduce_sum(tf.square(grouped - mean) * weights, axes, keepdims=True)
        variance = tf.math.divide_no_nan(squares, count)
        self._measure(where, tf.cast(count > 0, tf.float32), mean, variance)
        normalised = (grouped - mean) * tf.math.rsqrt(variance + self.epsilon)
        return tf.reshape(normalised, tf.concat([[-1], tf.shape(x)[1:]], 0))[:rows]

    def _measure(self, where, filled: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> None:
        """Reports the mean over the groups, for the moving statistics to follow."""
        for variable, values in ((self.moving_mean, mean), (self.moving_variance, variance)):
            values = tf.stop_gradient(tf.reduce_sum(tf.reshape(values * filled, [-1, values.shape[-1]]), axis=0))
            found = randomness.Statistic(variable, 1.0 - self.momentum, values, tf.reduce_sum(filled))
            if where is not None:
                where.statistics.append(found)
            else:
                variable.assign(randomness.moving_average(variable.value, found))

    def _check(self, x: tf.Tensor, where) -> None:
        if where is not None and where.split and x.shape[0] % self.group:
            raise BadInput(
                f"batch normalisation in groups of {self.group} cannot split the batch in slices of {x.shape[0]} rows: "
                "choose a --batch_size that is a multiple of group x replicas x accumulate, or --norm=layer"
            )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "group": self.group, "momentum": self.momentum, "epsilon": self.epsilon}
