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
            have no gradient. A vector of floats is one number for each column of the outputs.
    """
    forward = tf.function(function, jit_compile=True, autograph=False)

    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def backward(inputs: list[tf.Tensor], upstream: list[tf.Tensor]) -> list[tf.Tensor]:
        # The gradient of a vector is left in rows: to add them up, XLA would go down each column on its own and compute
        # all that leads to its numbers once more, one by one.
        rows = [tf.broadcast_to(one, tf.shape(upstream[0])) if _by_rows(one, upstream) else one for one in inputs]
        watched = [one for one in rows if one.dtype.is_floating]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            outputs = function(*rows)
        found = tape.gradient(outputs, watched, list(upstream), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        whole = [one for one in inputs if one.dtype.is_floating]
        return [tf.cast(g, upstream[0].dtype) if _by_rows(one, upstream) else g for one, g in zip(whole, found)]

    @functools.wraps(function)
    def call(*inputs):
        @tf.custom_gradient
        def run(*inputs):
            outputs = forward(*inputs)

            def gradient(*upstream):
                found = iter(backward(list(inputs), list(upstream)))
                return [_added_up(one, next(found), upstream) if one.dtype.is_floating else None for one in inputs]

            return outputs, gradient

        return run(*map(tf.convert_to_tensor, inputs))

    return call


def _by_rows(one: tf.Tensor, upstream: list[tf.Tensor]) -> bool:
    return one.dtype.is_floating and one.shape.rank == 1 < upstream[0].shape.rank


def _added_up(one: tf.Tensor, gradient: tf.Tensor, upstream: list[tf.Tensor]) -> tf.Tensor:
    if not _by_rows(one, upstream):
        return gradient
    # It adds up in float32, also numbers of bfloat16, and on all cores.
    return tf.cast(tf.raw_ops.BiasAddGrad(out_backprop=gradient), one.dtype)
