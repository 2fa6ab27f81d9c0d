"""The shares of the classes among unlabelled examples, read from how the channels of a layer are correlated.

Noise, another brightness or contrast change each channel of a layer about affinely, and an affine change leaves the
correlations between channels as they are. But they differ by class, and of a mixture of classes they are those of its
shares: so the shares follow from them, without the model's answers, which a shift makes wrong. And where no shares
explain the correlations, the shift is none that new statistics could mend: a turned or a moved image is such a one.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

# 8,128 correlations; more take longer and tell the same.
_CHANNELS = 128
# Of the logarithms of shares: below e^-8 a share is none.
_LOWEST = 8.0
_ITERATIONS = 15
_TINY = 1e-9


class ClassProportions(NamedTuple):
    """What the correlations say.

    Attributes:
        shares: of the classes, `[classes]`, adding up to 1.
        similarity: cosine of the correlations that are seen and those of such a mixture, at most 1.
    """

    shares: np.ndarray
    similarity: float


class CorrelationModel:
    """The source's correlations, by class.

    Args:
        values: of a layer, `[examples, channels]`.
        labels: int `[examples]`, each class at least once.
        classes: how many there are.
    """

    def __init__(self, values: np.ndarray, labels: np.ndarray, classes: int):
        # Those that vary most are least disturbed.
        self._chosen = np.sort(np.argsort(-values.var(axis=0), kind="stable")[:_CHANNELS])
        groups = [self._of(values[labels == label]) for label in range(classes)]
        self._means = np.stack([group.mean(axis=0) for group in groups])
        self._products = np.stack([group.T @ group / len(group) for group in groups])

    def shares(self, values: np.ndarray) -> ClassProportions:
        """The shares whose correlations are most like those of some examples.

        The cosine knows only proportions, so that noise, which makes all correlations smaller, changes nothing.

        Args:
            values: of the same layer, `[examples, channels]`.
        """
        seen = self._of(values)
        mean = seen.mean(axis=0)
        seen = _correlations(seen.T @ seen / len(seen) - np.outer(mean, mean))
        classes = len(self._means)
        single = [self._distance(row, seen)[0] for row in 2 * _LOWEST * np.eye(classes)]
        # From even shares and from the nearest class: the search is not convex.
        starts = np.zeros(classes), 3.0 * np.eye(classes)[int(np.argmin(single))]
        limits = [(-_LOWEST, _LOWEST)] * classes
        options = {"maxiter": _ITERATIONS}
        arguments = dict(args=(seen,), jac=True, method="L-BFGS-B", bounds=limits, options=options)
        ends = [optimize.minimize(self._distance, start, **arguments) for start in starts]
        found = min(ends, key=lambda end: end.fun)
        return ClassProportions(special.softmax(found.x), -float(found.fun))

    def _distance(self, logarithms: np.ndarray, seen: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the cosine of the shares' correlations and those that are seen; its gradient by the logarithms."""
        shares = special.softmax(logarithms)
        mean = shares @ self._means
        covariance = np.tensordot(shares, self._products, 1) - np.outer(mean, mean)
        found = _correlations(covariance)
        lengths = np.linalg.norm(seen), np.linalg.norm(found)
        cosine = np.sum(seen * found) / max(lengths[0] * lengths[1], _TINY)
        by_found = seen / max(lengths[0] * lengths[1], _TINY) - cosine * found / max(lengths[1] ** 2, _TINY)
        deviation = np.sqrt(np.maximum(np.diag(covariance), _TINY))
        by_covariance = by_found / np.outer(deviation, deviation)
        by_covariance -= np.diag(np.sum(by_found * found, axis=1) / deviation**2)
        by_shares = np.einsum("ij,kij->k", by_covariance, self._products) - 2 * self._means @ by_covariance @ mean
        return -float(cosine), -shares * (by_shares - shares @ by_shares)

    def _of(self, values: np.ndarray) -> np.ndarray:
        return values[:, self._chosen].astype(np.float64)


def _correlations(covariance: np.ndarray) -> np.ndarray:
    """`[channels, channels]`, with 0 on the diagonal, where they are 1 whatever the shares."""
    deviation = np.sqrt(np.maximum(np.diag(covariance), _TINY))
    found = covariance / np.outer(deviation, deviation)
    np.fill_diagonal(found, 0.0)
    return found
