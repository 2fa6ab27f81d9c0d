"""Evaluation metrics of classifiers and regressions (`Experiment.compute_metrics`), and the final report."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from zoo.metrics import classification
from zoo.metrics import regression as values
from zoo.metrics.logits import class_probabilities

Arrays = Mapping[str, np.ndarray]
ComputeMetrics = Callable[[Mapping[str, float], Arrays, Arrays, bool], Mapping[str, float]]

_LOW, _HIGH, _CONFUSION = classification.LOW, classification.HIGH, "confusion/"


def classifier(classes: Sequence[str]) -> ComputeMetrics:
    """Metrics of the output `logits`, `[examples, classes]` or `[examples, 1]` for two classes, and the column `y`.

    All of `classification.classification`; the final evaluation adds the 95 % bootstrap interval of each metric, and
    the confusion matrix as `confusion/TRUE/PREDICTED`.
    """
    classes = [label.replace("/", "|") for label in classes]

    def compute(means, outputs, columns, final: bool) -> dict[str, float]:
        arguments = class_probabilities(outputs["logits"]), columns["y"], classes, columns.get("weight")
        metrics = classification.classification(*arguments)
        if not final:
            return metrics
        metrics = classification.with_intervals(metrics, classification.intervals(*arguments))
        for label, row in zip(classes, classification.confusion(*arguments).tolist(), strict=True):
            metrics |= {f"{_CONFUSION}{label}/{other}": count for other, count in zip(classes, row, strict=True)}
        return metrics

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
    """The final report: a table of metrics with their intervals, and the confusion matrix."""
    ends = {name.removesuffix(_LOW): (low, metrics[name.removesuffix(_LOW) + _HIGH]) for name, low in lows(metrics)}
    text = classification.table({name: metrics[name] for name in ends}, ends)
    cells = {tuple(name.split("/")[1:]): count for name, count in metrics.items() if name.startswith(_CONFUSION)}
    if not cells:
        return text
    classes = list(dict.fromkeys(true for true, _ in cells))
    matrix = np.array([[cells[true, predicted] for predicted in classes] for true in classes])
    return f"{text}\n{classification.confusion_text(matrix, classes)}"


def lows(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """The lower ends of intervals among metrics."""
    # A class may be named very_low.
    return [
        (name, value)
        for name, value in metrics.items()
        if name.endswith(_LOW) and {name.removesuffix(_LOW), name.removesuffix(_LOW) + _HIGH} <= metrics.keys()
    ]


def brief(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics for one line: without intervals, single classes, macro and weighted averages."""
    ends = (_LOW, _HIGH, "_macro", "_weighted")
    return {name: value for name, value in metrics.items() if "/" not in name and not name.endswith(ends)}
