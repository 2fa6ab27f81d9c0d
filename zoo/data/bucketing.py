"""Sequences of similar length in one batch: the plan of an epoch is a function of (seed, epoch)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.data import shuffling

# Batches whose examples are mixed with each other: enough for chance, few enough for nearly equal lengths.
_POOL = 8
# Changes the seed, so that batches and examples are shuffled by different streams.
_BATCHES = 0x5BD1E995
# Plans kept: the epoch that is read and the one that begins.
_KEPT = 2


class Plan(NamedTuple):
    """One epoch.

    Attributes:
        rows: int32 `[steps, batch_size]`, the examples of each batch; -1 for padding in the one short batch.
        width_numbers: int32 `[steps]`, which of the widths each batch is cut to.
    """

    rows: np.ndarray
    width_numbers: np.ndarray


class Plans:
    """The plans of all epochs: made when asked for.

    Args:
        lengths: int `[examples]`.
        widths: ascending; a batch gets the smallest that its longest example fits in.
        batch_size: examples per batch.
        seed: of the order; None for the same order in each epoch, short examples first.
    """

    def __init__(self, lengths: np.ndarray, widths: Sequence[int], batch_size: int, seed: int | None):
        self._lengths = lengths
        self._widths = np.asarray(widths)
        self._batch_size = batch_size
        self._seed = seed
        # Pools of neighbours in length: only inside one are examples mixed. Each but the last holds whole batches.
        self._by_length = np.argsort(lengths, kind="stable").astype(np.int32)
        self._pools = np.arange(len(lengths)) // (_POOL * batch_size)
        self._made: dict[int, Plan] = {}

    def of(self, epoch: int) -> Plan:
        epoch = epoch if self._seed is not None else 0
        if epoch not in self._made:
            while len(self._made) >= _KEPT:
                del self._made[next(iter(self._made))]
            self._made[epoch] = self._plan(epoch)
        return self._made[epoch]

    def _plan(self, epoch: int) -> Plan:
        examples, steps = len(self._lengths), math.ceil(len(self._lengths) / self._batch_size)
        chosen = self._by_length
        if self._seed is not None:
            chance = shuffling.shuffled(np.arange(examples, dtype=np.int32), examples, self._seed, epoch)
            chosen = chosen[np.lexsort((chance, self._pools))]
        rows = np.full(steps * self._batch_size, -1, np.int32)
        rows[:examples] = chosen
        rows = rows.reshape(steps, self._batch_size)
        if self._seed is not None:
            # One by one: with a few batches of one length in a row, a run learns visibly worse. Another stream than the
            # examples' order: the same one would tie the two together.
            rows = rows[shuffling.shuffled(np.arange(steps, dtype=np.int32), steps, self._seed ^ _BATCHES, epoch)]
        longest = np.where(rows >= 0, self._lengths[rows], 0).max(axis=1)
        return Plan(rows, np.searchsorted(self._widths, longest).astype(np.int32))


def widths(lengths: np.ndarray, most: int = 6, multiple: int = 8) -> tuple[int, ...]:
    """Widths that about equally many sequences fall between: each is one more compilation.

    Args:
        lengths: int `[examples]`, 1 or more.
        most: widths; 6 leave a tenth of padding on film reviews.
        multiple: that each is rounded up to, so that matrix products keep good shapes.
    """
    edges = np.quantile(lengths, np.arange(1, most + 1) / most, method="higher")
    return tuple(sorted({int(-(-edge // multiple) * multiple) for edge in edges}))
