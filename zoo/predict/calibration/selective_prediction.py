"""Selective prediction: answers only where the model is sure enough that few answers are wrong, and the promise holds.

The aim is that of Geifman and El-Yaniv, "Selective classification for deep neural networks" (2017), the test that of
Angelopoulos et al., "Learn then test" (2021); `choose` says why. The promise is about examples like the validation
set's; under a shift there is none. NumPy and SciPy only.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from zoo.errors import BadInput

# Shares of the validation examples from which tests go on to larger ones.
_STARTS = (0.1, 0.25, 0.5, 0.75)
# Of thresholds: a confidence is above 0 and at most 1.
_ALL, _NONE = 0.0, 1.0


@dataclasses.dataclass(frozen=True)
class SelectiveRule:
    """When to answer, and what is promised then.

    Attributes:
        threshold: what a confidence must exceed to be answered: 0 answers everything, 1 nothing.
        risk: largest share of wrong answers among the answered, promised with probability 1 - delta.
        delta: probability over validation sets that the promise fails.
        bound: what that share is at most with the same probability, at this threshold; 1 where nothing is answered.
        answered: validation examples above the threshold.
        errors: wrong ones among them.
        examples: of validation.
    """

    threshold: float
    risk: float
    delta: float
    bound: float
    answered: int
    errors: int
    examples: int

    @property
    def coverage(self) -> float:
        """The share of validation examples that is answered."""
        return self.answered / self.examples

    def answers(self, confidence: np.ndarray) -> np.ndarray:
        """Which examples to answer, bool `[examples]`.

        Args:
            confidence: `[examples]`, of the same kind as those of `choose`. NaN is not answered.
        """
        return np.asarray(confidence) > self.threshold

    def line(self) -> str:
        """What is promised, or that nothing is and what it would take, in one line."""
        promise = f"at most {self.risk:.3g} of the answers wrong, with probability {1 - self.delta:.4g}"
        if self.answered:
            where = f"above confidence {self.threshold:.6g}" if self.threshold > _ALL else "everything"
            return (
                f"{promise}: answers {where}, {self.answered:,} of {self.examples:,} validation examples, "
                f"{self.errors:,} of them wrong"
            )
        return (
            f"abstains from everything: no threshold promises {promise}, on {self.examples:,} validation examples; "
            f"expected at least {_least(self.risk, self.delta):,} that are sure and right, or a larger risk or delta"
        )

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`; `from_json` gives an equal one."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, found: Any) -> "SelectiveRule":
        """Reads what `as_json` gave.

        Raises:
            BadInput: it is something else.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        good = isinstance(found, Mapping) and found.keys() == names
        if not good or not all(type(value) in (int, float) and 0 <= value < math.inf for value in found.values()):
            raise BadInput(f"abstention: expected numbers named {', '.join(sorted(names))}, 0 or more; choose again")
        return cls(**found)


class RiskCoverageCurve(NamedTuple):
    """Risk against coverage, where the surest examples are answered first.

    Attributes:
        coverage: 1 / examples to 1, `[examples]`.
        risk: share of wrong answers among so many, `[examples]`; of examples that tie, the mean over their orders.
    """

    coverage: np.ndarray
    risk: np.ndarray

    @property
    def area(self) -> float:
        """AURC, the mean of the risk over all coverages (Geifman et al., 2019): the less, the better is the order."""
        return float(self.risk.mean())


def choose(confidence: np.ndarray, correct: np.ndarray, risk: float, delta: float = 0.05) -> SelectiveRule:
    """The threshold of largest coverage at which at most a share `risk` of the answers is wrong.

    It holds for examples to come with a probability of at least 1 - delta over validation sets. What is needed is that
    examples are independent, and that neither the model nor its calibration were fitted to these. If the threshold is
    the m + 1st surest confidence, the m above it are independent draws from all that lies above it, so their errors are
    binomial and the test is exact: the threshold passes if under a share `risk` of errors so few would have at most the
    probability delta.

    Thresholds are tested in a fixed order, from a start toward larger coverage, and the last one before the first
    failure is taken: then delta need not be divided among them, for no risky one is reached but through the first of
    them. There are four starts (10, 25, 50 and 75 % of the examples), each with a quarter of delta: from a single one
    among the surest, one wrong label there would end the search. This is Learn-then-Test's fixed-sequence testing with
    several starts. It asks for thresholds fixed beforehand; that these come from the confidences makes no difference
    where the risk passes `risk` once as the threshold falls, and where it does so several times, the argument is for
    each of them.

    Geifman and El-Yaniv have the same exact bound at the thresholds of a binary search, and divide delta by those that
    it visits. But errors steer the search, so all that it could visit would count. On simulated classifiers (500 and
    2,000 examples), 20 coverages that share delta answer from 2 % to a half fewer than the four starts.

    Where no threshold can promise the risk, it answers nothing, which keeps any promise, and `SelectiveRule.line` says
    so: a stream goes on, and a person is told.

    Args:
        confidence: `[examples]`, above 0 and at most 1, the larger the surer; say the largest probability.
        correct: bool `[examples]`, whether the prediction is right.
        risk: above 0 and below 1.
        delta: above 0 and below 1.

    Raises:
        ValueError: the arguments are not as above.
    """
    confidence, correct = _checked(confidence, correct)
    if not (0 < risk < 1 and 0 < delta < 1):
        raise ValueError(f"risk {risk}, delta {delta}: expected both above 0 and below 1")
    order = np.argsort(-confidence, kind="stable")
    descending, examples = confidence[order], len(confidence)
    # How many may be answered: examples that tie only together.
    counts = np.append(np.flatnonzero(np.diff(descending)) + 1, examples)
    errors = np.cumsum(~correct[order])[counts - 1]
    passed = stats.binom.cdf(errors, counts, risk) <= delta / len(_STARTS)
    starts = np.searchsorted(counts, [max(1, math.floor(start * examples)) for start in _STARTS])
    last = max(_last(passed, start) for start in starts.tolist())
    if last < 0:
        return SelectiveRule(_NONE, float(risk), float(delta), 1.0, 0, 0, examples)
    found = int(counts[last]), int(errors[last])
    threshold = _ALL if found[0] == examples else float(descending[found[0]])
    bound = upper_bound(found[1], found[0], delta / len(_STARTS))
    return SelectiveRule(threshold, float(risk), float(delta), bound, *found, examples)


def upper_bound(errors: int, answered: int, delta: float) -> float:
    """The share of errors that is exceeded with probability delta at most (Clopper and Pearson, 1934, one-sided).

    It is the share at which so few errors or fewer have the probability delta; 1 without a right answer.
    """
    return 1.0 if errors >= answered else float(stats.beta.isf(delta, errors + 1, answered - errors))


def curve(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverageCurve:
    """The risk-coverage curve.

    Args:
        confidence: `[examples]`, above 0 and at most 1, the larger the surer.
        correct: bool `[examples]`.

    Raises:
        ValueError: the arguments are not as above.
    """
    confidence, correct = _checked(confidence, correct)
    _, place, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    # Each example that ties is as wrong as its group on average.
    share = np.bincount(place, ~correct) / count
    ranks = np.arange(1, len(confidence) + 1)
    return RiskCoverageCurve(ranks / len(ranks), np.cumsum(np.repeat(share, count)) / ranks)


def draw(path: str | Path, found: RiskCoverageCurve, chosen: SelectiveRule | None = None, title: str = "") -> None:
    """Draws a risk-coverage curve, and what was chosen from it, to a PNG of 640 x 480 pixels.

    Args:
        path: of the picture.
        found: the curve.
        chosen: from the same examples, or None.
        title: above the picture.
    """
    # A second to import; and no pyplot, which would keep the figure and choose a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="coverage", ylabel="risk (errors among the answered)", title=title)
    axes.plot(found.coverage, found.risk, label=f"model, area {found.area:.4f}")
    axes.axhline(found.risk[-1], color="grey", linestyle=":", label="answers at random")
    if chosen is not None:
        axes.axhline(chosen.risk, color="tab:red", linestyle="--", label=f"promised risk {chosen.risk:.3g}")
    if chosen is not None and chosen.answered:
        axes.plot([chosen.coverage], [chosen.errors / chosen.answered], "o", color="tab:red", label="chosen")
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.legend()
    figure.savefig(path, format="png")


def _last(passed: np.ndarray, start: int) -> int:
    """The last test that was passed without a failure from `start` on; -1 if that one failed."""
    failures = np.flatnonzero(~passed[start:])
    end = start + int(failures[0]) if len(failures) else len(passed)
    return end - 1 if end > start else -1


def _least(risk: float, delta: float) -> int:
    """Fewest answers, all of them right, that promise the risk."""
    return math.ceil(math.log(delta / len(_STARTS)) / math.log1p(-risk))


def _checked(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confidence, correct = np.asarray(confidence), np.asarray(correct)
    if confidence.ndim != 1 or confidence.dtype.kind != "f" or not len(confidence):
        raise ValueError(
            f"confidences are {confidence.dtype} {list(confidence.shape)}: expected floats [examples], one or more"
        )
    if correct.shape != confidence.shape or correct.dtype.kind != "b":
        raise ValueError(
            f"correct is {correct.dtype} {list(correct.shape)}: expected bool {list(confidence.shape)} as confidences"
        )
    wrong = np.flatnonzero(~((confidence > 0) & (confidence <= 1)))
    if len(wrong):
        raise ValueError(
            f"the confidence of example {wrong[0]} is {confidence[wrong[0]]}: expected above 0 and at most 1, such as "
            "the largest probability"
        )
    return confidence.astype(np.float64), correct
