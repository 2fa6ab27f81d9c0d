"""Paired comparison of finished runs on one test split, for `zoo compare`.

Single runs are compared by their test examples, folders of `--seeds` by their seeds. Both say something else: the first
whether two trained models differ beyond the draw of the test examples, the second whether two ways of training differ
beyond the order of the examples, the initial weights and the noise.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo import errors
from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, paired_tests
from zoo.metrics.confusion import aligned
from zoo.metrics.paired_tests import Difference

# The metrics that are compared unless others are asked for: those that are there, in this order.
_MAIN = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_micro",
    "f1_macro",
    "subset_accuracy",
    "average_precision",
    "auc",
    "rmse",
    "mae",
    "r2",
    "perplexity",
    "bits_per_byte",
    "log_loss",
)


class Value(NamedTuple):
    """A metric of a run with its 95 % interval."""

    value: float
    low: float
    high: float


class Pair(NamedTuple):
    """Two runs compared by one metric.

    Attributes:
        run: name of the run whose metric is the minuend.
        other: name of the other run.
        metric: name of the metric.
        difference: metric of `run` minus that of `other`.
        adjusted: p-value after Holm's correction for the pairs of this metric.
    """

    run: str
    other: str
    metric: str
    difference: Difference
    adjusted: float


class Comparison(NamedTuple):
    """Runs beside each other.

    Attributes:
        unit: what the intervals and tests are over, such as "180 test examples".
        metrics: value and interval of each metric by run.
        pairs: all pairs of runs for each metric.
        notes: what a reader must know besides.
    """

    unit: str
    metrics: dict[str, dict[str, Value]]
    pairs: list[Pair]
    notes: list[str]


def compare(runs: Mapping[str, Path], metrics: Sequence[str] = ()) -> Comparison:
    """Compares runs.

    Args:
        runs: folders by the names that the runs are called: of finished runs, or all of `--seeds`.
        metrics: names of the metrics; empty: the usual ones of the task.

    Raises:
        BadInput: the runs are of both kinds, not finished, or tested on other data.
    """
    several = [(path / folders.RUNS).is_file() for path in runs.values()]
    if any(several) and not all(several):
        single = next(name for name, is_several in zip(runs, several) if not is_several)
        raise BadInput(f"{single} is a single run and others are of --seeds: expected runs of one kind")
    if all(several):
        from zoo.studies import seed_comparison

        return seed_comparison.compare(runs, metrics)
    from zoo.studies import example_comparison

    return example_comparison.compare(runs, metrics)


def chosen(available: Sequence[str], asked: Sequence[str]) -> list[str]:
    """The metrics to compare.

    Args:
        available: the metrics that all runs have.
        asked: those that the user names; empty: the usual ones, or all that need a model.

    Raises:
        BadInput: an unknown name.
    """
    for name in asked:
        if name not in available:
            raise BadInput(f"--metric is {name!r}: {errors.nearest(name, available)}")
    usual = [name for name in _MAIN if name in available]
    plain = [name for name in evaluation_report.brief(dict.fromkeys(available, 0.0)) if name != "majority_share"]
    return list(dict.fromkeys(asked)) or usual or plain


def pairs(
    names: Sequence[str], metrics: Sequence[str], difference: Callable[[str, str, str], Difference | None]
) -> list[Pair]:
    """All pairs of runs for each metric, their p-values adjusted by Holm's method over the pairs of a metric.

    Args:
        names: names of the runs; of a pair the later one is the minuend, so that the first run is the reference.
        metrics: names of the metrics.
        difference: `difference(run, other, metric)`; None where it is undefined.
    """
    result = []
    for metric in metrics:
        found = [(late, early, difference(late, early, metric)) for early, late in itertools.combinations(names, 2)]
        found = [each for each in found if each[2] is not None]
        adjusted = paired_tests.holm([each[2].p for each in found])
        result += [Pair(late, early, metric, each, p) for (late, early, each), p in zip(found, adjusted)]
    return result


def report(comparison: Comparison) -> str:
    """The comparison as two tables for the terminal: metrics of each run, and differences of all pairs."""
    names = list(next(iter(comparison.metrics.values())))
    rows = [("metric", *names)]
    for metric, values in comparison.metrics.items():
        rows.append((metric, *(f"{each.value:.4f} ({each.low:.4f} .. {each.high:.4f})" for each in values.values())))
    several = len(names) > 2
    head = ("difference", "metric", "value", "95 % interval", "p", *(("p (Holm)",) if several else ()))
    differences = [head]
    for pair in comparison.pairs:
        value, low, high, p = pair.difference
        ends = f"{low:+.4f} .. {high:+.4f}"
        row = (f"{pair.run} - {pair.other}", pair.metric, f"{value:+.4f}", ends, shown_p(p))
        differences.append((*row, *((shown_p(pair.adjusted),) if several else ())))
    parts = [f"over {comparison.unit}, with 95 % intervals", aligned(rows), "", aligned(differences)]
    return "\n".join([*parts, *comparison.notes])


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it."""
    return {
        "unit": comparison.unit,
        "metrics": {
            metric: {name: value._asdict() for name, value in values.items()}
            for metric, values in comparison.metrics.items()
        },
        "differences": [
            {"run": pair.run, "other": pair.other, "metric": pair.metric}
            | pair.difference._asdict()
            | {"p_holm": pair.adjusted}
            for pair in comparison.pairs
        ],
        "notes": comparison.notes,
    }


def shown_p(p: float) -> str:
    """A p-value as it is printed: three digits, small ones as a bound."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
