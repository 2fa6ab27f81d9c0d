"""The same run with several seeds, `--seeds=K`: each as it is alone, and the mean of their test metrics.

The interval is Student's over the seeds: how far the order of the examples, the initial weights and the noise move a
metric. It says nothing on the draw of the test examples, which are the same for all seeds; the bootstrap's intervals in
each run's result.json do.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from zoo import config as configs
from zoo import files, strict_json
from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.metrics import classification, evaluation_report
from zoo.training import fold_flags, several_runs
from zoo.training.several_runs import Member, Metrics, Summary

SUMMARY = "seeds.json"
_TEST, _EVAL, _TRIVIAL = "test/", "eval/", "trivial_"
# What is measured while a run trains, and not of the model that it ends with.
_ON_THE_WAY = ("train/", _EVAL, "best/")
_LARGEST = 2**32 - 1


def is_asked(config: configs.Config) -> bool:
    """Whether a config asks for several seeds.

    Raises:
        BadInput: another flag, or the environment, contradicts it.
    """
    if config.seeds == 1:
        return False
    asked = f"--seeds={config.seeds}"
    if fold_flags.is_asked(config):
        raise BadInput(f"{asked} with all folds (--folds={config.folds}): expected one of the two, or --fold as well")
    if config.strategy == "multiworker" or "TF_CONFIG" in os.environ:
        raise BadInput(f"{asked} with several workers: leave it out, and start one --seed after the other")
    if config.seed + config.seeds - 1 > _LARGEST:
        most = _LARGEST - config.seeds + 1
        raise BadInput(
            f"{asked} from --seed={config.seed}: the last seed is above {_LARGEST}; expected --seed <= {most}"
        )
    return True


def members(config: configs.Config) -> list[Member]:
    """The runs of a config with `seeds`: that with each seed alone."""
    return [
        Member(f"seed_{seed}", f"seed {seed}, {number} of {config.seeds}", config.replace(seed=seed, seeds=1))
        for number, seed in enumerate(range(config.seed, config.seed + config.seeds), 1)
    ]


def run(one: Callable[[configs.Config, Path], Metrics], config: configs.Config, workdir: str | Path) -> Metrics:
    """Runs all seeds, those that are finished excepted, and summarizes them.

    Args:
        one: `one(config, folder)` trains a run.
        config: config with `seeds`.
        workdir: gets a folder `seed_K` for each run, and seeds.json.

    Returns:
        `seeds`; means over the seeds of what `summaries` takes, with `_low` and `_high`.

    Raises:
        ZooError: a run failed or was stopped. The same call goes on from there.
    """
    workdir = files.absolute(workdir)
    with folders.owned(workdir):
        several_runs.start(workdir, config)
        results = several_runs.run(one, members(config), config, workdir)
        of_metrics = summaries(results)
        content = {
            "seeds": [member.config.seed for member in members(config)],
            "metrics": {name: each._asdict() for name, each in of_metrics.items()},
        }
        files.write(workdir / SUMMARY, strict_json.dumps(content, indent=1) + "\n")
    print(report(config.seeds, of_metrics), file=sys.stderr, flush=True)
    return {"seeds": config.seeds} | several_runs.flat(of_metrics)


def summaries(results: Sequence[Mapping[str, float]]) -> dict[str, Summary]:
    """The metrics of each test set over the runs; of runs that have none those of the validation set."""
    found = several_runs.summaries(results, "")
    tests = {name: each for name, each in found.items() if "/" in name and not name.startswith(_ON_THE_WAY)}
    return tests or {name: each for name, each in found.items() if name.startswith(_EVAL)}


def report(seeds: int, of_metrics: Mapping[str, Summary]) -> str:
    """A table of the metrics for the terminal, with what needs no model beside them."""
    rows = [("metric", "mean", f"95 % interval over {seeds} seeds", "lowest", "highest")]
    for name, each in of_metrics.items():
        plain = name.partition("/")[2]
        if evaluation_report.brief({plain: each.mean}) or plain.startswith(_TRIVIAL):
            interval = f"{each.low:.4f} .. {each.high:.4f}"
            ends = f"{min(each.values):.4f}", f"{max(each.values):.4f}"
            rows.append((name.removeprefix(_TEST), f"{each.mean:.4f}", interval, *ends))
    return classification.aligned(rows)
