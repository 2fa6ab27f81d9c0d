"""Prediction sets: the classes among which the true one is with a promised probability, by split conformal prediction.

The score of a class is 1 - its probability (LAC: Sadinle et al., "Least ambiguous set-valued classifiers with bounded
error levels", 2019), and that of the predicted class is 0. A set holds all classes whose score does not exceed a
quantile of the scores of the true classes of held-out examples (Vovk et al., "Algorithmic learning in a random world",
2005). NumPy and SciPy only.

Why LAC, and not APS or RAPS (Romano et al., 2020; Angelopoulos et al., 2021): its sets are the smallest on average at
a given coverage, and they involve no random number, so an example always has the same set. APS aims at an equal
coverage of easy and hard examples instead; for equal coverage of the classes there is `class_conditional`.

Why the predicted class has the score 0: with plain LAC the set of a doubtful example may be empty (the null region,
ibid.), which helps nobody. Adding the predicted class afterwards would make the sets larger than the promise needs; as
a part of the score it is accounted for, and the promise stays exact. A model whose error is below alpha then has sets
of one class each, and their coverage is its accuracy.
"""

import dataclasses
import math

import numpy as np
from scipy import stats

from zoo.errors import BadInput

# Classes that a message names.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class SetRule:
    """Which classes belong to a set, with the promise.

    Attributes:
        alpha: largest probability that the true class is missing. Over the draws of validation examples, too.
        quantiles: largest score of a class that is in the set, one for each class, `[classes]`; infinite for a class
            that is in every set.
        class_conditional: whether the promise holds for the examples of each class.
        counts: number of validation examples of each class, `[classes]`.
    """

    alpha: float
    quantiles: tuple[float, ...]
    class_conditional: bool
    counts: tuple[int, ...]

    def sets(self, probabilities: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """The classes of each set, bool `[examples, classes]`; the predicted class is always one of them.

        Args:
            probabilities: `[examples, classes]`, computed as those of `calibrate` were; read in float32.
            predicted: int `[examples]`, likewise.
        """
        # A probability that is not finite is in the set: nothing is known of it.
        return ~(_scores(probabilities, predicted) > np.array(self.quantiles))

    @property
    def rare(self) -> tuple[int, ...]:
        """Labels of the classes that are in every set, as they have too few validation examples."""
        return tuple(label for label, quantile in enumerate(self.quantiles) if quantile == math.inf)

    def line(self, classes: tuple[str, ...]) -> str:
        """The promise in one line.

        Args:
            classes: class names.
        """
        whom = " for each class" if self.class_conditional else ""
        text = (
            f"sets that hold the true class with a probability of at least {1 - self.alpha:.4g}{whom}, on data like "
            f"the {sum(self.counts):,} validation examples"
        )
        if not self.rare:
            return text
        names = ", ".join(f"{classes[label]} ({self.counts[label]:,})" for label in self.rare[:_NAMED])
        more = f" and {len(self.rare) - _NAMED:,} more" if len(self.rare) > _NAMED else ""
        return (
            f"{text}; in every set, as they have too few validation examples (expected {fewest(self.alpha):,}): "
            f"{names}{more}"
        )


def calibrate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    alpha: float,
    class_conditional: bool = False,
) -> SetRule:
    """The rule by held-out examples.

    Of n scores of true classes the quantile is the `ceil((n + 1) (1 - alpha))`-th smallest. A new example is one more
    draw, equally likely at each rank among the n + 1, so the true class is in its set with probability 1 - alpha or
    more, whatever the model and the distribution, if examples are exchangeable and neither the model nor its
    calibration was fitted to these. This is the mean over validation sets: for a given one the coverage varies, with
    scores without ties as the distribution Beta(rank, n + 1 - rank) (Vovk, "Conditional validity of inductive conformal
    predictors", 2012); see `coverage_interval`.

    `class_conditional` takes a quantile of each class (Mondrian conformal prediction; Vovk et al., 2005, section 4.5).
    The promise then holds among the examples of each class, so it survives a change of class proportions (label shift),
    and a class with too few examples is in every set.

    Args:
        probabilities: `[examples, classes]`, of any calibration.
        labels: int `[examples]`.
        predicted: int `[examples]`, the class that is printed as the prediction: the most probable one, or another
            by a rule of decision.
        alpha: above 0 and below 1.
        class_conditional: whether the coverage is promised in each class.

    Raises:
        BadInput: there are too few examples for any promise.
    """
    if not 0.0 < alpha < 1.0:
        raise BadInput(f"the error level of prediction sets is {alpha:g}: expected above 0 and below 1, such as 0.1")
    labels, examples, classes = np.asarray(labels), *np.shape(probabilities)
    scores = _scores(probabilities, predicted)[np.arange(examples), labels]
    counts = np.bincount(labels, minlength=classes)
    if class_conditional:
        quantiles = tuple(_quantile(scores[labels == label], alpha) for label in range(classes))
        having, what = int(counts.max()), "of a class, and the largest has"
    else:
        quantiles = (_quantile(scores, alpha),) * classes
        having, what = examples, "and there are"
    if min(quantiles) == math.inf:
        raise BadInput(
            f"prediction sets at {alpha:g} need {fewest(alpha):,} validation examples or more {what} {having:,}; "
            "expected a larger error level"
        )
    return SetRule(float(alpha), quantiles, class_conditional, tuple(counts.tolist()))


def fewest(alpha: float) -> int:
    """Number of examples without which only the set of all classes keeps the promise."""
    return math.ceil(round((1.0 - alpha) / alpha, 9))


def coverage_interval(examples: int, alpha: float, level: float = 0.95) -> tuple[float, float]:
    """The interval of the coverage of one rule, over draws of its validation examples, for scores without ties.

    Args:
        examples: number of validation examples, at least `fewest(alpha)`.
        alpha: the error level.
        level: probability of the interval.
    """
    rank = _rank(examples, alpha)
    low, high = stats.beta.interval(level, rank, examples + 1 - rank)
    return float(low), float(high)


def measures(sets: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How sets do on labelled examples.

    Args:
        sets: bool `[examples, classes]`, at least one example.
        labels: int `[examples]`.

    Returns:
        `set_coverage`, the share of examples whose true class is in the set; `set_coverage_worst_class`, the smallest
        such share of a class; `set_size`, the mean number of classes; `set_single`, the share of sets of one class.
    """
    covered, sizes = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    by_class = [float(covered[labels == label].mean()) for label in np.unique(labels)]
    return {
        "set_coverage": float(covered.mean()),
        "set_coverage_worst_class": min(by_class),
        "set_size": float(sizes.mean()),
        "set_single": float((sizes == 1).mean()),
    }


def _scores(probabilities: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Scores `[examples, classes]`, float64."""
    # As predictions have them: rounding must not part what is equal.
    scores = 1.0 - np.asarray(probabilities, np.float32).astype(np.float64)
    scores[np.arange(len(scores)), predicted] = 0.0
    return scores


def _quantile(scores: np.ndarray, alpha: float) -> float:
    """The quantile of scores with its finite-sample correction; infinite where there are too few."""
    rank = _rank(len(scores), alpha)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def _rank(examples: int, alpha: float) -> int:
    # Rounded first: 0.9 * 10 is 9, not 9.000000000000002 and so 10.
    return math.ceil(round((examples + 1) * (1.0 - alpha), 9))
