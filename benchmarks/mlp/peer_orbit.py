"""Orbit, the training loop of the TensorFlow Model Garden, in the MLP race."""

import orbit
import tensorflow as tf

from benchmarks.harness.worker import Metrics, Training
from benchmarks.mlp import data
from benchmarks.mlp.peer_tensorflow import Step, dataset


def train(batch_size: int, jit_compile: bool) -> Training:
    """A `StandardTrainer` with its default options: 1,000 steps per call, in a loop in the graph.

    Args:
        batch_size: examples per step.
        jit_compile: whether XLA compiles each step; it cannot compile the loop, which reads a tf.data iterator.
    """
    trainer = _Trainer(batch_size, jit_compile)

    def train(steps: int) -> Metrics:
        done = 0
        while done < steps:
            count = min(steps - done, data.STEPS_PER_LOOP)
            trainer.train(tf.constant(count))
            done += count
        return trainer.step.metrics()

    return Training(first=lambda: train(1), train=train, quantum=data.STEPS_PER_LOOP)


class _Trainer(orbit.StandardTrainer):
    def __init__(self, batch_size: int, jit_compile: bool):
        self.step = Step()
        self._call = tf.function(self.step, jit_compile=True) if jit_compile else self.step
        super().__init__(dataset(batch_size))

    def train_step(self, iterator):
        self._call(*next(iterator))
