"""Data of the MLP race, the same for every contender; needs NumPy only."""

import numpy as np

EXAMPLES, FEATURES, CLASSES, HIDDEN = 60_000, 784, 10, 64
LEARNING_RATE = 1e-3
# Steps per call of the contenders that compile a loop: the engine's own default.
STEPS_PER_LOOP = 1000


def load() -> tuple[np.ndarray, np.ndarray]:
    """Float32 `[60000, 784]` in [0, 1) and int32 classes by a linear rule, to show whether a contender learns."""
    random = np.random.default_rng(0)
    x = random.random((EXAMPLES, FEATURES), dtype=np.float32)
    rule = random.standard_normal((FEATURES, CLASSES), dtype=np.float32)
    # (x - 0.5) @ rule, without a copy of x that would show in each contender's peak memory.
    return x, np.argmax(x @ rule - 0.5 * rule.sum(axis=0), axis=1).astype(np.int32)


class Order:
    """Order of the examples: a new permutation every epoch, a short last batch dropped."""

    def __init__(self, batch_size: int):
        self._random = np.random.default_rng(1)
        self._batch_size = batch_size
        self._ahead = self._epoch()

    def take(self, steps: int) -> np.ndarray:
        """Examples of the next steps, int32 `[steps, batch_size]`."""
        while len(self._ahead) < steps:
            self._ahead = np.concatenate([self._ahead, self._epoch()])
        taken, self._ahead = self._ahead[:steps], self._ahead[steps:]
        return taken

    def _epoch(self) -> np.ndarray:
        whole = EXAMPLES // self._batch_size
        permutation = self._random.permutation(EXAMPLES).astype(np.int32)
        return permutation[: whole * self._batch_size].reshape(whole, self._batch_size)
