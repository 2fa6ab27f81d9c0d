"""Batch normalisation between the source and the stream (`--refine=interpolation`).

Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", 2020, section 2: the
mean and the variance of each channel are N / (N + n) those of the training and n / (N + n) those of n recent examples.
Lim et al., "TTN: a domain-shift aware batch normalization in test-time adaptation", 2023, learn such a weight for each
channel; here all channels have one. Unlike `--refine=statistics` it assumes that the stream has the classes of the
training in its proportions.
"""

from typing import Any

import numpy as np

from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages import normalization
from zoo.engine.state import array
from zoo.errors import BadInput
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier


class Interpolation:
    """Sets the statistics of all batch normalisations.

    Args:
        source_examples: N, the examples that the training's statistics count for. Of 0, 16, 64, 128, 256 and 512 the
            paper's 16 had the least error on damaged training images of MNIST and Fashion-MNIST.
    """

    name, target = "interpolation", "model"
    # As in statistics.py: smaller gains lost accuracy as often as not.
    max_score_ratio, restarts_each_batch = 0.65, True

    def __init__(self, source_examples: float = 16):
        self._source_examples = source_examples

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Finds the layers.

        Raises:
            BadInput: the model has no batch normalisation of channels.
        """
        self._layers = normalization.normalization_layers(predictor.model)
        has_statistics = all(hasattr(layer, "moving_mean") for layer in self._layers)
        if not has_statistics or not normalization.can_fit(predictor.model):
            raise BadInput("--refine=interpolation: the model has no batch normalisation; train one with --norm=batch")
        self._readers = normalization.moment_readers(predictor, self._layers)
        self._first = self.state()

    def propose(self, context: StreamContext) -> str:
        """Interpolates layer by layer, from the first on: a layer's inputs depend on the statistics before it."""
        share = self._source_examples / (self._source_examples + len(context.recent))
        for layer, read, trained in zip(self._layers, self._readers, self._first, strict=True):
            present = read(context.recent)
            mean, variance = (share * old + (1 - share) * new for old, new in zip(trained, present, strict=True))
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits of the changed model."""
        return inner(examples)

    def state(self) -> list[list[np.ndarray]]:
        """Mean and variance of each layer."""
        return [[array(layer.moving_mean), array(layer.moving_variance)] for layer in self._layers]

    def load(self, state: list[list[np.ndarray]]) -> None:
        """Sets them."""
        for layer, (mean, variance) in zip(self._layers, state, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
