"""Shuffling: a pseudorandom permutation as a function, order(seed, epoch, position) -> example."""

import functools

import numpy as np

_ROUNDS = 6


def shuffled(positions: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Maps each position of an epoch to its example; a permutation without an array of the size of the data.

    A Feistel network over a square grid of at least `size` cells, applied again while the result is out of range
    (cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Its round functions are tables
    of random numbers (Luby and Rackoff, 1988), so a seek costs O(1) and an epoch's set-up O(sqrt(size)).

    Args:
        positions: int32, each in [0, size).
        size: number of examples.
        seed: the run's seed.
        epoch: each epoch has its own order.

    Returns:
        int32 of the same shape, a permutation of [0, size) over all positions.
    """
    side, tables = _tables(size, seed, epoch)
    examples = _walk(positions.astype(np.int32), side, tables)
    outside = examples >= size
    while outside.any():
        examples[outside] = _walk(examples[outside], side, tables)
        outside = examples >= size
    return examples


def _walk(cells: np.ndarray, side: int, tables: np.ndarray) -> np.ndarray:
    side = np.int32(side)
    right = cells // side
    left = cells - right * side
    for table in tables:
        moved = left + table.take(right)
        # Both addends are below side, so the modulo subtracts side once or not at all: the smaller unsigned number.
        moved = np.minimum(moved.view(np.uint32), (moved - side).view(np.uint32)).view(np.int32)
        left, right = right, moved
    return right * side + left


@functools.lru_cache(maxsize=8)
def _tables(size: int, seed: int, epoch: int) -> tuple[int, np.ndarray]:
    side = int(np.ceil(np.sqrt(size)))
    while side * side < size:
        side += 1
    # random_raw is NumPy's only stream that is promised never to change between versions.
    generator = np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64))
    raw = generator.random_raw(_ROUNDS * side) >> np.uint64(32)
    return side, ((raw * np.uint64(side)) >> np.uint64(32)).astype(np.int32).reshape(_ROUNDS, side)
