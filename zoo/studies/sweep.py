"""A sweep: trials of one experiment with other values of some flags, judged on the validation split.

Each trial is an ordinary run in a folder of its own. What was tried and what came of it is in Optuna's storage, so the
same command goes on after a kill: finished trials are not run again, the interrupted one goes on from its checkpoint.
The test split is measured once, at the end, for the best trial.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from zoo import files, strict_json
from zoo import workdir as folders
from zoo.errors import BadInput, ZooError
from zoo.names import escaped
from zoo.studies import sweep_summary
from zoo.studies.search import Search, grid
from zoo.studies.space import Dimension
from zoo.studies.sweep_summary import Summary

# Trials of a sampler that could go on for ever: ten that TPE draws at random, and ten that it chooses.
_TRIALS = 20


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep is asked for.

    Attributes:
        experiment: module or file of the experiment.
        flags: its flags, "--name=value", which all trials share.
        space: the values to try, as text in the form of `zoo.studies.space`.
        sampler: one of `search.SAMPLERS`.
        pruner: one of `search.PRUNERS`.
        seed: seed of the draws.
        trials: number of trials; None: all of a grid, else 20.
        seconds: no trial starts after so many seconds of trials; None: no limit.
    """

    experiment: str
    flags: tuple[str, ...]
    space: str
    sampler: str = "tpe"
    pruner: str = "none"
    seed: int = 0
    trials: int | None = None
    seconds: float | None = None


class Runner(Protocol):
    """Runs trials; see `trial_process.TrialProcess`."""

    def check(self, words: Sequence[str], space: str, sampler: str) -> dict[str, Any]: ...

    def trial(self, words: Sequence[str], folder: Path, shall_end: Callable[[int, float], bool]) -> dict[str, Any]: ...

    def test(self, words: Sequence[str], folder: Path) -> dict[str, Any]: ...


def run(plan: Plan, workdir: Path, runner: Runner) -> Summary:
    """Runs a sweep, or goes on with it.

    Args:
        plan: what is asked for; only `trials` and `seconds` may differ from those of the same folder before.
        workdir: gets a folder for each trial, Optuna's storage and sweep.json.
        runner: runs the trials.

    Raises:
        BadInput: a mistake in the plan, or the first trials are refused.
        ZooError: no trial has finished.
        Stopped: a signal; the same call goes on.
    """
    workdir = files.absolute(workdir)
    checked = runner.check(plan.flags, plan.space, plan.sampler)
    if not checked["metric"]:
        raise BadInput("--metric is not set: expected the metric that all trials are judged by, such as --metric=loss")
    dimensions = [Dimension(**each | {"choices": tuple(each["choices"])}) for each in checked["space"]]
    combinations = len(grid(dimensions)) if plan.sampler == "grid" else None
    with folders.owned(workdir):
        before = sweep_summary.read(workdir)
        _require_same(plan, checked["config"], before, workdir)
        search = Search(workdir, dimensions, plan.sampler, plan.pruner, plan.seed, checked["larger"])
        state = _Sweep(plan, workdir, runner, search, checked, before)
        most = min(plan.trials or combinations or _TRIALS, combinations or sys.maxsize)
        state.run(most)
        return state.finish()


class _Sweep:
    """A sweep under way.

    Args:
        plan: what is asked for.
        workdir: its folder.
        runner: runs the trials.
        search: their values.
        checked: what the runner's check has replied.
        before: what sweep.json says of earlier calls; {} for a new sweep.
    """

    def __init__(
        self,
        plan: Plan,
        workdir: Path,
        runner: Runner,
        search: Search,
        checked: Mapping[str, Any],
        before: Mapping[str, Any],
    ):
        self._plan, self._workdir, self._runner, self._search = plan, workdir, runner, search
        self._larger, self._config = checked["larger"], checked["config"]
        # Until a trial has finished the data set's name is unknown.
        self._metric = before.get("metric") or checked["metric"]
        self._test = before.get("test")
        self._save()

    def run(self, most: int) -> None:
        """Runs trials until there are `most`, or the time is over."""
        while True:
            trial = self._search.interrupted()
            if trial is None:
                if len(self._search.trials) >= most or self._is_late():
                    return
                trial = self._search.next()
            self._run(trial, most)
            self._save()
            sweep_summary.write_table(self._workdir / folders.SWEEP_TABLE, self.summary(), self._search.dimensions)

    def finish(self) -> Summary:
        """Measures the best trial on the test split, unless that was done before; the summary of the sweep."""
        best = self.summary().best
        if best is None:
            ended = [each for each in self.summary().trials if each.error]
            line = f"; trial {ended[-1].number}: {ended[-1].error}" if ended else ""
            raise ZooError(f"none of {len(self.summary().trials)} trials has finished{line}")
        if self._test is None or self._test["trial"] != best.number:
            _say(f"the best is trial {best.number}, which is measured on the test split")
            reply = self._runner.test(self._words(best.params), self._workdir / best.folder)
            if "failed" in reply:
                raise ZooError(f"the best trial, {best.number}, could not be tested: {reply['failed']}")
            earlier = [*self._test["earlier"], self._test["trial"]] if self._test else []
            self._test = {"trial": best.number, "result": sweep_summary.tests(reply["result"]), "earlier": earlier}
            self._save()
        return self.summary()

    def summary(self) -> Summary:
        """What there is so far."""
        trials = [sweep_summary.of_trial(each, self._search.values(each.params)) for each in self._search.trials]
        return Summary(self._metric, self._larger, trials, self._test)

    def _run(self, trial: Any, most: int) -> None:
        values, began = self._search.values(trial.params), time.monotonic()
        name = sweep_summary.folder_name(trial.number)
        shown = ", ".join(f"{flag}={sweep_summary.shown(value)}" for flag, value in values.items())
        _say(f"trial {trial.number} of {most}: {shown}")
        try:
            reply = self._runner.trial(
                self._words(values),
                self._workdir / name,
                lambda evaluation, value: self._search.shall_end(trial, evaluation, value),
            )
        finally:
            self._search.add_seconds(trial, time.monotonic() - began)
        if "values" in reply:
            self._metric = reply["metric"]
            self._search.complete(trial, reply["values"])
            best = self.summary().best
            mean = statistics.fmean(reply["values"])
            _say(f"trial {trial.number}: {self._metric} {mean:.4g}; best: trial {best.number}")
        elif "pruned" in reply:
            self._search.prune(trial, reply["pruned"])
            _say(f"trial {trial.number}: {reply['pruned']}")
        else:
            self._refuse_first(trial.number, shown, reply)
            self._search.fail(trial, reply["failed"])
            _say(f"trial {trial.number} has failed: {reply['failed']}")

    def _refuse_first(self, number: int, shown: str, reply: Mapping[str, Any]) -> None:
        """Ends the sweep where no trial has had legal input so far: most likely the shared flags are wrong."""
        if reply["kind"] == BadInput.__name__ and not any(each.is_over for each in self.summary().trials):
            raise BadInput(f"trial {number} ({shown}) is refused, and none has finished before it: {reply['failed']}")

    def _words(self, values: Mapping[str, str]) -> list[str]:
        return [*self._plan.flags, *(f"--{name}={value}" for name, value in values.items())]

    def _is_late(self) -> bool:
        spent = sum(each.seconds for each in self.summary().trials)
        return self._plan.seconds is not None and spent >= self._plan.seconds

    def _save(self) -> None:
        content = _fixed(self._plan) | {"config": self._config} | sweep_summary.as_json(self.summary())
        files.write(self._workdir / folders.SWEEP, strict_json.dumps(content, indent=1) + "\n")


def _fixed(plan: Plan) -> dict[str, Any]:
    """What the sweeps of a folder must share, beside the experiment's flags."""
    names = ("experiment", "space", "sampler", "pruner", "seed")
    return {name: getattr(plan, name) for name in names}


def _require_same(plan: Plan, config: Mapping[str, Any], before: Mapping[str, Any], workdir: Path) -> None:
    if not before:
        if any((workdir / name).exists() for name in (folders.RUN, folders.RUNS)):
            raise BadInput(f"--workdir {workdir} belongs to a run; choose another --workdir")
        return
    names = {"experiment": "experiment", "seed": "--sampler_seed"}
    pairs = [(names.get(name, f"--{name}"), before.get(name), value) for name, value in _fixed(plan).items()]
    saved = before.get("config", {})
    pairs += [(f"--{name}", saved.get(name), value) for name, value in config.items() if name in saved]
    wrong = [f"{name} was {was}, is {value}" for name, was, value in pairs if was != value]
    if wrong:
        raise BadInput(f"--workdir {workdir} belongs to another sweep: {'; '.join(wrong)}; choose another --workdir")


def _say(text: str) -> None:
    print(f"zoo: {escaped(text)}", file=sys.stderr, flush=True)
