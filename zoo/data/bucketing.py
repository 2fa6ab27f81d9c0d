"""Length bucketing: batches of sequences of similar length; an epoch's plan is a function of (seed, epoch)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from zoo.data import shuffling

# Batches per pool, whose examples are mixed: enough for randomness, few enough for nearly equal lengths.
_POOL_BATCHES = 8
# XORed into the seed, so that batches and examples are shuffled by different streams.
_BATCH_STREAM = 0x5BD1E995
# Cached plans: the current epoch and the next one.
_CACHED_PLANS = 2


class Plan(NamedTuple):
    """The batches of one epoch.

    Attributes:
        rows: int32 `[steps, batch_size]`, example indices of each batch; -1 for padding in the one short batch.
        width_numbers: int32 `[steps]`, index of the width that each batch is cut to.
    """

    rows: np.ndarray
    width_numbers: np.ndarray


class Plans:
    """The plans of all epochs, computed on demand.

    Args:
        lengths: int `[examples]`, sequence lengths.
        widths: ascending; a batch gets the smallest one that fits its longest example.
        batch_size: examples per batch.
        seed: seed of the shuffled order; None for the same order in each epoch, short examples first.
        draw: the examples of an epoch, int32 `[examples]`, where some are drawn more than once; None: each one once.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        widths: Sequence[int],
        batch_size: int,
        seed: int | None,
        draw: Callable[[int], np.ndarray] | None = None,
    ):
        self._lengths = lengths
        self._widths = np.asarray(widths)
        self._batch_size = batch_size
        self._seed = seed
        self._draw = draw
        # Examples are mixed only within a pool of neighbours in length. Each pool but the last holds whole batches.
        self._by_length = np.argsort(lengths, kind="stable").astype(np.int32)
        self._pools = np.arange(len(lengths)) // (_POOL_BATCHES * batch_size)
        self._cache: dict[int, Plan] = {}

    def of(self, epoch: int) -> Plan:
        epoch = epoch if self._seed is not None else 0
        if epoch not in self._cache:
            while len(self._cache) >= _CACHED_PLANS:
                del self._cache[next(iter(self._cache))]
            self._cache[epoch] = self._plan(epoch)
        return self._cache[epoch]

    def _plan(self, epoch: int) -> Plan:
        examples, steps = len(self._lengths), math.ceil(len(self._lengths) / self._batch_size)
        order = self._by_length
        if self._draw is not None:
            drawn = self._draw(epoch)
            order = drawn[np.argsort(self._lengths[drawn], kind="stable")]
        if self._seed is not None:
            random_keys = shuffling.shuffled(np.arange(examples, dtype=np.int32), examples, self._seed, epoch)
            order = order[np.lexsort((random_keys, self._pools))]
        rows = np.full(steps * self._batch_size, -1, np.int32)
        rows[:examples] = order
        rows = rows.reshape(steps, self._batch_size)
        if self._seed is not None:
            # Single batches are shuffled: with a few batches of one length in a row, a run learns visibly worse. The
            # examples' stream would correlate the two orders.
            rows = rows[shuffling.shuffled(np.arange(steps, dtype=np.int32), steps, self._seed ^ _BATCH_STREAM, epoch)]
        longest = np.where(rows >= 0, self._lengths[rows], 0).max(axis=1)
        return Plan(rows, np.searchsorted(self._widths, longest).astype(np.int32))


def widths(lengths: np.ndarray, most: int = 6, multiple: int = 8) -> tuple[int, ...]:
    """Bucket widths at quantiles of the lengths, for about equally many sequences each; each width is compiled once.

    Args:
        lengths: int `[examples]`, 1 or more.
        most: maximum number of widths; 6 leave 10 % padding on film reviews.
        multiple: each width is rounded up to a multiple of it, for efficient shapes in matrix products.
    """
    edges = np.quantile(lengths, np.arange(1, most + 1) / most, method="higher")
    return tuple(sorted({int(-(-edge // multiple) * multiple) for edge in edges}))
