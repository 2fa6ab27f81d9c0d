"""The recurrence of an LSTM as one compiled loop, with its gradient written by hand.

What makes it fast on a CPU: the input's projection is one matrix product before the loop, the recurrent weights'
gradient one after it; the loop ends with the longest sequence; and no step looks at a mask, because a sequence that is
padded at its end may run on, as long as nobody reads what it computes there.
"""

import functools

import numpy as np
import tensorflow as tf


def project(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """The input's part of the gates, of all steps in one matrix product: `[time, batch, 4 * units]`."""
    time, batch = sizes(inputs)[:2]
    flat = tf.reshape(inputs, [-1, inputs.shape[-1]])
    return tf.reshape(tf.matmul(flat, kernel) + bias, [time, batch, kernel.shape[-1]])


def sizes(tensor: tf.Tensor) -> list:
    """Each dimension as a number where it is known, else as a tensor."""
    unknown = tf.shape(tensor)
    return [unknown[i] if size is None else size for i, size in enumerate(tensor.shape)]


@functools.partial(tf.function, jit_compile=True, autograph=False)
def lstm(projected: tf.Tensor, recurrent: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
    """Runs an LSTM (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000) from a state of zeros.

    Args:
        projected: float32 `[time, batch, 4 * units]`, the input times the kernel plus the bias; gates in Keras' order:
            input, forget, cell, output.
        recurrent: `[units, 4 * units]`.
        longest: int32 scalar, steps to run.

    Returns:
        `[time, batch, units]`, the output after each step; zeros from `longest` on.
    """

    @tf.custom_gradient
    def run(projected, recurrent):
        steps = _forward(projected, recurrent, longest)
        gates_and_states, outputs = steps
        return outputs, lambda upstream: _backward(upstream, gates_and_states, outputs, recurrent, longest)

    return run(projected, recurrent)


def _forward(projected, recurrent, longest):
    """The outputs, and what the gradient needs of each step: `[time, batch, 5 * units]`, gates and the state before."""
    time, batch, width = sizes(projected)
    units = width // 4
    scale, shift = _sigmoids(units)
    # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2: one tanh over all gates, with the inner halves taken out of the loop.
    recurrent, projected = recurrent * scale, projected * scale

    def step(t, h, c, kept, outputs):
        gates = tf.tanh(projected[t] + tf.matmul(h, recurrent)) * scale + shift
        kept = kept.write(t, tf.concat([gates, c], axis=-1))
        i, f, g, o = tf.split(gates, 4, axis=-1)
        c = f * c + i * g
        h = o * tf.tanh(c)
        return t + 1, h, c, kept, outputs.write(t, h)

    zeros = tf.zeros([batch, units])
    arrays = _array(time, batch, 5 * units), _array(time, batch, units)
    *_, kept, outputs = tf.while_loop(lambda t, *_: t < longest, step, (tf.constant(0), zeros, zeros, *arrays))
    return kept.stack(), outputs.stack()


def _backward(upstream, kept, outputs, recurrent, longest):
    """The gradients by `projected` and `recurrent`, from the one by the outputs."""
    time, batch, units = sizes(outputs)
    transposed = tf.transpose(recurrent)

    def step(t, dh, dc, found):
        i, f, g, o, c = tf.split(kept[t], 5, axis=-1)
        dh += upstream[t]
        tanh_c = tf.tanh(f * c + i * g)
        dc += dh * o * (1.0 - tanh_c * tanh_c)
        inner = [dc * g * i * (1.0 - i), dc * c * f * (1.0 - f), dc * i * (1.0 - g * g), dh * tanh_c * o * (1.0 - o)]
        inner = tf.concat(inner, axis=-1)
        return t - 1, tf.matmul(inner, transposed), dc * f, found.write(t, inner)

    zeros = tf.zeros([batch, units])
    start = (longest - 1, zeros, zeros, _array(time, batch, 4 * units))
    *_, found = tf.while_loop(lambda t, *_: t >= 0, step, start)
    found = found.stack()
    # The first step has no output before it, so it adds nothing.
    before = tf.reshape(outputs[:-1], [-1, units])
    return found, tf.matmul(before, tf.reshape(found[1:], [-1, 4 * units]), transpose_a=True)


def _sigmoids(units: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and summand that make sigmoids of the gates' tanh, all but the cell's."""
    cell = np.repeat([0.0, 0.0, 1.0, 0.0], units).astype(np.float32)
    return 0.5 + 0.5 * cell, 0.5 - 0.5 * cell


def _array(time, batch, width) -> tf.TensorArray:
    known = batch if isinstance(batch, int) else None
    return tf.TensorArray(tf.float32, time, element_shape=(known, width))
