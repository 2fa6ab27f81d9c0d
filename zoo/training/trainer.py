"""The state of one run between two calls of the engine: what is due at a step, saved, restored, exported."""

import contextlib
import json
import math
import operator
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo import errors, files
from zoo import workdir as folders
from zoo.engine import checkpoints, health, optimizers
from zoo.engine.engine import Engine, means, ratios
from zoo.engine.state import averaged
from zoo.errors import BadInput, NonFinite
from zoo.experiment import Experiment
from zoo.metrics import evaluation_report
from zoo.training import init_from, signals
from zoo.training.progress import Clock, Progress
from zoo.training.tensorboard_writer import TensorBoardWriter

# A call of the compiled loop should last about this long, so that signals and the bar are answered.
_CALL_SECONDS = 0.5


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
        self._keep_best = bool(experiment.evals) and bool(config.checkpoint_every or config.exports_best)
        self._clock = Clock()
        self._calls = config.steps_per_loop if engine.strategy.cluster_resolver else 1
        self._progress: Progress | None = None
        self._watch = TensorBoardWriter(config, experiment, engine, workdir)
        self._saved: int | None = None
        self.step = 0
        # What a checkpoint remembers besides the variables: sums since the last log, last and best metrics.
        self._window: dict[str, float] = {}
        self._metrics: dict[str, float] = {}
        # Of the evaluation's metric: its best value, the step of it, and how many evaluations brought none since.
        self._best: dict[str, float] = {}
        self._done = {"log": 0, "eval": 0, "histograms": 0}

    @property
    def stopped(self) -> bool:
        """Whether the metric has not become better for as long as the config has patience."""
        return bool(self._config.patience) and self._best.get("since", 0) >= self._config.patience

    @property
    def done(self) -> bool:
        return self.step == self._total or self.stopped

    def restore(self) -> None:
        """Takes up this run's newest good checkpoint, else the weights of `init_from`, else starts fresh."""
        left = checkpoints.clean(self._folder) if self._chief else []
        found, problems = checkpoints.restore(self._folder)
        if found is not None and found.step > self._total:
            raise BadInput(f"--steps is {self._total}: this run has done {found.step} already; expected that or more")
        if (
            found is not None
            and self._config.exports_best
            and found.record["done"]["eval"]
            and not found.record["best"]
        ):
            raise BadInput(
                "--export=best: this run has kept no best checkpoint so far; expected it from the first step on"
            )
        self._progress = Progress(self._total, found.step if found else 0)
        for line in self._experiment.notes:
            self._progress.say(line)
        self.step = found.step if found else 0
        for line in left + problems:
            self._tell(f"checkpoint {line}")
        if found is not None:
            self._engine.load(found.state)
            self._saved = found.step
            for name in ("window", "metrics", "best", "done"):
                getattr(self, f"_{name}").update(found.record[name])
            self._tell(f"resumed at step {found.step:,} of {self._total:,}")
        elif self._config.init_from:
            self._tell(init_from.load(self._engine, self._config.init_from, self._experiment))
        else:
            self._progress.say(optimizers.describe(self._engine.model, self._engine.groups))

    def open_history(self, begun: bool) -> None:
        """Opens TensorBoard's files; those of a run that was begun are cut to the step that it goes on from."""
        self._watch.open(begun, self.step)

    def advance(self, asked: signals.Interrupt) -> None:
        """Does what is due, then one call of the engine."""
        self._do_what_is_due()
        if self.stopped:
            found = self._best
            self._tell(
                f"stopped at step {self.step:,}: {self._config.metric} has not become better than {found['value']:.4g} "
                f"(step {found['step']:,}) for {self._config.patience} evaluations"
            )
            return
        if asked.signal:
            if self._saved != self.step:
                self._save()
            asked.raise_if_asked(self.step)
        steps = min(self._until_something_is_due(), self._calls)
        started = time.perf_counter()
        with self._watch.profiled(self.step), self._clock:
            found = self._engine.train(self._experiment.train, self.step, steps)
        if not self._engine.strategy.cluster_resolver:
            self._calls = _pace(steps, time.perf_counter() - started, self._config.steps_per_loop)
        self._clock.examples += self._experiment.train.examples_in(self.step, steps)
        for name, values in found.items():
            if not _is_momentary(name):
                for value in values.tolist():
                    self._window[name] = self._window.get(name, 0.0) + value
        health.check(self.step, found, self._saved)
        self._window["steps"] = self._window.get("steps", 0) + steps
        # Of the last step, not of the window: a rate or a norm that nobody took is not made up by a mean.
        self._window |= {name: float(values[-1]) for name, values in found.items() if _is_momentary(name)}
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
            if self._config.exports_best:
                # All of the result is of the weights that are exported.
                result["best/step"] = self._best["step"]
                for name, batches in self._experiment.evals.items():
                    result |= _tagged(name, self._judge(name, batches))
            for name, batches in self._experiment.tests.items():
                found = self._judge(name, batches, final=True)
                self._watch.scalars(name, self.step, found)
                result |= _tagged(name, found)
            self._watch.points()
            if self._chief:
                self._export()
        if self._chief and self._experiment.baseline is not None:
            result |= self._experiment.baseline()
        if self._chief:
            for name in self._experiment.tests:
                found = {tag.split("/", 1)[1]: value for tag, value in result.items() if tag.startswith(f"{name}/")}
                self._progress.line(self.step, name, evaluation_report.brief(found))
                if evaluation_report.lows(found):
                    self._progress.say(evaluation_report.report(found))
            files.write(self._workdir / folders.RESULT, json.dumps(result, indent=1) + "\n")
        return result

    def tell_end(self, what: str) -> None:
        """Notes in TensorBoard's files why the run ends here."""
        self._watch.tell(self.step, what)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.close()
        self._watch.close()

    def _tell(self, what: str) -> None:
        """Says what happened to the run, on stderr and in TensorBoard's files."""
        self._progress.say(what)
        self._watch.tell(self.step, what)

    def _do_what_is_due(self) -> None:
        """Whatever of log, evaluation and checkpoint falls on this step and is not done yet."""
        last = self.done
        if self.step and self._done["log"] != self.step and (self._falls(self._config.log_every) or last):
            self._log()
        improved = False
        if self.step and self._done["eval"] != self.step and (self._falls(self._eval_every) or last):
            improved = self._evaluate()
            if self.stopped and self._done["log"] != self.step:
                # Before the checkpoint that remembers it, or a resumed run would log it once more.
                self._log()
        if self.step and self._done["histograms"] != self.step and self._falls(self._config.histograms):
            self._watch.histograms(self.step)
            self._done["histograms"] = self.step
        if (
            self.step
            and self._saved != self.step
            and (improved or self.done or self._falls(self._config.checkpoint_every))
        ):
            self._save()

    def _falls(self, every: int) -> bool:
        return bool(every) and self.step % every == 0

    def _until_something_is_due(self) -> int:
        periods = [self._config.log_every, self._eval_every, self._config.checkpoint_every, self._config.histograms]
        waits = [self._total - self.step, self._watch.until_profile(self.step)]
        return min([wait for wait in waits if wait] + [every - self.step % every for every in periods if every])

    def _log(self) -> None:
        window, steps = self._window, max(self._window.get("steps", 1), 1)
        metrics = loss(ratios(window), self._experiment)
        metrics |= {"penalty": window["penalty"] / steps} if "penalty" in window else {}
        metrics |= {name: value for name, value in window.items() if _is_momentary(name)}
        metrics["parameter_norm"] = self._watch.state(self.step)
        metrics["examples_per_second"] = self._clock.rate()
        self._window.clear()
        self._done["log"] = self.step
        self._report("train", metrics)

    def _evaluate(self) -> bool:
        """Evaluates the weights that an export would have; True where they are the best so far and to be kept."""
        if not self._experiment.evals:
            self._done["eval"] = self.step
            return False
        with self._averaged():
            for name, batches in self._experiment.evals.items():
                self._report(name, self._judge(name, batches))
        self._done["eval"] = self.step
        if not self._keep_best and not self._config.patience:
            return False
        value = self._watched()
        better = operator.gt if self._config.larger_is_better else operator.lt
        if self._best and not better(value, self._best["value"]):
            self._best["since"] += 1
            return False
        self._best.update(step=self.step, value=value, since=0)
        return True

    def _watched(self) -> float:
        """The metric that tells which weights are best."""
        run = next(iter(self._experiment.evals))
        found = {tag.partition("/")[2]: value for tag, value in self._metrics.items() if tag.startswith(f"{run}/")}
        if self._config.metric not in found:
            raise BadInput(f"--metric is {self._config.metric!r}: {errors.nearest(self._config.metric, list(found))}")
        return found[self._config.metric]

    def _averaged(self):
        """The weights that an export would have, for a while; no copies where no averages are kept."""
        if not self._engine.task.averages:
            return contextlib.nullcontext()
        return exported(self._engine, averaged(self._engine.state()))

    def _judge(self, name: str, batches, final: bool = False) -> dict[str, float]:
        found, outputs = self._engine.evaluate_with_outputs(batches)
        found = loss(found, self._experiment)
        if self._experiment.compute_metrics is not None:
            found |= self._experiment.compute_metrics(found, outputs, batches.columns, final)
        if final or (name in self._experiment.evals and self._done["eval"] != self.step):
            number = self.step // self._eval_every
            self._watch.look(name, self.step, number, outputs, batches.columns, final or self.done)
        wrong = [metric for metric, value in found.items() if not math.isfinite(value)]
        if wrong:
            raise NonFinite(f"{name}/{wrong[0]} not finite at step {self.step}; look for infinite values in that data")
        return found

    def _report(self, run: str, metrics: dict[str, float]) -> None:
        self._metrics |= _tagged(run, metrics)
        self._watch.scalars(run, self.step, metrics)
        if self._watch.is_open:
            # A rate of each layer is a curve, not a word.
            self._progress.line(self.step, run, evaluation_report.brief(metrics))

    def _save(self) -> None:
        state = self._engine.state()
        health.check_state(self.step, state, self._saved)
        if self._chief:
            self._watch.flush()
            record = {"window": self._window, "metrics": self._metrics, "best": self._best, "done": self._done}
            checkpoints.save(self._folder, self.step, state, record)
            checkpoints.prune(self._folder, self._config.keep, self._best.get("step"))
        self._saved = self.step

    def _exported_state(self):
        # The present state needs no file, which another worker might still be writing.
        if self._config.exports_best and self._best["step"] != self.step:
            best, _ = checkpoints.restore(self._folder, int(self._best["step"]))
            return averaged(best.state)
        return averaged(self._engine.state())

    def _export(self) -> None:
        """Writes the model and what `zoo predict` must know of it, each in one stroke."""
        aside = self._workdir / f".partial-{os.getpid()}.keras"
        try:
            self._experiment.model.save(aside)
            os.replace(aside, self._workdir / folders.MODEL)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise BadInput(f"cannot write {self._workdir / folders.MODEL}: {error}") from error
        for name, text in self._experiment.files.items():
            files.write(self._workdir / name, text)
        files.write(self._workdir / folders.ABOUT, json.dumps(dict(self._experiment.model_info), indent=1) + "\n")


@contextlib.contextmanager
def exported(engine: Engine, model_state: dict[str, Any]) -> Iterator[None]:
    """Puts other weights (averaged ones, the best ones) into the model for a while."""
    own = engine.state()
    engine.load_model(model_state)
    try:
        yield
    finally:
        engine.load_model(own)


def loss(metrics: dict[str, float], experiment: Experiment) -> dict[str, float]:
    """The metrics with `loss` first: the objective's terms, if there are any, added up where no term has that name."""
    present = [metrics[name] for name in experiment.objective if name in metrics]
    if "loss" in metrics or not present:
        return metrics
    return {"loss": sum(present), **metrics}


def _is_momentary(name: str) -> bool:
    return name == "gradient_norm" or name.partition("/")[0] == "learning_rate"


def _tagged(run: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{run}/{name}": value for name, value in metrics.items()}


def _pace(steps: int, seconds: float, most: int) -> int:
    """How many steps the next call should have; at most four times as many, as the first call compiled."""
    wanted = int(steps * _CALL_SECONDS / max(seconds, 1e-6))
    return max(1, min(wanted, 4 * steps, most))
