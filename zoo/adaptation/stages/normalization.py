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

Channels with places, as in a convolutional network, have the moments of all places of all examples. Each example is
summarised by the mean and the mean square of each channel, and its correlations are those of the means over patches of
the image: the means over the whole image hardly differ by class.
"""

import copy
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
# Patches along a side: as many as tell what is where in a digit or a piece of clothing.
_PATCHES = 7


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
        self._centres = [centre_of(layer) for layer in self.layers]
        self._readers = [
            reading(predictor, summaries(layer.input, centre))
            for layer, centre in zip(self.layers, self._centres, strict=True)
        ]
        self._source = self._moments_by_class(examples, labels)
        self._patches = self._readers[0]
        if self._centres[0] is not None:
            self._patches = reading(predictor, _patch_means(self.layers[0].input))
        self._correlations = CorrelationModel(_read(self._patches, examples), labels, self.classes)
        self._trained = self.state()

    def measured(self, examples: Any, labels: np.ndarray) -> "NormalizationFit":
        """A fit of the same layers as they are now, with these examples as the source."""
        fit = copy.copy(self)
        fit._source, fit._trained = self._moments_by_class(examples, labels), self.state()
        return fit

    def _moments_by_class(self, examples: Any, labels: np.ndarray) -> list[Moments]:
        return [
            moments_by_class(self._inputs(number, examples), labels, self.classes, centre)
            for number, centre in enumerate(self._centres)
        ]

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
        return self._correlations.shares(_read(self._patches, examples))

    def set(self, examples: Any, shares: np.ndarray) -> None:
        """Fits all layers to examples with the class proportions `shares`, `[classes]`.

        It makes one pass per layer, from the first on: a layer's inputs depend on the statistics of those before it.
        """
        for number, (layer, trained) in enumerate(zip(self.layers, self._trained, strict=True)):
            present = _moments(self._inputs(number, examples), self._centres[number])
            change = _affine_change(*present, self._source[number], shares)
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
        """The inputs of one layer, float64 `[examples, channels]`; with places, see `summaries`."""
        return _read(self._readers[number], examples)


def normalization_layers(model: keras.Model) -> list[Any]:
    """The model's batch normalisations in their order, the zoo's and Keras'; without any, its last layer."""
    layers = [layer for layer in model.layers if isinstance(layer, (BatchNorm, keras.layers.BatchNormalization))]
    return layers or [model.layers[-1]]


def moment_readers(predictor: Classifier, layers: list[Any]) -> list[Callable[[Any], tuple[np.ndarray, np.ndarray]]]:
    """For each layer a function from examples to mean and variance `[channels]` of its inputs, by the present model."""

    def moments(layer: Any) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
        centre = centre_of(layer)
        reader = reading(predictor, summaries(layer.input, centre))
        return lambda examples: _moments(_read(reader, examples), centre)

    return [moments(layer) for layer in layers]


def can_fit(model: keras.Model) -> bool:
    """Whether the layers to fit have inputs `[examples, channels]`, unlike those of ensembles, or normalise images."""
    return all(map(_is_fit, normalization_layers(model)))


def has_places(model: keras.Model) -> bool:
    """Whether the first layer to fit normalises channels of images."""
    return len(normalization_layers(model)[0].input.shape) == 4


def _is_fit(layer: Any) -> bool:
    if not isinstance(layer.input, keras.KerasTensor):
        return False
    if isinstance(layer, keras.layers.BatchNormalization):
        rank = len(layer.input.shape)
        return rank in (2, 4) and layer.axis in (-1, rank - 1)
    return isinstance(layer, (BatchNorm, keras.layers.Dense)) and len(layer.input.shape) == 2


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


def centre_of(layer: Any) -> np.ndarray | None:
    """The trained mean of channels with places; None for inputs without places."""
    return array(layer.moving_mean) if len(layer.input.shape) == 4 else None


def summaries(inputs: Any, centre: np.ndarray | None) -> Any:
    """The inputs `[examples, channels]`; with places, moments of each channel over them, `[examples, 2 * channels]`.

    They are the mean and the mean square about the centre: the difference of large numbers would lose the variance in
    float32.
    """
    if centre is None:
        return inputs
    centred = keras.ops.cast(inputs, "float32") - centre  # [examples, height, width, channels]
    moments = [keras.ops.mean(values, axis=(1, 2)) for values in (centred, keras.ops.square(centred))]
    return keras.ops.concatenate(moments, axis=1)


def _patch_means(inputs: Any) -> Any:
    """Means over patches, `[examples, patches * channels]`."""
    sides = [-(-side // _PATCHES) for side in inputs.shape[1:3]]
    return keras.layers.Flatten()(keras.layers.AveragePooling2D(sides, padding="same")(inputs))


def _read(reader: Classifier, examples: Any) -> np.ndarray:
    return reader.logits(examples).astype(np.float64)


def _moments(values: np.ndarray, centre: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance `[channels]` of the inputs that `summaries` has read."""
    if centre is None:
        return values.mean(axis=0), values.var(axis=0)
    mean, square = np.split(values.mean(axis=0), 2)
    return centre + mean, np.maximum(square - mean**2, 0.0)


def moments_by_class(values: np.ndarray, labels: np.ndarray, classes: int, centre: np.ndarray | None) -> Moments:
    """Moments by class of the inputs that `summaries` has read about a centre; with None, of the summaries."""
    groups = [values[labels == label] for label in range(classes)]
    mean, variance = map(np.stack, zip(*(_moments(group, centre) for group in groups), strict=True))
    return Moments(mean, variance, np.array([len(group) for group in groups]))


def _affine_change(
    present: np.ndarray, spread: np.ndarray, source: Moments, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset `[channels]` from the source's channels, in these class proportions, to the present inputs.

    Args:
        present: mean of the present inputs, `[channels]`.
        spread: their variance, `[channels]`.
        source: moments of the source's channels.
        shares: proportion of each class, `[classes]`.
    """
    mean = shares @ source.mean  # [channels]
    variance = shares @ (source.variance + source.mean**2) - mean**2  # [channels]
    scale = np.sqrt((spread + _TINY) / (variance + _TINY))
    return scale, present - scale * mean
