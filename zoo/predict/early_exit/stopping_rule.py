"""Stopping rules for early exit, with a threshold that bounds the risk of losing an answer.

A model that is computed in stages (an encoder's layers, the chunks of a text) has a prediction after each stage. Two
rules decide which is the first to accept: `confident` (Xin et al., "DeeBERT", 2020, section 3.3, with probabilities
instead of entropies), or `patient`, the same prediction in several stages in a row (Zhou et al., "BERT loses patience",
2020, section 3.2). NumPy and SciPy only.
"""

import dataclasses
import math

import numpy as np
from scipy import stats

from zoo.errors import BadInput
from zoo.predict.calibration.selective_prediction import upper_bound

RULES = ("confident", "patient")
RISKS = ("changed", "errors")

# Thresholds of the calibrated probability p: 1 - p grows in steps of 7 %, from 1e-4.
_THRESHOLDS, _SUREST = 130, 1e-4
# No score is above this threshold: nothing stops early.
NEVER = math.inf
# One validation example in four fits the temperatures, each a single number; the others test the risk.
_CALIBRATE = 4


@dataclasses.dataclass(frozen=True)
class ExitRule:
    """When to stop, and the promised risk.

    Attributes:
        rule: one of `RULES`.
        threshold: stop above this score, the largest probability or the number of equal answers in a row; infinite
            where nothing may stop early.
        risk: largest share of lost answers, promised with probability 1 - delta.
        kind: one of `RISKS`. "changed": an answer is lost if it differs from the full model's; "errors": if it is wrong
            and the full model's is right.
        delta: probability over validation sets that the promise fails.
        bound: upper bound of the share at this threshold, with probability 1 - delta.
        lost: number of lost answers among the examples.
        examples: number of validation examples that the threshold was tested on.
    """

    rule: str
    threshold: float
    risk: float
    kind: str
    delta: float
    bound: float
    lost: int
    examples: int

    def line(self) -> str:
        """The promise in one line; where nothing stops early, the number of examples that it would take."""
        what = "changed" if self.kind == "changed" else "wrong that would have been right"
        promise = f"at most {self.risk:.3g} of the answers {what}, with probability {1 - self.delta:.4g}"
        if self.threshold == NEVER:
            least = math.ceil(math.log(self.delta) / math.log1p(-self.risk))
            return (
                f"nothing stops early: no threshold promises {promise}, on {self.examples:,} validation examples; "
                f"expected {least:,} or more, a larger risk or a larger delta"
            )
        when = f"above probability {self.threshold:.6g}"
        if self.rule == "patient":
            when = f"after {int(self.threshold) + 1} equal answers in a row"
        return f"{promise}: stops {when}, {self.lost:,} of {self.examples:,} validation examples lost by it"


class ExitScores:
    """Scores of examples, updated stage by stage, that the threshold is compared with.

    Args:
        rule: one of `RULES`.
        examples: number of examples.
    """

    def __init__(self, rule: str, examples: int):
        self._patient = rule == "patient"
        self._answers, self._streaks = np.full(examples, -1), np.zeros(examples, int)

    def scores(self, probabilities: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The scores `[chosen]` after one more stage.

        Args:
            probabilities: calibrated probabilities `[chosen, classes]`.
            chosen: numbers of the examples that have not stopped.
        """
        if not self._patient:
            return probabilities.max(axis=1)
        answers = probabilities.argmax(axis=1)
        self._streaks[chosen] = np.where(answers == self._answers[chosen], self._streaks[chosen] + 1, 1)
        self._answers[chosen] = answers
        # A copy, as the next stage changes the counts.
        return self._streaks[chosen].copy()


def check(risk: float, delta: float, rule: str, kind: str) -> None:
    """Checks the arguments of `choose`.

    Raises:
        BadInput: one of them is out of range.
    """
    if not (0 < risk < 1 and 0 < delta < 1):
        raise BadInput(f"risk {risk}, delta {delta}: expected both above 0 and below 1")
    for name, value, choices in (("rule", rule, RULES), ("kind of risk", kind, RISKS)):
        if value not in choices:
            raise BadInput(f"the {name} is {value!r}: expected one of {', '.join(choices)}")


def parts(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the validation examples that fit the temperatures, and of those that test the thresholds.

    The promise needs two disjoint parts. They are random, as a file may be sorted, with a fixed seed.
    """
    order = np.random.default_rng(0).permutation(examples)
    return np.sort(order[::_CALIBRATE]), np.sort(np.delete(order, slice(None, None, _CALIBRATE)))


def choose(
    probabilities: np.ndarray,
    last: np.ndarray,
    full: np.ndarray,
    labels: np.ndarray,
    *,
    risk: float,
    delta: float = 0.05,
    rule: str = "confident",
    kind: str = "changed",
) -> ExitRule:
    """The threshold that stops earliest, of those at which at most a share `risk` of the answers is lost.

    The bound holds for future examples with a probability of at least 1 - delta over validation sets, if examples are
    independent and the model, its exit heads and their calibration were not fitted to these. A threshold passes if,
    were the share of losses `risk`, the observed number of losses or fewer would have a probability of at most delta
    (exact binomial test). Thresholds are tested in a fixed order, the most careful first, and the last one before the
    first failure is chosen, so delta need not be divided among them: fixed-sequence testing (Angelopoulos et al.,
    "Learn then test", 2021, section 4). Losses are counted among all examples, not only those that stop early, so one
    sequence is enough; `selective_prediction.choose` needs several.

    Args:
        probabilities: calibrated probabilities `[stages, examples, classes]`; the last stage's are not used.
        last: int `[examples]`, the last stage of each example, whatever the rule says.
        full: int `[examples]`, the full model's answers.
        labels: int `[examples]`.
        risk: largest share of lost answers, above 0 and below 1.
        delta: probability that the promise fails, above 0 and below 1.
        rule: one of `RULES`.
        kind: one of `RISKS`.

    Raises:
        BadInput: one of the last four is out of range.
    """
    check(risk, delta, rule, kind)
    stages, examples, classes = probabilities.shape
    exit_scores = ExitScores(rule, examples)
    scores = np.stack([exit_scores.scores(each) for each in probabilities])  # [stages, examples]
    answers = probabilities.argmax(axis=2)
    lost = answers != full
    if kind == "errors":
        lost = (answers != labels) & (full == labels)
    lost[np.arange(stages)[:, None] >= last] = False
    chosen = ExitRule(rule, NEVER, float(risk), kind, float(delta), 0.0, 0, examples)
    for threshold in thresholds(rule, stages, classes):
        count = int(lost[stops(scores, threshold, last), np.arange(examples)].sum())
        if stats.binom.cdf(count, examples, risk) > delta:
            break
        bound = upper_bound(count, examples, delta)
        chosen = dataclasses.replace(chosen, threshold=float(threshold), bound=bound, lost=count)
    return chosen


def stops(scores: np.ndarray, threshold: float, last: np.ndarray) -> np.ndarray:
    """The stage in which each example stops, int `[examples]`, by scores `[stages, examples]`."""
    reached = scores > threshold
    first = np.where(reached.any(axis=0), reached.argmax(axis=0), len(scores) - 1)
    return np.minimum(first, last)


def thresholds(rule: str, stages: int, classes: int) -> np.ndarray:
    """The thresholds to test, the most careful first; at the last one everything stops in the first stage."""
    if rule == "patient":
        return np.arange(stages - 1, -1, -1)
    missing = np.geomspace(_SUREST, 1 - 1 / classes, _THRESHOLDS)
    # The largest probability is never below 1 / classes.
    return np.append(1 - missing[:-1], 0.0)
