"""Texts that are nearly the same, in time that grows with their number: min-wise hashing, then an exact check.

Two texts are near duplicates if of the pieces of five characters that either has, 80 % are in both (the Jaccard
similarity; case and white space do not count). Candidates are found by one-permutation hashing (Li, Owen
and Zhang, 2012) with densification (Shrivastava and Li, 2014), in bands (Leskovec, Rajaraman and Ullman, "Mining of
massive datasets", section 3.4); of each pair of candidates the similarity is computed exactly.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

SIMILAR = 0.8
# Characters in a piece: words of many languages share three or four by chance.
_PIECE = 5
# Places of a sketch, and places in a band. A pair with a similarity of 0.8 shares a band with probability 0.9998.
_PLACES, _BAND = 64, 4
# Agreement of two sketches below which a pair is not compared: three standard deviations under 0.8.
_ALIKE = 0.65
# Characters that are hashed at a time.
_CHUNK = 1 << 22
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.iinfo(np.uint32).max


def groups(texts: Sequence[str]) -> np.ndarray:
    """The number of each text's group, int `[texts]`: near duplicates, and their near duplicates, have one number.

    An empty text is in a group of its own.

    Args:
        texts: texts of any length.
    """
    plain = [" ".join(text.casefold().split()) for text in texts]
    sketches = _sketches(plain)
    pieces = functools.lru_cache(maxsize=4096)(lambda row: np.unique(_hashes([plain[row]])[0]))
    pairs = candidates(_bands(sketches))
    pairs = pairs[agreement(sketches, pairs) >= _ALIKE]
    return linked(pairs, len(plain), lambda one, other: jaccard(pieces(one), pieces(other)) >= SIMILAR)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the elements of two sets that are in both; the elements of each are different ones."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / max(len(one) + len(other) - both, 1)


def candidates(bands: Sequence[np.ndarray], window: int = 1) -> np.ndarray:
    """Pairs of rows that share a value of a band, int `[pairs, 2]`, the earlier row first.

    Within the rows of one value each is paired with the first and with those just before it, so that the number of
    pairs grows with that of the rows, also where thousands of them are alike.

    Args:
        bands: values of each row, int `[rows]`; below 0 the row has none.
        window: with how many rows just before it each is paired.
    """
    found = [np.zeros((0, 2), np.int64)]
    for values in bands:
        order = np.argsort(values, kind="stable")
        order = order[values[order] >= 0]
        is_start = np.ones(len(order), bool)
        is_start[1:] = values[order][1:] != values[order][:-1]
        starts = np.maximum.accumulate(np.where(is_start, np.arange(len(order)), 0))
        for distance in range(window + 1):
            # At a distance of 0 with the first.
            earlier = np.arange(len(order)) - distance if distance else starts
            later = np.flatnonzero((earlier >= starts) & (earlier < np.arange(len(order))))
            found.append(np.stack([order[earlier[later]], order[later]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def agreement(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The share of equal numbers in the rows of each pair, float `[pairs]`.

    Args:
        rows: `[rows, numbers]`.
        pairs: int `[pairs, 2]`.
    """
    parts = np.array_split(pairs, max(1, len(pairs) // 100_000))
    return np.concatenate([(rows[part[:, 0]] == rows[part[:, 1]]).mean(axis=1) for part in parts])


def linked(pairs: np.ndarray, rows: int, is_near: Callable[[int, int], bool]) -> np.ndarray:
    """Groups of rows that are near each other, directly or through others: the number of each row's, int `[rows]`.

    Args:
        pairs: candidates, int `[pairs, 2]`; those that are in one group already are not compared.
        rows: number of rows.
        is_near: whether two rows are near each other.
    """
    parent = list(range(rows))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for one, other in pairs.tolist():
        first, second = root(one), root(other)
        if first != second and is_near(one, other):
            parent[max(first, second)] = min(first, second)
    return np.array([root(row) for row in range(rows)], int)


def _hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """A hash of each piece of the texts, uint64 `[pieces]`, and the text that it is from; short texts are one piece."""
    padded = [text if len(text) >= _PIECE or not text else text.ljust(_PIECE) for text in texts]
    sizes = np.array([len(text) for text in padded], int)
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    if not len(codes):
        return np.zeros(0, np.uint64), np.zeros(0, int)
    count = max(len(codes) - _PIECE + 1, 0)
    values = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for place in range(_PIECE):
            values = (values ^ codes[place : place + count]) * _MULTIPLIER
            values ^= values >> np.uint64(29)
    owners = np.repeat(np.arange(len(texts)), sizes)[:count]
    # A piece may not begin in one text and end in the next.
    whole = np.arange(count) + _PIECE <= np.cumsum(sizes)[owners]
    return values[whole], owners[whole]


def _sketches(texts: Sequence[str]) -> np.ndarray:
    """The smallest hash in each of the places, uint32 `[texts, places]`; empty places have that of a later one."""
    result = np.full((len(texts), _PLACES), _EMPTY, np.uint32)
    for start, stop in _chunks(texts):
        values, owners = _hashes(texts[start:stop])
        places = owners * _PLACES + (values >> np.uint64(58)).astype(int)
        smallest = np.full((stop - start) * _PLACES, _EMPTY, np.uint32)
        np.minimum.at(smallest, places, ((values >> np.uint64(20)) & np.uint64(0xFFFFFFFE)).astype(np.uint32))
        result[start:stop] = smallest.reshape(-1, _PLACES)
    return _densified(result)


def _densified(sketches: np.ndarray) -> np.ndarray:
    """Fills each empty place from the next one that is not, going round.

    How far that was is a part of it, so that two texts agree there only if both borrow alike.
    """
    result, distance = sketches.copy(), np.zeros(sketches.shape, np.uint32)
    for step in range(1, _PLACES):
        empty = result == _EMPTY
        if not empty.any():
            break
        found = np.roll(sketches, -step, axis=1)
        fill = empty & (found != _EMPTY)
        result[fill], distance[fill] = found[fill], step
    with np.errstate(over="ignore"):
        return np.where(result == _EMPTY, result, result ^ (distance * np.uint32(0x9E3779B1)))


def _bands(sketches: np.ndarray) -> list[np.ndarray]:
    """The values of each band, int64 `[texts]`; -1 for texts without a piece."""
    is_empty = (sketches == _EMPTY).all(axis=1)
    bands = []
    with np.errstate(over="ignore"):
        for start in range(0, _PLACES, _BAND):
            value = np.zeros(len(sketches), np.uint64)
            for place in range(start, start + _BAND):
                value = (value ^ sketches[:, place]) * _MULTIPLIER
                value ^= value >> np.uint64(31)
            bands.append(np.where(is_empty, -1, (value >> np.uint64(1)).astype(np.int64)))
    return bands


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges of texts with about as many characters as are hashed at a time."""
    start, size = 0, 0
    for place, text in enumerate(texts):
        size += len(text)
        if size >= _CHUNK:
            yield start, place + 1
            start, size = place + 1, 0
    if start < len(texts):
        yield start, len(texts)
