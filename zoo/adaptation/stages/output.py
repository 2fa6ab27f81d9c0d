"""Stages of `zoo.adaptation.refiner` that change what is made of a model's output, and not the model."""

from typing import Any

import numpy as np

from zoo.adaptation import guards
from zoo.adaptation.refiner import Forward, StreamContext
from zoo.predict.calibration import label_shift, temperature_scaling
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

_TINY = 1e-300
# Other shares of the same classes leave the answers as typical as they were.
_DEPARTURE = 1.5


class Temperature:
    """Divides the logits by one number, so that confidences come true (Guo et al., 2017); no answer changes."""

    name, target, max_score_ratio, restarts_each_batch = "temperature", "output", None, False

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Fits the number to the validation split."""
        self._calibration = temperature_scaling.temperature(source.logits, source.labels)

    def propose(self, seen: StreamContext) -> str:
        """Nothing: it is known from the beginning."""
        return "fitted before the stream"

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """The scaled logits."""
        return self._calibration.logits(inner(examples))

    def state(self) -> Any:
        """None changes."""

    def load(self, state: Any) -> None:
        """Nothing to go back to."""


class Prior:
    """Corrects for other shares of the classes than in validation; see `zoo.predict.calibration.label_shift`.

    Args:
        level: the largest share of streams without a shift that may be touched.
        memory: examples that are remembered of the stream, fading.
    """

    name, target, max_score_ratio, restarts_each_batch = "prior", "output", None, False

    def __init__(self, level: float = 0.01, memory: float = 1000.0):
        self._level, self._memory = level, memory

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Calibrates on the validation split, and takes its shares."""
        self._guards = guards.Guards(source)
        self._calibration = temperature_scaling.bias_corrected(source.logits, source.labels)
        self._prior = label_shift.LabelShiftEstimate.from_validation(
            self._calibration.apply(source.logits), self._level, self._memory
        )

    def propose(self, seen: StreamContext) -> str:
        """Learns the shares from the batch."""
        if seen.changed:
            return "the model has changed, and with it what its answers say of the shares"
        departure = self._guards.median_relative_distance(seen.logits)
        if departure > _DEPARTURE:
            self._prior = self._prior.reset()
            return f"the answers are {departure:.1f} times as far from typical ones: not only the shares have changed"
        new = seen.logits[len(seen.logits) - len(seen.batch) :]
        self._prior, _ = self._prior.update(self._calibration.apply(new))
        return "" if self._prior.shifted else "no shift of the classes is proved"

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Logits under the shares that were found; as they are while nothing is known to have shifted."""
        logits = inner(examples)
        if not self._prior.shifted:
            return logits
        given = self._calibration.apply(logits)
        found = label_shift.correct(given, np.array(self._prior.source), np.array(self._prior.target))
        return np.log(np.maximum(found, _TINY))

    def state(self) -> Any:
        """The prior."""
        return self._prior.as_json()

    def load(self, state: Any) -> None:
        """Sets it."""
        self._prior = label_shift.LabelShiftEstimate.from_json(state)
