"""Class proportions of unlabelled examples under label shift, estimated from the correlations of a layer's channels.

Noise, a change of brightness or of contrast change each channel of a layer in a nearly affine way, and an affine change
leaves the correlations between channels as they are. But the correlations differ by class, and in a mixture of classes
they depend on its proportions: so these can be estimated without the model's predictions, which a shift makes wrong.
Where no proportions explain the correlations, new statistics cannot mend the shift: of a rotated or translated image,
for example.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

# 8,128 correlations; more take longer and say the same.
_CHANNELS = 128
# Bound on the logarithms of proportions: a proportion below e^-8 is negligible.
_BOUND = 8.0
_ITERATIONS = 15
_TINY = 1e-9


class ClassProportions(NamedTuple):
    """An estimate of class proportions.

    Attributes:
        shares: proportion of each class, `[classes]`, adding up to 1.
        similarity: cosine of the measured correlations and those of such a mixture, at most 1.
    """

    shares: np.ndarray
    similarity: float


class CorrelationModel:
    """The correlations of the source data by class.

    Args:
        values: activations of a layer, `[examples, channels]`.
        labels: int `[examples]`, each class at least once.
        classes: number of classes.
    """

    def __init__(self, values: np.ndarray, labels: np.ndarray, classes: int):
        # The channels of the largest variance are the least disturbed.
        self._chosen = np.sort(np.argsort(-values.var(axis=0), kind="stable")[:_CHANNELS])
        groups = [self._selected(values[labels == label]) for label in range(classes)]
        self._means = np.stack([group.mean(axis=0) for group in groups])  # [classes, channels]
        self._products = np.stack([group.T @ group / len(group) for group in groups])  # [classes, channels, channels]

    def shares(self, values: np.ndarray) -> ClassProportions:
        """Estimates the proportions whose correlations are most similar to those of the examples.

        Cosine similarity ignores scale, so that noise, which makes all correlations smaller, changes nothing.

        Args:
            values: activations of the same layer, `[examples, channels]`.
        """
        values = self._selected(values)
        mean = values.mean(axis=0)
        measured = _correlations(values.T @ values / len(values) - np.outer(mean, mean))  # [channels, channels]
        classes = len(self._means)
        single = [self._distance(row, measured)[0] for row in 2 * _BOUND * np.eye(classes)]
        # Two starts, even proportions and the most similar class: the search is not convex.
        starts = np.zeros(classes), 3.0 * np.eye(classes)[int(np.argmin(single))]
        bounds = [(-_BOUND, _BOUND)] * classes
        options = {"maxiter": _ITERATIONS}
        arguments = dict(args=(measured,), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        results = [optimize.minimize(self._distance, start, **arguments) for start in starts]
        best = min(results, key=lambda result: result.fun)
        return ClassProportions(special.softmax(best.x), -float(best.fun))

    def _distance(self, logarithms: np.ndarray, measured: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the cosine of the mixture's correlations and the measured ones; its gradient by the logarithms."""
        shares = special.softmax(logarithms)
        mean = shares @ self._means  # [channels]
        covariance = np.tensordot(shares, self._products, 1) - np.outer(mean, mean)  # [channels, channels]
        mixture = _correlations(covariance)
        lengths = np.linalg.norm(measured), np.linalg.norm(mixture)
        cosine = np.sum(measured * mixture) / max(lengths[0] * lengths[1], _TINY)
        by_mixture = measured / max(lengths[0] * lengths[1], _TINY) - cosine * mixture / max(lengths[1] ** 2, _TINY)
        deviation = np.sqrt(np.maximum(np.diag(covariance), _TINY))
        by_covariance = by_mixture / np.outer(deviation, deviation)
        by_covariance -= np.diag(np.sum(by_mixture * mixture, axis=1) / deviation**2)
        by_products = np.einsum("ij,kij->k", by_covariance, self._products)  # [classes]
        by_shares = by_products - 2 * self._means @ by_covariance @ mean  # [classes]
        return -float(cosine), -shares * (by_shares - shares @ by_shares)

    def _selected(self, values: np.ndarray) -> np.ndarray:
        return values[:, self._chosen].astype(np.float64)  # [examples, chosen channels]


def total_variation(shares: np.ndarray, others: np.ndarray) -> float:
    """Total variation distance of two class proportions `[classes]`, from 0 to 1."""
    return float(np.abs(shares - others).sum() / 2)


def _correlations(covariance: np.ndarray) -> np.ndarray:
    """Correlations `[channels, channels]` with 0 on the diagonal, where they are 1 for any proportions."""
    deviation = np.sqrt(np.maximum(np.diag(covariance), _TINY))
    correlations = covariance / np.outer(deviation, deviation)
    np.fill_diagonal(correlations, 0.0)
    return correlations
