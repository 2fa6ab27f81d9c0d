"""Keras callbacks in `zoo.fit`: those that watch are called, those that steer become flags, or are refused."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.engine import private_apis
from zoo.errors import BadInput
from zoo.keras_task.task import KerasTask

_REFUSED = {
    "BackupAndRestore": "keeps its own copies: give workdir=..., where a run that was stopped goes on bit for bit",
    "TensorBoard": "is always on: give workdir=..., and look at it with `zoo tensorboard FOLDER`",
    "SwapEMAWeights": "exchanges the weights: use ema=0.999, whose average is evaluated and kept at the end",
}
# What they do, the engine does.
_NEEDLESS = (keras.callbacks.TerminateOnNaN, keras.callbacks.ProgbarLogger)


class Steering(NamedTuple):
    """What callbacks ask for.

    Attributes:
        flags: fields of the config.
        watchers: callbacks to call.
        rates: learning rate of each epoch; empty for the optimizer's own.
        stopping: the `EarlyStopping` that became flags, or None.
    """

    flags: dict[str, Any]
    watchers: list[keras.callbacks.Callback]
    rates: tuple[float, ...]
    stopping: keras.callbacks.EarlyStopping | None

    def schedule(self, steps: int) -> "EpochRates | None":
        """The learning rate as a schedule, by the steps of an epoch; None for the optimizer's own."""
        return EpochRates(self.rates, steps) if self.rates else None


class EpochRates(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate for each epoch.

    Args:
        rates: the rates.
        steps: steps per epoch.
        start: iterations of the optimizer before the first epoch.
    """

    def __init__(self, rates: Sequence[float], steps: int, start: int = 0):
        self._rates, self._steps, self.start = tuple(rates), steps, start

    def __call__(self, step):
        epoch = (tf.cast(step, tf.int64) - self.start) // self._steps
        return tf.gather(tf.constant(self._rates, tf.float32), tf.clip_by_value(epoch, 0, len(self._rates) - 1))

    def get_config(self):
        return {"rates": self._rates, "steps": self._steps, "start": self.start}


def sort(
    model: keras.Model,
    callbacks: Any,
    task: KerasTask,
    *,
    has_validation: bool,
    epochs: range,
) -> Steering:
    """Sorts callbacks by what they do.

    Args:
        model: the compiled model.
        callbacks: a callback, a list of them, or None.
        task: losses and metrics of the model.
        has_validation: whether there are validation data.
        epochs: numbers of the epochs.

    Raises:
        BadInput: a callback does what the engine would not repeat; names the flag to use.
    """
    flags: dict[str, Any] = {}
    plateau: dict[str, Any] = {}
    watchers, rates, stopping = [], (), None
    for callback in [] if callbacks is None else keras.tree.flatten(callbacks):
        if not isinstance(callback, keras.callbacks.Callback):
            raise BadInput(f"callbacks has a {type(callback).__name__}: expected keras.callbacks.Callback")
        for kind, reason in _REFUSED.items():
            if isinstance(callback, getattr(keras.callbacks, kind)):
                raise BadInput(f"{kind} {reason}")
        if isinstance(callback, _NEEDLESS):
            continue
        if getattr(callback, "mode", "") == "auto" and hasattr(callback, "monitor"):
            callback.mode = _mode(callback, task)
        if type(callback) is keras.callbacks.EarlyStopping:
            flags |= _early_stopping(callback, has_validation)
            stopping = callback
        elif type(callback) is keras.callbacks.ReduceLROnPlateau:
            plateau = _plateau(callback, has_validation, model.optimizer)
        elif type(callback) is keras.callbacks.LearningRateScheduler:
            rates = _rates(callback, model.optimizer, epochs)
        else:
            if isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_freq != "epoch":
                raise BadInput(
                    f"ModelCheckpoint(save_freq={callback.save_freq}) counts batches, of which the engine does many in "
                    "one call: use save_freq='epoch', or workdir=... and checkpoint_every=..."
                )
            watchers.append(callback)
    _check_pair(flags, plateau, rates)
    return Steering({**plateau, **flags}, watchers, rates, stopping)


def recall_best(watchers: Sequence[keras.callbacks.Callback], logs: Sequence[dict[str, float]]) -> None:
    """Gives callbacks that keep a best value the one of the epochs before an interruption."""
    for callback in watchers:
        values = [each[callback.monitor] for each in logs if getattr(callback, "monitor", None) in each]
        if values and getattr(callback, "mode", None) in ("min", "max"):
            callback.best = {"min": min, "max": max}[callback.mode](values)


def _check_pair(stopping: dict[str, Any], plateau: dict[str, Any], rates: tuple[float, ...]) -> None:
    """Refuses a plateau beside what contradicts it."""
    if plateau and rates:
        raise BadInput("ReduceLROnPlateau beside LearningRateScheduler, which sets the rate again: expected one only")
    for name in ("metric", "metric_mode"):
        if plateau and stopping and stopping[name] != plateau[name]:
            raise BadInput(
                f"EarlyStopping watches {stopping['metric']} ({stopping['metric_mode']}), ReduceLROnPlateau "
                f"{plateau['metric']} ({plateau['metric_mode']}): the engine has one metric; expected the same of both"
            )


def _plateau(
    callback: keras.callbacks.ReduceLROnPlateau, has_validation: bool, optimizer: keras.optimizers.Optimizer
) -> dict[str, Any]:
    _check_monitor(callback, has_validation)
    if not isinstance(private_apis.learning_rate(optimizer), keras.Variable):
        raise BadInput("ReduceLROnPlateau: the optimizer has a schedule already; compile it with a number")
    rate = float(optimizer.learning_rate.numpy())
    return {
        "metric": callback.monitor.removeprefix("val_"),
        "metric_mode": callback.mode,
        "plateau_patience": max(1, callback.patience),
        "plateau_factor": callback.factor,
        "plateau_min_delta": callback.min_delta,
        "plateau_cooldown": callback.cooldown,
        "plateau_floor": min(1.0, callback.min_lr / rate) if rate else 0.0,
    }


def _check_monitor(callback: keras.callbacks.Callback, has_validation: bool) -> None:
    if not callback.monitor.startswith("val_") or not has_validation:
        raise BadInput(
            f"{type(callback).__name__}(monitor={callback.monitor!r}): the engine looks at the validation data, whose "
            "weights are those of one step: expected a monitor 'val_...', and validation_data or validation_split"
        )


def _early_stopping(callback: keras.callbacks.EarlyStopping, has_validation: bool) -> dict[str, Any]:
    for name in ("min_delta", "baseline", "start_from_epoch"):
        if getattr(callback, name):
            raise BadInput(f"EarlyStopping({name}=...) has no flag in the engine: leave it out; patience=... is a flag")
    _check_monitor(callback, has_validation)
    return {
        "metric": callback.monitor.removeprefix("val_"),
        "metric_mode": callback.mode,
        # Keras looks at the patience after the first epoch that is no better, 0 or not.
        "patience": max(1, callback.patience),
        "export": "best" if callback.restore_best_weights else "last",
    }


def _mode(callback: keras.callbacks.Callback, task: KerasTask) -> str:
    """Whether the best value is the smallest or the largest, by Keras' rule."""
    name = callback.monitor.removeprefix("val_")
    if name == "loss" or name in [f"{part.name}_loss" for part in task.losses]:
        return "min"
    for part in (*task.means, *task.others):
        direction = private_apis.metric_direction(part.metric)
        if part.name == name and direction:
            return "max" if direction == "up" else "min"
    if type(callback) is keras.callbacks.ModelCheckpoint and not callback.save_best_only:
        return "min"
    raise BadInput(
        f"{type(callback).__name__}(monitor={callback.monitor!r}): whether more is better is unknown; give it "
        f"mode='min' or mode='max' (the model has {', '.join(task.names)})"
    )


def _rates(
    callback: keras.callbacks.LearningRateScheduler, optimizer: keras.optimizers.Optimizer, epochs: range
) -> tuple[float, ...]:
    """The rates that the scheduler would set, of all epochs."""
    if not isinstance(private_apis.learning_rate(optimizer), keras.Variable):
        raise BadInput("LearningRateScheduler: the optimizer has a schedule already; compile it with a number")
    rates, rate = [], float(optimizer.learning_rate.numpy())
    takes_rate = len(inspect.signature(callback.schedule).parameters) > 1
    for epoch in epochs:
        rate = callback.schedule(epoch, rate) if takes_rate else callback.schedule(epoch)
        if not isinstance(rate, (float, np.floating)):
            raise BadInput(f"LearningRateScheduler: the schedule returned {rate!r} for epoch {epoch}; expected a float")
        # The optimizer holds it as float32, which the next call gets.
        rate = float(np.float32(rate))
        rates.append(rate)
    return tuple(rates)
