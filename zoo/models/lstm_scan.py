"""The recurrence of an LSTM as one compiled loop, with its gradient written by hand.

What makes it fast on a CPU: the input's projection is one matrix product before the loop, the recurrent weights'
gradient one after it; the loop ends with the longest sequence; and no step looks at a mask, because a sequence that is
padded at its end may run on, as long as nobody reads what it computes there.
"""

import functools

import numpy as np
import tensorflow as tf


@functools.partial(tf.function, jit_compile=True, autograph=False)
def lstm(inputs: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
    """Runs an LSTM (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000) from a state of zeros.

    Args:
        inputs: float32 `[time, batch, width]`.
        kernel: `[width, 4 * units]`; gates in Keras' order: input, forget, cell, output.
        recurrent: `[units, 4 * units]`.
        bias: `[4 * units]`.
        longest: int32 scalar, steps to run.

    Returns:
        `[time, batch, units]`, the output after each step; zeros from `longest` on.
    """

    @tf.custom_gradient
    def run(inputs, kernel, recurrent, bias):
        kept, outputs = _forward(inputs, kernel, recurrent, bias, longest)
        return outputs, lambda upstream: _backward(upstream, kept, inputs, outputs, kernel, recurrent, longest)

    return run(inputs, kernel, recurrent, bias)


def onward(inputs, kernel, recurrent, bias, h, c) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs an LSTM on from a state, without a gradient; what `lstm` gives, where the state is of zeros.

    Args:
        inputs: float32 `[time, batch, width]`, all of whose steps are run.
        kernel: as of `lstm`, and so are the next two.
        recurrent: `[units, 4 * units]`.
        bias: `[4 * units]`.
        h: `[batch, units]`, the output before.
        c: `[batch, units]`, the cell before.

    Returns:
        `[time, batch, units]`, the output after each step; the last of them, and the last cell.
    """
    projected, recurrent = _projected(inputs, kernel, recurrent, bias)

    def step(t, h, c, outputs):
        _, h, c = _step(projected[t], recurrent, h, c)
        return t + 1, h, c, outputs.write(t, h)

    time, batch, _ = sizes(inputs)
    array = _array(time, batch, recurrent.shape[0])
    _, h, c, outputs = tf.while_loop(lambda t, *_: t < time, step, (tf.constant(0), h, c, array))
    return outputs.stack(), h, c


def sizes(tensor: tf.Tensor) -> list:
    """Each dimension as a number where it is known, else as a tensor."""
    unknown = tf.shape(tensor)
    return [unknown[i] if size is None else size for i, size in enumerate(tensor.shape)]


def _forward(inputs, kernel, recurrent, bias, longest):
    """What the gradient needs of each step, gates and the state before: `[time, batch, 5 * units]`; the outputs."""
    time, batch, _ = sizes(inputs)
    units = recurrent.shape[0]
    projected, recurrent = _projected(inputs, kernel, recurrent, bias)

    def step(t, h, c, kept, outputs):
        gates, h, after = _step(projected[t], recurrent, h, c)
        return t + 1, h, after, kept.write(t, tf.concat([gates, c], axis=-1)), outputs.write(t, h)

    zeros = tf.zeros([batch, units])
    arrays = _array(time, batch, 5 * units), _array(time, batch, units)
    *_, kept, outputs = tf.while_loop(lambda t, *_: t < longest, step, (tf.constant(0), zeros, zeros, *arrays))
    return kept.stack(), outputs.stack()


def _projected(inputs, kernel, recurrent, bias):
    """The inputs' part in the gates, `[time, batch, 4 * units]`, and the recurrent matrix, both scaled for `_step`."""
    time, batch, width = sizes(inputs)
    scale, _ = _sigmoids(recurrent.shape[0])
    # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2: one tanh over all gates, with the inner halves taken into the weights.
    projected = tf.matmul(tf.reshape(inputs, [-1, width]), kernel * scale) + bias * scale
    return tf.reshape(projected, [time, batch, recurrent.shape[1]]), recurrent * scale


def _step(projected, recurrent, h, c):
    """Gates, output and cell of one step."""
    scale, shift = _sigmoids(recurrent.shape[0])
    gates = tf.tanh(projected + tf.matmul(h, recurrent)) * scale + shift
    i, f, g, o = tf.split(gates, 4, axis=-1)
    c = f * c + i * g
    return gates, o * tf.tanh(c), c


def _backward(upstream, kept, inputs, outputs, kernel, recurrent, longest):
    """The gradients by inputs, kernel, recurrent kernel and bias, from the one by the outputs."""
    time, batch, units = sizes(outputs)
    width = inputs.shape[-1]
    # Whatever does not wait for the step after it is computed of all steps at once.
    i, f, g, o, c = tf.split(kept, 5, axis=-1)
    tanh_c = tf.tanh(f * c + i * g)
    by_c, by_h = [g * i * (1.0 - i), c * f * (1.0 - f), i * (1.0 - g * g)], tanh_c * o * (1.0 - o)
    factors = tf.concat([*by_c, by_h], axis=-1)
    to_c = o * (1.0 - tanh_c * tanh_c)
    # Turned once, not in each of the products, which would take a third longer.
    back = tf.transpose(recurrent)

    def step(t, dh, dc, found):
        dh += upstream[t]
        dc += dh * to_c[t]
        inner = tf.concat([dc, dc, dc, dh], axis=-1) * factors[t]
        return t - 1, tf.matmul(inner, back), dc * f[t], found.write(t, inner)

    zeros = tf.zeros([batch, units])
    start = (longest - 1, zeros, zeros, _array(time, batch, 4 * units))
    *_, found = tf.while_loop(lambda t, *_: t >= 0, step, start)
    found = tf.reshape(found.stack(), [-1, 4 * units])
    before = tf.concat([tf.zeros_like(outputs[:1]), outputs[:-1]], axis=0)
    # Both kernels' gradients in one product: two narrow ones would be half as fast.
    read = tf.reshape(tf.concat([inputs, before], axis=-1), [-1, width + units])
    by_kernel, by_recurrent = tf.split(tf.matmul(read, found, transpose_a=True), [width, units])
    by_inputs = tf.reshape(tf.matmul(found, kernel, transpose_b=True), [time, batch, width])
    return by_inputs, by_kernel, by_recurrent, tf.reduce_sum(found, axis=0)


def _sigmoids(units: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and summand that make sigmoids of the gates' tanh, all but the cell's."""
    cell = np.repeat([0.0, 0.0, 1.0, 0.0], units).astype(np.float32)
    return 0.5 + 0.5 * cell, 0.5 - 0.5 * cell


def _array(time, batch, width) -> tf.TensorArray:
    known = batch if isinstance(batch, int) else None
    return tf.TensorArray(tf.float32, time, element_shape=(known, width))
