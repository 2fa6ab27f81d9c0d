"""One trial of a sweep: an ordinary run that is judged on the validation split and does not see the test split."""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from zoo import config as configs
from zoo import files
from zoo import workdir as folders
from zoo.errors import BadInput, ZooError, nearest
from zoo.experiment import Experiment
from zoo.training import experiment_check, several_seeds
from zoo.training import run as training

Build = Callable[[Any], Experiment]
# `report(evaluation, value) -> whether the trial shall end`.
Report = Callable[[int, float], bool]


class Pruned(ZooError):
    """The trial was ended early, because others were better after as many evaluations."""


class Outcome(NamedTuple):
    """How a trial ended.

    Attributes:
        metric: the metric it is judged by, such as "eval/loss".
        values: that metric of the exported weights, for each seed.
    """

    metric: str
    values: list[float]


def run(build: Build, config: configs.Config, folder: Path, report: Report) -> Outcome:
    """Trains a trial, or goes on with one that was stopped.

    Args:
        build: the experiment's.
        config: config of the trial; with `seeds` all of them are run.
        folder: workdir of the trial.
        report: gets the number of each evaluation of the first seed, from 1, and the metric; see `Report`.

    Raises:
        Pruned: `report` ended the trial.
        ZooError: the run failed or was stopped.
    """
    result = training.run(functools.partial(_judged, build, config.seed, report), config, folder)
    if config.seeds == 1:
        metric = _judging(result, config.metric)
        return Outcome(metric, [result[metric]])
    metrics = files.read_json(folder / several_seeds.SUMMARY)["metrics"]
    metric = _judging(metrics, config.metric)
    return Outcome(metric, metrics[metric]["values"])


def test(build: Build, config: configs.Config, folder: Path) -> dict[str, float]:
    """The result of a finished trial with its test metrics: the run goes on from its last step, to the test split."""
    # The runs of the seeds are recorded as finished, without a test.
    (folder / folders.RUNS).unlink(missing_ok=True)
    return training.run(build, config, folder)


def _judged(build: Build, seed: int, report: Report, config: configs.Config) -> Experiment:
    """The experiment without its test split, and with its validation metric reported."""
    experiment = experiment_check.built(build, config)
    used = experiment.config or config
    if not experiment.evals:
        raise BadInput("the experiment has no validation split, by which trials are judged")
    every = used.eval_every or experiment.train.steps_per_epoch
    tag, own = f"{next(iter(experiment.evals))}/{used.metric}", experiment.on_log

    def on_log(step: int, metrics, writer) -> bool:
        is_over = own is not None and bool(own(step, metrics, writer))
        # The evaluation at the end may lie between two others.
        if tag in metrics and used.seed == seed and step % every == 0 and report(step // every, metrics[tag]):
            raise Pruned(f"pruned after evaluation {step // every}, {tag} {metrics[tag]:.4g}")
        return is_over

    # What is fitted beside the network for a comparison on the test split is not needed either.
    return experiment._replace(tests={}, baseline=None, conclusion=None, predictions=None, on_log=on_log)


def _judging(metrics: Iterable[str], name: str) -> str:
    """The tag of the metric on the first validation set."""
    tags = [tag for tag in metrics if not tag.startswith(("train/", "best/"))]
    for tag in tags:
        if tag.partition("/")[2] == name:
            return tag
    names = [tag.partition("/")[2] for tag in tags if "/" in tag]
    raise BadInput(f"--metric is {name!r}: {nearest(name, names)}")
