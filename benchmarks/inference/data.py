"""Data of the inference race, the same for every contender; needs NumPy only."""

import itertools
from collections.abc import Callable

import numpy as np

from benchmarks.harness.worker import Metrics, Training
from benchmarks.lstm import data
from benchmarks.mlp import data as mlp_data
from benchmarks.transformer import data as transformer_data

WORKS = ("mlp", "lstm", "encoder")
# The median review of the LSTM benchmark; the encoder's own length.
TIME = {"lstm": 120, "encoder": transformer_data.TIME}
_ROWS = 256


def load(work: str) -> np.ndarray:
    """256 examples: float32 `[256, 784]`, or tokens int32 `[256, time]` without padding."""
    random = np.random.default_rng(0)
    if work == "mlp":
        return random.random((_ROWS, mlp_data.FEATURES), dtype=np.float32)
    if work == "lstm":
        return random.integers(2, data.TOKENS, (_ROWS, TIME["lstm"]), dtype=np.int32)
    return transformer_data.load("inference")["tokens"]


def inference(work: str, forward: Callable, batch_size: int) -> Training:
    """A contender that computes the logits of one batch after the other as arrays.

    Args:
        work: one of `WORKS`.
        forward: maps a batch of `load` to logits `[batch, classes]`.
        batch_size: examples per step.
    """
    rows = load(work)
    # Only the call is measured: the batches are ready, and only the last logits are checked.
    batches = [np.ascontiguousarray(rows[i : i + batch_size]) for i in range(0, _ROWS, batch_size)]
    order = itertools.cycle(batches)

    def run(steps: int) -> Metrics:
        for batch in itertools.islice(order, steps):
            logits = np.asarray(forward(batch))
        if len(logits) != batch_size or not np.isfinite(logits).all():
            raise ValueError(f"logits of shape {logits.shape}, expected {batch_size} rows of finite numbers")
        return Metrics(float(np.abs(logits).mean()), 0.0)

    return Training(first=lambda: run(1), train=run)
