"""Temperature scaling and label shift correction (`--refine=output`): the output changes, not the model.

Guo et al., "On calibration of modern neural networks", 2017, and Saerens et al., "Adjusting the outputs of a classifier
to new a priori probabilities", 2002; see `zoo.predict.calibration`.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from zoo.adaptation import guards
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.metrics import temperature_scaling
from zoo.predict.calibration import label_shift, label_shift_fit
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

_TINY = 1e-300
_LEAST_PROBABILITY = 1e-12
# Standard errors by which a temperature below 1 is moved back towards 1. Thirty examples without a mistake say that all
# confidences are too low; a shift then finds them too high. Two would lose half of the gains without a shift. Chosen on
# tables of the harness, seed 10: of nine cells whose log loss had risen, three are left, and the mean is the same.
_SHARPENING_ERRORS = 1.0
# Largest relative distance of the logits: label shift alone does not move them away from their class means.
_FARTHEST = 1.5
# Class proportions do not explain a shift if under label shift a fit as poor as theirs has less than this probability,
# and if they leave more than a twentieth of the shift over: in a long stream, some trifle is always significant. These
# four numbers were chosen in simulations, see `benchmarks.multi_step.shift_study`.
_POOR_FIT, _EXPLAINED = 0.2, 0.95
# Standard errors of its estimate by which a share is moved back towards validation's: one keeps nine tenths of the
# gains, two eight tenths.
_ERRORS = 1.0
# A share may grow or fall by the factor 1 + validation examples / this: how a class of eight looks is hardly known.
_EXAMPLES = 5.0
# Differences of logits that rounding makes; and the share of validation examples whose logits are like those of another
# one up to which a repetition is taken for the same example: where rows of a table have few values, it is not.
_ROUNDING, _REPETITIVE = 1e-3, 0.1
# More classes take too long to test, and more than the smaller number have too many logits for a test of their means.
_MOST_CLASSES, _FEW_CLASSES = 128, 32
# Added to distances before their logarithm: half of a class is nearer than 1, some far nearer.
_NEAREST = 0.05


class Temperature:
    """Temperature scaling: divides the logits by one number so that confidences are calibrated; no class changes.

    Confidences are raised by no more than is certain: a temperature below 1 moves towards 1 by its standard error. And
    they are not raised where the inputs have drifted: there the model is right less often than in validation.
    """

    name, target, max_score_ratio, restarts_each_batch, may_wait = "temperature", "output", None, False, True

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Fits the temperature to the validation split."""
        self._calibration = _cautious(temperature_scaling.temperature(source.logits, source.labels), source.logits)
        self._drifted = False

    def propose(self, context: StreamContext) -> str:
        """Changes nothing: the temperature is fixed from the beginning."""
        self._drifted = context.drifted
        return "columns have drifted: no confidence is raised" if self._drifted else "fitted before the stream"

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """The scaled logits."""
        logits = inner(examples)
        is_off = self._drifted and self._calibration.temperature < 1
        return logits if is_off else self._calibration.logits(logits)

    def state(self) -> Any:
        """Whether the inputs have drifted."""
        return self._drifted

    def load(self, state: Any) -> None:
        """Sets it; a state of former versions is None."""
        self._drifted = bool(state)


class Prior:
    """Corrects for label shift, class proportions unlike validation's; see `zoo.predict.calibration.label_shift`.

    Four conditions, all without labels of the stream, come before any correction: the predictions shifted
    (`label_shift_test`); the logits are about as far from their class means as usual; class proportions alone explain
    the shift (`label_shift_fit`); and on the validation split, weighted to the new proportions, the correction does not
    lower the accuracy. Each proportion is corrected by no more than its estimate is certain of.

    Args:
        level: largest share of streams without label shift that may be corrected by mistake.
        memory: examples of the stream that the estimate rests on; older ones fade.

    Attributes:
        proved: class proportions of the stream that the first three conditions prove; None while there are none.
    """

    name, target, max_score_ratio, restarts_each_batch, may_wait = "prior", "output", None, False, True

    def __init__(self, level: float = 0.01, memory: float = 1000.0):
        self._level, self._memory = level, memory
        self.proved: label_shift_fit.ProportionsFit | None = None

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Calibrates on the validation split and takes its class proportions as the source prior."""
        self._guards = guards.Guards(source)
        self._calibration = temperature_scaling.bias_corrected(source.logits, source.labels)
        self._is_repetitive = len(_first_places(source.logits)) < (1 - _REPETITIVE) * len(source.logits)
        self._probabilities, self._labels = self._calibrated(source.logits), source.labels
        prior = label_shift.LabelShiftEstimate.from_validation(self._probabilities, self._level, self._memory)
        self._fit = None
        if len(prior.source) <= _MOST_CLASSES:
            features = self._features(source.logits)
            self._fit = label_shift_fit.LabelShiftFit(features, source.labels, self._probabilities)
        self._stream = _Stream(prior)

    def propose(self, context: StreamContext) -> str:
        """Updates the class proportions by the batch."""
        stream = self._stream = self._stream._replace(target=None)
        self.proved = None
        if context.changed:
            return "the model has changed, so its predictions no longer tell the class proportions"
        if context.drifted:
            self._stream = _Stream(stream.prior.reset())
            return "columns have drifted, which class proportions do not explain: not only label shift"
        if self._fit is None:
            return f"{len(stream.prior.source)} classes: label shift is tested for {_MOST_CLASSES} at most"
        distance = self._guards.median_relative_distance(context.logits)
        if not distance <= _FARTHEST:
            self._stream = _Stream(stream.prior.reset())
            return f"the logits are {distance:.3g} times as far from their class means as usual: not only label shift"
        new = self._new(context)
        if len(new):
            features = self._fit.standardized(self._features(new))
            stream = self._stream = stream.add(self._calibrated(new), features, self._memory)
        if not stream.total:
            return "no example is new"
        if not stream.prior.shifted:
            return "no label shift is proved"
        fit = self._fit.fit(np.array(stream.total) / stream.weight, stream.weight**2 / stream.squares)
        if fit.p_value < _POOR_FIT and fit.explained < _EXPLAINED:
            return f"class proportions explain {max(fit.explained, 0):.0%} of the shift: not only label shift"
        self.proved = fit
        counts = np.bincount(self._labels, minlength=len(stream.prior.source))
        target = _bounded(np.array(stream.prior.source), np.array(stream.prior.target), fit.errors, counts)
        gain, error = self._validation_gain(target)
        if gain + error < 0:
            return f"validation accuracy, weighted to the new proportions, would change by {gain:+.3f}"
        self._stream = stream._replace(target=tuple(target.tolist()))
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits under the estimated class proportions; unchanged until a label shift is proved."""
        logits = inner(examples)
        if self._stream.target is None:
            return logits
        corrected = label_shift.correct(
            self._calibrated(logits), np.array(self._stream.prior.source), np.array(self._stream.target)
        )
        return np.log(np.maximum(corrected, _TINY))

    def state(self) -> Any:
        """The estimate of the label shift."""
        return {**self._stream._asdict(), "prior": self._stream.prior.as_json()}

    def load(self, state: Any) -> None:
        """Sets it; a state of former versions has the estimate only."""
        fields = {"prior": state} if "prior" not in state else state
        prior = label_shift.LabelShiftEstimate.from_json(fields["prior"])
        others = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        self._stream = _Stream(**others | {"prior": prior})

    def _new(self, context: StreamContext) -> np.ndarray:
        """Logits of the batch, `[new, classes]`; an example that repeats a recent one says nothing new."""
        earlier = len(context.logits) - len(context.batch)
        if self._is_repetitive:
            return context.logits[earlier:]
        places = _first_places(context.logits)
        return context.logits[places[places >= earlier]]

    def _calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64; none is 0, however far apart the logits: no class is impossible."""
        return np.maximum(self._calibration.apply(logits), _LEAST_PROBABILITY)

    def _features(self, logits: np.ndarray) -> np.ndarray:
        """Features of predictions, `[examples, features]`, float64; a shift of the inputs changes some of them.

        The probabilities tell the proportions. The logits, the confidence, and the distance from the class means are
        what the proportions have to explain.
        """
        probabilities = self._calibrated(logits)
        centred = logits - logits.mean(axis=1, keepdims=True)
        distance = np.log(self._guards.relative_to_median(logits) + _NEAREST)
        columns = [probabilities[:, :-1], probabilities.max(axis=1)[:, None], distance[:, None]]
        return np.concatenate(columns + [centred[:, :-1]] * (logits.shape[1] <= _FEW_CLASSES), axis=1, dtype=np.float64)

    def _validation_gain(self, target: np.ndarray) -> tuple[float, float]:
        """How the correction changes the accuracy on the validation split, weighted to these proportions.

        Returns:
            The change and its standard error.
        """
        source = np.array(self._stream.prior.source)
        corrected = label_shift.correct(self._probabilities, source, target)
        right = [(each.argmax(axis=1) == self._labels).astype(float) for each in (corrected, self._probabilities)]
        weights = (target / source)[self._labels]
        changes = weights / weights.mean() * (right[0] - right[1])
        return float(changes.mean()), float(changes.std() / math.sqrt(len(changes)))


def _first_places(logits: np.ndarray) -> np.ndarray:
    """Ascending indices of the logits `[examples, classes]` that repeat no earlier ones."""
    return np.sort(np.unique(np.round(logits / _ROUNDING), axis=0, return_index=True)[1])


def _cautious(calibration: temperature_scaling.Calibration, logits: np.ndarray) -> temperature_scaling.Calibration:
    if calibration.temperature >= 1:
        return calibration
    error = _SHARPENING_ERRORS * temperature_scaling.standard_error(logits, calibration.temperature)
    return dataclasses.replace(calibration, temperature=min(1.0, calibration.temperature * math.exp(error)))


class _Stream(NamedTuple):
    """What was seen of a stream; sums fade as the estimate does.

    Attributes:
        prior: estimate of the label shift.
        weight: sum of the examples' weights.
        squares: sum of their squares.
        total: weighted sum of the features, empty before the first batch.
        target: class proportions to correct for; None: no correction.
    """

    prior: label_shift.LabelShiftEstimate
    weight: float = 0.0
    squares: float = 0.0
    total: tuple[float, ...] = ()
    target: tuple[float, ...] | None = None

    def add(self, probabilities: np.ndarray, features: np.ndarray, memory: float) -> "_Stream":
        """The stream with one more batch."""
        kept = math.exp(-len(features) / memory)
        before = np.array(self.total) if self.total else np.zeros(features.shape[1])
        return self._replace(
            prior=self.prior.update(probabilities)[0],
            weight=kept * self.weight + len(features),
            squares=kept**2 * self.squares + len(features),
            total=tuple((kept * before + features.sum(axis=0)).tolist()),
        )


def _bounded(source: np.ndarray, target: np.ndarray, errors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The target, each share moved towards the source's by its uncertainty, and bounded by its validation examples."""
    near = target + np.clip(source - target, -_ERRORS * errors, _ERRORS * errors)
    largest = 1 + counts / _EXAMPLES  # [classes]
    bounded = source * np.clip(near / source, 1 / largest, largest)
    return bounded / bounded.sum()
