"""From probabilities to a class: by expected cost, or by a threshold that was tuned to a metric.

The most probable class makes the fewest errors. Where errors differ in their cost, or one class matters more, another
decision is better, and the probabilities stay what they are.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import BadInput
from zoo.metrics import classification, temperature_scaling
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.metrics.temperature_scaling import Calibration

METRICS = "f1, balanced_accuracy, recall@precision=P or precision@recall=R"
_PLAIN = ("f1", "balanced_accuracy")
_CONSTRAINED = re.compile(r"(recall@precision|precision@recall)=(\d*\.?\d+)")
# Probabilities are float32 in predictions: below its smallest normal number they say 0.
_LEAST = float(np.finfo(np.float32).tiny)


class Goal(NamedTuple):
    """What decisions are for.

    Attributes:
        costs: `[classes (true), classes (decision)]`; None for a metric.
        metric: what a threshold is tuned to, one of `METRICS`; empty for costs.
        positive: label of the class that the metric is of.
    """

    costs: np.ndarray | None = None
    metric: str = ""
    positive: int = 1


@dataclasses.dataclass(frozen=True)
class Decision:
    """A rule from probabilities to a class, of costs or of a threshold.

    Attributes:
        costs: `[classes (true)][classes (decision)]`; empty for a threshold.
        calibration: what makes the probabilities fit for expectations.
        threshold: probability of the positive class from which on it is decided.
        positive: label of that class.
        metric: what the threshold was tuned to.
    """

    costs: tuple[tuple[float, ...], ...] = ()
    calibration: Calibration | None = None
    threshold: float | None = None
    positive: int = 1
    metric: str = ""

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """The decided labels, int64 `[examples]`.

        By costs: the decision of least expected cost (Elkan, "The foundations of cost-sensitive learning", 2001,
        equation 1) under the calibrated probabilities; of equal ones the first class.

        Args:
            probabilities: `[examples, classes]`.
        """
        probabilities = np.asarray(probabilities, np.float64)
        if self.threshold is not None:
            return np.where(probabilities[:, self.positive] >= self.threshold, self.positive, 1 - self.positive)
        if self.calibration is not None:
            # Logarithms of probabilities are logits.
            probabilities = self.calibration.apply(np.log(np.maximum(probabilities, _LEAST)))
        return (probabilities @ np.array(self.costs)).argmin(axis=1)

    def as_json(self) -> dict[str, Any]:
        """Fields for `json.dumps`; `from_json` restores an equal rule."""
        if self.threshold is not None:
            return {"threshold": self.threshold, "positive": self.positive, "metric": self.metric}
        return {"costs": [list(row) for row in self.costs], "calibration": self.calibration.as_json()}

    @classmethod
    def from_json(cls, value: Any, classes: int) -> "Decision":
        """The rule from the fields of `as_json`.

        Raises:
            BadInput: the value is something else, or of another number of classes.
        """
        try:
            if "threshold" in value:
                rule = cls(threshold=float(value["threshold"]), positive=value["positive"], metric=str(value["metric"]))
                good = classes == 2 and rule.positive in (0, 1) and np.isfinite(rule.threshold)
            else:
                costs = np.array(value["costs"], np.float64)
                calibration = Calibration.from_json(value["calibration"])
                good = costs.shape == (classes, classes) and np.isfinite(costs).all()
                good = good and len(calibration.biases) == classes
                rule = cls(tuple(map(tuple, costs.tolist())), calibration)
        except (TypeError, KeyError, ValueError):
            good = False
        if not good:
            raise BadInput(f"the decision rule does not fit {classes} classes; train again")
        return rule


def decide(rule: Decision | None, probabilities: np.ndarray) -> np.ndarray:
    """The labels by a rule, or the most probable ones where there is none: int64 `[examples]`."""
    return np.asarray(probabilities).argmax(axis=1) if rule is None else rule.decide(probabilities)


def check_metric(metric: str) -> None:
    """Refuses a `Goal.metric` of another form.

    Raises:
        BadInput: says what was expected.
    """
    constraint = _CONSTRAINED.fullmatch(metric)
    if metric not in _PLAIN and not (constraint and 0 < float(constraint[2]) <= 1):
        raise BadInput(f"--threshold_for is {metric!r}: expected {METRICS}, with P and R above 0 and at most 1")


def tune(goal: Goal, logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> tuple[Decision, str]:
    """The rule for a goal, and a line that says what it is.

    For costs the probabilities are calibrated by a temperature and a bias per class, as training with weights or draws
    that favour a class moves them; every example counts once. A threshold is the middle between two neighbouring
    probabilities of the examples.

    Args:
        goal: what to tune to.
        logits: `[examples, classes]` or `[examples, 1]`, of examples that the model was not trained on.
        labels: int `[examples]`.
        weights: example weights `[examples]` for a threshold; None for 1 each.
    """
    if goal.costs is not None:
        both = two_class_logits(np.asarray(logits))
        calibration = temperature_scaling.bias_corrected(both, labels)
        costs = tuple(map(tuple, np.asarray(goal.costs, np.float64).tolist()))
        text = f"decisions by expected cost, at temperature {calibration.temperature:.3g} with a bias per class"
        return Decision(costs, calibration), text
    # As predictions have them.
    scores = class_probabilities(logits).astype(np.float32)[:, goal.positive].astype(np.float64)
    positives = np.asarray(labels) == goal.positive
    threshold, value, note = best_threshold(goal.metric, scores, positives, weights)
    text = f"threshold {threshold:.4g}, of which {goal.metric} is {value:.4f} on the validation examples{note}"
    return Decision(threshold=threshold, positive=goal.positive, metric=goal.metric), text


def best_threshold(
    metric: str, scores: np.ndarray, positives: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float, str]:
    """The threshold of the largest metric; the metric there; and what could not be reached, or nothing.

    Of equally good thresholds the highest one is taken. Where no threshold has the precision or the recall that is
    asked for, the one that comes nearest is taken.

    Args:
        metric: one of `METRICS`.
        scores: `[examples]`; an example is answered as positive where its score is the threshold or more.
        positives: bool `[examples]`.
        weights: `[examples]`, or None.
    """
    check_metric(metric)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    # The last example of each distinct score, by descending score.
    ends = np.flatnonzero(np.append(np.diff(sorted_scores) != 0, True))
    hits = np.cumsum((weights * positives)[order])[ends]
    alarms = np.cumsum((weights * ~positives)[order])[ends]
    following = np.append(sorted_scores[ends[1:] if len(ends) > 1 else []], 0.0)
    thresholds = (sorted_scores[ends] + following) / 2
    thresholds[-1] = 0.0
    precision = classification.ratio(hits, hits + alarms, 0.0)
    recall = classification.ratio(hits, np.full(len(hits), hits[-1]), 0.0)
    if metric == "f1":
        values, note = classification.ratio(2 * hits, hits + alarms + hits[-1], 0.0), ""
    elif metric == "balanced_accuracy":
        specificity = 1.0 - classification.ratio(alarms, np.full(len(alarms), alarms[-1]), 0.0)
        values, note = (recall + specificity) / 2, ""
    else:
        name, bound = _CONSTRAINED.fullmatch(metric).groups()
        objective, limited = (recall, precision) if name.startswith("recall") else (precision, recall)
        reaches = limited >= float(bound)
        note = "" if reaches.any() else f"; none reaches {bound}, so it is the nearest, {limited.max():.4f}"
        values = np.where(reaches, objective, -1.0) if reaches.any() else limited
        best = int(np.argmax(values))
        return float(thresholds[best]), float(objective[best]), note
    best = int(np.argmax(values))
    return float(thresholds[best]), float(values[best]), note


def metrics(
    rule: Decision,
    logits: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    weights: np.ndarray | None = None,
    *,
    resamples: int = 1000,
) -> dict[str, float]:
    """Metrics of the decided classes as `NAME_decided`, each with its 95 % bootstrap interval.

    `accuracy_decided`, `balanced_accuracy_decided` and `f1_macro_decided`; for a threshold `precision_decided`,
    `recall_decided` and `f1_decided` of the positive class; for costs the mean `cost_decided` beside the `cost` of the
    most probable classes.

    Args:
        rule: the rule.
        logits: `[examples, classes]` or `[examples, 1]`.
        labels: int `[examples]`.
        classes: class names.
        weights: `[examples]`, or None.
        resamples: number of resamples.
    """
    count, labels = len(classes), np.asarray(labels, np.int64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    probabilities = class_probabilities(logits).astype(np.float32)
    decided, likely = labels * count + rule.decide(probabilities), labels * count + probabilities.argmax(axis=1)

    def compute(counts: np.ndarray) -> dict[str, np.ndarray]:
        matrices = [classification.sums(cells, counts * weights, count**2) for cells in (decided, likely)]
        return _of_matrices(rule, *(each.reshape(-1, count, count) for each in matrices), tuple(classes))

    values = {name: float(value[0]) for name, value in compute(np.ones((1, len(labels)))).items()}
    intervals = classification.bootstrap(compute, len(labels), resamples, 0, 0.95)
    return classification.with_intervals(values, intervals)


def _of_matrices(
    rule: Decision, decided: np.ndarray, likely: np.ndarray, classes: tuple[str, ...]
) -> Mapping[str, np.ndarray]:
    """Metrics `[resamples]` from confusion matrices `[resamples, classes, classes]`."""
    every = classification.matrix_metrics(decided, classes)
    names = ["accuracy", "balanced_accuracy", "f1_macro"]
    result = {f"{name}_decided": every[name] for name in names}
    if rule.threshold is not None:
        own = {f"{name}_decided": every[f"{name}/{classes[rule.positive]}"] for name in ("precision", "recall", "f1")}
        return result | own
    total, costs = decided.sum(axis=(1, 2)), np.array(rule.costs)
    both = {"cost_decided": decided, "cost": likely}
    return result | {name: classification.ratio((each * costs).sum(axis=(1, 2)), total) for name, each in both.items()}
