"""The outer loop: from a config to a trained model in a folder, one function read top to bottom.

It is not called run.py, because `zoo.run` is the function.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras

from zoo import config as configs
from zoo import interrupt
from zoo import workdir as folders
from zoo.engine import checkpoints, devices, health, optimizers, regularization, schedules
from zoo.engine import step as steps_of
from zoo.engine.engine import Engine, means
from zoo.errors import BadInput
from zoo.experiment import Experiment
from zoo.report.history import History
from zoo.report.progress import Clock, Progress

# A call of the compiled loop should last about this long, so that signals and the bar are answered.
_CALL_SECONDS = 0.5


def run(build: Callable[[Any], Experiment], config: configs.Config, workdir: str | Path) -> dict[str, float]:
    """Trains what `build(config)` returns, in a folder; goes on where an earlier run of the same config was stopped.

    Order of initialisation: devices, seed, model, optimizer's slots, checkpoint (this run's, else `init_from`, else
    fresh), first trace.

    Args:
        build: called inside the strategy's scope; makes the model, the task and the data.
        config: of the run; the run is a function of it.
        workdir: folder of checkpoints, TensorBoard's files, result.json and model.keras.

    Returns:
        The final metrics: `step`, `train/loss`, `eval/loss`, `test/...`.

    Raises:
        ZooError: see `zoo.errors`; each has one line of text and an exit code.
    """
    workdir = configs.absolute(workdir)
    strategy = devices.strategy(config.strategy, config.cpu_devices)
    chief = devices.is_chief(strategy)
    with contextlib.ExitStack() as stack:
        if chief:
            stack.enter_context(folders.owned(workdir))
        asked = stack.enter_context(interrupt.watched() if chief else contextlib.nullcontext(interrupt.Interrupt()))
        stack.enter_context(devices.precision(config.precision))
        with strategy.scope():
            keras.utils.set_random_seed(config.seed)
            experiment = build(config)
        total = total_steps(config, experiment)
        engine = make_engine(strategy, config, experiment, total)
        if chief:
            folders.claim(workdir, config, _identity(config, experiment, total))
        training = Training(config, experiment, engine, workdir, total, chief)
        stack.callback(training.close)
        training.restore()
        while training.step < total:
            training.advance(asked)
        return training.finish()


def total_steps(config: configs.Config, experiment: Experiment) -> int:
    """The steps of a run; epochs become steps here, once."""
    return config.steps or math.ceil(config.epochs * experiment.train.steps_per_epoch)


def make_engine(strategy, config: configs.Config, experiment: Experiment, total: int) -> Engine:
    """The engine that a config asks for, for a built experiment."""
    with strategy.scope():
        optimizer = experiment.optimizer
        if optimizer is None:
            optimizer = optimizers.make(config.optimizer, schedule(config, total), config.weight_decay)
        groups = optimizers.groups(experiment.model, optimizer)
    return Engine(
        strategy,
        experiment.model,
        experiment.forward,
        experiment.objective,
        groups,
        penalty=regularization.penalty(experiment.model, config.l2),
        seed=config.seed,
        accumulate=config.accumulate,
        clip_norm=config.clip_norm,
        average_decay=config.ema,
        compile=config.compile,
        steps_per_loop=config.steps_per_loop,
    )


def schedule(config: configs.Config, total: int) -> schedules.Schedule:
    """The learning rate that a config asks for."""
    return schedules.make(
        config.schedule,
        config.learning_rate,
        decay_steps=config.decay_steps or total,
        warmup_steps=config.warmup_steps,
        final_fraction=config.final_fraction,
        decay_rate=config.decay_rate,
        decay_every=config.decay_every,
        power=config.power,
    )


class Training:
    """The state of one run between two calls of the engine, and what is due at a step."""

    def __init__(self, config, experiment: Experiment, engine: Engine, workdir: Path, total: int, chief: bool):
        self._config = config
        self._experiment = experiment
        self._engine = engine
        self._workdir = workdir
        self._total = total
        self._chief = chief
        self._folder = workdir / folders.CHECKPOINTS
        self._eval_every = config.eval_every or experiment.train.steps_per_epoch
        self._keep_best = bool(experiment.evals) and bool(config.checkpoint_every or config.export == "best")
        self._clock = Clock()
        self._calls = config.steps_per_loop if engine.strategy.cluster_resolver else 1
        self._progress: Progress | None = None
        self._history: History | None = None
        self._saved: int | None = None
        self.step = 0
        # What a checkpoint remembers besides the variables: sums since the last log, last and best metrics.
        self._window: dict[str, float] = {}
        self._metrics: dict[str, float] = {}
        self._best: dict[str, float] = {}
        self._done = {"log": 0, "eval": 0}

    def restore(self) -> None:
        """Takes up this run's newest good checkpoint, else the weights of `init_from`, else starts fresh."""
        left = checkpoints.clean(self._folder) if self._chief else []
        found, problems = checkpoints.restore(self._folder)
        if found is not None and found.step > self._total:
            raise BadInput(f"--steps is {self._total}: this run has done {found.step} already; expected that or more")
        self._progress = Progress(self._total, found.step if found else 0)
        for line in [*self._experiment.notes, *(f"checkpoint {line}" for line in left + problems)]:
            self._progress.say(line)
        if found is not None:
            self._engine.load(found.state)
            self.step = self._saved = found.step
            for name in ("window", "metrics", "best", "done"):
                getattr(self, f"_{name}").update(found.record[name])
            self._progress.say(f"resumed at step {found.step:,} of {self._total:,}")
        elif self._config.init_from:
            self._progress.say(initialise(self._engine, self._config.init_from))
        else:
            self._progress.say(optimizers.describe(self._engine.groups))
        if self._chief:
            self._history = History(self._workdir, self.step if found else None)
            if found is None:
                self._history = History(self._workdir, 0)
                self._history.config(configs.as_dict(self._config), self._config.flags())

    def advance(self, asked: interrupt.Interrupt) -> None:
        """Does what is due, then one call of the engine."""
        self._do_what_is_due()
        if asked.signal:
            self._save()
            asked.raise_if_asked(self.step)
        steps = min(self._until_something_is_due(), self._calls)
        started = time.perf_counter()
        with self._clock:
            found = self._engine.train(self._experiment.train, self.step, steps)
        if not self._engine.strategy.cluster_resolver:
            self._calls = _pace(steps, time.perf_counter() - started, self._config.steps_per_loop)
        self._clock.examples += steps * self._experiment.train.batch_size
        for name, values in found.items():
            for value in values.tolist():
                self._window[name] = self._window.get(name, 0.0) + value
        health.check(self.step, found, self._saved)
        self._window["steps"] = self._window.get("steps", 0) + steps
        self._window["learning_rate"] = float(found.get("learning_rate", [math.nan])[-1])
        self.step += steps
        rate = self._clock.examples / max(self._clock.seconds, 1e-9)
        self._progress.advance(steps, loss(means(found), self._experiment)["loss"], rate)

    def finish(self) -> dict[str, float]:
        """Evaluates, saves and exports the last state, and writes the result."""
        self._do_what_is_due()
        if self._saved != self.step:
            self._save()
        state = self._exported_state()
        result = {"step": self.step, **self._metrics}
        with exported(self._engine, state):
            for name, batches in self._experiment.tests.items():
                result |= _tagged(name, loss(self._engine.evaluate(batches), self._experiment))
            if self._chief:
                self._export()
        if self._chief and self._experiment.baseline is not None:
            result |= self._experiment.baseline()
        if self._chief:
            for name in self._experiment.tests:
                found = {tag.split("/", 1)[1]: value for tag, value in result.items() if tag.startswith(f"{name}/")}
                self._progress.line(self.step, name, found)
            folders.write(self._workdir / folders.RESULT, json.dumps(result, indent=1) + "\n")
        return result

    def close(self) -> None:
        if self._progress is not None:
            self._progress.close()
        if self._history is not None:
            self._history.close()

    def _do_what_is_due(self) -> None:
        """Whatever of log, evaluation and checkpoint falls on this step and is not done yet."""
        last = self.step == self._total
        if self.step and self._done["log"] != self.step and (self._falls(self._config.log_every) or last):
            self._log()
        improved = False
        if self.step and self._done["eval"] != self.step and (self._falls(self._eval_every) or last):
            improved = self._evaluate()
        if self.step and self._saved != self.step and (improved or last or self._falls(self._config.checkpoint_every)):
            self._save()

    def _falls(self, every: int) -> bool:
        return bool(every) and self.step % every == 0

    def _until_something_is_due(self) -> int:
        periods = [self._config.log_every, self._eval_every, self._config.checkpoint_every]
        return min([self._total - self.step] + [every - self.step % every for every in periods if every])

    def _log(self) -> None:
        window, steps = self._window, max(self._window.get("steps", 1), 1)
        sums = {name: window[name] for name in window if "/" in name and not name.startswith("learning_rate")}
        metrics = loss(_ratios(sums), self._experiment)
        metrics |= {name: window[name] / steps for name in ("penalty", "gradient_norm") if name in window}
        if not math.isnan(window.get("learning_rate", math.nan)):
            metrics["learning_rate"] = window["learning_rate"]
        metrics |= {name: window[name] / steps for name in window if name.startswith("learning_rate/")}
        values = [variable.value for variable in self._engine.model.trainable_variables]
        metrics["parameter_norm"] = float(steps_of.global_norm([_local(value) for value in values]))
        metrics["examples_per_second"] = self._clock.rate()
        self._window.clear()
        self._done["log"] = self.step
        self._report("train", metrics)

    def _evaluate(self) -> bool:
        """Evaluates the weights that an export would have; True where they are the best so far and to be kept."""
        if not self._experiment.evals:
            self._done["eval"] = self.step
            return False
        with exported(self._engine, self._engine.averaged(self._engine.state())):
            for name, batches in self._experiment.evals.items():
                self._report(name, loss(self._engine.evaluate(batches), self._experiment))
        self._done["eval"] = self.step
        value = self._metrics[f"{next(iter(self._experiment.evals))}/loss"]
        if not self._keep_best or value >= self._best.get("loss", math.inf):
            return False
        self._best.update(step=self.step, loss=value)
        return True

    def _report(self, run: str, metrics: dict[str, float]) -> None:
        self._metrics |= _tagged(run, metrics)
        if self._history is not None:
            self._history.scalars(run, self.step, metrics)
            self._progress.line(self.step, run, metrics)

    def _save(self) -> None:
        state = self._engine.state()
        health.check_state(self.step, state, self._saved)
        if self._chief:
            self._history.flush()
            record = {"window": self._window, "metrics": self._metrics, "best": self._best, "done": self._done}
            checkpoints.save(self._folder, self.step, state, record)
            checkpoints.prune(self._folder, self._config.keep, self._best.get("step"))
        self._saved = self.step

    def _exported_state(self):
        if self._config.export == "best" and self._best:
            best, _ = checkpoints.restore(self._folder, int(self._best["step"]))
            return self._engine.averaged(best.state)
        return self._engine.averaged(self._engine.state())

    def _export(self) -> None:
        """Writes the model and what `zoo predict` must know of it, each in one stroke."""
        aside = self._workdir / f".partial-{os.getpid()}.keras"
        try:
            self._experiment.model.save(aside)
            os.replace(aside, self._workdir / folders.MODEL)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise BadInput(f"cannot write {self._workdir / folders.MODEL}: {error}") from error
        folders.write(self._workdir / folders.ABOUT, json.dumps(dict(self._experiment.about), indent=1) + "\n")


@contextlib.contextmanager
def exported(engine: Engine, model_state: dict[str, Any]) -> Iterator[None]:
    """Puts other weights (averaged ones, the best ones) into the model for a while."""
    own = engine.state()
    engine.load_model(model_state)
    try:
        yield
    finally:
        engine.load_model(own)


def initialise(engine: Engine, source: str) -> str:
    """Starts from the weights of another run: the newest checkpoint of a workdir, or a .keras file.

    Returns:
        What was done, in one line.

    Raises:
        BadInput: nothing is there, or the weights do not fit.
    """
    path = configs.absolute(source)
    if path.suffix == ".keras" and path.is_file():
        other = keras.models.load_model(path, compile=False)
        names = [name for name in engine.variables() if name.startswith("model/")]
        if len(names) != len(other.weights):
            raise BadInput(f"--init_from {path} has {len(other.weights)} variables, the model has {len(names)}")
        engine.load_model({n: v.numpy() for n, v in zip(names, other.weights, strict=True)})
        return f"weights from {path}"
    found, _ = checkpoints.restore(path / folders.CHECKPOINTS)
    if found is None:
        raise BadInput(f"--init_from {path} has no checkpoints: expected a workdir of this project or a .keras file")
    engine.load_model(engine_average(found.state, engine))
    return f"weights from {path}, step {found.step:,}"


def engine_average(state: dict[str, Any], engine: Engine) -> dict[str, Any]:
    """The weights a run exports: its averages where it kept some, whether or not this run keeps any."""
    averages = [state[name] for name in sorted(state) if name.startswith("average/")]
    model = {name: value for name, value in state.items() if name.startswith("model/")}
    if averages:
        trainable = {id(variable) for variable in engine.model.trainable_variables}
        names = [name for name, variable in engine.variables().items() if id(variable) in trainable]
        model |= dict(zip(names, averages, strict=False))
    return model


def loss(metrics: dict[str, float], experiment: Experiment) -> dict[str, float]:
    """The metrics with `loss` first: the objective's terms added up where no term has that name."""
    if "loss" in metrics:
        return metrics
    return {"loss": sum(metrics[name] for name in experiment.objective), **metrics}


def _identity(config: configs.Config, experiment: Experiment, total: int) -> dict[str, Any]:
    shapes = [f"{variable.name}{tuple(variable.shape)}" for variable in experiment.model.weights]
    identity = {"model": " ".join(shapes), "training data": experiment.train.fingerprint()}
    if config.schedule not in ("constant", "inverse_sqrt"):
        identity["schedule's length"] = config.decay_steps or total
    return identity


def _ratios(sums: dict[str, float]) -> dict[str, float]:
    names = [name.removesuffix("/numerator") for name in sums if name.endswith("/numerator")]
    return {name: sums[f"{name}/numerator"] / (sums[f"{name}/weight"] or 1.0) for name in names}


def _tagged(run: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{run}/{name}": value for name, value in metrics.items()}


def _local(value):
    """One replica's copy of a variable, read outside any replica."""
    return value.values[0] if hasattr(value, "values") else value


def _pace(steps: int, seconds: float, most: int) -> int:
    """How many steps the next call should have; at most four times as many, as the first call compiled."""
    wanted = int(steps * _CALL_SECONDS / max(seconds, 1e-6))
    return max(1, min(wanted, 4 * steps, most))
