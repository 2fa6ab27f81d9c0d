"""Layers whose noise belongs to the example, not to the device that holds it."""

import keras
import tensorflow as tf

from zoo import randomness


@keras.saving.register_keras_serializable(package="zoo")
class Dropout(keras.layers.Layer):
    """Inverted dropout (Srivastava et al., 2014) with masks from `zoo.randomness`.

    Inside the engine an example's mask depends on seed, step, the order of the layers and the example's place in the
    global batch. Anywhere else (`model.fit`, a plain call) it is drawn from a Keras seed generator.

    Args:
        rate: the share of elements set to 0, in [0, 1).
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"Dropout rate is {rate}: expected 0 <= rate < 1")
        self.rate = float(rate)
        self.supports_masking = True
        # As a bound method it is no tracked state of the model: the engine's masks need none.
        self._next_seed = keras.random.SeedGenerator().next

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0.0:
            return inputs
        keep = self._bits(tf.shape(inputs)) >= tf.constant(round(self.rate * 2**32), tf.uint32)
        return tf.where(keep, inputs / (1.0 - self.rate), tf.zeros_like(inputs))

    def _bits(self, shape: tf.Tensor) -> tf.Tensor:
        where = randomness.current()
        if where is None:
            return randomness.bits(shape, randomness.seed_key(self._next_seed()))
        return randomness.bits(shape, randomness.scope_key(where), where.first_row)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
