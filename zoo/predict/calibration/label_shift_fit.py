"""Overidentification test of label shift: whether class proportions alone explain how predictions shifted.

Under label shift, examples of a class look as before. So the mean of any feature of the predictions over a stream is a
mixture of its means by class on the validation split, with the stream's class proportions as weights. With more
features than classes, proportions that fit all of them exist only if the assumption holds: the remaining distance, in
units of its covariance, is chi-square distributed (Hansen, "Large sample properties of generalized method of moments
estimators", 1982, section 4). With the predicted classes alone the fit is the confusion matrix's (Lipton et al.,
"Detecting and correcting for label shift with black box predictors", 2018), which has as many equations as unknowns and
so cannot be tested; Garg et al., "A unified view of label shift estimation", 2020, relate it to maximum likelihood.

The covariance includes that of the means by class, so a class of few validation examples has wide errors. NumPy and
SciPy only.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

# Pseudo-examples of each class, distributed by the model's own probabilities, in the means; and in the covariances,
# distributed as the pooled classes: a class of two or three examples has neither of its own.
_MEAN_EXAMPLES, _COVARIANCE_EXAMPLES = 2.0, 10.0
# Features beyond so many standard deviations are cut: chi-square holds for means of what has light tails.
_WIDEST = 4.0
_TINY = 1e-9
_ITERATIONS, _CONVERGED = 5, 1e-3
# Weight of the equation that the proportions sum to 1, against others in units of their standard errors.
_SUM_WEIGHT = 1e4


class ProportionsFit(NamedTuple):
    """Class proportions fitted to a stream.

    Attributes:
        shares: `[classes]`.
        errors: their standard errors `[classes]`.
        p_value: probability of so poor a fit, or a poorer one, under label shift.
        explained: part of the shift that the shares explain, at most 1: 1 - unexplained / all, of the squared distances
            beyond those expected by chance.
    """

    shares: np.ndarray
    errors: np.ndarray
    p_value: float
    explained: float


class LabelShiftFit:
    """The features of a validation split by class.

    Args:
        features: `[examples, features]` of the predictions.
        labels: int `[examples]`.
        probabilities: calibrated probabilities `[examples, classes]`.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, probabilities: np.ndarray):
        self._center, self._scale = features.mean(axis=0), features.std(axis=0)
        self._used = self._scale > _TINY
        values = self.standardized(features)
        classes = probabilities.shape[1]
        counts = np.bincount(labels, minlength=classes)
        weights = np.eye(classes)[labels] + _MEAN_EXAMPLES * probabilities / probabilities.sum(axis=0)
        self._counts = counts + _MEAN_EXAMPLES
        self._source = counts / counts.sum()
        self._means = values.T @ weights / self._counts  # [features, classes]
        self._labels, self._residuals = labels, values - self._means[:, labels].T
        self._pooled = self._residuals.T @ self._residuals / len(labels)

    def standardized(self, features: np.ndarray) -> np.ndarray:
        """Features `[examples, features]` in the validation split's standard deviations, cut at four of them."""
        values = (features - self._center)[:, self._used] / self._scale[self._used]
        return np.clip(values, -_WIDEST, _WIDEST)

    def fit(self, mean: np.ndarray, examples: float) -> ProportionsFit:
        """Fits class proportions to a stream by generalised least squares.

        Args:
            mean: mean of the stream's standardized features.
            examples: number of examples in the mean, above 0; an effective one where they are weighted.
        """
        shares = self._source
        for _ in range(_ITERATIONS):
            factor = self._cholesky(shares, examples)
            means, seen = np.linalg.solve(factor, self._means), np.linalg.solve(factor, mean)
            before, shares = shares, _least_squares(means, seen)
            if np.abs(shares - before).max() < _CONVERGED:
                break
            shares = (shares + before) / 2
        unexplained, shift = (float(np.sum((seen - means @ each) ** 2)) for each in (shares, self._source))
        features, free = len(mean), int((shares > _TINY).sum()) - 1
        excess = max(0.0, unexplained - (features - free)), max(_TINY, shift - features)
        p_value = float(stats.chi2.sf(unexplained, max(features - free, 1)))
        return ProportionsFit(shares, _standard_errors(means), p_value, 1 - excess[0] / excess[1])

    def _cholesky(self, shares: np.ndarray, examples: float) -> np.ndarray:
        """A factor of the covariance of the mean features minus their fit: that of the stream, and of the means."""
        center = self._means @ shares
        between = (self._means * shares) @ self._means.T - np.outer(center, center)
        covariance = self._within(shares / examples + shares**2 / self._counts) + between / examples
        return np.linalg.cholesky(covariance + 1e-6 / examples * np.eye(len(center)))

    def _within(self, weights: np.ndarray) -> np.ndarray:
        """The sum of the covariances within classes, weighted."""
        each = weights / (self._counts + _COVARIANCE_EXAMPLES)  # [classes]
        own = (self._residuals * each[self._labels, None]).T @ self._residuals
        return own + _COVARIANCE_EXAMPLES * each.sum() * self._pooled


def _least_squares(means: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Proportions, none negative and adding up to 1, whose mixture of `means` is nearest to `seen`."""
    equations = np.vstack([means, np.full(means.shape[1], _SUM_WEIGHT)])
    shares, _ = optimize.nnls(equations, np.append(seen, _SUM_WEIGHT))
    return shares / shares.sum()


def _standard_errors(means: np.ndarray) -> np.ndarray:
    """Standard errors of proportions that add up to 1, from whitened means `[features, classes]`."""
    classes = means.shape[1]
    # Orthogonal directions along which the sum stays.
    directions = np.linalg.svd(np.ones((1, classes)))[2][1:].T
    information = directions.T @ means.T @ means @ directions
    ridge = _TINY * max(np.trace(information), _TINY) * np.eye(classes - 1)
    covariance = directions @ np.linalg.inv(information + ridge) @ directions.T
    return np.sqrt(np.maximum(np.diag(covariance), 0.0))
