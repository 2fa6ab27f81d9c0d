"""The LSTM recurrence as one compiled loop, with a hand-written gradient.

It is fast on a CPU because the input projection is one matrix product before the loop and the gradient of the recurrent
weights one after it; the loop ends with the longest sequence; and no step uses a mask, as outputs at padding are never
read.
"""

import functools

import numpy as np
import tensorflow as tf


@functools.partial(tf.function, jit_compile=True, autograph=False)
def lstm(inputs: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
    """Runs an LSTM (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000) from a zero state.

    Args:
        inputs: float32 `[time, batch, width]`.
        kernel: `[width, 4 * units]`; gates in Keras' order: input, forget, cell, output.
        recurrent: `[units, 4 * units]`.
        bias: `[4 * units]`.
        longest: int32 scalar, number of steps to run.

    Returns:
        `[time, batch, units]`, the output after each step; zeros from `longest` on.
    """

    @tf.custom_gradient
    def run(inputs, kernel, recurrent, bias):
        saved, outputs = _forward(inputs, kernel, recurrent, bias, longest)
        return outputs, lambda upstream: _backward(upstream, saved, inputs, outputs, kernel, recurrent, longest)

    return run(inputs, kernel, recurrent, bias)


def lstm_from_state(inputs, kernel, recurrent, bias, h, c) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs an LSTM from a given state, without a gradient; equals `lstm` for a zero state.

    Args:
        inputs: float32 `[time, batch, width]`; all steps are run.
        kernel: `[width, 4 * units]`; gates in Keras' order.
        recurrent: `[units, 4 * units]`.
        bias: `[4 * units]`.
        h: `[batch, units]`, the previous output.
        c: `[batch, units]`, the previous cell.

    Returns:
        `[time, batch, units]`, the output after each step; the last output and the last cell, `[batch, units]`.
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
    """The dimensions of a tensor, each as a number if it is static, else as a tensor."""
    dynamic = tf.shape(tensor)
    return [dynamic[i] if size is None else size for i, size in enumerate(tensor.shape)]


def _forward(inputs, kernel, recurrent, bias, longest):
    """Gates and previous cell of each step, saved for the gradient, `[time, batch, 5 * units]`; and the outputs."""
    time, batch, _ = sizes(inputs)
    units = recurrent.shape[0]
    projected, recurrent = _projected(inputs, kernel, recurrent, bias)

    def step(t, h, c, saved, outputs):
        gates, h, next_c = _step(projected[t], recurrent, h, c)
        return t + 1, h, next_c, saved.write(t, tf.concat([gates, c], axis=-1)), outputs.write(t, h)

    zeros = tf.zeros([batch, units])
    arrays = _array(time, batch, 5 * units), _array(time, batch, units)
    *_, saved, outputs = tf.while_loop(lambda t, *_: t < longest, step, (tf.constant(0), zeros, zeros, *arrays))
    return saved.stack(), outputs.stack()  # [time, batch, 5 * units], [time, batch, units]


def _projected(inputs, kernel, recurrent, bias):
    """The input projection `[time, batch, 4 * units]` and the recurrent matrix, both scaled for `_step`."""
    time, batch, width = sizes(inputs)
    scale, _ = _sigmoid_from_tanh(recurrent.shape[0])
    # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2: one tanh over all gates, with the inner halves folded into the weights.
    # [time * batch, 4 * units]
    projected = tf.matmul(tf.reshape(inputs, [-1, width]), kernel * scale) + bias * scale
    return tf.reshape(projected, [time, batch, recurrent.shape[1]]), recurrent * scale


def _step(projected, recurrent, h, c):
    """Gates `[batch, 4 * units]`, output and cell `[batch, units]` of one step."""
    scale, shift = _sigmoid_from_tanh(recurrent.shape[0])
    gates = tf.tanh(projected + tf.matmul(h, recurrent)) * scale + shift
    i, f, g, o = tf.split(gates, 4, axis=-1)
    c = f * c + i * g
    return gates, o * tf.tanh(c), c


def _backward(upstream, saved, inputs, outputs, kernel, recurrent, longest):
    """The gradients of inputs, kernel, recurrent kernel and bias, from that of the outputs `[time, batch, units]`."""
    time, batch, units = sizes(outputs)
    width = inputs.shape[-1]
    # Terms that do not depend on the step after are computed for all steps at once.
    i, f, g, o, c = tf.split(saved, 5, axis=-1)  # [time, batch, units] each
    tanh_c = tf.tanh(f * c + i * g)
    by_c, by_h = [g * i * (1.0 - i), c * f * (1.0 - f), i * (1.0 - g * g)], tanh_c * o * (1.0 - o)
    factors = tf.concat([*by_c, by_h], axis=-1)  # [time, batch, 4 * units]
    to_c = o * (1.0 - tanh_c * tanh_c)
    # Transposed once: in each of the products it would take a third longer.
    transposed = tf.transpose(recurrent)  # [4 * units, units]

    def step(t, dh, dc, gate_gradients):
        dh += upstream[t]
        dc += dh * to_c[t]
        d_gates = tf.concat([dc, dc, dc, dh], axis=-1) * factors[t]  # [batch, 4 * units]
        return t - 1, tf.matmul(d_gates, transposed), dc * f[t], gate_gradients.write(t, d_gates)

    zeros = tf.zeros([batch, units])
    start = (longest - 1, zeros, zeros, _array(time, batch, 4 * units))
    *_, gate_gradients = tf.while_loop(lambda t, *_: t >= 0, step, start)
    gate_gradients = tf.reshape(gate_gradients.stack(), [-1, 4 * units])  # [time * batch, 4 * units]
    previous = tf.concat([tf.zeros_like(outputs[:1]), outputs[:-1]], axis=0)  # [time, batch, units]
    # The gradients of both kernels in one product: two narrow ones would be half as fast.
    joined = tf.reshape(tf.concat([inputs, previous], axis=-1), [-1, width + units])  # [time * batch, width + units]
    by_kernel, by_recurrent = tf.split(tf.matmul(joined, gate_gradients, transpose_a=True), [width, units])
    # [time, batch, width]
    by_inputs = tf.reshape(tf.matmul(gate_gradients, kernel, transpose_b=True), [time, batch, width])
    return by_inputs, by_kernel, by_recurrent, tf.reduce_sum(gate_gradients, axis=0)


def _sigmoid_from_tanh(units: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and summand `[4 * units]` that turn tanh into a sigmoid for all gates but the cell's."""
    cell = np.repeat([0.0, 0.0, 1.0, 0.0], units).astype(np.float32)
    return 0.5 + 0.5 * cell, 0.5 - 0.5 * cell


def _array(time, batch, width) -> tf.TensorArray:
    static_batch = batch if isinstance(batch, int) else None
    return tf.TensorArray(tf.float32, time, element_shape=(static_batch, width))
