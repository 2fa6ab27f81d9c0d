"""The table of `benchmarks.multi_step.guard_study`: what answers chosen by a score without labels would err."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_SCORES = (
    *("product", "expected error", "distance", "difference of confidences"),
    *("dropout disagreement", "AETTA", "augmentation disagreement", "committee"),
)
# Weight of the ridge, and the smallest score that has a logarithm.
_RIDGE, _LEAST = 1e-2, 1e-3
_RESAMPLES = 2000

# A choice: from a cell to the name of the answer.
_Choice = Callable[[dict[str, Any]], str]


def section(runs: Sequence[str], figures: Sequence[list[dict[str, Any]]]) -> str:
    """The section, from the cells of each run."""
    cells = [cell | {"run": run} for run, part in zip(runs, figures, strict=True) for cell in part]
    streams = list(dict.fromkeys(cell["stream"] for cell in cells))
    lines = [
        "## Scores without labels",
        "",
        _INTRODUCTION.format(runs=", ".join(runs), cells=len(cells)),
        "",
        "| answer chosen by | error | "
        + " | ".join(streams)
        + " | gain on `product` | worse than plain | rank correlation |",
        "|---|---|" + "---|" * len(streams) + "---|---|---|",
    ]
    choices = _choices(cells)
    product = _errors(cells, choices["product"])
    plain = _errors(cells, lambda cell: "plain")
    for name, choose in choices.items():
        errors = _errors(cells, choose)
        lines.append(_row(name, cells, streams, errors, product, plain))
    return "\n".join(lines) + "\n"


_INTRODUCTION = """\
`python -m benchmarks.multi_step.guard_study WORK {runs}`: {cells} streams of damaged *training* images of networks
whose test figures are not on this page. Errors in percent. Five answers compete for each stream: the model's own, two
fits of the batch-norm statistics, searched poses, and the copy trained on recoloured images. The score of a row chooses
one of them, without labels. `product` is what the guards compare; AETTA, the disagreements and the difference of
confidences are scores of the field (references in the program). *Worse than plain*: share of the streams in which the
chosen answer errs by more than a point more than the model itself. *Rank correlation*: Spearman's, of score and true
error, over all streams and answers. *Learned*: a ridge regression of the true error on the logarithms of all scores,
fitted to other kinds of damage than it chooses for and, where there are several, to other runs."""


def _choices(cells: list[dict[str, Any]]) -> dict[str, _Choice]:
    choices: dict[str, _Choice] = {f"always {name}": lambda cell, name=name: name for name in cells[0]["answers"]}
    for score in _SCORES:
        choices[score] = lambda cell, score=score: min(cell["answers"], key=lambda one: cell["answers"][one][score])
    choices["learned"] = _learned(cells)
    choices["the labels (best possible)"] = lambda cell: min(
        cell["answers"], key=lambda one: cell["answers"][one]["wrong"]
    )
    return choices


def _row(name, cells, streams, errors: np.ndarray, product: np.ndarray, plain: np.ndarray) -> str:
    parts = [errors[[cell["stream"] == stream for cell in cells]].mean() for stream in streams]
    gain, low, high = _interval(product - errors)
    row = [name, *(f"{100 * value:.1f}" for value in (errors.mean(), *parts))]
    row.append("" if name == "product" else f"{100 * gain:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
    row.append(f"{np.mean(errors > plain + 0.01):.0%}")
    row.append(f"{_correlation(cells, name):.2f}" if name in _SCORES else "")
    return "| " + " | ".join(row) + " |"


def _errors(cells: list[dict[str, Any]], choose: _Choice) -> np.ndarray:
    return np.array([cell["answers"][choose(cell)]["wrong"] for cell in cells])


def _interval(gains: np.ndarray) -> tuple[float, float, float]:
    """Mean, and a 95 % interval by a bootstrap over streams."""
    draw = np.random.default_rng(0)
    means = gains[draw.integers(0, len(gains), (_RESAMPLES, len(gains)))].mean(axis=1)
    return float(gains.mean()), *np.quantile(means, [0.025, 0.975])


def _correlation(cells: list[dict[str, Any]], score: str) -> float:
    """Spearman's rank correlation of a score with the true error."""
    pairs = np.array([(one[score], one["wrong"]) for cell in cells for one in cell["answers"].values()])
    return float(np.corrcoef(_mean_ranks(pairs[:, 0]), _mean_ranks(pairs[:, 1]))[0, 1])


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks; equal values have the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _learned(cells: list[dict[str, Any]]) -> _Choice:
    """Chooses by an error that is predicted from all scores, never from the same kind of damage or, of several, run."""
    weights, runs = {}, {cell["run"] for cell in cells}
    for run, kind in {(cell["run"], cell["kind"]) for cell in cells}:
        taught = [one for one in cells if (one["run"] != run or len(runs) == 1) and one["kind"] != kind]
        weights[run, kind] = _fitted(taught)

    def choose(cell: dict[str, Any]) -> str:
        fitted = weights[cell["run"], cell["kind"]]
        return min(cell["answers"], key=lambda one: float(_features(one, cell["answers"][one]) @ fitted))

    return choose


def _fitted(cells: list[dict[str, Any]]) -> np.ndarray:
    pairs = [(_features(name, one), one["wrong"]) for cell in cells for name, one in cell["answers"].items()]
    x, y = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    return np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ y)


_ANSWERS = ("plain", "statistics", "statistics, estimated classes", "pose", "coral")


def _features(name: str, scores: dict[str, float]) -> np.ndarray:
    """Logarithms of the scores, and which answer it is."""
    values = [np.log(np.clip(scores[score], _LEAST, 1e6)) for score in _SCORES]
    return np.array([*values, *(float(name == other) for other in _ANSWERS)])
