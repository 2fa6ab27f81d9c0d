"""`model.fit` in the MLP race."""

import threading

import keras

from benchmarks.harness.fit_in_turns import Turns
from benchmarks.harness.worker import Metrics, Training
from benchmarks.mlp import data as mlp_data
from benchmarks.mlp.peer_tensorflow import network


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
    turns = Turns()
    steps_per_epoch = -(-len(x) // batch_size)

    def first() -> Metrics:
        examples = batch_size * steps_per_execution
        logs = model.fit(x[:examples], y[:examples], batch_size, verbose=0).history
        data = {"x": x, "y": y, "batch_size": batch_size}
        threading.Thread(target=turns.fit, args=(model, data), daemon=True).start()
        return Metrics(logs["loss"][0], logs["accuracy"][0])

    return Training(first, train=lambda steps: turns.train(steps // steps_per_epoch), quantum=steps_per_epoch)
