"""What the evaluations of a classifier say besides its losses, and how its final report reads."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from zoo.metrics import classification
from zoo.metrics import regression as values
from zoo.metrics.logits import class_probabilities

Arrays = Mapping[str, np.ndarray]
ComputeMetrics = Callable[[Mapping[str, float], Arrays, Arrays, bool], Mapping[str, float]]

_LOW, _HIGH, _CONFUSION = classification.LOW, classification.HIGH, "confusion/"


def classifier(classes: Sequence[str]) -> ComputeMetrics:
    """Judges the output `logits` `[examples, classes]`, or `[examples, 1]` for two classes, by the column `y`.

    All of `metrics.classification`; in the final evaluation the 95 % bootstrap interval of each and the confusion
    matrix as `confusion/TRUE/PREDICTED` besides.
    """
    classes = [label.replace("/", "|") for label in classes]

    def judge(means, outputs, columns, final: bool) -> dict[str, float]:
        given = class_probabilities(outputs["logits"]), columns["y"], classes, columns.get("weight")
        found = classification.classification(*given)
        if not final:
            return found
        found = classification.with_ends(found, classification.intervals(*given))
        for label, row in zip(classes, classification.confusion(*given).tolist(), strict=True):
            found |= {f"{_CONFUSION}{label}/{other}": count for other, count in zip(classes, row, strict=True)}
        return found

    return judge


def regression(scale: float = 1.0, centre: float = 0.0) -> ComputeMetrics:
    """Judges the output `logits` `[examples, 1]` by the column `y`: all of `values.scores`.

    Args:
        scale: what one unit of both is in the values' own units.
        centre: the value that 0 stands for.
    """

    def judge(means, outputs, columns, final: bool) -> dict[str, float]:
        given = (np.asarray(part, np.float64) * scale + centre for part in (outputs["logits"][:, 0], columns["y"]))
        return values.judged(*given, final=final)

    return judge


def report(found: Mapping[str, float]) -> str:
    """A table of metrics with their intervals, and the confusion matrix, from what a final evaluation found."""
    ends = {name.removesuffix(_LOW): (low, found[name.removesuffix(_LOW) + _HIGH]) for name, low in lows(found)}
    text = classification.table({name: found[name] for name in ends}, ends)
    cells = {tuple(name.split("/")[1:]): n for name, n in found.items() if name.startswith(_CONFUSION)}
    if not cells:
        return text
    classes = list(dict.fromkeys(true for true, _ in cells))
    matrix = np.array([[cells[true, predicted] for predicted in classes] for true in classes])
    return f"{text}\n{classification.confusion_text(matrix, classes)}"


def lows(found: Mapping[str, float]) -> list[tuple[str, float]]:
    """The lower ends of intervals among metrics."""
    # A class may be called very_low.
    return [
        (name, value)
        for name, value in found.items()
        if name.endswith(_LOW) and {name.removesuffix(_LOW), name.removesuffix(_LOW) + _HIGH} <= found.keys()
    ]


def brief(found: Mapping[str, float]) -> dict[str, float]:
    """What fits a line: no intervals, no single classes, no second kind of mean."""
    ends = (_LOW, _HIGH, "_macro", "_weighted")
    return {name: value for name, value in found.items() if "/" not in name and not name.endswith(ends)}
