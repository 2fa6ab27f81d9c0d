"""The trace of prediction in several steps as a picture: what the guards expected before and after each change."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.adaptation.refiner import TraceEntry
from zoo.errors import BadInput

_KEPT, _REFUSED, _BEFORE, _FORGOTTEN = "tab:green", "tab:red", "tab:grey", "tab:blue"
# Batches of one example know no error, and their distances may be nought: a logarithm needs more.
_LEAST = 1e-2


def draw(path: str | Path, trace: Sequence[TraceEntry], title: str = "") -> None:
    """Draws one row for each stage: expected error and distance from usual answers, before and after, by batch.

    Args:
        path: of the PNG, 1,000 pixels wide.
        trace: of `zoo.refine` or a `Refiner`; not empty.
        title: above the picture.

    Raises:
        BadInput: the trace is empty, or the picture cannot be written.
    """
    if not trace:
        raise BadInput(f"nothing was tried, so {path} has nothing to show: expected a budget and some examples")
    # A second to import; and no pyplot, which would keep the figure and choose a window system.
    from matplotlib.figure import Figure

    stages = list(dict.fromkeys(line.stage for line in trace))
    figure = Figure(figsize=(10, 1 + 1.7 * len(stages)), dpi=100, layout="constrained")
    rows = figure.subplots(len(stages), 2, sharex=True, squeeze=False)
    for stage, (errors, distances) in zip(stages, rows, strict=True):
        lines = [line for line in trace if line.stage == stage]
        _changes(errors, lines, [(line.before.error, line.after.error) for line in lines])
        far = [(line.before.distance, line.after.distance) for line in lines]
        _changes(distances, lines, np.maximum(np.nan_to_num(far, posinf=1e6), _LEAST).tolist())
        errors.set(ylabel=stage, ylim=(-0.04, 1.04))
        distances.set(yscale="log")
        distances.axhline(1, color="black", linewidth=0.6, linestyle=":")
        kept, tried = sum(line.accepted for line in lines), sum(_tried(line) for line in lines)
        said = f"kept {kept:,} of {tried:,} tried" if tried else "nothing tried"
        distances.set_title(said, fontsize="small", loc="right")
    rows[0, 0].set_title("expected error, without labels", fontsize="small", loc="left")
    rows[0, 1].set_title("distance from usual answers (1)", fontsize="small", loc="left")
    forgotten = sorted({line.batch for line in trace if line.new_kind})
    for axes in rows.flat:
        for batch in forgotten:
            axes.axvline(batch - 0.5, color=_FORGOTTEN, linewidth=1, linestyle="--")
    for axes in rows[-1]:
        axes.set_xlabel("batch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*_legend(bool(forgotten)), loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.suptitle(title or None)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error}") from error


def _changes(axes, lines: Sequence[TraceEntry], values: Sequence[tuple[float, float]]) -> None:
    """A stroke from each value before to the one after, with a mark at its end."""
    for line, (before, after) in zip(lines, values, strict=True):
        colour = _KEPT if line.accepted else _REFUSED
        axes.plot([line.batch], [before], "o", color=_BEFORE, markersize=4, fillstyle="none")
        if _tried(line):
            axes.plot([line.batch] * 2, [before, after], "-", color=colour, linewidth=1.2)
            axes.plot([line.batch], [after], "o" if line.accepted else "x", color=colour, markersize=5)


def _tried(line: TraceEntry) -> bool:
    """Whether the stage made a change at all."""
    return line.accepted or line.before != line.after


def _legend(forgotten: bool):
    from matplotlib.lines import Line2D

    marks = {
        "before": Line2D([], [], marker="o", linestyle="", color=_BEFORE, fillstyle="none", markersize=4),
        "tried and kept": Line2D([], [], marker="o", linestyle="-", color=_KEPT, markersize=5),
        "tried and taken back": Line2D([], [], marker="x", linestyle="-", color=_REFUSED, markersize=5),
    }
    if forgotten:
        marks["the stream is of another kind from here"] = Line2D([], [], color=_FORGOTTEN, linewidth=1, linestyle="--")
    return list(marks.values()), list(marks)
