"""The data of the LSTM benchmark, the same for every contender: needs NumPy only."""

from typing import NamedTuple

import numpy as np

EXAMPLES, TOKENS, LONGEST, WIDTH = 4_096, 10_000, 200, 64
LEARNING_RATE = 1e-3
# What batches are padded to where each width is a program of its own: few to compile, little padding.
WIDTHS = (64, 96, 128, 160, LONGEST)

_SHORTEST, _MEDIAN, _SIGMA = 4, 120, 0.6
# Share of a review's tokens that are of its own mood: the rest are of the other.
_MOODY = 0.7


class Reviews(NamedTuple):
    """Int32 tokens `[4096, 200]`, with 0 after the end; int32 lengths; float32 labels, 0 or 1."""

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


def load() -> Reviews:
    """Synthetic reviews: lengths log-normal, tokens by Zipf's law; the label says whether more are odd than even."""
    random = np.random.default_rng(0)
    lengths = np.rint(random.lognormal(np.log(_MEDIAN), _SIGMA, EXAMPLES)).clip(_SHORTEST, LONGEST).astype(np.int32)
    there = np.arange(LONGEST) < lengths[:, None]
    share = random.choice([1 - _MOODY, _MOODY], size=[EXAMPLES, 1])
    odd = random.random(there.shape) < share
    # Neighbours 2 k and 2 k + 1 are about as frequent: what is odd cannot be told from what is rare. 1 is left out.
    tokens = np.where(there, 2 * _zipf(random, there.shape) + odd, 0).astype(np.int32)
    return Reviews(tokens, lengths, ((odd & there).sum(axis=1) > lengths / 2).astype(np.float32))


class Order:
    """Which reviews each step reads: every one once an epoch, but for those of a short last batch."""

    def __init__(self, lengths: np.ndarray, batch_size: int, alike: bool):
        """With `alike`, a batch has reviews of about one length, which are others every epoch."""
        self._random = np.random.default_rng(1)
        self._lengths = lengths
        self._batch_size = batch_size
        self._alike = alike

    @property
    def steps(self) -> int:
        """In an epoch."""
        return len(self._lengths) // self._batch_size

    def epoch(self) -> np.ndarray:
        """The next int32 `[steps, batch_size]`."""
        index = self._random.permutation(len(self._lengths))[: self.steps * self._batch_size].astype(np.int32)
        if self._alike:
            # Stable: those of one length stay in the permutation's order.
            index = index[np.argsort(self._lengths[index], kind="stable")]
        batches = index.reshape(self.steps, self._batch_size)
        return self._random.permutation(batches) if self._alike else batches


def _zipf(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of 1 .. 4999, k with a frequency of 1 / k."""
    share = np.cumsum(1 / np.arange(1, TOKENS // 2))
    return 1 + np.searchsorted(share / share[-1], random.random(shape), side="right")
