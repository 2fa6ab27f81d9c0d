"""The stages of `zoo.predict.multi_step`: each makes one kind of change."""

from typing import Any

import numpy as np

from zoo.errors import BadInput
from zoo.predict import guards, statistics
from zoo.predict.copies import Classifier
from zoo.predict.multi_step import Seen
from zoo.predict.predictor import Predictor
from zoo.predict.source import Source, two_sided

# Fewer examples say less of a channel's variance than the source's does.
_FEWEST = 32
# Of each class, by which the fit to one class is judged.
_MANY = 400


class Statistics:
    """Fits the statistics of batch normalisations to the stream; see `zoo.predict.statistics`.

    The shares of the classes start even. Where in truth there is one class only, even shares turn its examples into
    all classes, unsurely: a fit that is no surer than such a one is refused.
    """

    name = "statistics"

    def begin(self, predictor: Classifier, source: Source) -> None:
        """Measures the source's moments, and how sure a fit to one class is.

        Raises:
            BadInput: the model has no batch normalisation.
        """
        if not isinstance(predictor, Predictor) or not statistics.layers_of(predictor.model):
            raise BadInput("--refine=statistics: the model has no batch normalisation; train one with --norm=batch")
        self._predictor = predictor
        examples, classes = predictor.prepared(source.examples), len(predictor.classes)
        self._norms = statistics.Norms(predictor.model, examples, source.labels, classes)
        self._even = np.full(classes, 1 / classes)
        trained = self.state()
        groups = [examples[source.labels == label][:_MANY] for label in range(classes)]
        self._floor = max(self._even_confidence(group) for group in groups)
        self.load(trained)

    def propose(self, seen: Seen) -> str:
        """Fits all layers to the recent examples."""
        if seen.usual:
            return "the answers look as usual"
        if len(seen.recent) < _FEWEST:
            return f"{len(seen.recent)} examples are too few, expected {_FEWEST}"
        examples = self._predictor.prepared(seen.recent)
        if self._even_confidence(examples) <= self._floor:
            return "the examples may be of one class"
        self._norms.settle(examples, lambda: self._logits(seen.recent).argmax(axis=1), self._even)
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

    def _even_confidence(self, examples: np.ndarray) -> float:
        self._norms.set(examples, self._even)
        return guards.confidence(self._logits(examples))

    def _logits(self, examples: Any) -> np.ndarray:
        return two_sided(self._predictor.logits(examples))
