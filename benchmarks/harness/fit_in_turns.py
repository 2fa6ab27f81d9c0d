"""`model.fit` as a contender that runs in turns."""

import queue
from typing import Any

import keras

from benchmarks.harness.worker import Metrics


class Turns(keras.callbacks.Callback):
    """Pauses `fit` between two epochs until its next turn.

    A call of `fit` for each turn would include its set-up each time, which a user pays once per run.
    """

    def __init__(self):
        super().__init__()
        self._left = 0
        self._turns: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Metrics | Exception] = queue.SimpleQueue()

    def fit(self, model: keras.Model, data: dict[str, Any]) -> None:
        """Runs `fit` without end; to be called in its own thread."""
        try:
            model.fit(**data, epochs=1_000_000, verbose=0, callbacks=[self])
        except Exception as error:
            self._results.put(error)

    def train(self, epochs: int) -> Metrics:
        """Lets `fit` do some epochs; the metrics are the last one's, as `fit` reports them."""
        self._turns.put(epochs)
        result = self._results.get()
        if isinstance(result, Exception):
            raise result
        return result

    def on_epoch_begin(self, epoch, logs=None):
        if not self._left:
            self._left = self._turns.get()

    def on_epoch_end(self, epoch, logs=None):
        self._left -= 1
        if not self._left:
            self._results.put(Metrics(logs["loss"], logs["accuracy"]))
