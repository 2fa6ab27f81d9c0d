"""The stages of `zoo.predict.multi_step`: each makes one kind of change."""

from typing import Any

import numpy as np

from zoo.errors import BadInput
from zoo.predict import statistics
from zoo.predict.copies import Classifier
from zoo.predict.multi_step import Seen
from zoo.predict.predictor import Predictor
from zoo.predict.source import Source, two_sided

# Fewer examples say less of a channel's variance than the source's does.
_FEWEST = 32


class Statistics:
    """Fits the statistics of batch normalisations to the stream; see `zoo.predict.statistics`."""

    name = "statistics"

    def begin(self, predictor: Classifier, source: Source) -> None:
        """Measures the source's moments.

        Raises:
            BadInput: the model has no batch normalisation.
        """
        if not isinstance(predictor, Predictor) or not statistics.layers_of(predictor.model):
            raise BadInput("--refine=statistics: the model has no batch normalisation; train one with --norm=batch")
        self._predictor = predictor
        examples = predictor.prepared(source.examples)
        self._norms = statistics.Norms(predictor.model, examples, source.labels, len(predictor.classes))

    def propose(self, seen: Seen) -> str:
        """Fits all layers to the recent examples."""
        if len(seen.recent) < _FEWEST:
            return f"{len(seen.recent)} examples are too few, expected {_FEWEST}"
        self._norms.load(self._norms.trained)
        self._norms.fit(self._predictor.prepared(seen.recent), lambda: self._predicted(seen.recent))
        return ""

    def answer(self, logits: np.ndarray) -> np.ndarray:
        """The logits as they are: they come from the changed model."""
        return logits

    def state(self) -> Any:
        """Mean and variance of each layer."""
        return self._norms.state()

    def load(self, state: Any) -> None:
        """Sets them."""
        self._norms.load(state)

    def _predicted(self, examples: Any) -> np.ndarray:
        return two_sided(self._predictor.logits(examples)).argmax(axis=1)
