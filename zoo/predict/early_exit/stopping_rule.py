"""When a model may answer before it has computed everything, so that few answers become others, and the promise holds.

A model that is computed stage by stage (an encoder's layers, parts of a text that is read) has an answer after each.
Two rules say when the first of them will do: it is `confident` (Xin et al., "DeeBERT", 2020, section 3.3, with
probabilities in the place of entropies), or `patient`, the same in so many stages in a row (Zhou et al., "BERT loses
patience", 2020, section 3.2). NumPy and SciPy only.
"""

import dataclasses
import math

import numpy as np
from scipy import stats

from zoo.errors import BadInput
from zoo.predict.calibration.selective_prediction import upper_bound

RULES = ("confident", "patient")
RISKS = ("changed", "errors")

# Of the calibrated probability: steps of 7 % in what is missing from 1, from a ten-thousandth on.
_THRESHOLDS, _SUREST = 130, 1e-4
# No score is above it: nothing stops early.
NEVER = math.inf
# One example in so many, for the temperatures: each is one number, and the others prove more of the risk.
_CALIBRATE = 4


@dataclasses.dataclass(frozen=True)
class ExitRule:
    """When to stop, and what is promised then.

    Attributes:
        rule: one of `RULES`.
        threshold: what the score must exceed: the largest probability, or the number of equal answers in a row;
            infinite where nothing may stop early.
        risk: largest share of answers that are lost by it, promised with probability 1 - delta.
        kind: what is lost: of `RISKS`, an answer is "changed" if it is not the full model's; it is one of the "errors"
            if it is wrong and the full model's right.
        delta: probability over validation sets that the promise fails.
        bound: what that share is at most with the same probability, at this threshold.
        lost: answers among the examples.
        examples: of validation, that the threshold was tested on.
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
        """What is promised, or that nothing stops early and what it would take, in one line."""
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
    """The score of a few examples as their stages come, by which they stop.

    Args:
        rule: one of `RULES`.
        examples: number of them.
    """

    def __init__(self, rule: str, examples: int):
        self._patient = rule == "patient"
        self._answers, self._streaks = np.full(examples, -1), np.zeros(examples, int)

    def scores(self, probabilities: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The scores `[chosen]` after one more stage.

        Args:
            probabilities: `[chosen, classes]`, calibrated.
            chosen: numbers of the examples that have not stopped.
        """
        if not self._patient:
            return probabilities.max(axis=1)
        answers = probabilities.argmax(axis=1)
        self._streaks[chosen] = np.where(answers == self._answers[chosen], self._streaks[chosen] + 1, 1)
        self._answers[chosen] = answers
        # Not a view, which the next stage would change.
        return self._streaks[chosen].copy()


def check(risk: float, delta: float, rule: str, kind: str) -> None:
    """Refuses what cannot be promised.

    Raises:
        BadInput: names it.
    """
    if not (0 < risk < 1 and 0 < delta < 1):
        raise BadInput(f"risk {risk}, delta {delta}: expected both above 0 and below 1")
    for name, value, known in (("rule", rule, RULES), ("kind of risk", kind, RISKS)):
        if value not in known:
            raise BadInput(f"the {name} is {value!r}: expected one of {', '.join(known)}")


def parts(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the validation examples that temperatures are fitted to, and of those that thresholds are tested on.

    The promise asks that these be different. At random, as a file may be sorted; the same each time.
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

    It holds for examples to come with a probability of at least 1 - delta over validation sets, if examples are
    independent and neither the model, nor what answers in the stages, nor its calibration were fitted to these. A
    threshold passes if under a share `risk` so few lost answers among the examples, or fewer, have at most the
    probability delta (exact, binomial). Thresholds are tested in an order that is fixed beforehand, the most careful
    first, and the last one before the first failure is taken, so that delta need not be divided among them: the
    fixed-sequence testing of Angelopoulos et al., "Learn then test" (2021), section 4. Losses are counted among all
    examples, not among those that stop early, so it needs no second start as `abstention.choose` does.

    Args:
        probabilities: `[stages, examples, classes]`, calibrated; the last stage's are not read.
        last: int `[examples]`, the stage after which an example is finished, whatever the rule says.
        full: int `[examples]`, the full model's answers.
        labels: int `[examples]`.
        risk: above 0 and below 1.
        delta: likewise.
        rule: one of `RULES`.
        kind: one of `RISKS`.

    Raises:
        BadInput: the last four are not as above.
    """
    check(risk, delta, rule, kind)
    stages, examples, classes = probabilities.shape
    watch = ExitScores(rule, examples)
    scores = np.stack([watch.scores(each) for each in probabilities])
    answers = probabilities.argmax(axis=2)
    lost = answers != full
    if kind == "errors":
        lost = (answers != labels) & (full == labels)
    lost[np.arange(stages)[:, None] >= last] = False
    found = ExitRule(rule, NEVER, float(risk), kind, float(delta), 0.0, 0, examples)
    for threshold in thresholds(rule, stages, classes):
        count = int(lost[stops(scores, threshold, last), np.arange(examples)].sum())
        if stats.binom.cdf(count, examples, risk) > delta:
            break
        bound = upper_bound(count, examples, delta)
        found = dataclasses.replace(found, threshold=float(threshold), bound=bound, lost=count)
    return found


def stops(scores: np.ndarray, threshold: float, last: np.ndarray) -> np.ndarray:
    """The stage in which each example stops, int `[examples]`, by scores `[stages, examples]`."""
    reached = scores > threshold
    first = np.where(reached.any(axis=0), reached.argmax(axis=0), len(scores) - 1)
    return np.minimum(first, last)


def thresholds(rule: str, stages: int, classes: int) -> np.ndarray:
    """What is tested, from the most careful one on; at the last one everything stops in the first stage."""
    if rule == "patient":
        return np.arange(stages - 1, -1, -1)
    missing = np.geomspace(_SUREST, 1 - 1 / classes, _THRESHOLDS)
    # The largest of so many probabilities is not below 1 / classes.
    return np.append(1 - missing[:-1], 0.0)
