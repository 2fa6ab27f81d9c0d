"""`model.fit` in the LSTM race."""

import threading
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from benchmarks.harness.fit_in_turns import Turns
from benchmarks.harness.worker import Metrics, Training
from benchmarks.lstm import data as lstm_data


def fit(
    batch_size: int,
    masked: bool = True,
    alike: bool = False,
    steps_per_execution: int = 1,
    jit_compile: bool | str = "auto",
) -> Training:
    """One endless `fit` in turns of whole epochs; by default as Keras has it.

    Args:
        batch_size: examples per step.
        masked: whether the embedding masks padding; else the LSTM reads it, and its state is taken at the text's end.
        alike: whether to read a tf.data pipeline with batches of about one length, or arrays padded to 200.
        steps_per_execution: argument of `model.compile`.
        jit_compile: argument of `model.compile`.
    """
    model = network(masked)
    model.compile(
        optimizer=keras.optimizers.Adam(lstm_data.LEARNING_RATE),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)],
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    turns = Turns()
    steps_per_epoch = lstm_data.EXAMPLES // batch_size
    # XLA would compile every length.
    widths = lstm_data.WIDTHS if jit_compile is True else range(1, lstm_data.LONGEST + 1)
    batches = batches_alike(batch_size, widths) if alike else None

    def data(steps: int) -> dict[str, Any]:
        return {"x": batches, "steps_per_epoch": steps, "shuffle": False} if alike else _arrays(batch_size, steps)

    def first() -> Metrics:
        logs = model.fit(**data(steps_per_execution), verbose=0).history
        threading.Thread(target=turns.fit, args=(model, data(steps_per_epoch)), daemon=True).start()
        return Metrics(logs["loss"][0], logs["accuracy"][0])

    return Training(first, train=lambda steps: turns.train(steps // steps_per_epoch), quantum=steps_per_epoch)


def network(masked: bool) -> keras.Model:
    """Tokens `[batch, time]` to logits `[batch, 1]`."""
    keras.utils.set_random_seed(0)
    width = lstm_data.WIDTH
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(lstm_data.TOKENS, width, mask_zero=masked)(tokens)
    if masked:
        last = keras.layers.LSTM(width)(embedded)
    else:
        states = keras.layers.LSTM(width, return_sequences=True)(embedded)
        ends = keras.ops.count_nonzero(tokens, axis=1) - 1
        last = keras.ops.take_along_axis(states, ends[:, None, None], axis=1)[:, 0]
    return keras.Model(tokens, keras.layers.Dense(1)(last))


def batches_alike(batch_size: int, widths: Sequence[int]) -> tf.data.Dataset:
    """Batches without end, each of about one length and cut to the smallest width that holds it."""
    tokens, lengths, labels = (tf.constant(column) for column in lstm_data.load())
    widths = tf.constant(widths)
    steps = lstm_data.EXAMPLES // batch_size

    def epoch(_) -> tf.data.Dataset:
        index = tf.random.shuffle(tf.range(lstm_data.EXAMPLES))[: steps * batch_size]
        index = tf.gather(index, tf.argsort(tf.gather(lengths, index), stable=True))
        return tf.data.Dataset.from_tensor_slices(tf.random.shuffle(tf.reshape(index, [steps, batch_size])))

    def batch(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        longest = tf.reduce_max(tf.gather(lengths, index))
        width = widths[tf.searchsorted(widths, [longest])[0]]
        return tf.gather(tokens, index)[:, :width], tf.gather(labels, index)

    indices = tf.data.Dataset.range(1).repeat().flat_map(epoch)
    return indices.map(batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _arrays(batch_size: int, steps: int) -> dict[str, Any]:
    """Arguments of `fit` for `steps` steps of arrays."""
    tokens, _, labels = lstm_data.load()
    examples = steps * batch_size
    return {"x": tokens[:examples], "y": labels[:examples], "batch_size": batch_size}
