"""Test-time batch-norm statistics (`--refine=statistics`): normalisation fitted to the stream, whatever its classes.

The papers and the fit itself are in normalization.py, the estimate of the class proportions in class_proportions.py;
this stage decides which fit is good enough to propose.
"""

from typing import Any

import keras
import numpy as np

from zoo.adaptation import guards
from zoo.adaptation.distinct_examples import distinct
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages import normalization
from zoo.adaptation.stages.class_proportions import total_variation
from zoo.adaptation.stages.input_shift import SHIFTED, InputShift
from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# Fewer different examples estimate a channel's variance worse than the source's value does.
_FEWEST = 32
# Cosine similarity. Below it the estimated proportions, and with them the fit, were wrong as often as right (damaged
# training images of MNIST and Fashion-MNIST, in streams of all classes, of some and of one).
_SIMILAR = 0.88
# Objective after / before; smaller gains lost accuracy as often as not.
_LIMIT = 0.65
# Score in units of validation's: for one class or a few, fits to all classes reached 20 and more, or no gain.
_GOOD = 15.0
# A smaller gain is enough where the classes are mixed as in validation. Two total variation distances to validation's
# proportions tell: that of the predictions after the fit (at most 0.16 where they are mixed) and that of the estimate
# from correlations, however poor (at most 0.54). Streams of one class or a few have 0.6 and more by the second where
# such a fit looks like a gain of this size.
_LIMIT_MIXED, _MIXED_PREDICTIONS, _MIXED_ESTIMATE = 0.75, 0.17, 0.55
# Added to total variation: a few hundred examples cannot tell less from none.
_CHANCE = 0.1


class BatchStatistics:
    """Fits the batch normalisations to the stream, or, in a model without any, the last features.

    Two fits are tried: one to the class proportions of the validation split, and one to those estimated from the
    correlations of the channels, where these can be estimated. The second one's objective combines the guards' score
    with the distance between the proportions of the predictions and the estimated ones: it exposes a model that
    predicts one class for everything, and a fit that predicts many classes where there is one.

    Args:
        optional: whether to go without it where the model or the validation split does not allow it.
    """

    name, target = "statistics", "model"
    max_score_ratio, restarts_each_batch = None, True

    def __init__(self, optional: bool = False):
        self._optional, self._fit, self._obstacle = optional, None, ""

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Measures the moments of the source data.

        Raises:
            BadInput: the model has no layer to fit, or the validation split lacks a class; an optional stage then
                proposes nothing.
        """
        self._obstacle = _obstacle(predictor, source)
        if self._optional and not self._obstacle and normalization.has_places(predictor.model):
            # The limits above were measured on perceptrons.
            self._obstacle = "convolutions are fitted by --refine=statistics only"
        if self._obstacle:
            if not self._optional:
                raise BadInput(f"--refine=statistics: {self._obstacle}")
            return
        self._predictor = predictor
        self._fit = normalization.NormalizationFit(predictor, source.examples, source.labels)
        self._shift, self._guards = InputShift(predictor, source), guards.Guards(source)
        self._validation = np.bincount(source.labels, minlength=self._fit.classes) / len(source.labels)

    def propose(self, context: StreamContext) -> str:
        """Fits all layers to the recent examples."""
        if self._obstacle:
            return self._obstacle
        recent = context.recent
        if (number := distinct(recent)) < _FEWEST:
            return f"{number} different examples are too few, expected {_FEWEST}"
        if self._shift.measure(recent, context.logits, not context.changed) < SHIFTED:
            return "the inputs have not shifted"
        before, first = self._guards.score(context.logits), self.state()
        estimate = self._fit.shares(recent)
        may_be_mixed = total_variation(estimate.shares, self._validation) < _MIXED_ESTIMATE
        score = self._fit_to_validation(recent, before, may_be_mixed)
        state = self.state()
        self.load(first)
        if estimate.similarity >= _SIMILAR:
            objective = self._objective(context.logits, estimate.shares)
            gain = self._fit_to_estimate(recent, estimate.shares) / objective
            if gain < _LIMIT and not (score and score.product < self._guards.score(self._logits(recent)).product):
                return ""
        if score:
            self.load(state)
            return ""
        return f"no fit is certain enough (similarity {estimate.similarity:.2f}, expected {_SIMILAR})"

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits of the changed model."""
        return inner(examples)

    def state(self) -> Any:
        """The fitted weights of each layer; none where there is nothing to fit."""
        return [] if self._fit is None else self._fit.state()

    def load(self, state: Any) -> None:
        """Sets them."""
        if self._fit is not None:
            self._fit.load(state)

    def _fit_to_validation(self, examples: Any, before: guards.Score, may_be_mixed: bool) -> guards.Score | None:
        """Fits to the class proportions of validation; returns the score if it is good enough, else None.

        On examples of one class or a few, such a fit makes the model predict many classes, with low confidence and
        unevenly: its score is never good. Where the classes are mixed as in validation, a smaller gain is enough.
        """
        self._fit.set(examples, self._validation)
        logits = self._logits(examples)
        score = self._guards.score(logits)
        if may_be_mixed and total_variation(_proportions(logits), self._validation) < _MIXED_PREDICTIONS:
            is_good = score.ratio_to(before) < _LIMIT_MIXED
        else:
            is_good = score.ratio_to(before) < _LIMIT and self._guards.times_usual(score) < _GOOD
        return score if is_good else None

    def _fit_to_estimate(self, examples: Any, shares: np.ndarray) -> float:
        """Fits to estimated proportions, then improves them by EM; keeps the better fit and returns its objective."""
        self._fit.set(examples, shares)
        first, state = self._objective(self._logits(examples), shares), self.state()
        self._fit.expectation_maximisation(examples, lambda: self._logits(examples).argmax(axis=1), shares)
        second = self._objective(self._logits(examples), shares)
        if first <= second:
            self.load(state)
        return min(first, second)

    def _objective(self, logits: np.ndarray, shares: np.ndarray) -> float:
        """Lower is better."""
        return self._guards.score(logits).product * (total_variation(_proportions(logits), shares) + _CHANCE)

    def _logits(self, examples: Any) -> np.ndarray:
        return two_class_logits(self._predictor.logits(examples))


def _obstacle(predictor: Classifier, source: HeldOut) -> str:
    """Why there is nothing to fit; "" where there is."""
    last = normalization.normalization_layers(predictor.model)[-1]
    if isinstance(last, keras.layers.Dense) and not isinstance(last.input, keras.KerasTensor):
        return "the model's last layer has several inputs; expected one"
    if not normalization.can_fit(predictor.model):
        return "the model has no batch normalisation or last dense layer of [examples, channels] to fit"
    missing = set(range(len(predictor.classes))) - set(source.labels.tolist())
    name = predictor.classes[min(missing)] if missing else None
    return f"the validation split has no example of {name!r}; expected each class" if missing else ""


def _proportions(logits: np.ndarray) -> np.ndarray:
    """Share of each class among the predictions, `[classes]`."""
    return np.bincount(logits.argmax(axis=1), minlength=logits.shape[1]) / len(logits)
