"""This engine in the MLP benchmark."""

import keras

from benchmarks import mlp_data
from benchmarks.worker import Training
from benchmarks.zoo_training import training
from experiments import mlp_classifier
from zoo.data.batches import Batches
from zoo.engine import devices
from zoo.experiment import Experiment
from zoo.models.mlp import mlp


def engine(batch_size: int) -> Training:
    """A run with the defaults of `Config`, without files, logs and evaluations."""
    config = mlp_classifier.MlpConfig(batch_size=batch_size, learning_rate=mlp_data.LEARNING_RATE)
    x, y = mlp_data.load()
    batches = Batches({"x": x, "y": y}, batch_size, seed=config.seed)
    strategy = devices.strategy(config.strategy)
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        model = mlp((mlp_data.FEATURES,), mlp_data.CLASSES, (mlp_data.HIDDEN, mlp_data.HIDDEN))
        experiment = Experiment(model, mlp_classifier.forward, batches)
    return training(strategy, config, experiment, quantum=config.steps_per_loop)
