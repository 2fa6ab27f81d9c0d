"""A run of this engine as a contender, made by the code that `zoo.run` makes it by."""

import tensorflow as tf

from benchmarks.harness.worker import Metrics, Training
from zoo import Config, Experiment
from zoo.engine.engine import means
from zoo.training import run


def training(strategy: tf.distribute.Strategy, config: Config, experiment: Experiment, quantum: int) -> Training:
    """Without files, logs and evaluations; `quantum` is the least number of steps that compares with others."""
    engine = run.make_engine(strategy, config, experiment, run.total_steps(config, experiment))
    done = 0

    def train(steps: int) -> Metrics:
        nonlocal done
        found = means(engine.train(experiment.train, done, steps))
        done += steps
        return Metrics(found["loss"], found["accuracy"])

    return Training(first=lambda: train(1), train=train, quantum=quantum)
