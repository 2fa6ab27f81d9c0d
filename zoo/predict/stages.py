"""The stages of `zoo.predict.multi_step`: each makes one kind of change."""

from typing import Any

import numpy as np

from zoo.errors import BadInput
from zoo.predict import guards, statistics
from zoo.predict.copies import Classifier
from zoo.predict.multi_step import Forward, Seen
from zoo.predict.predictor import Predictor
from zoo.predict.source import Source, two_sided

# Fewer examples say less of a channel's variance than the source's does.
_FEWEST = 32
# Of each class, by which the fit to one class is judged.
_MANY = 400
# In units of chance, where 1 is expected; the channels are not independent, so single batches come to 2.5.
_SHIFTED = 3.0


class Statistics:
    """Fits the statistics of batch normalisations to the stream; see `zoo.predict.statistics`.

    The shares of the classes start even. Where in truth there is one class only, even shares turn its examples into
    all classes, unsurely: a fit that is no surer than such a one is refused.
    """

    name, on = "statistics", "model"

    def begin(self, predictor: Classifier, source: Source) -> None:
        """Measures the source's moments, and how sure a fit to one class is.

        Raises:
            BadInput: the model has no batch normalisation.
        """
        if not isinstance(predictor, Predictor) or not statistics.layers_of(predictor.model):
            raise BadInput("--refine=statistics: the model has no batch normalisation; train one with --norm=batch")
        self._predictor = predictor
        examples, classes = predictor.prepared(source.examples), len(predictor.classes)
        missing = set(range(classes)) - set(source.labels.tolist())
        if missing:
            name = predictor.classes[min(missing)]
            raise BadInput(f"--refine=statistics: the validation split has no example of {name!r}; expected each class")
        self._norms = statistics.Norms(predictor.model, examples, source.labels, classes)
        self._even = np.full(classes, 1 / classes)
        self._trained, self._changed = self._norms.state(), False
        groups = [examples[source.labels == label][:_MANY] for label in range(classes)]
        self._floor = max(self._even_confidence(group) for group in groups)
        self._back()

    def propose(self, seen: Seen) -> str:
        """Fits all layers to the recent examples."""
        if len(seen.recent) < _FEWEST:
            return f"{len(seen.recent)} examples are too few, expected {_FEWEST}"
        examples = self._predictor.prepared(seen.recent)
        answers = np.bincount(seen.logits.argmax(axis=1), minlength=len(self._even))
        if self._norms.shift(examples, answers / answers.sum()) < _SHIFTED:
            if self._changed:
                self._back()
                return ""
            return "the inputs look as usual"
        if self._even_confidence(examples) <= self._floor:
            return "the examples may be of one class"
        self._norms.settle(examples, lambda: self._logits(seen.recent).argmax(axis=1), self._even)
        self._changed = True
        return ""

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Those of the changed model."""
        return inner(examples)

    def state(self) -> Any:
        """Mean and variance of each layer, and whether they are others than in training."""
        return self._norms.state(), self._changed

    def load(self, state: Any) -> None:
        """Sets them."""
        layers, self._changed = state
        self._norms.load(layers)

    def _back(self) -> None:
        self.load((self._trained, False))

    def _even_confidence(self, examples: np.ndarray) -> float:
        self._norms.set(examples, self._even)
        return guards.confidence(self._logits(examples))

    def _logits(self, examples: Any) -> np.ndarray:
        return two_sided(self._predictor.logits(examples))
