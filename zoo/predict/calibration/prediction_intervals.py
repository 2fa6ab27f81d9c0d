"""Prediction intervals of a regression by split conformal prediction; NumPy only."""

import math

import numpy as np

from zoo.errors import BadInput


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
