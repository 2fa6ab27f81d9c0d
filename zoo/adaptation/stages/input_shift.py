"""How far a stream's inputs are from the source's, by what the first normalised layer sees of them."""

from typing import Any

import numpy as np

from zoo.adaptation.distinct_examples import distinct
from zoo.adaptation.example_cache import ExampleCache
from zoo.adaptation.stages.normalization import centre_of, moments_by_class, normalization_layers, summaries
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.cloning import reading
from zoo.predict.predictors.predictor import Classifier

# Squared shift in units of chance, where 1 is expected; channels are not independent, so single batches without a shift
# reach 2.5.
SHIFTED = 3.0
_TINY = 1e-6


class InputShift:
    """Compares the mean inputs (and mean squares over places) of the first layer to fit with those of the source data.

    Args:
        predictor: reads the layer's inputs.
        source: the validation split, each class at least once.
    """

    def __init__(self, predictor: Classifier, source: HeldOut):
        layer = normalization_layers(predictor.model)[0]
        self._reader = reading(predictor, summaries(layer.input, centre_of(layer)))
        self._classes = len(predictor.classes)
        self._source = moments_by_class(self._read(source.examples), source.labels, self._classes, None)
        self._cache = ExampleCache(self._read)

    def measure(self, examples: Any, logits: np.ndarray, is_source: bool) -> float:
        """The squared difference in units of its variance by chance, mean over the channels: about 1 without a shift.

        Args:
            examples: the stream's recent examples.
            logits: `[examples, classes]`; the source's means are taken in the proportions of the predicted classes.
            is_source: whether the model is the source's, so that what was read of an example before is still true.
        """
        shares = np.bincount(logits.argmax(axis=1), minlength=self._classes) / len(logits)
        inputs, source = (self._cache if is_source else self._read)(examples), self._source
        # The source's means are estimates, too; repetitions do not make the stream's more certain.
        of_stream = (shares @ source.variance) / distinct(examples)
        of_source = shares**2 @ (source.variance / source.count[:, None])
        return float(np.mean((inputs.mean(0) - shares @ source.mean) ** 2 / (of_stream + of_source + _TINY)))

    def _read(self, examples: Any) -> np.ndarray:
        return self._reader.logits(examples).astype(np.float64)
