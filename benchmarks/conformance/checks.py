"""What one subject does in the engine: a row of the conformance table."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.conformance.subjects import INPUT, LABEL, Subject, columns
from zoo import Batches, Config, Experiment, Term, randomness
from zoo.engine import devices
from zoo.engine.engine import Engine, means
from zoo.training import run

ROWS, STEPS, RATE, MOMENTUM = 32, 2, 0.01, 0.9
# Differences that are rounding: of weights relative to their size, of answers and losses.
WEIGHTS_BAR, ANSWERS_BAR, LOSS_BAR = 1e-6, 1e-5, 1e-5
# Rows of a micro-batch, and so of a group of batch normalisation wherever the batch is split.
_GROUP = ROWS // 4
CONFIG = Config(steps=STEPS, batch_size=ROWS, optimizer="momentum", learning_rate=RATE, steps_per_loop=1)
State = dict[str, np.ndarray]


class Trainer:
    """One engine for a subject, from the same initial weights as all others.

    Args:
        subject: what to train.
        replicas: logical CPU devices.
        flags: fields of the config.
    """

    def __init__(self, subject: Subject, replicas: int = 1, **flags: Any):
        strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
        config = CONFIG.replace(**flags)
        with strategy.scope():
            keras.utils.set_random_seed(0)
            self.model = subject.make()
            self.batches = Batches(columns(self.model, STEPS * ROWS), ROWS)
            experiment = Experiment(self.model, forward, self.batches)
        self.engine: Engine = run.make_engine(strategy, config, experiment, STEPS)

    def step(self, number: int, start: State | None = None) -> State:
        """The state after step `number`, from a state or from where the engine is."""
        if start is not None:
            self.engine.load(start)
        self.scalars = self.engine.train(self.batches, number, 1)
        return self.engine.state()

    def loss(self) -> float:
        """The objective of the last step, with the losses that layers add."""
        found = means(self.scalars)
        return sum(found[name] for name in self.engine.task.losses)


def forward(model: keras.Model, batch: dict[str, tf.Tensor], training: bool) -> dict[str, Term]:
    logits = model(_inputs(model, batch), training=training)
    values = tf.nn.sparse_softmax_cross_entropy_with_logits(batch[LABEL], tf.cast(logits, tf.float32))
    return {"loss": Term(values)}


def _inputs(model: keras.Model, batch: dict[str, Any]) -> Any:
    return {name: batch[name] for name in model.input} if isinstance(model.input, dict) else batch[INPUT]


def row(subject: Subject, folder: Path) -> dict[str, Any]:
    """All checks of a subject; a check that fails has its reason in place of a figure.

    Three engines: one device; one device in four micro-batches, exactly; two devices, exactly. The last two give the
    exact run, and its resumption: the state after step 1 on one device, loaded in the engine of two devices, against
    step 2 on one.

    Args:
        subject: what to try.
        folder: gets the model, as Keras saves it.
    """
    results: dict[str, Any] = {}
    options = {"batch_norm_group": _GROUP, "compile": subject.compile}
    with _reason(results, "trains"):
        one = Trainer(subject, **options)
        start = one.engine.state()
        results |= _described(one)
        after = one.step(0)
        results["loss"], results["notes"] = one.loss(), one.engine.notes
        # The random draws of a forward pass.
        results["noise"] = bool(one.engine.task.is_by_row[True])
        results["moved"] = sum(bool((start[name] != after[name]).any()) for name in _trained(one))
        results["trains"] = all(np.isfinite(value).all() for value in (results["loss"], *after.values()))
    if results["trains"] is not True:
        return results
    if not results["noise"]:
        with _reason(results, "fit"):
            results["fit"] = _fit(subject, one)
    with _reason(results, "saved"):
        results["saved"] = save(one.model, one.batches.columns, folder / subject.file)
    with _reason(results, "four", "two", "exact", "resumed"):
        results |= _split(subject, start, after, options)
        if max(results["four"], results["two"]) > WEIGHTS_BAR:
            results["rounding"] = furthest(after, one.step(0, _neighbouring(start)))
    return results


def _neighbouring(state: State) -> State:
    """A state whose weights are the next larger numbers of their type: what rounding alone may do to a step."""
    weights = {name: value for name, value in state.items() if name.startswith("model/") and value.dtype.kind == "f"}
    return state | {name: np.nextafter(value, value.dtype.type(np.inf)) for name, value in weights.items()}


def _split(subject: Subject, start: State, after: State, options: dict[str, Any]) -> dict[str, float]:
    """A step in four micro-batches and on two devices, beside `after`; exact and resumed runs."""
    four = Trainer(subject, exact=True, **options)
    first, second = four.step(0), four.step(1)
    two = Trainer(subject, replicas=2, exact=True, **options)
    # Before this engine has trained: as a new process that goes on.
    resumed = furthest(second, two.step(1, first))
    alike = two.step(0, start)
    return {
        "four": furthest(after, first),
        "two": furthest(after, alike),
        "exact": furthest(first, alike),
        "resumed": resumed,
    }


def furthest(left: State, right: State) -> float:
    """The largest difference of any number of the model, divided by the largest of its variable or by 1."""
    names = [name for name in left if name.startswith(("model/", "optimizer/"))]
    assert names == [name for name in right if name.startswith(("model/", "optimizer/"))]
    differences = [_difference(left[name].astype(np.float64), right[name].astype(np.float64)) for name in names]
    return max(differences)


def _difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.max(np.abs(left - right), initial=0) / max(1.0, np.max(np.abs(left), initial=0)))


def _described(trainer: Trainer) -> dict[str, Any]:
    model = trainer.model
    return {
        "parameters": int(model.count_params()),
        "trainable": len(model.trainable_variables),
    }


def _trained(trainer: Trainer) -> list[str]:
    names = {id(variable): name for name, variable in trainer.engine.variables().items() if name.startswith("model/")}
    return [names[id(variable)] for variable in trainer.model.trainable_variables]


def _fit(subject: Subject, one: Trainer) -> list[float]:
    """The loss of the engine's first step and of Keras' own, on the same rows in one group."""
    keras.utils.set_random_seed(0)
    model = subject.make()
    optimizer = keras.optimizers.SGD(RATE, MOMENTUM)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, run_eagerly=True)
    batch, _ = one.batches.at(0)
    ours = one.loss()
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model._flatten_layers()):
        with randomness.scope(0, tf.constant(0), tf.constant(0), tf.ones([ROWS]), group=ROWS, batch_rows=ROWS):
            ours = float(tf.reduce_mean(forward(model, batch, training=True)["loss"].values))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist")
        return [ours, float(model.train_on_batch(_inputs(model, batch), batch[LABEL]))]


def save(model: keras.Model, examples: Mapping[str, np.ndarray], path: Path) -> bool:
    """Writes the model and what it answers, for `plain_keras`."""
    rows = {name: column[:4] for name, column in examples.items() if name != LABEL}
    answers = model(_inputs(model, rows), training=False).numpy()
    model.save(f"{path}.keras")
    np.savez(f"{path}.npz", **rows, answers=answers)
    return True


@contextlib.contextmanager
def _reason(results: dict[str, Any], *checks: str) -> Iterator[None]:
    """Records why checks fail."""
    try:
        yield
    except Exception as error:
        line = next(iter(str(error).splitlines()), "")
        results |= dict.fromkeys(checks, f"{type(error).__name__}: {line}")
