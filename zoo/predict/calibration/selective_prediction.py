"""Selective prediction: the model abstains where it is not confident, with a guaranteed risk among its answers.

The aim is that of Geifman and El-Yaniv, "Selective classification for deep neural networks" (2017), the test that of
Angelopoulos et al., "Learn then test" (2021); see `choose`. The guarantee is for examples like the validation set's; it
does not hold under a distribution shift. NumPy and SciPy only.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from zoo.errors import BadInput

# Coverages at which the test sequences start; each goes on to larger ones.
_STARTS = (0.1, 0.25, 0.5, 0.75)
# Thresholds that answer everything and nothing, as a confidence is above 0 and at most 1.
_ALL, _NONE = 0.0, 1.0


@dataclasses.dataclass(frozen=True)
class SelectiveRule:
    """A confidence threshold for answers, with its promised risk.

    Attributes:
        threshold: examples with a confidence above this are answered: 0 answers everything, 1 nothing.
        risk: largest share of wrong answers among the answered, promised with probability 1 - delta.
        delta: probability over validation sets that the promise fails.
        bound: upper bound of that share at this threshold, with probability 1 - delta; 1 where nothing is answered.
        answered: number of validation examples above the threshold.
        errors: number of wrong predictions among these.
        examples: number of validation examples.
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
        """Share of validation examples that are answered."""
        return self.answered / self.examples

    def answers(self, confidence: np.ndarray) -> np.ndarray:
        """Which examples to answer, bool `[examples]`.

        Args:
            confidence: `[examples]`, computed as the confidences of `choose` were; NaN is not answered.
        """
        return np.asarray(confidence) > self.threshold

    def line(self) -> str:
        """The promise in one line; where nothing is answered, the number of examples that it would take."""
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
        """Fields for `json.dumps`; `from_json` restores an equal rule."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> "SelectiveRule":
        """The rule from the fields of `as_json`.

        Raises:
            BadInput: the value is something else.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        good = isinstance(fields, Mapping) and fields.keys() == names
        if not good or not all(type(value) in (int, float) and 0 <= value < math.inf for value in fields.values()):
            raise BadInput(f"abstention: expected numbers named {', '.join(sorted(names))}, 0 or more; choose again")
        return cls(**fields)


class RiskCoverageCurve(NamedTuple):
    """Risk-coverage curve: the most confident examples are answered first.

    Attributes:
        coverage: shares of examples answered, from 1 / examples to 1, `[examples]`.
        risk: share of wrong answers at each coverage, `[examples]`; ties count with the mean over their orders.
    """

    coverage: np.ndarray
    risk: np.ndarray

    @property
    def area(self) -> float:
        """AURC, the mean risk over all coverages (Geifman et al., 2019); less is better."""
        return float(self.risk.mean())


def choose(confidence: np.ndarray, correct: np.ndarray, risk: float, delta: float = 0.05) -> SelectiveRule:
    """The threshold of largest coverage at which at most a share `risk` of the answers is wrong.

    The bound holds for future examples with a probability of at least 1 - delta over validation sets, if examples are
    independent and neither the model nor its calibration was fitted to these. If the threshold is the m + 1st largest
    confidence, the m examples above it are independent draws from all examples above it, so their errors are binomial
    and the test is exact: the threshold passes if, were the share of errors `risk`, the observed number of errors or
    fewer would have a probability of at most delta.

    Thresholds are tested in a fixed order, from a start toward larger coverage, and the last one before the first
    failure is chosen. So delta need not be divided among them, as a risky threshold is only reached through the first
    risky one. There are four starts (10, 25, 50 and 75 % of the examples), each with a quarter of delta: with a single
    start at the most confident examples, one wrong label there would end the search. This is Learn-then-Test's
    fixed-sequence testing with several starts. It requires thresholds fixed beforehand; that these come from the
    confidences makes no difference where the risk crosses `risk` once as the threshold falls, and where it crosses
    several times, the argument applies to each crossing.

    Geifman and El-Yaniv use the same exact bound at the thresholds of a binary search, and divide delta by the number
    of thresholds visited. But errors steer the search, so all thresholds that it could visit would count. On simulated
    classifiers (500 and 2,000 examples), 20 coverages that share delta answer 2 to 50 % fewer than the four starts.

    Where no threshold can promise the risk, the rule answers nothing, which keeps any promise, and `SelectiveRule.line`
    says so, without an error, so that a stream continues.

    Args:
        confidence: `[examples]`, above 0 and at most 1, such as the largest probability.
        correct: bool `[examples]`, whether the prediction is right.
        risk: largest share of wrong answers, above 0 and below 1.
        delta: probability that the promise fails, above 0 and below 1.

    Raises:
        ValueError: the arguments do not fit the description above.
    """
    confidence, correct = _checked(confidence, correct)
    if not (0 < risk < 1 and 0 < delta < 1):
        raise ValueError(f"risk {risk}, delta {delta}: expected both above 0 and below 1")
    order = np.argsort(-confidence, kind="stable")
    descending, examples = confidence[order], len(confidence)
    # Possible numbers of answers: examples with equal confidences are answered together.
    counts = np.append(np.flatnonzero(np.diff(descending)) + 1, examples)
    errors = np.cumsum(~correct[order])[counts - 1]
    passed = stats.binom.cdf(errors, counts, risk) <= delta / len(_STARTS)
    starts = np.searchsorted(counts, [max(1, math.floor(start * examples)) for start in _STARTS])
    last = max(_last(passed, start) for start in starts.tolist())
    if last < 0:
        return SelectiveRule(_NONE, float(risk), float(delta), 1.0, 0, 0, examples)
    answered, wrong = int(counts[last]), int(errors[last])
    threshold = _ALL if answered == examples else float(descending[answered])
    bound = upper_bound(wrong, answered, delta / len(_STARTS))
    return SelectiveRule(threshold, float(risk), float(delta), bound, answered, wrong, examples)


def upper_bound(errors: int, answered: int, delta: float) -> float:
    """Upper confidence bound of the share of errors, at level 1 - delta (Clopper and Pearson, 1934, one-sided).

    At this share, the observed number of errors or fewer has the probability delta; 1 without a right answer.
    """
    return 1.0 if errors >= answered else float(stats.beta.isf(delta, errors + 1, answered - errors))


def curve(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverageCurve:
    """The risk-coverage curve.

    Args:
        confidence: `[examples]`, above 0 and at most 1.
        correct: bool `[examples]`, whether the prediction is right.

    Raises:
        ValueError: the arguments do not fit the description above.
    """
    confidence, correct = _checked(confidence, correct)
    _, group, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    # An example among equal confidences counts with the mean error of these.
    share = np.bincount(group, ~correct) / count
    ranks = np.arange(1, len(confidence) + 1)
    return RiskCoverageCurve(ranks / len(ranks), np.cumsum(np.repeat(share, count)) / ranks)


def draw(path: str | Path, points: RiskCoverageCurve, rule: SelectiveRule | None = None, title: str = "") -> None:
    """Draws a risk-coverage curve, and a chosen threshold, to a PNG of 640 x 480 pixels.

    Args:
        path: path of the PNG.
        points: the curve, from `curve`.
        rule: the threshold chosen on the same examples, or None.
        title: title of the plot.
    """
    # Imported here, as it takes a second; not pyplot, which would keep the figure and choose a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="coverage", ylabel="risk (errors among the answered)", title=title)
    axes.plot(points.coverage, points.risk, label=f"model, area {points.area:.4f}")
    axes.axhline(points.risk[-1], color="grey", linestyle=":", label="answers at random")
    if rule is not None:
        axes.axhline(rule.risk, color="tab:red", linestyle="--", label=f"promised risk {rule.risk:.3g}")
    if rule is not None and rule.answered:
        axes.plot([rule.coverage], [rule.errors / rule.answered], "o", color="tab:red", label="chosen")
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.legend()
    figure.savefig(path, format="png")


def _last(passed: np.ndarray, start: int) -> int:
    """Index of the last test passed before the first failure from `start` on; -1 if the test at `start` failed."""
    failures = np.flatnonzero(~passed[start:])
    end = start + int(failures[0]) if len(failures) else len(passed)
    return end - 1 if end > start else -1


def _least(risk: float, delta: float) -> int:
    """Fewest answers, all of them right, for which the risk can be promised."""
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
