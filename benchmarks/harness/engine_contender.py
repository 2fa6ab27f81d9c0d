"""This engine as a contender, made by the same code as in `zoo.run`."""

import tensorflow as tf

from benchmarks.harness.worker import Metrics, Training
from zoo import Config, Experiment
from zoo.engine.scalars import means
from zoo.training import run


def training(strategy: tf.distribute.Strategy, config: Config, experiment: Experiment, quantum: int) -> Training:
    """A run without files, logs and evaluations; `quantum`: smallest number of steps that is comparable."""
    engine = run.make_engine(strategy, config, experiment, run.total_steps(config, experiment))
    done = 0

    def train(steps: int) -> Metrics:
        nonlocal done
        metrics = means(engine.train(experiment.train, done, steps))
        done += steps
        return Metrics(metrics["loss"], metrics["accuracy"])

    return Training(first=lambda: train(1), train=train, quantum=quantum)
