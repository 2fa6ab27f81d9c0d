"""Runs beside each other: which metrics of them are compared, and all pairs with their p-values."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from zoo import errors
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, paired_tests
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


def of_runs(
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
