"""Folders of `--seeds` compared seed by seed: Student's paired t-test on the test metrics of their runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import files
from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, paired_tests
from zoo.metrics.paired_tests import Difference
from zoo.studies import pairs
from zoo.studies.pairs import Comparison, Value
from zoo.training import several_runs
from zoo.workdir import Run

_TEST = "test/"
# Flags that decide which examples a run is tested on; those that are paths are compared as such.
_DATA = ("dataset", "train_file", "eval_file", "test_file")
_CUT = ("text_column", "label_column", "pair_column", "weight_column", "split", "fold", "folds", "drop_unlabelled")

# Test metrics by seed.
_Results = dict[int, dict[str, float]]


def compare(runs: Mapping[str, Path], metrics: Sequence[str]) -> Comparison:
    """Compares folders of several seeds; arguments and errors as in `comparison.compare`."""
    results = {name: _results(path) for name, path in runs.items()}
    common = sorted(set.intersection(*(set(each) for each in results.values())))
    if len(common) < 2:
        having = "; ".join(f"{name}: {', '.join(map(str, each))}" for name, each in results.items())
        raise BadInput(f"seeds that all runs have: {len(common)} ({having}); expected two or more")
    _require_same_data(runs, {name: each[common[0]] for name, each in results.items()})
    first = results[next(iter(runs))][common[0]]
    everywhere = [m for m in first if all(m in each[seed] for each in results.values() for seed in common)]
    ends = {end for low, _ in evaluation_report.lows(first) for end in (low, f"{low.removesuffix('_low')}_high")}
    names = pairs.chosen([name for name in everywhere if name not in ends], metrics)
    values = {run: {m: [each[seed][m] for seed in common] for m in names} for run, each in results.items()}

    def difference(run: str, other: str, metric: str) -> Difference:
        return paired_tests.by_seeds(values[run][metric], values[other][metric])

    table = {metric: {run: _student(values[run][metric]) for run in runs} for metric in names}
    notes = ["p: Student's paired t-test over the seeds"]
    for name, each in results.items():
        if left := sorted(set(each) - set(common)):
            notes.append(f"left out of {name}: seed {', '.join(map(str, left))}, which not all runs have")
    seeds = ", ".join(map(str, common))
    return Comparison(f"{len(common)} seeds ({seeds})", table, pairs.of_runs(list(runs), names, difference), notes)


def _student(values: Sequence[float]) -> Value:
    """The mean with Student's 95 % interval."""
    found = several_runs.summary(values)
    return Value(found.mean, found.low, found.high)


def _results(path: Path) -> _Results:
    """The test metrics of the folder's runs by seed."""
    try:
        saved = files.read_json(path / folders.RUNS)
        seeds = {name: int(config["seed"]) for name, config in saved["configs"].items() if name in saved["results"]}
        is_seeds = all(name.startswith("seed_") for name in seeds)
        found = {seed: _tests(saved["results"][name]) for name, seed in seeds.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path / folders.RUNS} cannot be read ({error}); restore it") from None
    if not is_seeds:
        raise BadInput(f"{path} holds the folds of a cross-validation: expected a folder of --seeds, or single runs")
    if not found or not all(found.values()):
        raise BadInput(f"{path} has no test metrics: expected a folder of --seeds that is finished, with a test split")
    return found


def _tests(result: Mapping[str, Any]) -> dict[str, float]:
    return {name.removeprefix(_TEST): value for name, value in result.items() if name.startswith(_TEST)}


def _require_same_data(runs: Mapping[str, Path], metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Refuses runs on other data: by their flags, and by the metrics that need no model."""
    facts = {name: _facts(path, metrics[name]) for name, path in runs.items()}
    first = next(iter(facts))
    for name, each in facts.items():
        for key in facts[first].keys() & each.keys():
            if facts[first][key] != each[key]:
                raise BadInput(
                    f"{first} and {name} are tested on other data ({key}: {facts[first][key]} and {each[key]}): "
                    "expected runs on the same test split"
                )


def _facts(path: Path, metrics: Mapping[str, float]) -> dict[str, Any]:
    saved = files.read_json(path / folders.RUNS)
    run = Run(saved["config"], {}, str(saved.get("folder", ".")))
    # A name of a data set is no path, but equal names have equal paths, wherever the commands ran.
    facts: dict[str, Any] = {
        f"--{name}": str(run.path(name)) if run.path(name).exists() else run.config[name]
        for name in _DATA
        if run.config.get(name)
    }
    facts |= {f"--{name}": run.config[name] for name in _CUT if run.config.get(name) not in (None, "", 0, False)}
    plain = [name for name in metrics if name == "majority_share" or name.startswith(("trivial_", "support/"))]
    return facts | {name: metrics[name] for name in plain if not name.endswith(("_low", "_high"))}
