"""This engine in the MLP race."""

import keras

from benchmarks.harness.engine_contender import training
from benchmarks.harness.worker import Training
from benchmarks.mlp import data
from experiments import mlp_classifier
from zoo.data.batches import Batches
from zoo.engine import devices
from zoo.experiment import Experiment
from zoo.models.mlp import mlp


def engine(batch_size: int) -> Training:
    """A run with the defaults of `Config`, without files, logs and evaluations."""
    config = mlp_classifier.MlpConfig(batch_size=batch_size, learning_rate=data.LEARNING_RATE)
    x, y = data.load()
    batches = Batches({"x": x, "y": y}, batch_size, seed=config.seed)
    strategy = devices.strategy(config.strategy)
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        model = mlp((data.FEATURES,), data.CLASSES, (data.HIDDEN, data.HIDDEN))
        experiment = Experiment(model, mlp_classifier.forward, batches)
    return training(strategy, config, experiment, quantum=config.steps_per_loop)
