"""Evaluation metrics of classifiers and regressions (`Experiment.compute_metrics`), and the final report."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from zoo import names
from zoo.metrics import classification, confusion, decisions
from zoo.metrics import multi_label as label_metrics
from zoo.metrics import regression as values
from zoo.metrics.label_thresholds import LabelThresholds
from zoo.metrics.logits import class_probabilities

Arrays = Mapping[str, np.ndarray]
ComputeMetrics = Callable[[Mapping[str, float], Arrays, Arrays, bool], Mapping[str, float]]

_LOW, _HIGH, _CONFUSION = classification.LOW, classification.HIGH, "confusion/"
# Examples times classes times resamples that take some ten seconds.
_MOST_WORK = 3 * 10**8
# Fewest and most resamples: the ends of an interval of 95 % are quantiles, of 200 the fifth and the 195th.
_RESAMPLES = 200, 1000
# Twelve classes have 144 cells; 150 would have 22,500 numbers in one JSON object, nearly all of them 0.
_ALL_CELLS = 12


def classifier(classes: Sequence[str]) -> ComputeMetrics:
    """Metrics of the output `logits`, `[examples, classes]` or `[examples, 1]` for two classes, and the column `y`.

    All of `classification.classification`; the final evaluation adds the 95 % bootstrap interval of each metric, of
    1,000 resamples or, where these would take longer than some seconds, of fewer down to 200, and the confusion matrix
    as `confusion/TRUE/PREDICTED`: of more than twelve classes only the cells that are not 0.
    In these names a class is written as `names.keys` does.
    """
    classes = names.keys(classes)

    def compute(means, outputs, columns, final: bool) -> dict[str, float]:
        arguments = class_probabilities(outputs["logits"]), columns["y"], classes, columns.get("weight")
        metrics = classification.classification(*arguments)
        if not final:
            return metrics
        intervals = classification.intervals(*arguments, resamples=resamples(len(columns["y"]), len(classes)))
        metrics = classification.with_intervals(metrics, intervals)
        for label, row in zip(classes, classification.confusion(*arguments).tolist(), strict=True):
            cells = zip(classes, row, strict=True)
            metrics |= {f"{_CONFUSION}{label}/{other}": n for other, n in cells if n or len(classes) <= _ALL_CELLS}
        return metrics

    return compute


def of_decisions(
    rule: decisions.Decision | LabelThresholds, logits: np.ndarray, columns: Arrays, classes: Sequence[str]
) -> dict[str, float]:
    """Metrics of decisions, see `decisions.metrics` and `multi_label.decided`; arguments as in `classifier`."""
    if isinstance(rule, LabelThresholds):
        count, thresholds = resamples(len(columns["y"]), len(classes)), np.array(rule.values)
        options = {"weights": columns.get("weight"), "resamples": count}
        return label_metrics.decided(logits, columns["y"], names.keys(classes), thresholds, **options)
    count = resamples(len(columns["y"]), 2)
    return decisions.metrics(rule, logits, columns["y"], classes, columns.get("weight"), resamples=count)


def resamples(examples: int, classes: int) -> int:
    """How many resamples of a bootstrap take some seconds at most, 200 to 1,000."""
    curves = 1 if classes == 2 else classes
    return min(max(_MOST_WORK // (examples * curves), _RESAMPLES[0]), _RESAMPLES[1])


def multi_label(labels: Sequence[str]) -> ComputeMetrics:
    """Metrics of the output `logits` and the column `y`, both `[examples, labels]`: all of `multi_label.metrics`.

    The final evaluation adds intervals, as in `classifier`.
    """
    keys = names.keys(labels)

    def compute(means, outputs, columns, final: bool) -> dict[str, float]:
        count = resamples(len(columns["y"]), len(keys)) if final else 0
        return label_metrics.metrics(outputs["logits"], columns["y"], keys, columns.get("weight"), resamples=count)

    return compute


def regression(scale: float = 1.0, centre: float = 0.0) -> ComputeMetrics:
    """Metrics of the output `logits` `[examples, 1]` and the column `y`: all of `regression.scores`.

    Args:
        scale: size of one unit of both in the values' own units.
        centre: the value that 0 represents.
    """

    def compute(means, outputs, columns, final: bool) -> dict[str, float]:
        pair = (np.asarray(part, np.float64) * scale + centre for part in (outputs["logits"][:, 0], columns["y"]))
        return values.evaluate(*pair, final=final)

    return compute


def report(metrics: Mapping[str, float]) -> str:
    """The final report: a table of metrics with their intervals, and the confusion matrix or its largest errors.

    Of more than twenty classes or types of entities the table lists those with the lowest F1.
    """
    ends = {name.removesuffix(_LOW): (low, metrics[name.removesuffix(_LOW) + _HIGH]) for name, low in lows(metrics)}
    listed, note = _listed(ends, metrics)
    supports = [name for name in metrics if name.startswith("support/") and f"f1/{name.partition('/')[2]}" in listed]
    text = classification.table({name: metrics[name] for name in [*listed, *supports]}, ends) + note
    matrix, classes = confusion_matrix(metrics)
    return f"{text}\n{confusion.text(matrix, classes)}" if classes else text


def confusion_matrix(metrics: Mapping[str, float]) -> tuple[np.ndarray, list[str]]:
    """The confusion matrix among metrics `[classes (true), classes (predicted)]`, and its classes; none: 0 classes."""
    cells = {tuple(name.split("/")[1:]): count for name, count in metrics.items() if name.startswith(_CONFUSION)}
    # The metrics of each class name all classes; only cells that are not 0 are kept of many.
    ends = _ends(metrics) if cells else set()
    known = [name.partition("/")[2] for name in metrics if cells and name.startswith("f1/") and name not in ends]
    classes = list(dict.fromkeys([*known, *(name for pair in cells for name in pair)]))
    numbers = {name: number for number, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)))
    for (true, predicted), count in cells.items():
        matrix[numbers[true], numbers[predicted]] = count
    return matrix, classes


def _listed(ends: Mapping[str, tuple[float, float]], metrics: Mapping[str, float]) -> tuple[list[str], str]:
    """The metrics to list, and a note on those that are left out."""
    kinds = list(dict.fromkeys(name.partition("/")[2] for name in ends if "/" in name))
    if len(kinds) <= confusion.PAIRS:
        return list(ends), ""
    # A class without an F1 (no example, never predicted) tells nothing.
    lowest = sorted(kinds, key=lambda kind: metrics.get(f"f1/{kind}", np.inf))[: confusion.PAIRS]
    listed = [name for name in ends if "/" not in name or name.partition("/")[2] in lowest]
    note = f"of {len(kinds)} classes the {len(lowest)} with the lowest F1 are listed"
    return listed, f"\n{note}; the others are in result.json and TensorBoard"


def _ends(metrics: Mapping[str, float]) -> set[str]:
    """The names of the ends of intervals."""
    return {name for low, _ in lows(metrics) for name in (low, low.removesuffix(_LOW) + _HIGH)}


def lows(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """The lower ends of intervals among metrics."""
    # A class may be named very_low.
    return [
        (name, value)
        for name, value in metrics.items()
        if name.endswith(_LOW) and {name.removesuffix(_LOW), name.removesuffix(_LOW) + _HIGH} <= metrics.keys()
    ]


def brief(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics for one line: without intervals, single classes, averages and what needs no model."""
    ends = (_LOW, _HIGH, "_macro", "_weighted")
    return {
        name: value
        for name, value in metrics.items()
        if "/" not in name and not name.endswith(ends) and not name.startswith("trivial_")
    }
