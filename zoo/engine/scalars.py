"""Means of terms from their sums over steps, by the names that the engine returns them under."""

from collections.abc import Mapping

import numpy as np


def means(scalars: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of each term over all steps: sum / sum, added up in float64 in the order of the steps."""
    return ratios({name: sum(values.tolist()) for name, values in scalars.items()})


def ratios(totals: Mapping[str, float]) -> dict[str, float]:
    """`name/numerator` divided by `name/weight`, by name, without the other entries."""
    names = [name.removesuffix("/numerator") for name in totals if name.endswith("/numerator")]
    return {name: totals[f"{name}/numerator"] / (totals[f"{name}/weight"] or 1.0) for name in names}
