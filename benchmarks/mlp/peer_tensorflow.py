"""TensorFlow without this engine in the MLP race: one step, called in four ways."""

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from benchmarks.harness.worker import Metrics, Training
from benchmarks.mlp import data


def network() -> keras.Model:
    """784-64-64-10, to logits."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(data.HIDDEN, "relu", kernel_initializer="he_normal") for _ in range(2)]
    return keras.Sequential([keras.Input((data.FEATURES,)), *hidden, keras.layers.Dense(data.CLASSES)])


class Step:
    """A training step with a tape; sums loss and accuracy in a variable."""

    def __init__(self):
        self.model = network()
        self.optimizer = keras.optimizers.Adam(data.LEARNING_RATE)
        self.optimizer.build(self.model.trainable_variables)
        self.sums = tf.Variable([0.0, 0.0, 0.0])

    def __call__(self, x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = self.model(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        correct = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), y)
        self.sums.assign_add(tf.stack([loss, tf.reduce_mean(tf.cast(correct, tf.float32)), 1.0]))

    def metrics(self) -> Metrics:
        """Means since the last call; waits until they are computed."""
        loss, accuracy, steps = self.sums.numpy().tolist()
        self.sums.assign([0.0, 0.0, 0.0])
        return Metrics(loss / steps, accuracy / steps)


def bare(batch_size: int) -> Training:
    """One XLA program of 1,000 steps over data in memory: what the engine compiles, without the engine."""
    step, order = Step(), data.Order(batch_size)
    columns = tuple(tf.constant(column) for column in data.load())

    @tf.function(jit_compile=True, autograph=False)
    def loop(x, y, index):
        def body(i):
            step(tf.gather(x, index[i]), tf.gather(y, index[i]))
            return i + 1

        tf.while_loop(lambda i: i < index.shape[0], body, [tf.constant(0)], parallel_iterations=1)

    def train(steps: int) -> Metrics:
        for _ in range(steps // data.STEPS_PER_LOOP):
            loop(*columns, tf.constant(order.take(data.STEPS_PER_LOOP)))
        return step.metrics()

    quantum = data.STEPS_PER_LOOP
    return Training(first=lambda: train(quantum), train=train, quantum=quantum)


def function(batch_size: int, jit_compile: bool) -> Training:
    """The step as a `tf.function`, called from Python."""
    step = Step()
    return _called(step, tf.function(step, jit_compile=jit_compile), batch_size)


def eager(batch_size: int) -> Training:
    """The step run eagerly, operation by operation."""
    step = Step()
    return _called(step, step, batch_size)


def dataset(batch_size: int) -> tf.data.Dataset:
    """Shuffled batches without end.

    Draws a permutation each epoch and gathers each batch at once, as `model.fit` does for arrays: two to three times as
    fast as `from_tensor_slices(...).shuffle(...).batch(...)`, which handles each example separately.
    """
    x, y = (tf.constant(column) for column in data.load())
    whole = data.EXAMPLES // batch_size

    def epoch(_) -> tf.data.Dataset:
        order = tf.random.shuffle(tf.range(data.EXAMPLES))
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order[: whole * batch_size], [whole, batch_size]))

    indices = tf.data.Dataset.range(1).repeat().flat_map(epoch)
    batches = indices.map(lambda index: (tf.gather(x, index), tf.gather(y, index)), tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


def _called(step: Step, call: Callable[[tf.Tensor, tf.Tensor], None], batch_size: int) -> Training:
    batches: Iterator = iter(dataset(batch_size))

    def train(steps: int) -> Metrics:
        for _ in range(steps):
            call(*next(batches))
        return step.metrics()

    return Training(first=lambda: train(1), train=train)
