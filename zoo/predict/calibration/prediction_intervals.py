"""Prediction intervals of a regression by split conformal prediction; NumPy only."""

import math
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import BadInput


class Interval(NamedTuple):
    """A predicted value and the ends of its interval."""

    value: float
    low: float
    high: float


class IntervalPredict:
    """A regression whose predictions are `Interval`s; the rest is the regression's.

    Args:
        predictor: the regression.
        half_width: half the width of each interval, from `half_width`.
    """

    def __init__(self, predictor: Any, half_width: float):
        self._predictor = predictor
        self.half_width = half_width

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def predict(self, examples: Any, top: int = 1) -> list[Interval]:
        """The value and the interval of each example; see `Predictor`."""
        return [
            Interval(value, value - self.half_width, value + self.half_width)
            for value in self._predictor.values(examples).tolist()
        ]


def half_width(errors: np.ndarray, coverage: float) -> float:
    """Half the width of intervals around predictions that contain a new value with at least a given probability.

    Of n errors it is the `ceil((n + 1) * coverage)`-th smallest size (Lei et al., "Distribution-free predictive
    inference for regression", 2018, section 2.2). The probability is over the errors, too, and holds for examples like
    theirs, whatever the model and the distribution, if they had no part in training.

    Args:
        errors: differences between predictions and values of held-out examples, `[examples]`.
        coverage: between 0 and 1.

    Raises:
        BadInput: the coverage is out of range, or there are too few errors for it.
    """
    if not 0.0 < coverage < 1.0:
        raise BadInput(f"--interval is {coverage:g}: expected a probability between 0 and 1, such as 0.9")
    sizes = np.sort(np.abs(np.asarray(errors, np.float64)))
    # Rounded first: 0.9 * 10 is 9, not 9.000000000000002 and so 10.
    rank = math.ceil(round((len(sizes) + 1) * coverage, 9))
    if rank > len(sizes):
        needed = math.ceil(round(coverage / (1.0 - coverage), 9))
        raise BadInput(
            f"--interval={coverage:g} needs {needed:,} validation examples or more, and the run has {len(sizes):,}; "
            "expected a lower probability"
        )
    return float(sizes[rank - 1])
