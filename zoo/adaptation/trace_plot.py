"""The trace of test-time adaptation as a plot (`--trace=FILE.png`): the guards' scores before and after each change."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.adaptation.trace import TraceEntry
from zoo.errors import BadInput

_KEPT, _REFUSED, _BEFORE, _SHIFT = "tab:green", "tab:red", "tab:grey", "tab:blue"
# Lower limit of distances on the logarithmic axis: that of a batch of one example may be 0.
_LEAST = 1e-2


def draw(path: str | Path, trace: Sequence[TraceEntry], title: str = "") -> None:
    """Draws one row per stage: expected error and Mahalanobis distance before and after each change, by batch.

    Args:
        path: PNG to write, 1,000 pixels wide.
        trace: entries of `zoo.refine` or a `Refiner`; not empty.
        title: title of the figure.

    Raises:
        BadInput: the trace is empty, or the file cannot be written.
    """
    if not trace:
        raise BadInput(f"nothing was tried, so there is nothing to draw in {path}: expected a budget and some examples")
    # A second to import; without pyplot, which would keep the figure and choose a window system.
    from matplotlib.figure import Figure

    stages = list(dict.fromkeys(entry.stage for entry in trace))
    figure = Figure(figsize=(10, 1 + 1.7 * len(stages)), dpi=100, layout="constrained")
    rows = figure.subplots(len(stages), 2, sharex=True, squeeze=False)
    for stage, (errors, distances) in zip(stages, rows, strict=True):
        _draw_stage(stage, [entry for entry in trace if entry.stage == stage], errors, distances)
    rows[0, 0].set_title("expected error, without labels", fontsize="small", loc="left")
    rows[0, 1].set_title("Mahalanobis distance (1: as in validation)", fontsize="small", loc="left")
    shifts = sorted({entry.batch for entry in trace if entry.new_kind})
    for axes in rows.flat:
        for batch in shifts:
            axes.axvline(batch - 0.5, color=_SHIFT, linewidth=1, linestyle="--")
    for axes in rows[-1]:
        axes.set_xlabel("batch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*_legend(bool(shifts)), loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.suptitle(title or None)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error}") from error


def _draw_stage(stage: str, entries: Sequence[TraceEntry], errors, distances) -> None:
    _draw_changes(errors, entries, [(entry.before.error, entry.after.error) for entry in entries])
    pairs = [(entry.before.distance, entry.after.distance) for entry in entries]
    _draw_changes(distances, entries, np.maximum(np.nan_to_num(pairs, posinf=1e6), _LEAST).tolist())
    errors.set(ylabel=stage, ylim=(-0.04, 1.04))
    distances.set(yscale="log")
    distances.axhline(1, color="black", linewidth=0.6, linestyle=":")
    kept, tried = sum(entry.accepted for entry in entries), sum(_is_tried(entry) for entry in entries)
    title = f"kept {kept:,} of {tried:,} tried" if tried else "nothing tried"
    distances.set_title(title, fontsize="small", loc="right")


def _draw_changes(axes, entries: Sequence[TraceEntry], values: Sequence[tuple[float, float]]) -> None:
    """A line from each value before to the value after, with a mark at its end."""
    for entry, (before, after) in zip(entries, values, strict=True):
        colour = _KEPT if entry.accepted else _REFUSED
        axes.plot([entry.batch], [before], "o", color=_BEFORE, markersize=4, fillstyle="none")
        if _is_tried(entry):
            axes.plot([entry.batch] * 2, [before, after], "-", color=colour, linewidth=1.2)
            axes.plot([entry.batch], [after], "o" if entry.accepted else "x", color=colour, markersize=5)


def _is_tried(entry: TraceEntry) -> bool:
    """Whether the stage made a change at all."""
    return entry.accepted or entry.before != entry.after


def _legend(has_shift: bool):
    from matplotlib.lines import Line2D

    marks = {
        "before": Line2D([], [], marker="o", linestyle="", color=_BEFORE, fillstyle="none", markersize=4),
        "tried and kept": Line2D([], [], marker="o", linestyle="-", color=_KEPT, markersize=5),
        "tried and undone": Line2D([], [], marker="x", linestyle="-", color=_REFUSED, markersize=5),
    }
    if has_shift:
        marks["abrupt shift of the stream"] = Line2D([], [], color=_SHIFT, linewidth=1, linestyle="--")
    return list(marks.values()), list(marks)
