"""Rare classes in the data: weights of classes by their frequency, and draws in which every class is equally frequent.

NumPy only; the losses are in `zoo.models.class_imbalance`.
"""

import numpy as np

from zoo.data import shuffling

# Effective number of samples (Cui et al., 2019): beyond 1 / (1 - beta) examples a class gains no more from further
# ones. Of the paper's 0.9, 0.99, 0.999 and 0.9999, 0.999 lies between `square_roots` and `inverse_frequencies` where
# the largest class has thousands of examples, as in its data sets; 0.9999 would be inverse frequency there.
BETA = 0.999
# Draws of a class after which each of its examples was drawn equally often; fewer would cost a table for each pass
# through a class of a few examples.
_BLOCK = 256
# XORed into the seed, so that the order of draws and the order within a class come from different streams.
_CLASS_STREAM = 0x2545F491


def sampled(method: str, labels: np.ndarray) -> np.ndarray | None:
    """`Batches(balance=...)` for a method of `--imbalance`: the labels for "balanced_sampling", None for the others."""
    return labels if method == "balanced_sampling" else None


def class_sizes(labels: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Number of examples of each class, float64 `[classes]`.

    Args:
        labels: int `[examples]`.
        classes: number of classes; one may have no example.
        weights: example weights `[examples]`, which count in proportion to their mean; None for 1 each.
    """
    sizes = np.bincount(labels, weights, classes).astype(np.float64)
    return sizes * (len(labels) / sizes.sum()) if sizes.sum() > 0 else np.bincount(labels, minlength=classes) * 1.0


def inverse_frequencies(sizes: np.ndarray) -> np.ndarray:
    """Weight of each class so that all classes weigh the same: examples / (classes * size), float64 `[classes]`.

    scikit-learn's "balanced" (King and Zeng, "Logistic regression in rare events data", 2001, section 4.2). As of all
    weights here the mean over the examples is 1, and a class without examples, whose weight is never used, has 1.

    Args:
        sizes: examples of each class, `[classes]`.
    """
    return _normalized(1.0 / _present(sizes), sizes)


def square_roots(sizes: np.ndarray) -> np.ndarray:
    """The square root of `inverse_frequencies`, again of mean 1: half the way on a logarithmic scale."""
    return _normalized(1.0 / np.sqrt(_present(sizes)), sizes)


def effective_numbers(sizes: np.ndarray, beta: float = BETA) -> np.ndarray:
    """Weights (1 - beta) / (1 - beta^size), normalised as in `inverse_frequencies`.

    Cui et al., "Class-balanced loss based on effective number of samples" (2019), equation 11. beta of 0 weighs all
    examples alike; towards 1 it becomes the inverse frequency.
    """
    return _normalized((1.0 - beta) / (1.0 - beta ** _present(sizes)), sizes)


def log_shares(sizes: np.ndarray) -> np.ndarray:
    """Logarithm of each class's share of the examples, float64 `[classes]`; 0 for a class without examples."""
    sizes = np.asarray(sizes, np.float64)
    return np.where(sizes > 0, np.log(_present(sizes) / sizes.sum()), 0.0)


class BalancedDraws:
    """Draws of examples in which each class is equally frequent; draw n is a pure function of (seed, n).

    Any `classes` draws in a row hold one example of each class that has some. Within a class its examples are shuffled
    anew for each pass, and each was drawn equally often after every pass; rare ones repeat, so augmentation or
    regularization matters more than without (Buda et al., "A systematic study of the class imbalance problem", 2018,
    section 2.1: oversampling).

    Args:
        labels: int `[examples]`.
        seed: the run's seed.
    """

    def __init__(self, labels: np.ndarray, seed: int):
        order = np.argsort(labels, kind="stable").astype(np.int32)
        _, sizes = np.unique(labels, return_counts=True)
        self._members = np.split(order, np.cumsum(sizes)[:-1])
        self._seed = seed

    def examples(self, draws: np.ndarray) -> np.ndarray:
        """The examples of draws by number, int64 `[draws]` from 0: int32 of the same shape."""
        numbers, groups = np.divmod(draws, len(self._members))
        result = np.empty(len(draws), np.int32)
        for group in np.unique(groups).tolist():
            chosen = groups == group
            result[chosen] = self._of_class(group, numbers[chosen])
        return result

    def _of_class(self, group: int, numbers: np.ndarray) -> np.ndarray:
        members = self._members[group]
        block = len(members) * -(-_BLOCK // len(members))
        passes, places = np.divmod(numbers, block)
        result = np.empty(len(numbers), np.int32)
        # Seeds are below 2^32.
        seed = (self._seed ^ _CLASS_STREAM) + ((group + 1) << 32)
        for number in np.unique(passes).tolist():
            chosen = passes == number
            shuffled = shuffling.shuffled(places[chosen].astype(np.int32), block, seed, number)
            result[chosen] = members[shuffled % len(members)]
        return result


def _present(sizes: np.ndarray) -> np.ndarray:
    """The sizes, 1 for a class without examples."""
    sizes = np.asarray(sizes, np.float64)
    return np.where(sizes > 0, sizes, 1.0)


def _normalized(weights: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    weights = weights * (np.sum(sizes) / np.sum(weights * sizes))
    return np.where(np.asarray(sizes) > 0, weights, 1.0)
