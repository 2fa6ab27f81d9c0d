"""Runs of one training with one choice each, kept as results and not computed again."""

import hashlib
import json
import shutil
from pathlib import Path

import keras

import zoo
from benchmarks.optimization.choices import PLAIN, Choice
from benchmarks.optimization.pace import Pace
from benchmarks.optimization.tasks import SIZES, Task
from zoo import config as configs
from zoo import files
from zoo.errors import NonFinite

# They change a result in its last bits at most, or belong to a folder.
_NOT_IN_KEY = ("compile", "dataset", "train_file", "eval_file", "test_file")
# Evaluations of a run at the task's steps; more would cost time and change nothing.
_EVALUATIONS = 5


class Runs:
    """Results of one training, each in a file whose name tells of all that it depends on.

    Args:
        task: the training.
        out: folder of data and results.
    """

    def __init__(self, task: Task, out: Path):
        self._task, self._out = task, out
        for name in ("results", "pace"):
            (out / name).mkdir(parents=True, exist_ok=True)
        self._pace: Pace | None = None

    def result(self, choice: Choice, seed: int, rate: float, steps: int, **flags) -> dict[str, float]:
        """The result of one run, with its `rate` and `batch`; a run that diverges has an accuracy of 0."""
        config = self._config(choice, seed, rate, steps, **flags)
        names = "".join(f" {name}={value}" for name, value in (choice.flags | flags).items())
        path = self._out / "results" / f"seed={seed} rate={rate:g} steps={steps}{names} {_key(config)}.json"
        if not path.exists():
            files.write(path, json.dumps(self._computed(config)) + "\n")
        return json.loads(path.read_text()) | {"rate": rate}

    def ratio(self, choice: Choice, rate: float) -> float:
        """Processor time of a step / that of a step of plain Adam."""
        compiled = {"compile": self._task.compile}
        config = self._config(choice, 0, rate, self._task.steps, **compiled)
        path = self._out / "pace" / f"{choice.name} {_key(config)}.json"
        if not path.exists():
            if self._pace is None:
                plain = self._config(PLAIN, 0, self._task.rates["adaptive"][0], self._task.steps, **compiled)
                self._pace = Pace(self._task.build, plain)
            files.write(path, json.dumps(self._pace.ratio(config)) + "\n")
        return json.loads(path.read_text())

    def _config(self, choice: Choice, seed: int, rate: float, steps: int, **flags) -> configs.Config:
        data = self._out / f"data-{seed}"
        if not data.exists():
            data.mkdir(parents=True)
            self._task.data(data, seed)
        common = {"seed": seed, "learning_rate": rate, "steps": steps, "baseline": False}
        # XLA's compilation takes longer than these short runs.
        common |= {"compile": "none", "eval_every": max(1, self._task.steps // _EVALUATIONS)}
        return self._task.config(data, **common | choice.flags | flags)

    def _build(self, config: configs.Config) -> zoo.Experiment:
        """The experiment without what takes longer than a run's training: intervals of its metrics by resampling."""
        experiment = self._task.build(config)
        return experiment if config.baseline else experiment._replace(compute_metrics=None)

    def _computed(self, config: configs.Config) -> dict[str, float]:
        folder = self._out / f"run-{_key(config)}"
        shutil.rmtree(folder, ignore_errors=True)
        keras.backend.clear_session()
        try:
            result = zoo.run(self._build, config, folder)
        except NonFinite:
            result = {"step": config.steps} | {f"{name}/accuracy": 0.0 for name in ("train", "eval", "test")}
        shutil.rmtree(folder)
        return result


def _key(config: configs.Config) -> str:
    """Eight digits that differ where a flag differs that changes the result, or the number of examples."""
    plain = configs.as_dict(type(config)())
    own = {name: value for name, value in configs.as_dict(config).items() if plain[name] != value}
    own = {name: value for name, value in own.items() if name not in _NOT_IN_KEY} | {"sizes": SIZES}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]
