"""Normal noise on the gradient, with a variance that falls: `scale / (1 + step)^0.55`.

Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015, section 2. It is added once,
to the clipped gradient of the global batch, and is a function of seed and step: any devices draw the same.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from zoo import randomness

_POWER = 0.55
# Streams of noise of layers count from 1; no network has so many.
_FIRST_STREAM = 2**24


def added(gradients: Sequence[tf.Tensor], scale: float, seed: int, step: tf.Tensor) -> list[tf.Tensor]:
    """The gradients with noise of their own each.

    Args:
        gradients: float tensors of any shapes.
        scale: variance at step 0.
        seed: the run's seed.
        step: scalar integer.
    """
    deviation = tf.sqrt(scale / (1.0 + tf.cast(step, tf.float32)) ** _POWER)
    return [
        gradient + tf.cast(deviation * normal(gradient.shape, seed, step, _FIRST_STREAM + 2 * number), gradient.dtype)
        for number, gradient in enumerate(gradients)
    ]


def normal(shape: tf.TensorShape, seed: int, step: tf.Tensor, stream: int) -> tf.Tensor:
    """Standard normal float32 of a known shape, by Box and Muller (1958) from two streams of uniform numbers."""
    count = math.prod(shape)
    first, second = (
        randomness.uniform([1, count], randomness.stream_key(seed, tf.cast(step, tf.int32), each))
        for each in (stream, stream + 1)
    )
    # 1 - uniform is above 0, where the logarithm is finite.
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - first))
    return tf.reshape(radius * tf.cos(2.0 * math.pi * second), shape)
