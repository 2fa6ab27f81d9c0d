"""Elementwise pieces of a network as XLA programs between matrix products that TensorFlow runs.

On a CPU TensorFlow's oneDNN is made for products of bfloat16 matrices, and XLA fuses everything else into single
passes over memory. So a layer is written as products with *islands* between them. An island keeps only what goes into
it: its gradient computes it again, which is cheaper than to write the values in between to memory and read them back.
"""

import functools
from collections.abc import Callable

import tensorflow as tf


def island(function: Callable) -> Callable:
    """Compiles a function of tensors, and its gradient, by XLA: once for each combination of shapes.

    Args:
        function: of tensors to a tensor or a tuple of tensors; without variables and without state. Integer inputs
            have no gradient.
    """
    forward = tf.function(function, jit_compile=True, autograph=False)

    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def backward(inputs: list[tf.Tensor], upstream: list[tf.Tensor]) -> list[tf.Tensor]:
        watched = _floating(inputs)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            outputs = function(*inputs)
        return tape.gradient(outputs, watched, list(upstream), unconnected_gradients=tf.UnconnectedGradients.ZERO)

    @functools.wraps(function)
    def call(*inputs):
        @tf.custom_gradient
        def run(*inputs):
            outputs = forward(*inputs)

            def gradient(*upstream):
                found = iter(backward(list(inputs), list(upstream)))
                return [next(found) if one.dtype.is_floating else None for one in inputs]

            return outputs, gradient

        return run(*map(tf.convert_to_tensor, inputs))

    return call


def _floating(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    return [tensor for tensor in tensors if tensor.dtype.is_floating]
