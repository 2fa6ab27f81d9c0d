"""Data of the Transformer race, the same for every contender; needs NumPy only."""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.harness.worker import Metrics, Training

EXAMPLES, TIME = 256, 128
LAYERS, WIDTH, HEADS, INNER, DROPOUT, EPSILON = 4, 256, 4, 1024, 0.1, 1e-12
VOCABULARY = {"finetune": 30_522, "mlm": 10_000, "inference": 30_522}
# Masked tokens of a text, 15 %, and the id of [MASK].
PLACES, HIDDEN = 19, 4
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM, WARMUP_STEPS, TOTAL_STEPS = 1e-4, 0.01, 1.0, 100, 100_000
# Fraction of odd tokens in a text of class 1; of even ones in a text of class 0.
_SHARE = 0.7


def load(work: str) -> dict[str, np.ndarray]:
    """Synthetic texts without padding, by Zipf's law.

    Returns:
        int32 `tokens` `[256, 128]`; for `mlm` masked positions `places` and their tokens `y`, `[256, 19]`; else `y`
        `[256]`, 0 or 1.
    """
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, EXAMPLES)
    odd = random.random([EXAMPLES, TIME]) < np.where(labels, _SHARE, 1 - _SHARE)[:, None]
    frequency = np.cumsum(1 / np.arange(1, VOCABULARY[work] // 2 - HIDDEN))
    rank = np.searchsorted(frequency / frequency[-1], random.random([EXAMPLES, TIME]), side="right")
    tokens = (2 * rank + odd + HIDDEN + 2).astype(np.int32)
    if work != "mlm":
        return {"tokens": tokens, "y": labels.astype(np.int32)}
    places = np.sort(np.argsort(random.random([EXAMPLES, TIME]), axis=1)[:, :PLACES], axis=1)
    labels = np.take_along_axis(tokens, places, axis=1)  # [256, 19]
    np.put_along_axis(tokens, places, HIDDEN, axis=1)
    return {"tokens": tokens, "places": places.astype(np.int32), "y": labels}


def batches(batch_size: int) -> Iterator[np.ndarray]:
    """Examples of each step without end, `[batch]`: all once an epoch."""
    random = np.random.default_rng(1)
    while True:
        yield from random.permutation(EXAMPLES).reshape(-1, batch_size)


def operations(work: str, batch_size: int) -> float:
    """Floating-point operations of the matrix products of one step; the backward pass has two for each forward."""
    tokens = batch_size * TIME
    layer = 2 * tokens * WIDTH * (4 * WIDTH + 2 * INNER) + 4 * tokens * TIME * WIDTH
    head = {"mlm": 2 * batch_size * PLACES * WIDTH * (WIDTH + VOCABULARY["mlm"])}
    return (1 if work == "inference" else 3) * (LAYERS * layer + head.get(work, 2 * batch_size * WIDTH * (WIDTH + 1)))


def inference(forward: Callable, batch_size: int) -> Training:
    """A contender that computes the logits of one batch after the other as arrays.

    Args:
        forward: maps int32 `[batch, 128]` to logits `[batch, 1]`.
        batch_size: examples per step.
    """
    columns, order = load("inference"), batches(batch_size)

    def run(steps: int) -> Metrics:
        sums = np.zeros(2)
        for _ in range(steps):
            rows = next(order)
            logits, y = np.asarray(forward(columns["tokens"][rows]))[:, 0].astype(np.float32), columns["y"][rows]
            sums += np.mean(np.logaddexp(0, logits) - y * logits), np.mean((logits > 0) == y)
        return Metrics(*(sums / steps).tolist())

    return Training(first=lambda: run(1), train=run)
