"""What a classifier promises of its answers, and what is left of it where the stream shifts.

The risk of `--abstain_risk` and the coverage of `--prediction_sets` hold on data like the validation split's. Once the
stream is known to be shifted (`shift_monitor`), or the model has been changed so that it is no longer the one that was
calibrated, the promise is kept as far as there is evidence for one:

1. Label shift that class proportions alone explain (`stages.output.Prior`): the validation examples are drawn anew with
   the stream's proportions, by rejection sampling (Park et al., "PAC prediction sets under covariate shift", 2022,
   section 4, with the weights of classes: Podkopaev and Ramdas, "Distribution-free uncertainty quantification for
   classification under label shift", 2021), and the rules are chosen again. Class-conditional sets stay as they are:
   label shift does not touch their promise.
2. Labelled examples like the stream's (`--labelled`), until the stream is found to be unlike these, too: the rules are
   chosen again on them.
3. Else nothing can be promised: the model abstains, and the set is that of all classes.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from zoo.adaptation.shift_monitor import ShiftMonitor
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages.output import Prior
from zoo.errors import BadInput
from zoo.predict.calibration import prediction_sets, selective_prediction
from zoo.predict.calibration.prediction_sets import SetRule
from zoo.predict.calibration.selective_prediction import SelectiveRule
from zoo.predict.evaluation.held_out import HeldOut

VALIDATION, PROPORTIONS, LABELLED, NONE = "validation", "class proportions", "labelled examples", "none"
# Examples of the stream that class proportions are judged by.
_RECENT = 400
# Share of the stream whose classes validation may lack.
_MISSING = 0.005


class Asked(NamedTuple):
    """What is to be promised.

    Attributes:
        risk: largest share of wrong answers; None: the model always answers.
        alpha: error level of prediction sets; None: no sets.
        class_conditional: whether it holds in each class.
        decide: from probabilities `[examples, classes]` to the labels that are printed, int `[examples]`.
    """

    risk: float | None
    alpha: float | None
    class_conditional: bool
    decide: Callable[[np.ndarray], np.ndarray]

    @property
    def anything(self) -> bool:
        """Whether there is any promise."""
        return self.risk is not None or self.alpha is not None


class Rules(NamedTuple):
    """Rules that keep the promise; None for one that was not asked for.

    Attributes:
        abstention: when to answer.
        sets: which classes a set holds.
    """

    abstention: SelectiveRule | None
    sets: SetRule | None


def chosen(asked: Asked, probabilities: np.ndarray, labels: np.ndarray) -> Rules:
    """The rules by labelled examples.

    Args:
        asked: what is to be promised.
        probabilities: `[examples, classes]` of the model that answers.
        labels: int `[examples]`.

    Raises:
        BadInput: there are too few examples for prediction sets. Too few for the risk make a rule that never answers.
    """
    abstention = sets = None
    if asked.risk is not None:
        correct = probabilities.argmax(axis=1) == labels
        abstention = selective_prediction.choose(probabilities.max(axis=1), correct, asked.risk)
    if asked.alpha is not None:
        decided = asked.decide(probabilities)
        sets = prediction_sets.calibrate(probabilities, labels, decided, asked.alpha, asked.class_conditional)
    return Rules(abstention, sets)


def nothing(rules: Rules) -> Rules:
    """Rules that keep any promise: no example is answered, and every set holds all classes."""
    abstention, sets = rules
    if abstention is not None:
        abstention = dataclasses.replace(abstention, threshold=1.0, bound=1.0, answered=0, errors=0)
    if sets is not None:
        sets = dataclasses.replace(sets, quantiles=(math.inf,) * len(sets.quantiles))
    return Rules(abstention, sets)


class Promises:
    """The rules for each batch of a stream.

    Args:
        asked: what is to be promised.
        fit: half of the validation split, with the source model's logits: monitor and label shift are fitted to it.
        reference: the other half.
        labels: labels of the examples that the rules are chosen on, `[examples]`; none of those that fitted stages of
            an adapting model.
        outputs: computes their probabilities `[examples, classes]` by the model that answers, with what changed its
            output.
        labelled: examples like the stream's; or None.
        level: largest share of unshifted streams that are taken for shifted.

    Attributes:
        rules: the rules as long as there is no shift.
        monitor: the evidence of a shift.
        outputs: as the argument; another function where another model answers.
        first: number of the first example without the first promise, from 1; 0 where there is none.
    """

    def __init__(
        self,
        asked: Asked,
        fit: HeldOut,
        reference: HeldOut,
        labels: np.ndarray,
        outputs: Callable[[], np.ndarray],
        labelled: "Labelled | None" = None,
        level: float = 1e-3,
    ):
        self._asked, self._fit, self._labels, self._labelled = asked, fit, labels, labelled
        self.outputs, self.first = outputs, 0
        self.rules = chosen(asked, outputs(), labels)
        self.monitor = ShiftMonitor(fit, reference.logits, level)
        self._recent = np.zeros((0, fit.logits.shape[1]), np.float32)
        self._prior: Prior | None = None
        self._like_labelled: ShiftMonitor | None = None
        self._seen, self._is_exchanged = 0, False
        self._counts = np.bincount(labels, minlength=fit.logits.shape[1])
        self._draws = np.random.default_rng(0).uniform(size=len(labels))

    def update(self, logits: np.ndarray, model_changed: bool = False, output_changed: bool = False) -> str:
        """Adds a batch of the stream, before it is answered.

        Args:
            logits: the source model's for the batch, `[examples, classes]`.
            model_changed: whether the model that answers, or its input, differs from the calibrated one.
            output_changed: whether its output does, by a correction of the class proportions.

        Returns:
            What the promise for this batch rests on: `VALIDATION`, `PROPORTIONS`, `LABELLED` or `NONE`.
        """
        before = self.monitor.alarm
        if not self._is_exchanged:
            self.monitor.update(logits)
        self._seen += len(logits)
        self._recent = np.concatenate([self._recent, logits])[-max(_RECENT, len(logits)) :]
        if self.monitor.alarm is None and not (model_changed or output_changed or self._is_exchanged):
            return VALIDATION
        self.first = self.first or self._seen - len(logits) + 1
        self._follow(logits, is_new=before is None and self.monitor.alarm is not None)
        if not model_changed and self._is_label_shift():
            return PROPORTIONS
        if self._labelled is not None and self._like_labelled.alarm is None:
            return LABELLED
        return NONE

    def exchange(self, fit: HeldOut, outputs: Callable[[], np.ndarray]) -> None:
        """Another model answers from now on, the whole one instead of early exits; the stream stays shifted.

        Args:
            fit: as the argument of the class, with the logits that `update` gets from now on.
            outputs: likewise.
        """
        self._fit, self.outputs, self._is_exchanged = fit, outputs, True
        self._recent, self._prior = self._recent[:0], None

    def rules_of(self, promise: str) -> Rules:
        """The rules by what `update` returned."""
        if promise == VALIDATION:
            return self.rules
        if promise == PROPORTIONS:
            return self._by_proportions()
        if promise == LABELLED:
            return self._chosen(self._labelled.outputs(), self._labelled.labels)
        return nothing(self.rules)

    def _follow(self, logits: np.ndarray, is_new: bool) -> None:
        """Tells the kind of the shift from the examples since it began."""
        if self._prior is None or is_new:
            self._prior = Prior()
            self._prior.begin(None, self._fit)
            alarm = self.monitor.alarm
            if alarm is not None and not self._is_exchanged:
                # Those before the shift would be taken for a part of it.
                self._recent = self._recent[-max(self._seen - alarm.since, len(logits)) :]
            logits = self._recent
            if self._labelled is not None:
                # It compares the batches that follow: this one may begin before the shift.
                self._like_labelled = ShiftMonitor(self._fit, self._labelled.logits)
        elif self._like_labelled is not None:
            self._like_labelled.update(logits)
        self._prior.propose(StreamContext(logits, None, self._recent, None, False))

    def _is_label_shift(self) -> bool:
        """Whether class proportions explain the shift, and the validation examples have all of its classes."""
        proved = self._prior.proved
        return proved is not None and proved.shares[self._counts == 0].sum() < _MISSING

    def _by_proportions(self) -> Rules:
        """Chosen on validation examples in the stream's proportions."""
        weights = self._prior.proved.shares / np.maximum(self._counts, 1)
        keep = self._draws < (weights / weights[self._counts > 0].max())[self._labels]
        outputs = self.outputs()
        rules = self._chosen(outputs[keep], self._labels[keep])
        if self._asked.class_conditional and rules.sets is not None:
            conditional = prediction_sets.calibrate(
                outputs, self._labels, self._asked.decide(outputs), self._asked.alpha, True
            )
            rules = rules._replace(sets=conditional)
        return rules

    def _chosen(self, probabilities: np.ndarray, labels: np.ndarray) -> Rules:
        """The rules by these examples; for sets that these are too few for, the set of all classes."""
        abstention = sets = None
        if self._asked.risk is not None and len(labels):
            abstention = chosen(self._asked._replace(alpha=None), probabilities, labels).abstention
        if self._asked.alpha is not None:
            try:
                sets = chosen(self._asked._replace(risk=None), probabilities, labels).sets
            except BadInput:
                sets = nothing(self.rules).sets
        if self._asked.risk is not None and abstention is None:
            abstention = nothing(self.rules).abstention
        return Rules(abstention, sets)


class Labelled(NamedTuple):
    """Labelled examples like the stream's.

    Attributes:
        labels: int `[examples]`.
        logits: by the source model, `[examples, classes]`.
        outputs: computes their probabilities by the model as it is, `[examples, classes]`.
    """

    labels: np.ndarray
    logits: np.ndarray
    outputs: Callable[[], np.ndarray]
