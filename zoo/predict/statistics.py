"""Normalisation statistics estimated anew from the examples at hand, of whatever classes these are.

A shift of the inputs is taken for an affine change of each channel before its normalisation: `z` becomes `a z + b`
(Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", 2020; Nado et al.,
2020). Mean and variance of the present inputs give `a` and `b`, but only beside those that the source data would have
*with the same classes*: taken from a batch of one class without this, they turn every example into another class. So
each channel's moments are kept by class, and mixed in the shares that the model itself finds, in turns with the
statistics (expectation maximisation, with hard assignments).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.models.layers import BatchNorm

# Turns of statistics and shares; a change of the shares below _STILL in total ends them.
_TURNS, _STILL = 4, 0.02
_TINY = 1e-6


class Moments(NamedTuple):
    """Of the inputs of one normalisation layer, by class: `[classes, channels]`, from `[classes]` examples."""

    mean: np.ndarray
    variance: np.ndarray
    count: np.ndarray


class Norms:
    """The batch normalisations of a model, whose statistics may be set.

    Args:
        model: a functional Keras model.
        examples: of the source data, as the model takes them.
        labels: int `[examples]`, each class at least once.
        classes: how many there are.
    """

    def __init__(self, model: keras.Model, examples: np.ndarray, labels: np.ndarray, classes: int):
        self.layers = layers_of(model)
        if not self.layers:
            raise ValueError("the model has no batch normalisation; expected one, as --norm=batch makes")
        inputs = keras.Model(model.inputs, [layer.input for layer in self.layers])
        # Of any number of rows, or each number would be traced.
        shape = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
        self._inputs = tf.function(lambda x: inputs(x, training=False), [shape], autograph=False)
        self.classes = classes
        found = [_channels(part) for part in self._of(examples)]
        self._source = [_by_class(values, labels, classes) for values in found]
        self._trained = self.state()

    def state(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Mean and variance of each layer."""
        return [(layer.moving_mean.numpy(), layer.moving_variance.numpy()) for layer in self.layers]

    def load(self, state: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Sets what `state` gave."""
        for layer, (mean, variance) in zip(self.layers, state, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)

    def shift(self, examples: np.ndarray, shares: np.ndarray) -> float:
        """How far the first layer's mean inputs are from what the source would have in these shares of the classes.

        Returns:
            The square in units of its chance variance, mean over the channels: about 1 where nothing shifted.
        """
        seen, source = _channels(self._of(examples)[0]).mean(axis=1), self._source[0]
        # Also the source's means are known from some examples only.
        chance = (shares @ source.variance) / len(seen) + shares**2 @ (source.variance / source.count[:, None])
        return float(np.mean((seen.mean(0) - shares @ source.mean) ** 2 / (chance + _TINY)))

    def set(self, examples: np.ndarray, shares: np.ndarray) -> None:
        """Fits all layers to examples whose classes come in the given shares, `[classes]`.

        From the input on, a pass for each layer: what it reads depends on the statistics of those before it.
        """
        for number, (layer, (mean, variance)) in enumerate(zip(self.layers, self._trained, strict=True)):
            seen = _channels(self._of(examples)[number])
            scale, offset = _change(seen, self._source[number], shares)
            layer.moving_mean.assign(scale * mean + offset)
            layer.moving_variance.assign(scale**2 * variance)

    def settle(self, examples: np.ndarray, predicted: Callable[[], np.ndarray], shares: np.ndarray) -> np.ndarray:
        """Shares from the answers and statistics from the shares, in turns, after `set`.

        Args:
            examples: as the model takes them.
            predicted: gives their classes `[examples]`, by the model with its present statistics.
            shares: that the present statistics rest on.

        Returns:
            The shares that they rest on at the end.
        """
        for _ in range(_TURNS):
            before, shares = shares, self._shares(predicted())
            if np.abs(shares - before).sum() < _STILL:
                return before
            self.set(examples, shares)
        return shares

    def _shares(self, predicted: np.ndarray) -> np.ndarray:
        # One example of each class more: a class that was not seen may still come.
        counts = np.bincount(predicted, minlength=self.classes) + 1.0
        return counts / counts.sum()

    def _of(self, examples: np.ndarray) -> list[np.ndarray]:
        found = self._inputs(tf.constant(examples))
        return [part.numpy() for part in (found if isinstance(found, (list, tuple)) else [found])]


def layers_of(model: keras.Model) -> list[Any]:
    """The model's batch normalisations in their order, the zoo's and Keras'."""
    return [layer for layer in model.layers if isinstance(layer, (BatchNorm, keras.layers.BatchNormalization))]


def _channels(values: np.ndarray) -> np.ndarray:
    """`[examples, ..., channels]` as float64 `[examples, places, channels]`."""
    return values.reshape(len(values), -1, values.shape[-1]).astype(np.float64)


def _by_class(values: np.ndarray, labels: np.ndarray, classes: int) -> Moments:
    groups = [values[labels == label].reshape(-1, values.shape[-1]) for label in range(classes)]
    mean, variance = (np.stack([of(group, axis=0) for group in groups]) for of in (np.mean, np.var))
    return Moments(mean, variance, np.array([len(group) for group in groups]))


def _change(seen: np.ndarray, source: Moments, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset `[channels]` that lead from the source's channels, in these shares, to those that are seen."""
    seen = seen.reshape(-1, seen.shape[-1])
    mean = shares @ source.mean
    variance = shares @ (source.variance + source.mean**2) - mean**2
    scale = np.sqrt((seen.var(0) + _TINY) / (variance + _TINY))
    return scale, seen.mean(0) - scale * mean
