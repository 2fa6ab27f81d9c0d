"""Counts of the tokens that follow a context: in a fixed text, and in a text that grows token by token.

A context is the last k tokens, for several k. It is found by a 64-bit hash: among a million contexts, any two share one
with a probability of 3e-8.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Odd constants of 64 bits with half of their bits set: 2^64 over the golden ratio, and one of xxHash.
_CONTEXT, _PAIR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class Counts(NamedTuple):
    """Counts of one token after one context, or arrays of them.

    Attributes:
        count: how often the token followed the context.
        total: how often the context occurred before a token.
        distinct: number of different tokens after the context.
    """

    count: np.ndarray | int
    total: np.ndarray | int
    distinct: np.ndarray | int


class Keys(NamedTuple):
    """Hashes at each place of a text, uint64 `[tokens]`.

    Attributes:
        contexts: hash of the k tokens before it, 0 where there are fewer.
        pairs: hash of these tokens and the token at the place.
    """

    contexts: np.ndarray
    pairs: np.ndarray


def keys(ids: np.ndarray, lengths: Sequence[int]) -> list[Keys]:
    """The keys of a text for each length of context.

    Args:
        ids: int `[tokens]`.
        lengths: lengths of contexts, 1 or more, ascending.
    """
    tokens, found = np.asarray(ids).astype(np.uint64) + np.uint64(1), []
    contexts = np.zeros(len(tokens), np.uint64)
    for length in range(1, max(lengths, default=0) + 1):
        # Backwards in time, so that a longer context goes on from the shorter one's hash.
        before = np.zeros_like(tokens)
        before[length:] = tokens[:-length]
        contexts = _mix(contexts ^ before, _CONTEXT)
        contexts[:length] = 0
        if length in lengths:
            found.append(Keys(contexts, _mix(contexts ^ tokens, _PAIR)))
    return found


class FixedCounts:
    """Counts in a text that does not change; about 200 bytes a token for nine lengths.

    Args:
        ids: int `[tokens]`.
        lengths: lengths of contexts, ascending.
    """

    def __init__(self, ids: np.ndarray, lengths: Sequence[int]):
        self._tables = [_Table(one, length) for one, length in zip(keys(ids, lengths), lengths)]

    def find(self, wanted: Sequence[Keys]) -> list[Counts]:
        """The counts at each place, int arrays `[tokens]`, for the keys of the first lengths."""
        return [table.find(one) for table, one in zip(self._tables, wanted)]


class _Table:
    """Counts for contexts of one length."""

    def __init__(self, one: Keys, length: int):
        contexts, pairs = one.contexts[length:], one.pairs[length:]
        self._pairs, first, count = np.unique(pairs, return_index=True, return_counts=True)
        self._contexts, total = np.unique(contexts, return_counts=True)
        _, distinct = np.unique(contexts[first], return_counts=True)
        self._count, self._total, self._distinct = (each.astype(np.int32) for each in (count, total, distinct))

    def find(self, wanted: Keys) -> Counts:
        if not len(self._pairs):
            return Counts(*np.zeros((3, len(wanted.pairs)), np.int32))
        pair, has_pair = _find(self._pairs, wanted.pairs)
        context, has_context = _find(self._contexts, wanted.contexts)
        return Counts(
            np.where(has_pair, self._count[pair], 0),
            np.where(has_context, self._total[context], 0),
            np.where(has_context, self._distinct[context], 0),
        )


class GrowingCounts:
    """Counts for contexts of one length in the text so far; up to 300 bytes a token."""

    def __init__(self):
        self._pairs: dict[int, int] = {}
        self._totals: dict[int, int] = {}
        self._distinct: dict[int, int] = {}

    def find(self, context: int, pair: int) -> Counts:
        return Counts(self._pairs.get(pair, 0), self._totals.get(context, 0), self._distinct.get(context, 0))

    def add(self, context: int, pair: int) -> None:
        """Counts one more token after a context."""
        count = self._pairs.get(pair, 0)
        self._pairs[pair] = count + 1
        self._totals[context] = self._totals.get(context, 0) + 1
        if not count:
            self._distinct[context] = self._distinct.get(context, 0) + 1


def _mix(values: np.ndarray, factor: np.uint64) -> np.ndarray:
    """Values whose bits depend on all lower bits of the product, and on some higher ones."""
    product = values * factor
    return product ^ (product >> np.uint64(29))


def _find(table: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of each wanted key in a sorted table, and whether it is there."""
    index = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return index, table[index] == wanted
