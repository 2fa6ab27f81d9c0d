"""Data of the LSTM race, the same for every contender; needs NumPy only."""

from typing import NamedTuple

import numpy as np

EXAMPLES, TOKENS, LONGEST, WIDTH = 4_096, 10_000, 200, 64
LEARNING_RATE = 1e-3
# Padded widths for contenders that compile each width: few to compile, little padding.
WIDTHS = (64, 96, 128, 160, LONGEST)

_SHORTEST, _MEDIAN, _SIGMA = 4, 120, 0.6
# Fraction of a review's tokens that agree with its label.
_AGREEING = 0.7


class Reviews(NamedTuple):
    """Int32 tokens `[4096, 200]`, with 0 after the end; int32 lengths; float32 labels, 0 or 1."""

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


def load() -> Reviews:
    """Synthetic reviews: lengths log-normal, tokens by Zipf's law; label 1 if more tokens are odd than even."""
    random = np.random.default_rng(0)
    lengths = np.rint(random.lognormal(np.log(_MEDIAN), _SIGMA, EXAMPLES)).clip(_SHORTEST, LONGEST).astype(np.int32)
    real = np.arange(LONGEST) < lengths[:, None]
    odd_rate = random.choice([1 - _AGREEING, _AGREEING], size=[EXAMPLES, 1])
    odd = random.random(real.shape) < odd_rate
    # Neighbours 2 k and 2 k + 1 are about equally frequent, so that frequency does not reveal parity. 1 is not used.
    tokens = np.where(real, 2 * _zipf(random, real.shape) + odd, 0).astype(np.int32)
    return Reviews(tokens, lengths, ((odd & real).sum(axis=1) > lengths / 2).astype(np.float32))


class Order:
    """Order of the reviews: each once an epoch, without a short last batch."""

    def __init__(self, lengths: np.ndarray, batch_size: int, alike: bool):
        """With `alike`, a batch has reviews of about one length, new ones every epoch."""
        self._random = np.random.default_rng(1)
        self._lengths = lengths
        self._batch_size = batch_size
        self._alike = alike

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self._lengths) // self._batch_size

    def epoch(self) -> np.ndarray:
        """Reviews of the next epoch, int32 `[steps, batch_size]`."""
        index = self._random.permutation(len(self._lengths))[: self.steps * self._batch_size].astype(np.int32)
        if self._alike:
            # Stable: reviews of one length keep the permutation's order.
            index = index[np.argsort(self._lengths[index], kind="stable")]
        batches = index.reshape(self.steps, self._batch_size)
        return self._random.permutation(batches) if self._alike else batches


def _zipf(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws from 1 .. 4999, k with a frequency proportional to 1 / k."""
    share = np.cumsum(1 / np.arange(1, TOKENS // 2))
    return 1 + np.searchsorted(share / share[-1], random.random(shape), side="right")
