"""Detects that a stream is no longer like the validation split, at any time, without labels.

Three bettors share the wealth: on the confidences, on the distances of the logits from their class means, both within
the predicted class (a conformal test martingale), and on the frequencies of the predicted classes (an e-process). The
source model is used, not an adapting one. Of all unshifted streams, whatever their length, at most a share `level`
ever raises an alarm.

An alarm means that the examples are not exchangeable with validation's. So an unshifted stream in another order, sorted
by class for example, raises one, too, on the frequencies: its parts are not like validation's.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from zoo.adaptation import guards
from zoo.predict.calibration.label_shift_test import ShiftEProcess
from zoo.predict.calibration.shift_martingale import ConformalRanks, Jumpers, edges_of
from zoo.predict.evaluation.held_out import HeldOut

# Examples that frequencies are compared after: of fewer, each comparison costs more than it tells.
_FREQUENCIES = 20
# Examples of the stream after which the memory of frequencies has faded by 1 / e.
_MEMORY = 1000.0
# Largest log wealth of which the exponential is taken.
_LARGEST = 700.0
# What differs, for each bettor.
_SIGNS = ("the confidences are", "the distances from class means are", "the predicted classes are")


class Alarm(NamedTuple):
    """The stream is shifted.

    Attributes:
        example: number of the example at which it was noticed, from 0.
        since: number of the example from which on the evidence grew.
        evidence: wealth of the bettors: how much better the bets predict than exchangeability does.
        signs: what differs, in words.
    """

    example: int
    since: int
    evidence: float
    signs: str

    def line(self) -> str:
        """The alarm in a few words."""
        return (
            f"from about example {self.since + 1:,} on {self.signs} unlike validation's (noticed at example "
            f"{self.example + 1:,}, evidence {self.evidence:,.0f} to 1)"
        )


class ShiftMonitor:
    """Evidence of a shift, example by example.

    Args:
        fit: examples that the class means are fitted to, with the source model's logits.
        reference: logits `[examples, classes]` of the source model of other examples, with which the stream is
            compared: validation's second half.
        level: largest share of unshifted streams with an alarm.

    Attributes:
        alarm: the alarm; None while there is none. It is final.
    """

    def __init__(self, fit: HeldOut, reference: np.ndarray, level: float = 1e-3):
        self.alarm: Alarm | None = None
        self._guards, self._limit = guards.Guards(fit), 1 / level
        categories, classes = reference.argmax(axis=1), reference.shape[1]
        pairs = zip(self._scores(fit.logits), self._scores(reference))
        self._ranks = [ConformalRanks(edges_of(own), scores, categories, classes) for own, scores in pairs]
        self._jumpers = Jumpers(len(self._ranks))
        counts = np.bincount(categories, minlength=classes)
        self._frequencies = ShiftEProcess(tuple(counts.tolist()), _MEMORY)
        self._pending, self._frequency_wealth = np.zeros(classes, int), 1.0
        self._examples, self._since, self._lowest = 0, 0, 0.0

    @property
    def wealths(self) -> tuple[float, float, float]:
        """Wealths of the three bettors, each of whom starts with 1; the evidence is their mean."""
        return (*self._jumpers.wealths.tolist(), self._frequency_wealth)

    def update(self, logits: np.ndarray) -> None:
        """Adds the next examples of the stream.

        Args:
            logits: `[examples, classes]` by the source model.
        """
        if self.alarm is not None or not len(logits):
            return
        categories = logits.argmax(axis=1)
        p_values = [ranks.add(scores, categories) for ranks, scores in zip(self._ranks, self._scores(logits))]
        for label, pair in zip(categories.tolist(), np.stack(p_values, axis=1)):
            self._examples += 1
            self._jumpers.add(pair)
            self._count(label)
            evidence = (self._jumpers.wealths.sum() + self._frequency_wealth) / 3
            if evidence >= self._limit:
                self.alarm = self._made_alarm(float(evidence))
                return

    def _count(self, label: int) -> None:
        """Counts a predicted class, and compares the frequencies if enough are new."""
        self._pending[label] += 1
        if self._pending.sum() < _FREQUENCIES:
            return
        self._frequencies = self._frequencies.add(self._pending)
        self._pending = np.zeros(len(self._pending), int)
        log_wealth = self._frequencies.log_wealth
        self._frequency_wealth = float(np.exp(min(log_wealth, _LARGEST)))
        if log_wealth < self._lowest:
            self._lowest, self._since = log_wealth, self._examples

    def _made_alarm(self, evidence: float) -> Alarm:
        kind = int(np.argmax(self.wealths))
        since = self._jumpers.since(kind) if kind < len(self._ranks) else self._since
        return Alarm(self._examples - 1, since, evidence, _SIGNS[kind])

    def _scores(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores `[examples]`: how far the second answers are from the first, and relative distances."""
        logits = logits.astype(np.float64)
        rows, best = np.arange(len(logits)), logits.argmax(axis=1)
        others = logits.copy()
        others[rows, best] = -np.inf
        # The log odds of the predicted class: unlike its probability, it tells 1 - 1e-9 from 1 - 1e-12.
        doubt = special.logsumexp(others, axis=1) - logits[rows, best]
        return doubt, np.nan_to_num(self._guards.relative_distances(logits), nan=np.inf, posinf=np.inf)
