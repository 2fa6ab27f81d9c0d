"""`model.fit` in the MLP benchmark."""

import queue
import threading

import keras

from benchmarks import mlp_data
from benchmarks.mlp_tensorflow import network
from benchmarks.worker import Metrics, Training


def fit(batch_size: int, steps_per_execution: int = 1, jit_compile: bool | str = "auto") -> Training:
    """One endless `fit` over arrays in memory, with its own shuffling, in turns of whole epochs."""
    x, y = mlp_data.load()
    model = network()
    model.compile(
        optimizer=keras.optimizers.Adam(mlp_data.LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    turns = _Turns()
    steps_per_epoch = -(-len(x) // batch_size)

    def first() -> Metrics:
        examples = batch_size * steps_per_execution
        logs = model.fit(x[:examples], y[:examples], batch_size, verbose=0).history
        threading.Thread(target=turns.fit, args=(model, x, y, batch_size), daemon=True).start()
        return Metrics(logs["loss"][0], logs["accuracy"][0])

    return Training(first, train=lambda steps: turns.train(steps // steps_per_epoch), quantum=steps_per_epoch)


class _Turns(keras.callbacks.Callback):
    """Halts `fit` between two epochs until it is its turn.

    A call of `fit` for each turn would charge it for its set-up again and again, which a user pays once per run.
    """

    def __init__(self):
        super().__init__()
        self._left = 0
        self._turns: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Metrics | Exception] = queue.SimpleQueue()

    def fit(self, model: keras.Model, x, y, batch_size: int) -> None:
        """Runs in a thread of its own."""
        try:
            model.fit(x, y, batch_size, epochs=1_000_000, verbose=0, callbacks=[self])
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
