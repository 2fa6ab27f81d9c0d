"""Gradient boosting of trees on the same split as a network, by scikit-learn's defaults.

It chooses nothing on the validation split, so it learns from it, too. NaN is a missing value, which it reads as it is.
"""

from collections.abc import Sequence

import numpy as np
import threadpoolctl

from zoo.data.splits import Splits

# Seconds that a fit may take beside a network that trains for about a minute.
_MOST_SECONDS = 30.0
# Measured on one core: seconds a tree, a tree and column, a tree and number of the table. Trees per class: 100.
_TREE, _TREE_COLUMN, _TREE_NUMBER, _TREES = 2e-3, 7e-5, 1.5e-8, 100
# scikit-learn reads at most 255 categories of a column, and stops early from 10,001 examples on.
_MOST_CATEGORIES, _STOPS_EARLY = 255, 10_000
# Logit of a label that no example has.
_IMPROBABLE = -5.0


def values(data: Splits) -> np.ndarray:
    """Values that histogram gradient boosting predicts for the test split, `[examples]`."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(categorical_features=_are_categories(data), random_state=0)
    return _fit_predict(model, data, *_learned(data))


def classes(data: Splits) -> np.ndarray:
    """Classes that histogram gradient boosting predicts for the test split, `[examples]`."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, y, weights = _learned(data)
    present, counts = np.unique(y, return_counts=True)
    if len(present) == 1:
        return np.full(len(data.test["y"]), present[0])
    # Early stopping splits each class, which one example cannot be.
    stops = len(y) > _STOPS_EARLY and bool(counts.min() > 1)
    model = HistGradientBoostingClassifier(
        categorical_features=_are_categories(data), early_stopping=stops, random_state=0
    )
    return _fit_predict(model, data, x, y, weights)


def label_logits(data: Splits) -> np.ndarray:
    """Logits of each label by a histogram gradient boosting of its own, for the test split: `[examples, labels]`."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, y, weights = _learned(data)
    result = np.empty(data.test["y"].shape)
    for label in range(y.shape[1]):
        positive = y[:, label] > 0
        count = int(positive.sum())
        if count in (0, len(y)):
            result[:, label] = _IMPROBABLE if count == 0 else -_IMPROBABLE
            continue
        stops = len(y) > _STOPS_EARLY and min(count, len(y) - count) > 1
        model = HistGradientBoostingClassifier(
            categorical_features=_are_categories(data), early_stopping=stops, random_state=0
        )
        result[:, label] = _fit_predict(model, data, x, positive, weights, "decision_function")
    return result


def too_long(data: Splits, outputs: int) -> str:
    """Why boosting is left out, where a fit would take more than half a minute on one core; else nothing.

    Args:
        data: the splits.
        outputs: number of classes; 2 are one output. Of labels as many, and 3 at least.
    """
    numbers, columns = data.train["x"].size, data.train["x"].shape[1]
    trees = _TREES * (1 if outputs <= 2 else outputs)
    seconds = trees * (_TREE + _TREE_COLUMN * columns + _TREE_NUMBER * numbers)
    if seconds <= _MOST_SECONDS:
        return ""
    return f"gradient boosting is left out: about {seconds:,.0f} seconds for {numbers:,} numbers and {outputs} classes"


def _learned(data: Splits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = data.train, data.validation
    x, y = (np.concatenate([part[name] for part in parts]) for name in ("x", "y"))
    return x, y, np.concatenate([part.get("weight", np.ones(len(part["y"]))) for part in parts])


def _fit_predict(model, data: Splits, x, y, weights, method: str = "predict") -> np.ndarray:
    is_category = _are_categories(data)
    # Its threads spin where cores are shared, which takes many times longer than one thread.
    with threadpoolctl.threadpool_limits(1):
        model.fit(_known(x, is_category), y, sample_weight=weights)
        return getattr(model, method)(_known(data.test["x"], is_category))


def _are_categories(data: Splits) -> list[bool]:
    """Which columns are read as categories; the codes of more are numbers, the most frequent first."""
    sizes = data.schema.categories if data.schema is not None else (0,) * data.train["x"].shape[1]
    return [0 < size <= _MOST_CATEGORIES for size in sizes]


def _known(x: np.ndarray, is_category: Sequence[bool]) -> np.ndarray:
    """The examples with unseen categories as missing ones, as scikit-learn has them."""
    return np.where(np.asarray(is_category) & (x == -1.0), np.nan, x)
