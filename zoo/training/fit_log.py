"""Epochs of a `zoo.fit`: the engine's logs and evaluations as Keras' logs, History and calls of callbacks."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from zoo.data.batches import Batches

FILE = "fit_log.jsonl"
_TRAIN, _VALIDATION, _TRAINING = "train", "eval", "training"
_START = "iterations before"


class EpochLog:
    """Receives the logs of a run (`Experiment.on_log`), and keeps them in the workdir for a resumed run.

    Args:
        path: file of the logs, a line of JSON for each.
        train: training batches.
        steps: steps per epoch.
        first_epoch: number of the first epoch.
        every: epochs between two evaluations that count.
        names: what `fit` reports: the loss, each loss of several, the metrics.
        evals: names of the data sets that are evaluated.
    """

    def __init__(
        self,
        path: Path,
        train: Batches,
        *,
        steps: int,
        first_epoch: int,
        every: int,
        names: list[str],
        evals: list[str],
    ):
        self._path, self._train, self._steps = path, train, steps
        self._first_epoch, self._every, self._names, self._evals = first_epoch, every, names, evals
        # By data set and step.
        self._logs: dict[str, dict[int, dict[str, float]]] = {name: {} for name in (_TRAIN, *evals)}

    def begin(self, saved_step: int, iterations: int) -> int:
        """Reads the logs of a run that goes on, up to its newest checkpoint; removes those of another one.

        Args:
            saved_step: step of that checkpoint; 0 without any.
            iterations: iterations of the optimizer now.

        Returns:
            The iterations at the run's first step.
        """
        if not saved_step:
            self._path.write_text(json.dumps([iterations, _START, {}]) + "\n")
            return iterations
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        for line in lines:
            try:
                step, dataset, metrics = json.loads(line)
                if dataset == _START:
                    iterations = step
                elif step <= saved_step:
                    self._logs[dataset][step] = metrics
            except (ValueError, KeyError):
                # A kill tore the last line; its step is done again.
                continue
        return iterations

    def add(self, step: int, metrics: Mapping[str, float]) -> str:
        """Adds a log of the run, and returns the name of its data set."""
        dataset = next(iter(metrics)).partition("/")[0]
        values = {name.partition("/")[2]: value for name, value in metrics.items()}
        values = {name: value for name, value in values.items() if self._is_reported(name) or name == "learning_rate"}
        self._logs[dataset][step] = values
        with self._path.open("a") as file:
            file.write(json.dumps([step, dataset, values]) + "\n")
        return dataset

    def is_complete(self, step: int) -> bool:
        """Whether a step ends an epoch of which all data sets have been evaluated."""
        if step % self._steps or step not in self._logs[_TRAIN]:
            return False
        return not self._is_due(step) or all(step in self._logs[name] for name in self._evals)

    def epoch(self, step: int) -> int:
        """Number of the epoch that a step belongs to."""
        return self._first_epoch + (step - 1) // self._steps

    def batch(self, step: int) -> int:
        """Number of a step in its epoch."""
        return (step - 1) % self._steps

    def batch_logs(self, step: int) -> dict[str, float]:
        """The means since the log before."""
        return {name: value for name, value in self._logs[_TRAIN][step].items() if self._is_reported(name)}

    def epoch_logs(self, step: int) -> dict[str, float]:
        """Keras' logs of the epoch that ends at a step: sorted, the validation's last."""
        values = self._means(step)
        for name, value in self._logs.get(_TRAINING, {}).get(step, {}).items():
            values.setdefault(name, value)
        logs = {name: values[name] for name in sorted(values)}
        if self._is_due(step):
            logs |= self.validation_logs(step)
        return logs

    def validation_logs(self, step: int) -> dict[str, float]:
        """Metrics of the validation set at a step, as `val_NAME`."""
        values = self._logs.get(_VALIDATION, {}).get(step, {})
        return {f"val_{name}": values[name] for name in sorted(values) if self._is_reported(name)}

    def learning_rate(self, step: int) -> float | None:
        """The learning rate at a step; None where there are several."""
        return self._logs[_TRAIN][step].get("learning_rate")

    def ends(self) -> list[int]:
        """The steps at which an epoch has ended so far."""
        return [step for step in sorted(self._logs[_TRAIN]) if self.is_complete(step)]

    def _is_due(self, step: int) -> bool:
        return (step // self._steps) % self._every == 0

    def _is_reported(self, name: str) -> bool:
        # A metric of several values has a number at its end.
        return name in self._names or name.rpartition("_")[0] in self._names

    def _means(self, step: int) -> dict[str, float]:
        """Means of the logs of an epoch, weighted by their examples."""
        first, total = step - self._steps, {}
        windows = [each for each in sorted(self._logs[_TRAIN]) if first < each <= step]
        if len(windows) == 1:
            return self.batch_logs(step)
        rows = 0
        for start, end in zip([first, *windows[:-1]], windows, strict=True):
            count = self._train.examples_in(start, end - start)
            rows += count
            for name, value in self.batch_logs(end).items():
                total[name] = total.get(name, 0.0) + value * count
        return {name: value / rows for name, value in total.items()}


class Callbacks:
    """Calls Keras' callbacks at the logs of a run; `on_log` of its experiment.

    Args:
        log: the logs.
        model: the user's model.
        watchers: callbacks that watch.
        params: `epochs`, `steps` and `verbose`, as Keras' callbacks get them.
        sync: gives the user's model and optimizer the present state.
        shows_rate: whether the logs have the learning rate, too.
    """

    def __init__(
        self,
        log: EpochLog,
        model: keras.Model,
        watchers: list[keras.callbacks.Callback],
        params: Mapping[str, Any],
        sync: Callable[[], None],
        shows_rate: bool,
    ):
        self._log, self._model, self._sync, self._shows_rate = log, model, sync, shows_rate
        self._has_watchers = bool(watchers)
        # The last epoch is evaluated even where it is not due, after its end.
        self._ended = 0
        self._list = keras.callbacks.CallbackList(watchers, add_history=True, model=model, **params)

    def begin(self, first_epoch: int) -> None:
        """Before the first step."""
        self._model.stop_training = False
        self._list.on_train_begin()
        self._list.on_epoch_begin(max(map(self._log.epoch, self._log.ends()), default=first_epoch - 1) + 1)

    def on_log(self, step: int, metrics: Mapping[str, float], writer: Any) -> bool:
        """Takes a log; returns whether a callback ends the run."""
        if self._log.add(step, metrics) == _TRAIN:
            self._list.on_train_batch_begin(self._log.batch(step))
            self._list.on_train_batch_end(self._log.batch(step), self._log.batch_logs(step))
        if step == self._ended or not self._log.is_complete(step):
            return False
        self._ended = step
        if self._has_watchers:
            self._sync()
        validation = self._log.validation_logs(step)
        if validation:
            self._list.on_test_begin()
            self._list.on_test_end({name.removeprefix("val_"): value for name, value in validation.items()})
        self._list.on_epoch_end(self._log.epoch(step), self.logs(step))
        if not self._model.stop_training and self._log.epoch(step) + 1 < self._list.params["epochs"]:
            self._list.on_epoch_begin(self._log.epoch(step) + 1)
        return self._model.stop_training

    def logs(self, step: int) -> dict[str, float]:
        """Logs of the epoch that ends at a step."""
        logs, rate = self._log.epoch_logs(step), self._log.learning_rate(step)
        return logs | ({"learning_rate": rate} if self._shows_rate and rate is not None else {})

    def end(self) -> keras.callbacks.History:
        """After the last step; the History has the epochs before an interruption, too."""
        ends = self._log.ends()
        history = self._model.history
        history.epoch, history.history = [self._log.epoch(step) for step in ends], {}
        for step in ends:
            for name, value in self.logs(step).items():
                history.history.setdefault(name, []).append(value)
        self._list.on_train_end(self.logs(ends[-1]) if ends else None)
        return history
