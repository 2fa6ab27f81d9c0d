"""Normalisation estimated anew from the examples at hand, of whatever classes these are.

A shift of the inputs is taken for an affine change of each channel before its normalisation: `z` becomes `a z + b`
(Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", 2020; Nado et al.,
2020). Mean and variance of the present inputs give `a` and `b`, but only beside those that the source data would have
*with the same classes*: taken from a batch of one class without this, they turn every example into another class. So
each channel's moments are kept by class, and mixed in the shares that `class_proportions` reads from the
correlations; these are then improved by the model's own answers, in turns with the statistics (expectation
maximisation, with hard assignments).

Where a model has batch normalisations, their statistics are set. Else the last features, those that the logits are made
of, are brought back to where they were: that comes to other weights of the last layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from zoo.adaptation.stages.class_proportions import ClassProportions, CorrelationModel
from zoo.engine.state import array
from zoo.models.layers import BatchNorm
from zoo.predict.predictors.cloning import reading
from zoo.predict.predictors.predictor import Classifier

# Turns of statistics and shares; a change of the shares below _STILL in total ends them.
_TURNS, _STILL = 4, 0.02
_TINY = 1e-6


class Moments(NamedTuple):
    """Of the inputs of one layer, by class: `[classes, channels]`, from `[classes]` examples."""

    mean: np.ndarray
    variance: np.ndarray
    count: np.ndarray


class NormalizationFit:
    """The layers of a predictor's model that may be fitted: its batch normalisations, or the last one.

    Args:
        predictor: its model is changed.
        examples: of the source data, as the predictor takes them.
        labels: int `[examples]`, each class at least once.
    """

    def __init__(self, predictor: Classifier, examples: Any, labels: np.ndarray):
        self.layers = layers_of(predictor.model)
        self.classes = len(predictor.classes)
        self._readers = [reading(predictor, layer.input) for layer in self.layers]
        found = [self._inputs(number, examples) for number in range(len(self.layers))]
        self._source = [_by_class(values, labels, self.classes) for values in found]
        self._mixture = CorrelationModel(found[0], labels, self.classes)
        self._trained = self.state()

    def state(self) -> list[list[np.ndarray]]:
        """What is fitted of each layer; scales and shifts, which others learn, are left to them."""
        return [[array(weight) for weight in _fitted(layer)] for layer in self.layers]

    def load(self, state: list[list[np.ndarray]]) -> None:
        """Sets what `state` gave."""
        for layer, values in zip(self.layers, state, strict=True):
            for weight, value in zip(_fitted(layer), values, strict=True):
                weight.assign(value)

    def shares(self, examples: Any) -> ClassProportions:
        """The classes' shares among examples, from the correlations of the first layer's inputs."""
        return self._mixture.shares(self._inputs(0, examples))

    def shift(self, examples: Any, shares: np.ndarray) -> float:
        """How far the first layer's mean inputs are from what the source would have in these shares of the classes.

        Returns:
            The square in units of its chance variance, mean over the channels: about 1 where nothing shifted.
        """
        seen, source = self._inputs(0, examples), self._source[0]
        # Also the source's means are known from some examples only.
        chance = (shares @ source.variance) / len(seen) + shares**2 @ (source.variance / source.count[:, None])
        return float(np.mean((seen.mean(0) - shares @ source.mean) ** 2 / (chance + _TINY)))

    def set(self, examples: Any, shares: np.ndarray) -> None:
        """Fits all layers to examples whose classes come in the given shares, `[classes]`.

        From the input on, a pass for each layer: what it reads depends on the statistics of those before it.
        """
        for number, (layer, trained) in enumerate(zip(self.layers, self._trained, strict=True)):
            change = _change(self._inputs(number, examples), self._source[number], shares)
            _set(layer, trained, *change)

    def settle(self, examples: Any, predicted: Callable[[], np.ndarray], shares: np.ndarray) -> np.ndarray:
        """Shares from the answers and statistics from the shares, in turns, after `set`.

        Args:
            examples: as the predictor takes them.
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

    def _inputs(self, number: int, examples: Any) -> np.ndarray:
        """Of one layer, float64 `[examples, channels]`."""
        return self._readers[number].logits(examples).astype(np.float64)


def layers_of(model: keras.Model) -> list[Any]:
    """The model's batch normalisations in their order, the zoo's and Keras'; else its last layer."""
    found = [layer for layer in model.layers if isinstance(layer, (BatchNorm, keras.layers.BatchNormalization))]
    return found or [model.layers[-1]]


def _set(layer: Any, trained: list[np.ndarray], scale: np.ndarray, offset: np.ndarray) -> None:
    """Gives a layer the weights by which inputs `scale z + offset` become what `z` was to the trained one."""
    if isinstance(layer, keras.layers.Dense):
        kernel, *bias = trained
        layer.set_weights([kernel / scale[:, None], *(each - (offset / scale) @ kernel for each in bias)])
        return
    mean, variance = trained
    layer.moving_mean.assign(scale * mean + offset)
    layer.moving_variance.assign(scale**2 * variance)


def _fitted(layer: Any) -> list[Any]:
    dense = isinstance(layer, keras.layers.Dense)
    return layer.weights if dense else [layer.moving_mean, layer.moving_variance]


def _by_class(values: np.ndarray, labels: np.ndarray, classes: int) -> Moments:
    groups = [values[labels == label] for label in range(classes)]
    mean, variance = (np.stack([of(group, axis=0) for group in groups]) for of in (np.mean, np.var))
    return Moments(mean, variance, np.array([len(group) for group in groups]))


def _change(seen: np.ndarray, source: Moments, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset `[channels]` that lead from the source's channels, in these shares, to those that are seen."""
    mean = shares @ source.mean
    variance = shares @ (source.variance + source.mean**2) - mean**2
    scale = np.sqrt((seen.var(0) + _TINY) / (variance + _TINY))
    return scale, seen.mean(0) - scale * mean
