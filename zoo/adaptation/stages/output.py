"""Temperature scaling and label shift correction (`--refine=output`): the output changes, not the model.

Guo et al., "On calibration of modern neural networks", 2017, and Saerens et al., "Adjusting the outputs of a classifier
to new a priori probabilities", 2002; see `zoo.predict.calibration`.
"""

from typing import Any

import numpy as np

from zoo.adaptation import guards
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.predict.calibration import label_shift, temperature_scaling
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

_TINY = 1e-300
# Largest relative distance of the logits: label shift alone does not move them away from their class means.
_FARTHEST = 1.5


class Temperature:
    """Temperature scaling: divides the logits by one number so that confidences are calibrated; no class changes."""

    name, target, max_score_ratio, restarts_each_batch = "temperature", "output", None, False

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Fits the temperature to the validation split."""
        self._calibration = temperature_scaling.temperature(source.logits, source.labels)

    def propose(self, context: StreamContext) -> str:
        """Changes nothing: the temperature is fixed from the beginning."""
        return "fitted before the stream"

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """The scaled logits."""
        return self._calibration.logits(inner(examples))

    def state(self) -> Any:
        """None: nothing changes."""

    def load(self, state: Any) -> None:
        """Does nothing."""


class Prior:
    """Corrects for label shift, class proportions unlike validation's; see `zoo.predict.calibration.label_shift`.

    Args:
        level: largest share of streams without label shift that may be corrected by mistake.
        memory: examples of the stream that the estimate rests on; older ones fade.
    """

    name, target, max_score_ratio, restarts_each_batch = "prior", "output", None, False

    def __init__(self, level: float = 0.01, memory: float = 1000.0):
        self._level, self._memory = level, memory

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Calibrates on the validation split and takes its class proportions as the source prior."""
        self._guards = guards.Guards(source)
        self._calibration = temperature_scaling.bias_corrected(source.logits, source.labels)
        self._prior = label_shift.LabelShiftEstimate.from_validation(
            self._calibration.apply(source.logits), self._level, self._memory
        )

    def propose(self, context: StreamContext) -> str:
        """Updates the class proportions by the batch."""
        if context.changed:
            return "the model has changed, so its predictions no longer tell the class proportions"
        distance = self._guards.median_relative_distance(context.logits)
        if distance > _FARTHEST:
            self._prior = self._prior.reset()
            return f"the logits are {distance:.1f} times as far from their class means as usual: not only label shift"
        new = context.logits[len(context.logits) - len(context.batch) :]  # [batch, classes]
        self._prior, _ = self._prior.update(self._calibration.apply(new))
        return "" if self._prior.shifted else "no label shift is proved"

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits under the estimated class proportions; unchanged until a label shift is proved."""
        logits = inner(examples)
        if not self._prior.shifted:
            return logits
        probabilities = self._calibration.apply(logits)
        corrected = label_shift.correct(probabilities, np.array(self._prior.source), np.array(self._prior.target))
        return np.log(np.maximum(corrected, _TINY))

    def state(self) -> Any:
        """The estimate of the label shift."""
        return self._prior.as_json()

    def load(self, state: Any) -> None:
        """Sets it."""
        self._prior = label_shift.LabelShiftEstimate.from_json(state)
