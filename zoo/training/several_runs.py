"""Several runs of one experiment in one folder, one after the other: recorded, resumed, summarized.

Each run has a folder of its own in the workdir and is what it would be alone, bit for bit. Finished runs are noted in
runs.json and not started again, unless a flag that may change has changed (more steps); one that was stopped goes on
from its checkpoint. All share the process: a start of TensorFlow takes 8 s, and a run does not depend on those before
it.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import config as configs
from zoo import files, strict_json
from zoo import workdir as folders
from zoo.errors import BadInput, ZooError
from zoo.metrics import evaluation_report

Metrics = dict[str, float]


class Member(NamedTuple):
    """One of the runs.

    Attributes:
        name: its folder in the workdir.
        title: what it is called on the terminal: "fold 2 of 5".
        config: its config.
    """

    name: str
    title: str
    config: configs.Config


class Summary(NamedTuple):
    """A metric over several runs.

    Attributes:
        mean: the mean.
        low: lower end of the 95 % interval of the mean by Student's t.
        high: upper end.
        values: the metric of each run, in order.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]


def run(
    one: Callable[[configs.Config, Path], Metrics], members: Sequence[Member], config: configs.Config, workdir: Path
) -> list[Metrics]:
    """Runs those of the members that are not finished.

    Args:
        one: `one(config, folder)` runs a member; `zoo.training.run.run` for an experiment.
        members: the runs, in order.
        config: config of all of them together, which the folder keeps.
        workdir: folder of their folders; locked by the caller, see `zoo.workdir.owned`.

    Returns:
        The result of each run.

    Raises:
        BadInput: the folder has other runs.
        ZooError: a run has failed or was stopped; the earlier ones are kept.
    """
    results, settings = _recorded(workdir, config)
    for number, member in enumerate(members):
        folder, wanted = workdir / member.name, configs.as_dict(member.config)
        if member.name in results and settings.get(member.name) == wanted and (folder / folders.RESULT).is_file():
            _say(f"{member.title}: finished before, {folder}")
            continue
        _say(f"{member.title}: {folder}")
        try:
            result = one(member.config, folder)
        except ZooError as error:
            error.add_note(f"that was {member.title}; {number} finished before it are kept")
            raise
        _release()
        results[member.name], settings[member.name] = result, wanted
        _record(workdir, config, results, settings)
    return [results[member.name] for member in members]


def start(workdir: Path, config: configs.Config) -> None:
    """Refuses a folder of other runs; else notes in it whose it is, and writes a flagfile that repeats all runs.

    Raises:
        BadInput: the folder belongs to another run, or to runs that differ.
    """
    if (workdir / folders.RUN).exists():
        raise BadInput(f"--workdir {workdir} belongs to a single run; choose another --workdir")
    _record(workdir, config, *_recorded(workdir, config))
    files.write(workdir / folders.FLAGS, config.flags() + f"--workdir={workdir}\n")


def summaries(results: Sequence[Mapping[str, float]], prefix: str) -> dict[str, Summary]:
    """Means of the metrics that all runs have, with Student's 95 % intervals.

    Intervals of single runs and confusion matrices are left out.

    Args:
        results: result of each run.
        prefix: first part of the metrics' names, such as "test/".
    """
    ends = {name for result in results for name in _ends(result)}
    names = [name for name in results[0] if name.startswith(prefix) and name not in ends]
    kept = [name for name in names if all(name in result for result in results) and "confusion/" not in name]
    return {name: summary([result[name] for result in results]) for name in kept}


def summary(values: Sequence[float]) -> Summary:
    """The mean of a metric over runs and its 95 % interval, by Student's t with one degree of freedom less than runs.

    Raises:
        ValueError: there is one value only, of which no interval follows.
    """
    from scipy import stats

    numbers = np.asarray(values, np.float64)
    if len(numbers) < 2:
        raise ValueError("an interval takes two runs or more")
    half = stats.t.ppf(0.975, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers))
    mean = float(numbers.mean())
    return Summary(mean, mean - float(half), mean + float(half), tuple(numbers.tolist()))


def flat(of_metrics: Mapping[str, Summary]) -> Metrics:
    """Summaries as metrics: NAME, NAME_low and NAME_high."""
    low, high = "_low", "_high"
    return {
        f"{name}{end}": value
        for name, one in of_metrics.items()
        for end, value in (("", one.mean), (low, one.low), (high, one.high))
    }


def _ends(result: Mapping[str, float]) -> set[str]:
    return {end for low, _ in evaluation_report.lows(result) for end in (low, f"{low.removesuffix('_low')}_high")}


def _recorded(workdir: Path, config: configs.Config) -> tuple[dict[str, Metrics], dict[str, dict]]:
    """The results of the runs that are finished, and the configs that they had, both by name."""
    path = workdir / folders.RUNS
    try:
        saved = files.read_json(path)
        wrong = configs.differences(saved["config"], config)
        results, settings = dict(saved["results"]), dict(saved.get("configs", {}))
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); restore it or choose another --workdir") from None
    if wrong:
        raise BadInput(f"--workdir {workdir} belongs to other runs: {'; '.join(wrong)}; choose another --workdir")
    return results, settings


def _record(
    workdir: Path, config: configs.Config, results: Mapping[str, Metrics], settings: Mapping[str, dict]
) -> None:
    # The current folder, because a path in the config is kept as it was typed.
    record = {
        "config": configs.as_dict(config),
        "folder": os.getcwd(),
        "results": dict(results),
        "configs": dict(settings),
    }
    files.write(workdir / folders.RUNS, strict_json.dumps(record, indent=1) + "\n")


def _release() -> None:
    """Forgets the models of a finished run, which Keras would keep."""
    import keras

    keras.backend.clear_session(free_memory=True)


def _say(text: str) -> None:
    print(f"zoo: {text}", file=sys.stderr, flush=True)
