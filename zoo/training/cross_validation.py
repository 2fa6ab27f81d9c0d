"""Cross-validation, `--folds=K`: K runs, each tested on another part of the examples, and what they say together.

Metrics are means over the folds with Student's interval. The folds' training examples overlap, so the interval is a
little too narrow: no unbiased estimate of the variance exists (Bengio and Grandvalet, "No unbiased estimator of the
variance of K-fold cross-validation", 2004). Pooled metrics are those of all examples, each answered by the run that has
not seen it; their intervals are those of the bootstrap over examples.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from zoo import files, strict_json
from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.metrics import classification, evaluation_report, regression
from zoo.training import doubtful_labels, fold_flags, several_runs, test_predictions
from zoo.training.several_runs import Member, Metrics, Summary

SUMMARY = "folds.json"
_TEST, _POOLED = "test/", "pooled/"
# Smaller than any float64 probability that a softmax of float32 logits has, but for 0.
_LEAST = 1e-300

Table = dict[str, list]


def is_asked(config: Any) -> bool:
    """Whether a config asks for all folds; see `fold_flags.is_asked`."""
    return fold_flags.is_asked(config)


def with_folds(config: Any) -> Any:
    """The config with the folds that its other flags need; see `fold_flags.with_folds`."""
    return fold_flags.with_folds(config)


def run(one: Callable[[Any, Path], Metrics], config: Any, workdir: str | Path) -> Metrics:
    """Runs all folds, those that are finished excepted, and summarizes them.

    Args:
        one: `one(config, folder)` trains a run.
        config: config with `folds`.
        workdir: gets a folder `fold_K` for each run, predictions.csv of all examples, and folds.json.

    Returns:
        `folds`; means over the folds of the test metrics with `_low` and `_high`; pooled metrics as `pooled/NAME`; with
        `--find_label_errors` the number of `label_errors`.

    Raises:
        ZooError: a run failed or was stopped. The same call goes on from there.
    """
    workdir = files.absolute(workdir)
    members = [
        Member(f"fold_{number}", f"fold {number} of {config.folds}", _of_fold(config, number))
        for number in range(1, config.folds + 1)
    ]
    with folders.owned(workdir):
        several_runs.start(workdir, config)
        results = several_runs.run(one, members, config, workdir)
        info = folders.read_json(workdir / members[0].name, folders.ABOUT)
        tables = [test_predictions.read(workdir / each.name / "test" / test_predictions.NAME) for each in members]
        joined = join(tables, workdir)
        test_predictions.write(workdir / test_predictions.NAME, joined)
        of_metrics = several_runs.summaries(results, _TEST)
        classes = info.get("classes") or ()
        pooled = (
            pooled_labels(joined, classes) if info.get("task") == "multi_label" else pooled_metrics(joined, classes)
        )
        lines = [report(config.folds, of_metrics, pooled)]
        result = {"folds": config.folds} | several_runs.flat(of_metrics) | _tagged(pooled)
        if getattr(config, "find_label_errors", False):
            given = labels(joined, classes)
            found = doubtful_labels.write(workdir, joined, given, probabilities(joined), config)
            lines.append(doubtful_labels.report(found, classes, workdir / doubtful_labels.NAME, given))
            result["label_errors"] = len(found.rows)
        _write_summary(workdir, config.folds, of_metrics, pooled)
    print("\n".join(lines), file=sys.stderr, flush=True)
    return result


def _of_fold(config: Any, number: int) -> Any:
    """The config of one fold alone."""
    alone = {"find_label_errors": False} if hasattr(config, "find_label_errors") else {}
    return config.replace(fold=number, **alone)


def join(tables: Sequence[Mapping[str, list[str]]], workdir: Path) -> Table:
    """The tables of all folds as one, in the order of the source, with a column `fold`.

    Raises:
        BadInput: an example is in two folds: the data changed from one run to the next.
    """
    kind = next(iter(tables[0]))
    places = [place for table in tables for place in table[kind]]
    if len(set(places)) < len(places) or any(list(table) != list(tables[0]) for table in tables):
        raise BadInput(
            f"{workdir}: the data changed between the runs of the folds; put them back, or choose another --workdir"
        )
    fold_of = np.repeat(np.arange(1, len(tables) + 1), [len(table[kind]) for table in tables])
    keys = places if kind == "file" else [int(place) for place in places]
    order = sorted(range(len(places)), key=keys.__getitem__)
    result: Table = {}
    for name in tables[0]:
        values = [value for table in tables for value in table[name]]
        if name == "label":
            result["fold"] = fold_of[order].tolist()
        result[name] = [values[place] for place in order]
    return result


def probabilities(table: Mapping[str, Sequence]) -> np.ndarray:
    """The probabilities of a table of predictions, float64 `[examples, classes]`."""
    names = [name for name in table if name.startswith(test_predictions.PROBABILITY)]
    return np.array([list(map(float, table[name])) for name in names]).T


def labels(table: Mapping[str, Sequence], classes: Sequence[str]) -> np.ndarray:
    """The given labels of a table of predictions as indices of the classes, int `[examples]`."""
    numbers = {str(name): number for number, name in enumerate(classes)}
    return np.array([numbers[label] for label in table["label"]], int)


def pooled_metrics(table: Mapping[str, Sequence], classes: Sequence[str]) -> Metrics:
    """The metrics of all examples together, with their intervals by the bootstrap.

    Args:
        table: predictions, from `join`.
        classes: class names; empty where there are values.
    """
    if not classes:
        predicted, true = (np.array(list(map(float, table[name]))) for name in ("prediction", "label"))
        return regression.evaluate(predicted, true, final=True)
    columns = {"y": labels(table, classes)}
    if "weight" in table:
        columns["weight"] = np.array(list(map(float, table["weight"])))
    logits = np.log(np.maximum(probabilities(table), _LEAST))
    return dict(evaluation_report.classifier(classes)({}, {"logits": logits}, columns, True))


def pooled_labels(table: Mapping[str, Sequence], names: Sequence[str]) -> Metrics:
    """The metrics of all examples of a multi-label classifier together; arguments as in `pooled_metrics`."""
    of_true = [values for name, values in table.items() if name.startswith(test_predictions.TRUE)]
    columns = {"y": np.array([list(map(float, values)) for values in of_true[: len(names)]]).T}
    if "weight" in table:
        columns["weight"] = np.array(list(map(float, table["weight"])))
    logits = special.logit(np.clip(probabilities(table), _LEAST, 1.0 - np.finfo(np.float64).epsneg))
    return dict(evaluation_report.multi_label(names)({}, {"logits": logits}, columns, True))


def report(folds: int, of_metrics: Mapping[str, Summary], pooled: Metrics) -> str:
    """A table of the metrics for the terminal."""
    rows = [("metric", "mean", f"95 % interval over {folds} folds", "all examples", "95 % interval")]
    plain = {name.removeprefix(_TEST): one for name, one in of_metrics.items()}
    for name in evaluation_report.brief({name: one.mean for name, one in plain.items()}):
        one = plain[name]
        row = [name, f"{one.mean:.4f}", f"{one.low:.4f} .. {one.high:.4f}", "", ""]
        if name in pooled:
            row[3] = f"{pooled[name]:.4f}"
        if f"{name}_low" in pooled:
            row[4] = f"{pooled[f'{name}_low']:.4f} .. {pooled[f'{name}_high']:.4f}"
        rows.append(tuple(row))
    return classification.aligned(rows)


def _tagged(pooled: Metrics) -> Metrics:
    return {f"{_POOLED}{name}": value for name, value in pooled.items()}


def _write_summary(workdir: Path, folds: int, of_metrics: Mapping[str, Summary], pooled: Metrics) -> None:
    content = {"folds": folds, "metrics": {name: one._asdict() for name, one in of_metrics.items()}, "pooled": pooled}
    files.write(workdir / SUMMARY, strict_json.dumps(content, indent=1) + "\n")
