"""`zoo.fit`: the arguments of Keras' `model.fit`, and the engine's run."""

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import io
import json
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from zoo import files
from zoo import workdir as folders
from zoo.config import Config, setting
from zoo.data import spool
from zoo.data.batches import Batches
from zoo.engine import checkpoints, devices
from zoo.errors import BadInput, Stopped, nearest
from zoo.experiment import Experiment
from zoo.keras_task import columns, compiled, datasets, parts, task
from zoo.keras_task.sources import Examples
from zoo.training import fit_callbacks, fit_log, fit_model
from zoo.training.fit_log import Callbacks, EpochLog
from zoo.training.run import run

# Names of a run's data sets: the validation set, and the training set where it is evaluated as well.
_VALIDATION, _TRAINING = "eval", "training"
_BATCH_SIZE = 32
# At the end of a name.
_NUMBER = re.compile(r"_\d+$")
# Added to a signal's number in an exit code.
_SHELL_SIGNALS = 128
# Fields of the config that the compiled optimizer has instead, and those that fit sets.
_COMPILED = ("optimizer", "learning_rate", "schedule", "warmup_steps", "warmup_fraction", "decay_steps", "decay_rate")
_COMPILED += ("final_fraction", "decay_every", "power", "cooldown_fraction", "cycles", "cycle_factor", "layer_decay")
_COMPILED += ("unfreeze_every", "weight_decay", "newton_damping", "cg_iterations", "cg_tolerance")
_COMPILED += ("lbfgs_pairs", "find_lr", "rate_factors", "weight_decays")
_OWN = ("steps", "epochs", "batch_size", "eval_every", "compiled")


@dataclasses.dataclass(frozen=True)
class FitConfig(Config):
    """Settings of `zoo.fit`: any field of `Config` is an argument of it."""

    batch_size: int = setting(_BATCH_SIZE, "Examples per step, over all devices; Keras' default.", minimum=1)
    log_every: int = setting(100, "Steps between two points of the training curves; divides an epoch.", minimum=1)
    compiled: str = setting("", "Optimizer and losses of the model, which a resumed run must share.")


def _without_remains(function: Callable) -> Callable:
    """A function that frees the disk of large datasets at its end."""

    @functools.wraps(function)
    def called(*arguments, **options):
        try:
            return function(*arguments, **options)
        finally:
            spool.collect()

    return called


@_without_remains
def fit(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int = 1,
    workdir: str | Path | None = None,
    **flags: Any,
) -> keras.callbacks.History:
    """Trains a compiled Keras model as `model.fit` does, by the engine: the arguments are those of `model.fit`.

    Afterwards the model has the trained weights, and its optimizer the state at the end. docs/fit.md says what is the
    same as in `model.fit`, and what is not.

    Args:
        model: a compiled model; built from the data if it has no weights yet. One device trains this very object,
            several train copies of it, whose weights it gets.
        x: arrays, a nested structure of them, or a dataset; read once, into memory or, where large, temporary files.
        y: targets; None for a dataset.
        batch_size: examples per step, over all devices; 32, or that of the dataset.
        epochs: last epoch.
        verbose: 0 prints nothing.
        callbacks: callbacks of Keras that watch; those that steer become flags of the engine, or are refused.
        validation_split: fraction of the arrays, from their end, that is kept for validation.
        validation_data: `(x, y)`, `(x, y, sample_weight)` or a dataset.
        shuffle: whether the engine shuffles the examples in each epoch, a dataset's as well.
        class_weight: weights by class.
        sample_weight: weights of the examples.
        initial_epoch: epoch to start from.
        steps_per_epoch: steps per epoch; of a dataset as many batches are read.
        validation_steps: batches to read of a validation dataset.
        validation_batch_size: examples per batch of an evaluation; that of the training by default.
        validation_freq: epochs between two evaluations.
        workdir: folder where a run that was stopped goes on, bit for bit; with TensorBoard's files, checkpoints and
            model.keras. None: a temporary folder, which is removed.
        **flags: fields of `zoo.Config`: `accumulate=4`, `clip_norm=1.0`, `cpu_devices=2`, `precision="bfloat16"`.

    Returns:
        Keras' History, with the same keys as after `model.fit`.

    Raises:
        BadInput: one line on what does not fit.
        ZooError: as `zoo.run`.
    """
    compiled.check(model)
    _check_scope(model)
    _check_flags(flags)
    train, validation = parts.examples(
        x,
        y,
        sample_weight=sample_weight,
        class_weight=class_weight,
        validation_split=validation_split,
        validation_data=validation_data,
        steps_per_epoch=steps_per_epoch,
        validation_steps=validation_steps,
    )
    data = _cut(x, train, validation, batch_size, steps_per_epoch, validation_batch_size)
    epoch_range = _epochs(epochs, initial_epoch, validation_freq)
    keras_task = task.make(model, train, validation, flags.get("l2", 0.0))
    has_validation = validation is not None
    if has_validation:
        task.check(keras_task, model, validation, "validation_data")
    steering = fit_callbacks.sort(model, callbacks, keras_task, has_validation=has_validation, epochs=epoch_range)
    wanted = _Wanted(model, data, keras_task, steering, epoch_range, validation_freq, shuffle, verbose)
    config = _config(wanted, workdir is not None, flags)
    with _folder(workdir) as folder, _silence(verbose):
        history = _train(wanted, config, folder)
    if steering.stopping is not None:
        _tell(steering.stopping, history)
    return history


_ARGUMENTS = tuple(inspect.signature(fit).parameters)[1:-1]


class _Wanted(NamedTuple):
    """What a call of `fit` asks for, checked."""

    model: keras.Model
    data: fit_model.Data
    task: task.KerasTask
    steering: fit_callbacks.Steering
    epochs: range
    validation_freq: int
    shuffle: bool
    verbose: str | int


def _train(wanted: _Wanted, config: FitConfig, folder: Path) -> keras.callbacks.History:
    """The run of the engine, in a folder."""
    model, data, steering = wanted.model, wanted.data, wanted.steering
    log = _log(wanted, folder)
    # Made once more by the run; here its number of devices is asked for.
    replicas = devices.strategy(config.strategy, config.cpu_devices).num_replicas_in_sync
    schedule = steering.schedule(data.steps)
    training = fit_model.Training(model, schedule, replicas)
    # As Keras' callbacks that set it add it to the logs.
    shows_rate = schedule is not None or bool(config.plateau_patience)
    params = {"epochs": wanted.epochs.stop, "steps": data.steps, "verbose": wanted.verbose}
    calls = Callbacks(log, model, steering.watchers, params, training.sync, shows_rate)

    def build(config: FitConfig) -> Experiment:
        saved_step = checkpoints.newest_step(folder / folders.CHECKPOINTS)
        start = log.begin(saved_step, int(model.optimizer.iterations.numpy()))
        if schedule is not None:
            schedule.start = start
        fit_callbacks.recall_best(steering.watchers, [calls.logs(step) for step in log.ends()])
        trained = training.model_to_train(data.train)
        made = training.parts(trained, config, data, wanted.task, wanted.shuffle)
        if wanted.task.others:
            made["evals"][_TRAINING] = Batches(columns.columns(data.train), data.validation_batch_size)
        calls.begin(wanted.epochs.start)
        return Experiment(**made, on_log=calls.on_log)

    training.finish(folder, config, run(build, config, folder))
    return calls.end()


def _log(wanted: _Wanted, folder: Path) -> EpochLog:
    evals = [_VALIDATION] if wanted.data.validation is not None else []
    # Not sums over examples: of the training data they need a pass of their own.
    evals += [_TRAINING] if wanted.task.others else []
    return EpochLog(
        folder / fit_log.FILE,
        Batches(columns.columns(wanted.data.train), wanted.data.batch_size),
        steps=wanted.data.steps,
        first_epoch=wanted.epochs.start,
        every=wanted.validation_freq,
        names=wanted.task.names,
        evals=evals,
    )


def _cut(
    x: Any,
    train: Examples,
    validation: Examples | None,
    batch_size: int | None,
    steps: int | None,
    validation_batch_size: int | None,
) -> fit_model.Data:
    if batch_size is not None and datasets.is_dataset(x):
        raise BadInput(f"batch_size is {batch_size}, and x is a dataset: expected its own batches, or arrays")
    size = batch_size or train.batch_size or _BATCH_SIZE
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise BadInput(f"batch_size is {size!r}: expected a whole number of 1 or more")
    own = validation.batch_size if validation is not None else None
    return fit_model.Data(
        train, validation, size, steps or -(-train.count // size), validation_batch_size or own or size
    )


def _epochs(epochs: int, initial_epoch: int, validation_freq: int) -> range:
    if not isinstance(validation_freq, int) or validation_freq < 1:
        raise BadInput(f"validation_freq is {validation_freq!r}: expected a whole number of epochs, 1 or more")
    if not isinstance(epochs, int) or epochs <= initial_epoch:
        raise BadInput(f"epochs is {epochs}: expected a whole number above initial_epoch ({initial_epoch})")
    return range(initial_epoch, epochs)


def _config(wanted: _Wanted, is_kept: bool, flags: Mapping[str, Any]) -> FitConfig:
    data = wanted.data
    fields = {
        "steps": len(wanted.epochs) * data.steps,
        "batch_size": data.batch_size,
        "log_every": data.steps,
        "eval_every": data.steps * wanted.validation_freq,
        "checkpoint_every": data.steps if is_kept else 0,
        # Nobody would see it.
        "graph": is_kept,
        "show": "auto" if is_kept else "none",
        "compiled": _description(wanted.model, wanted.task),
    }
    config = FitConfig(**{**fields, **wanted.steering.flags, **flags})
    if data.steps % config.log_every:
        raise BadInput(f"log_every is {config.log_every}: expected a divisor of the {data.steps} steps of an epoch")
    return config


def _check_scope(model: keras.Model) -> None:
    if tf.distribute.has_strategy() or model.distribute_strategy is not tf.distribute.get_strategy():
        raise BadInput(
            "fit makes the strategy itself: make the model and call fit outside of a strategy's scope; all GPUs are "
            "used by default, cpu_devices=2 tries several devices without one"
        )


def _check_flags(flags: Mapping[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(FitConfig)]
    for name in flags:
        if name in _COMPILED:
            raise BadInput(
                f"{name} is not an argument of fit: the optimizer is that of model.compile, so give it there"
            )
        if name == "precision":
            raise BadInput(
                "precision has no effect on a model that is made already: call "
                "keras.config.set_dtype_policy('mixed_bfloat16') before you make it"
            )
        if name == "seeds":
            raise BadInput(
                "seeds is not an argument of fit: a model has one set of initial weights; call fit once for each"
            )
        if name == "controller":
            raise BadInput(
                "controller is not an argument of fit, whose optimizer is that of model.compile: use zoo.run"
            )
        if name == "on_nonfinite" and flags[name] == "rollback":
            raise BadInput("on_nonfinite='rollback' goes back, and Keras' callbacks cannot; use 'skip', or zoo.run")
        if name not in known or name in _OWN:
            raise BadInput(f"fit has no argument {name!r}: {nearest(name, [*known, *_ARGUMENTS])}")
    strategy = flags.get("strategy", "auto")
    if strategy == "multiworker" or (strategy == "auto" and "TF_CONFIG" in os.environ):
        raise BadInput("fit trains in one process; for several workers use zoo.run with zoo.Experiment.from_keras")


def _description(model: keras.Model, keras_task: task.KerasTask) -> str:
    """Optimizer and losses in one line, with a hash of all their settings."""
    settings = [
        _plainly_named(model.optimizer.get_config()),
        *([_plainly_named(part.loss.get_config()), part.weight] for part in keras_task.losses),
    ]
    text = json.dumps(settings, sort_keys=True, default=lambda value: getattr(value, "__name__", type(value).__name__))
    names = [type(model.optimizer).__name__, *(type(part.loss).__name__ for part in keras_task.losses)]
    return f"{' '.join(names)} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _plainly_named(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without the number that Keras gives to the second optimizer or loss of a process."""
    name = settings.get("name")
    return {**settings, "name": _NUMBER.sub("", name)} if isinstance(name, str) else settings


def _tell(stopping: keras.callbacks.EarlyStopping, history: keras.callbacks.History) -> None:
    """Sets the attributes that are read after training."""
    values = history.history.get(stopping.monitor, [])
    if values:
        best = (min if stopping.mode == "min" else max)(values)
        stopping.best, stopping.best_epoch = best, history.epoch[values.index(best)]
        stopped = history.epoch[-1] + 1 < history.params["epochs"]
        stopping.stopped_epoch = history.epoch[-1] if stopped else 0


@contextlib.contextmanager
def _folder(workdir: str | Path | None) -> Iterator[Path]:
    if workdir is not None:
        yield files.absolute(workdir)
        return
    with tempfile.TemporaryDirectory(prefix="zoo_fit_") as folder:
        try:
            yield Path(folder)
        except Stopped as error:
            # The folder's checkpoint goes with it.
            number = error.exit_code - _SHELL_SIGNALS
            raise Stopped(f"{signal.Signals(number).name}: stopped; workdir=... would keep the run", number) from None


@contextlib.contextmanager
def _silence(verbose: str | int) -> Iterator[None]:
    if verbose in (0, "0"):
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    else:
        yield
