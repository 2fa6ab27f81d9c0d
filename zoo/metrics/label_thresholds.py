"""A threshold for each label of a multi-label classifier, tuned on the validation split."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from zoo.errors import BadInput
from zoo.metrics import decisions

# Without a tuned threshold, and for a label that the validation split cannot tell about.
PLAIN = 0.5


class LabelGoal(NamedTuple):
    """What thresholds are tuned to: one of `decisions.METRICS`, of each label by itself."""

    metric: str


@dataclasses.dataclass(frozen=True)
class LabelThresholds:
    """Thresholds of labels.

    Attributes:
        values: probability of each label from which on it is predicted.
        metric: what they were tuned to.
    """

    values: tuple[float, ...]
    metric: str

    def as_json(self) -> dict[str, Any]:
        """Fields for `json.dumps`; `from_json` restores an equal rule."""
        return {"thresholds": list(self.values), "metric": self.metric}

    @classmethod
    def from_json(cls, value: Any, labels: int) -> "LabelThresholds":
        """The thresholds from the fields of `as_json`.

        Raises:
            BadInput: the value is something else, or of another number of labels.
        """
        try:
            rule = cls(tuple(map(float, value["thresholds"])), str(value["metric"]))
            good = len(rule.values) == labels and np.isfinite(rule.values).all()
        except (TypeError, KeyError, ValueError):
            good = False
        if not good:
            raise BadInput(f"the thresholds do not fit {labels} labels; train again")
        return rule


def tune(
    goal: LabelGoal, logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> tuple[LabelThresholds, str]:
    """The thresholds for a goal, each by `decisions.best_threshold`, and a line that says what they are.

    Args:
        goal: what to tune to.
        logits: `[examples, labels]`, of examples that the model was not trained on.
        labels: 0 or 1, `[examples, labels]`.
        weights: example weights `[examples]`; None for 1 each.
    """
    probabilities = special.expit(np.asarray(logits, np.float64)).astype(np.float32).astype(np.float64)
    values, unknown = [], 0
    for scores, column in zip(probabilities.T, np.asarray(labels).T):
        is_positive = column > 0
        if is_positive.all() or not is_positive.any():
            values.append(PLAIN)
            unknown += 1
        else:
            values.append(decisions.best_threshold(goal.metric, scores, is_positive, weights)[0])
    text = f"thresholds for {goal.metric} on the validation examples: {min(values):.4g} to {max(values):.4g}"
    if unknown:
        text += f"; {PLAIN} for {unknown} label{'s' if unknown > 1 else ''} that none or all of them have"
    return LabelThresholds(tuple(values), goal.metric), text
