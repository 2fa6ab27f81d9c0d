"""This engine in the LSTM benchmark."""

import functools

import keras

from benchmarks import lstm_data
from benchmarks.worker import Training
from benchmarks.zoo_training import training
from experiments import lstm_sentiment
from zoo.data import buckets
from zoo.data.batches import Batches
from zoo.engine import devices
from zoo.experiment import Experiment
from zoo.models import lstm


def engine(batch_size: int, compile: str = "cores") -> Training:
    """A run with the defaults of `LstmConfig`, without files, logs and evaluations."""
    config = lstm_sentiment.LstmConfig(batch_size=batch_size, learning_rate=lstm_data.LEARNING_RATE, compile=compile)
    tokens, lengths, labels = lstm_data.load()
    columns = {"tokens": tokens, "y": labels.astype("int32")}
    batches = Batches(columns, batch_size, config.seed, lengths, buckets.widths(lengths), ("tokens",))
    strategy = devices.strategy(config.strategy)
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        network = lstm.classifier(lstm_data.TOKENS)
        task = functools.partial(lstm_sentiment.forward, network=network)
        experiment = Experiment(network.model, task, batches)
    # Batches differ in length: only whole epochs compare.
    return training(strategy, config, experiment, quantum=batches.steps_per_epoch)
