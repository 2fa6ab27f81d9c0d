"""A network that reads digits, for the tests of what happens after training."""

import numpy as np

import zoo
from experiments.mlp_classifier import MlpConfig, build
from zoo.data.datasets import images


def run(folder, **changes):
    """Trains on 4,000 digits in a few seconds, with batch normalisation."""
    settings = dict(hidden=(64, 64), norm="batch", epochs=0, steps=400, batch_size=128, learning_rate=0.01)
    zoo.run(build, MlpConfig(**{"dataset": "mnist_5k", **settings, **changes}), folder)
    return folder


def unseen():
    """500 images and their classes that the network has not seen, in an order that mixes the classes."""
    test = images.load("mnist_5k").test
    order = np.random.default_rng(0).permutation(len(test["y"]))
    return test["x"][order], test["y"][order]


def bright(x):
    """Half as much contrast, on grey."""
    return (127 + x // 2).astype(np.uint8)


def batches(x, size=100):
    """A stream."""
    return [x[first : first + size] for first in range(0, len(x), size)]


def error(found, labels):
    """The share of wrong answers."""
    return float((found.probabilities.argmax(axis=1) != labels).mean())
