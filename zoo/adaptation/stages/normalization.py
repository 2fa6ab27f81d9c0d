"""Test-time normalisation that accounts for label shift: batch-norm statistics fitted to examples of any classes.

A shift of the inputs is modelled as an affine change of each channel before its normalisation, `z` to `a z + b`
(Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", 2020; Nado et al.,
2020). The mean and variance of the present inputs determine `a` and `b`, but only relative to those of source data
*with the same class proportions*: relative to others, a batch of one class would turn every example into another class.
So the moments of each channel are kept by class and mixed in the proportions that class_proportions.py estimates from
the correlations. Expectation maximisation with hard assignments then improves proportions (from the model's own
predictions) and statistics in turn.

In a model with batch normalisation its statistics are set. Otherwise the last features, the inputs of the last layer,
are mapped back to the source's: this changes the weights of that layer.
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

# Most iterations of expectation maximisation; it ends when the proportions change by less than _CONVERGED in total.
_ITERATIONS, _CONVERGED = 4, 0.02
_TINY = 1e-6


class Moments(NamedTuple):
    """Moments of the inputs of one layer by class.

    Attributes:
        mean: `[classes, channels]`.
        variance: `[classes, channels]`.
        count: examples of each class, `[classes]`.
    """

    mean: np.ndarray
    variance: np.ndarray
    count: np.ndarray


class NormalizationFit:
    """The layers of a model that are fitted: its batch normalisations, or the last layer.

    Args:
        predictor: its model is changed.
        examples: source examples in the predictor's input format.
        labels: int `[examples]`, each class at least once.
    """

    def __init__(self, predictor: Classifier, examples: Any, labels: np.ndarray):
        self.layers = normalization_layers(predictor.model)
        self.classes = len(predictor.classes)
        self._readers = [reading(predictor, layer.input) for layer in self.layers]
        inputs = [self._inputs(number, examples) for number in range(len(self.layers))]
        self._source = [_moments_by_class(values, labels, self.classes) for values in inputs]
        self._correlations = CorrelationModel(inputs[0], labels, self.classes)
        self._trained = self.state()

    def state(self) -> list[list[np.ndarray]]:
        """The fitted weights of each layer, without the scales and shifts that the stage `parameters` learns."""
        return [[array(weight) for weight in _fitted_weights(layer)] for layer in self.layers]

    def load(self, state: list[list[np.ndarray]]) -> None:
        """Sets them."""
        for layer, values in zip(self.layers, state, strict=True):
            for weight, value in zip(_fitted_weights(layer), values, strict=True):
                weight.assign(value)

    def shares(self, examples: Any) -> ClassProportions:
        """Estimates the class proportions of examples from the correlations of the first layer's inputs."""
        return self._correlations.shares(self._inputs(0, examples))

    def shift(self, examples: Any, shares: np.ndarray) -> float:
        """How far the mean inputs of the first layer are from the source's in these class proportions.

        Returns:
            The squared difference in units of its variance by chance, mean over the channels: about 1 without a shift.
        """
        inputs, source = self._inputs(0, examples), self._source[0]
        # The source's means are estimates, too.
        variance = (shares @ source.variance) / len(inputs) + shares**2 @ (source.variance / source.count[:, None])
        return float(np.mean((inputs.mean(0) - shares @ source.mean) ** 2 / (variance + _TINY)))

    def set(self, examples: Any, shares: np.ndarray) -> None:
        """Fits all layers to examples with the class proportions `shares`, `[classes]`.

        It makes one pass per layer, from the first on: a layer's inputs depend on the statistics of those before it.
        """
        for number, (layer, trained) in enumerate(zip(self.layers, self._trained, strict=True)):
            change = _affine_change(self._inputs(number, examples), self._source[number], shares)
            _set(layer, trained, *change)

    def expectation_maximisation(
        self, examples: Any, predicted: Callable[[], np.ndarray], shares: np.ndarray
    ) -> np.ndarray:
        """Estimates proportions from the predictions and statistics from the proportions in turn, after `set`.

        Args:
            examples: examples in the predictor's input format.
            predicted: computes their classes `[examples]` by the model with its present statistics.
            shares: class proportions that the present statistics were fitted to.

        Returns:
            The class proportions that the final statistics are fitted to.
        """
        for _ in range(_ITERATIONS):
            before, shares = shares, self._smoothed_proportions(predicted())
            if np.abs(shares - before).sum() < _CONVERGED:
                return before
            self.set(examples, shares)
        return shares

    def _smoothed_proportions(self, predicted: np.ndarray) -> np.ndarray:
        # Add-one smoothing: a class that has not come yet may still come.
        counts = np.bincount(predicted, minlength=self.classes) + 1.0
        return counts / counts.sum()

    def _inputs(self, number: int, examples: Any) -> np.ndarray:
        """The inputs of one layer, float64 `[examples, channels]`."""
        return self._readers[number].logits(examples).astype(np.float64)


def normalization_layers(model: keras.Model) -> list[Any]:
    """The model's batch normalisations in their order, the zoo's and Keras'; without any, its last layer."""
    layers = [layer for layer in model.layers if isinstance(layer, (BatchNorm, keras.layers.BatchNormalization))]
    return layers or [model.layers[-1]]


def can_fit(model: keras.Model) -> bool:
    """Whether the layers to fit have inputs `[examples, channels]`, unlike those of images and of ensembles."""
    layers = normalization_layers(model)
    kinds = (BatchNorm, keras.layers.BatchNormalization, keras.layers.Dense)
    return all(isinstance(layer, kinds) and len(layer.input.shape) == 2 for layer in layers)


def _set(layer: Any, trained: list[np.ndarray], scale: np.ndarray, offset: np.ndarray) -> None:
    """Sets the weights with which inputs `scale z + offset` give what `z` gave with the trained ones."""
    if isinstance(layer, keras.layers.Dense):
        kernel, *bias = trained
        layer.set_weights([kernel / scale[:, None], *(each - (offset / scale) @ kernel for each in bias)])
        return
    mean, variance = trained
    layer.moving_mean.assign(scale * mean + offset)
    layer.moving_variance.assign(scale**2 * variance)


def _fitted_weights(layer: Any) -> list[Any]:
    is_dense = isinstance(layer, keras.layers.Dense)
    return layer.weights if is_dense else [layer.moving_mean, layer.moving_variance]


def _moments_by_class(values: np.ndarray, labels: np.ndarray, classes: int) -> Moments:
    groups = [values[labels == label] for label in range(classes)]
    mean, variance = (np.stack([moment(group, axis=0) for group in groups]) for moment in (np.mean, np.var))
    return Moments(mean, variance, np.array([len(group) for group in groups]))


def _affine_change(inputs: np.ndarray, source: Moments, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset `[channels]` from the source's channels, in these class proportions, to the inputs."""
    mean = shares @ source.mean  # [channels]
    variance = shares @ (source.variance + source.mean**2) - mean**2  # [channels]
    scale = np.sqrt((inputs.var(0) + _TINY) / (variance + _TINY))
    return scale, inputs.mean(0) - scale * mean
