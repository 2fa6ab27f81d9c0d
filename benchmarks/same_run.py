"""Reproducibility of a training run on other hardware: this engine and Keras' own loop, side by side.

    python -m benchmarks.same_run

The 784-64-64-10 classifier with dropout 0.3, AdamW and clipping at a global norm of 1 learns 4,000 digits in four
epochs of 32 steps (128 examples each, 32 in an epoch's last batch). Each row of the table is another process with the
same training: again, on two replicas (logical CPU devices), in four micro-batches a step, both at once, or killed
(SIGKILL) in the middle and started again. It has the largest difference of any weight from the first run, and how many
of 500 test predictions change. `fit` uses what Keras has for each: MirroredStrategy, `gradient_accumulation_steps`,
`BackupAndRestore`. Exact runs (`--exact --slices=8`) have a column of their own. Five minutes on two cores.

Expected: this engine differs by the rounding of float32 sums in another order (1e-6), and not at all where the order is
the same (again, killed, and in exact runs everywhere); `fit` is only the same when it is run again.
"""

import argparse
import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_ROOT = Path(__file__).parents[1]
_EPOCHS, _BATCH = 4, 128
_MIDDLE = 70
_LIBRARIES = ("zoo", "exact", "fit")
# Replicas, micro-batches, and whether the run is killed once.
_CASES = {
    "again": (1, 1, False),
    "on two replicas": (2, 1, False),
    "in four micro-batches": (1, 4, False),
    "both": (2, 4, False),
    "killed in the middle and resumed": (1, 1, True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; with `--worker`, trains one run of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_run", description=__doc__.splitlines()[0])
    parser.add_argument("--worker", nargs=5, metavar=("LIBRARY", "REPLICAS", "PARTS", "KILL", "FOLDER"))
    options = parser.parse_args(arguments)
    if options.worker:
        library, replicas, parts, kill, folder = options.worker
        {"zoo": _zoo, "exact": functools.partial(_zoo, exact=True), "fit": _fit}[library](
            int(replicas), int(parts), kill == "True", Path(folder)
        )
        return
    print("| the run ... | this engine | with `--exact` | `fit` |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        first = {library: _run(library, 1, 1, False, Path(place) / library) for library in _LIBRARIES}
        for number, (name, case) in enumerate(_CASES.items()):
            cells = []
            for library in _LIBRARIES:
                end = _run(library, *case, Path(place) / f"{library}{number}")
                cells.append(end if isinstance(end, str) else _difference(first[library], end))
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _run(library: str, replicas: int, parts: int, killed: bool, folder: Path) -> dict[str, np.ndarray] | str:
    """Trains in its own processes; returns weights and predictions, or the name of the error."""
    folder.mkdir()
    for kill in (True, False) if killed else (False,):
        words = ["--worker", library, str(replicas), str(parts), str(kill), str(folder)]
        command = [sys.executable, "-m", "benchmarks.same_run", *words]
        process = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
        if kill and process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"{library} was not killed: exit code {process.returncode}\n{process.stderr}")
        if not kill and process.returncode:
            error = next(line for line in reversed(process.stderr.splitlines()) if "Error" in line)
            return f"fails: `{error.split(':')[0]}`"
    return dict(np.load(folder / "end.npz"))


def _difference(first: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> str:
    weights = [name for name in first if name != "answers"]
    largest = max(np.abs(first[name] - other[name]).max() for name in weights)
    answers = int((first["answers"] != other["answers"]).sum())
    return f"{largest:.0e}, {answers} answers" if largest else "0"


def _zoo(replicas: int, parts: int, kill: bool, folder: Path, exact: bool = False) -> None:
    import zoo
    from experiments.mlp_classifier import MlpConfig, build
    from zoo.engine.engine import Engine

    if kill:
        train = Engine.train

        def until(engine: Any, batches: Any, step: int, steps: int) -> Any:
            if step >= _MIDDLE:
                os.kill(os.getpid(), signal.SIGKILL)
            return train(engine, batches, step, steps)

        Engine.train = until
    config = MlpConfig(
        epochs=_EPOCHS, batch_size=_BATCH, dropout=0.3, optimizer="adamw", clip_norm=1.0, cpu_devices=replicas,
        accumulate=parts, checkpoint_every=10, steps_per_loop=5, log_every=5,
        exact=exact or None, slices=8 if exact else 0,
    )  # fmt: skip
    zoo.run(build, config, folder / "run")
    import keras

    _end(keras.saving.load_model(folder / "run" / "model.keras"), folder)


def _fit(replicas: int, parts: int, kill: bool, folder: Path) -> None:
    import keras

    from zoo.data.datasets import images
    from zoo.engine import devices

    strategy = devices.strategy("auto", replicas)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((28, 28)),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
                keras.layers.Dense(64, "relu"),
                keras.layers.Dropout(0.3),
                keras.layers.Dense(64, "relu"),
                keras.layers.Dropout(0.3),
                keras.layers.Dense(10),
            ]
        )
        optimizer = keras.optimizers.AdamW(
            1e-3, global_clipnorm=1.0, gradient_accumulation_steps=parts if parts > 1 else None
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
    callbacks = [keras.callbacks.BackupAndRestore(folder / "backup", save_freq=10)]
    if kill:
        callbacks.append(_killing())
    train = images.load("mnist_5k").train
    model.fit(train["x"], train["y"], _BATCH // parts, _EPOCHS, verbose=0, callbacks=callbacks)
    _end(model, folder)


def _killing() -> Any:
    """A callback that kills the process, like the loss of a machine."""
    import keras

    batches: list[int] = []

    def count(batch: int, logs: Any) -> None:
        batches.append(batch)
        if len(batches) > _MIDDLE:
            os.kill(os.getpid(), signal.SIGKILL)

    return keras.callbacks.LambdaCallback(on_train_batch_end=count)


def _end(model: Any, folder: Path) -> None:
    from zoo.data.datasets import images

    answers = np.argmax(model.predict(images.load("mnist_5k").test["x"], verbose=0), axis=1)
    weights = {f"{number}": np.asarray(value) for number, value in enumerate(model.trainable_variables)}
    np.savez(folder / "end.npz", answers=answers, **weights)


if __name__ == "__main__":
    main()
