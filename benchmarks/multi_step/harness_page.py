"""Cells of the harness: where they are kept, what they amount to, and the tables of docs/refinement_harness.md."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.multi_step.harness_models import MODELS

# Points of accuracy that a plan may lose.
ALLOWED = 0.5
_BOOTSTRAP, _BINS = 2000, 15
_BEGIN, _END = "<!-- harness: begin -->", "<!-- harness: end -->"


class Cell(NamedTuple):
    """What was measured of a model on one kind of stream, over all seeds.

    Attributes:
        model: name of the model.
        stream: name of the stream.
        seeds: number of seeds.
        examples: number of scored examples.
        plain: accuracy of the trained model, in percent.
        refined: accuracy of the plan.
        low: lower end of the 95 % interval of their difference, in points.
        high: its upper end.
        losses: mean log loss, plain and refined.
        errors: expected calibration error, plain and refined.
        seconds: for a thousand examples, plain and refined.
        kept: by stage the changes that were kept, and all.
    """

    model: str
    stream: str
    seeds: int
    examples: int
    plain: float
    refined: float
    low: float
    high: float
    losses: tuple[float, float]
    errors: tuple[float, float]
    seconds: tuple[float, float]
    kept: dict[str, tuple[int, int]]

    @property
    def gain(self) -> float:
        """Points of accuracy that the plan gains."""
        return self.refined - self.plain

    @property
    def fails(self) -> bool:
        """Whether the plan loses more than is allowed, beyond chance."""
        return self.gain < -ALLOWED and self.high < 0


def path(work: Path, plan: str, model: str, stream: str, seed: int) -> Path:
    """The file of one cell and seed; the plan `plain` is the trained model alone."""
    return work / "cells" / plan / f"{model}-{stream.replace(', ', '+').replace(' ', '_')}-{seed}.json"


def read(work: Path, plan: str, wanted: Callable[[str, str], bool]) -> list[Cell]:
    """The cells that were measured, in the order of the models."""
    measured: dict[tuple[str, str], list[Any]] = {}
    for place in sorted((work / "cells" / plan).glob("*.json")):
        model, stream, _ = place.stem.rsplit("-", 2)
        name = stream.replace("+", ", ").replace("_", " ")
        if model in MODELS and wanted(model, name):
            pair = [json.loads((work / "cells" / each / place.name).read_text()) for each in ("plain", plan)]
            measured.setdefault((model, name), []).append(pair)
    order = list(MODELS)
    cells = [cell(*name, pairs) for name, pairs in measured.items()]
    return sorted(cells, key=lambda each: order.index(each.model))


def cell(model: str, stream: str, pairs: Sequence[Sequence[list[dict[str, Any]]]]) -> Cell:
    """One cell of the answers to its streams, plain and refined, for each seed."""
    plain, refined = ([each for pair in pairs for each in pair[side]] for side in (0, 1))
    low, high = _interval(plain, refined)
    right = [np.concatenate([each["right"] for each in side]) for side in (plain, refined)]
    kept: dict[str, tuple[int, int]] = {}
    for each in refined:
        for stage, (accepted, tried) in each["kept"].items():
            before = kept.get(stage, (0, 0))
            kept[stage] = before[0] + accepted, before[1] + tried
    seconds = [float(np.mean([each["seconds_per_1000"] for each in side])) for side in (plain, refined)]
    losses = [float(np.mean(np.concatenate([each["loss"] for each in side]))) for side in (plain, refined)]
    errors = [_calibration_error(side) for side in (plain, refined)]
    shares = [100 * float(side.mean()) for side in right]
    pairs_of = map(tuple, (losses, errors, seconds))
    return Cell(model, stream, len(pairs), len(right[0]), *shares, low, high, *pairs_of, kept)


def _interval(plain: list[dict[str, Any]], refined: list[dict[str, Any]]) -> tuple[float, float]:
    """The 95 % interval of the points that the refined answers gain, over the blocks of all streams."""
    sums, sizes = [], []
    for one, other in zip(plain, refined, strict=True):
        blocks = np.unique(one["block"], return_inverse=True)[1]
        change = np.array(other["right"], float) - np.array(one["right"])
        sums.append(np.bincount(blocks, change))
        sizes.append(np.bincount(blocks))
    total, size = np.concatenate(sums), np.concatenate(sizes)
    draw = np.random.default_rng(0).integers(0, len(total), (_BOOTSTRAP, len(total)))
    low, high = np.quantile(total[draw].sum(axis=1) / size[draw].sum(axis=1), [0.025, 0.975])
    return 100 * float(low), 100 * float(high)


def _calibration_error(answers: list[dict[str, Any]]) -> float:
    """Expected calibration error in fifteen bins of equal width (Guo et al., 2017)."""
    confidence, right = (np.concatenate([each[name] for each in answers]) for name in ("confidence", "right"))
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs((confidence - right)[bins == each].sum()) for each in np.unique(bins)]
    return float(np.sum(gaps) / len(right))


def line(cell: Cell) -> str:
    """A cell in one line of text."""
    kept = ", ".join(f"{stage} {accepted}/{tried}" for stage, (accepted, tried) in cell.kept.items() if accepted)
    return (
        f"{'FAILS ' if cell.fails else ''}{cell.model}: {cell.stream}: {cell.plain:.2f} -> {cell.refined:.2f} %, "
        f"{cell.gain:+.2f} ({cell.low:+.2f} to {cell.high:+.2f}); log loss {cell.losses[0]:.3f} -> "
        f"{cell.losses[1]:.3f}; ECE {cell.errors[0]:.3f} -> {cell.errors[1]:.3f}; {cell.seconds[1]:.1f} s per 1,000; "
        f"kept: {kept or 'none'}"
    )


def failures(cells: Sequence[Cell]) -> list[str]:
    """A line for each failure, the certain ones marked."""
    return [f"{line(each)}{' (certain)' * (each.high < -ALLOWED)}" for each in cells if each.fails]


def renew(page: Path, cells: Sequence[Cell], plan: str) -> None:
    """Replaces what stands between the marks of a page."""
    text = page.read_text(encoding="utf8")
    head, rest = text.split(_BEGIN)
    tail = rest.split(_END)[1]
    page.write_text("\n".join([f"{head}{_BEGIN}\n", *_tables(cells, plan), f"\n{_END}{tail}"]), encoding="utf8")


def _tables(cells: Sequence[Cell], plan: str) -> Iterator[str]:
    failed = [each for each in cells if each.fails]
    losses = sum(each.losses[1] > each.losses[0] + 0.01 for each in cells)
    worse = sum(each.gain < 0 for each in cells)
    gained = sum(each.low > 0 for each in cells)
    seeds = max((each.seeds for each in cells), default=0)
    yield (
        f"`{plan}`, {len(cells)} cells, seeds: {seeds}. Failures: {len(failed)}. More accurate beyond chance in "
        f"{gained} cells, less accurate, by however little, in {worse}; the log loss is more than 0.01 higher in "
        f"{losses}.\n"
    )
    yield "| cell | plain | refined | gain in points (95 %) | changes kept |\n|---|---|---|---|---|"
    for each in failed or ():
        kept = ", ".join(f"{stage} {accepted} of {tried}" for stage, (accepted, tried) in each.kept.items() if accepted)
        yield (
            f"| {each.model}: {each.stream} | {each.plain:.2f} | {each.refined:.2f} | "
            f"{each.gain:+.2f} ({each.low:+.2f} to {each.high:+.2f}) | {kept} |"
        )
    if not failed:
        yield "| none | | | | |"
    yield "\nGain in points, by stream and model; `.`: no answer changes its class."
    by_name = {(each.model, each.stream): each for each in cells}
    for names in _groups(cells):
        streams = list(dict.fromkeys(each.stream for each in cells if each.model in names))
        yield f"\n| stream | {' | '.join(names)} |\n{'|---' * (len(names) + 1)}|"
        for stream in sorted(streams, key=_ORDER.index):
            yield f"| {stream} | {' | '.join(_gain(by_name.get((name, stream))) for name in names)} |"
    yield "\nAccuracy in percent, log loss, expected calibration error (ECE) and seconds for a thousand examples, means"
    yield "of all streams but `single` and `tiny`, plain → refined:"
    yield "\n| model | accuracy | log loss | ECE | seconds |\n|---|---|---|---|---|"
    for name in dict.fromkeys(each.model for each in cells):
        own = [each for each in cells if each.model == name and each.stream not in ("single", "tiny")]
        if own:
            pairs = [(each.plain, each.refined) for each in own], *zip(*((e.losses, e.errors, e.seconds) for e in own))
            forms = (".2f", ".3f", ".3f", ".2f")
            means = [[format(value, form) for value in np.mean(pair, axis=0)] for pair, form in zip(pairs, forms)]
            yield f"| {name} | {' | '.join(' → '.join(pair) for pair in means)} |"


def _groups(cells: Sequence[Cell]) -> Iterator[list[str]]:
    """Names of the measured models, those of images, tables and texts."""
    measured = {each.model for each in cells}
    names = list(MODELS)
    ends = 0, names.index("iris"), names.index("snownlp"), len(names)
    for first, last in itertools.pairwise(ends):
        group = [name for name in names[first:last] if name in measured]
        if group:
            yield group


def _gain(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if not cell.gain and not cell.low and not cell.high:
        return "."
    text = f"{cell.gain:+.1f}" + "*" * (cell.low > 0 or cell.high < 0)
    return f"**{text}**" if cell.fails else text


_ORDER = (
    "clean", "sorted", "bursts", "label shift", "label drift", "repeated", "few distinct", "single", "tiny",
    "new classes", "changing", "noise", "noise, sorted", "noise, label shift", "fog", "fog, sorted", "rotation",
    "units", "units, sorted", "units, label shift", "missing column", "missing column, sorted", "new categories",
    "dropped words", "dropped words, sorted", "dropped words, label shift", "first half", "first half, sorted",
)  # fmt: skip
