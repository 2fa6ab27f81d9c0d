"""The linear baseline that a network has to beat, on the same split."""

import warnings

import numpy as np

from zoo.data.splits import Splits

# Of the inverse L2 strength; chosen on the validation split, as the network's settings are.
_STRENGTHS = (0.01, 0.1)


def linear_accuracy(data: Splits) -> float:
    """Accuracy on the test split of multinomial logistic regression fitted to the training split."""
    fitted = [_fitted(data, strength) for strength in _STRENGTHS]
    best = max(fitted, key=lambda model: model.score(_flat(data.validation["x"]), data.validation["y"]))
    return float(best.score(_flat(data.test["x"]), data.test["y"]))


def _fitted(data: Splits, strength: float):
    # Imported here: it costs seconds, and most runs have no baseline.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler, StandardScaler

    scaler = MaxAbsScaler() if data.scale else StandardScaler()
    model = make_pipeline(scaler, LogisticRegression(C=strength, max_iter=200))
    with warnings.catch_warnings():
        # 200 steps are enough for the accuracy to settle, if not for every coefficient.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(_flat(data.train["x"]), data.train["y"])


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float32)
