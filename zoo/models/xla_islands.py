"""XLA islands: elementwise parts of a network compiled by XLA, between matrix products that TensorFlow runs.

On a CPU TensorFlow's oneDNN is fast at bfloat16 matrix products, and XLA fuses everything else into single passes over
memory. So a layer is written as products with *islands* between them. An island stores only its inputs: its gradient
recomputes the values in between, which is cheaper than writing them to memory and reading them back.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

_local = threading.local()


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Leaves islands that are traced inside to TensorFlow: compiling them is not worth a single call."""
    before, _local.uncompiled = getattr(_local, "uncompiled", False), True
    try:
        yield
    finally:
        _local.uncompiled = before


def island(function: Callable) -> Callable:
    """Compiles a function of tensors and its gradient with XLA, once per combination of shapes.

    Args:
        function: a stateless function without variables, from tensors to a tensor or a tuple of tensors. Integer
            inputs have no gradient. A float vector `[width]` broadcasts over the rows of the outputs `[..., width]`.
    """
    forward = tf.function(function, jit_compile=True, autograph=False)

    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def backward(inputs: list[tf.Tensor], upstream: list[tf.Tensor]) -> list[tf.Tensor]:
        # A vector's gradient is not summed over the rows here: XLA would sum each column separately and recompute
        # everything that leads to it, element by element.
        rows = [tf.broadcast_to(x, tf.shape(upstream[0])) if _is_vector(x, upstream) else x for x in inputs]
        watched = [x for x in rows if x.dtype.is_floating]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            outputs = function(*rows)
        gradients = tape.gradient(outputs, watched, list(upstream), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        floats = [x for x in inputs if x.dtype.is_floating]
        return [tf.cast(g, upstream[0].dtype) if _is_vector(x, upstream) else g for x, g in zip(floats, gradients)]

    @functools.wraps(function)
    def call(*inputs):
        @tf.custom_gradient
        def run(*inputs):
            outputs = forward(*inputs)

            def gradient(*upstream):
                gradients = iter(backward(list(inputs), list(upstream)))
                return [_summed(x, next(gradients), upstream) if x.dtype.is_floating else None for x in inputs]

            return outputs, gradient

        if getattr(_local, "uncompiled", False):
            return function(*inputs)
        return run(*map(tf.convert_to_tensor, inputs))

    return call


def _is_vector(x: tf.Tensor, upstream: list[tf.Tensor]) -> bool:
    return x.dtype.is_floating and x.shape.rank == 1 < upstream[0].shape.rank


def _summed(x: tf.Tensor, gradient: tf.Tensor, upstream: list[tf.Tensor]) -> tf.Tensor:
    """The gradient of an input; that of a vector, `[..., width]`, is summed over the rows to `[width]`."""
    if not _is_vector(x, upstream):
        return gradient
    # BiasAddGrad sums in float32, also for bfloat16, and on all cores.
    return tf.cast(tf.raw_ops.BiasAddGrad(out_backprop=gradient), x.dtype)
