"""This engine in the LSTM race."""

import functools

import keras

from benchmarks.harness.engine_contender import training
from benchmarks.harness.worker import Training
from benchmarks.lstm import data
from experiments import lstm_sentiment
from zoo.data import bucketing
from zoo.data.batches import Batches
from zoo.engine import devices
from zoo.experiment import Experiment
from zoo.models import lstm


def engine(batch_size: int, compile: str = "cores") -> Training:
    """A run with the defaults of `LstmConfig`, without files, logs and evaluations."""
    config = lstm_sentiment.LstmConfig(batch_size=batch_size, learning_rate=data.LEARNING_RATE, compile=compile)
    tokens, lengths, labels = data.load()
    columns = {"tokens": tokens, "y": labels.astype("int32")}
    batches = Batches(columns, batch_size, config.seed, lengths, bucketing.widths(lengths), ("tokens",))
    strategy = devices.strategy(config.strategy)
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        network = lstm.classifier(data.TOKENS)
        task = functools.partial(lstm_sentiment.forward, network=network)
        experiment = Experiment(network.model, task, batches)
    # Batches differ in length: only whole epochs are comparable.
    return training(strategy, config, experiment, quantum=batches.steps_per_epoch)
