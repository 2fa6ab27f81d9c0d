"""Report of a race: a table to read, a JSON with all figures."""

import dataclasses
import datetime
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.harness.race import Result

_HEADS = ("contender", "ms/step", "examples/s", "time / engine's", "peak MB", "1st step s", "loss")


class Spread(NamedTuple):
    """Median and extremes over the rounds."""

    median: float
    low: float
    high: float

    def text(self, form: str) -> str:
        return f"{self.median:{form}} [{self.low:{form}}..{self.high:{form}}]"


class Row(NamedTuple):
    """The figures of one contender."""

    contender: str
    group: str
    ms_per_step: Spread
    examples_per_second: Spread
    ratio: Spread | None
    peak_mb: float
    first_step_seconds: float
    loss: float

    def cells(self) -> list[str]:
        ratio = self.ratio.text(".2f") if self.ratio else "-"
        figures = [self.ms_per_step.text(".4f"), self.examples_per_second.text(",.0f"), ratio]
        return [
            self.contender,
            *figures,
            f"{self.peak_mb:,.0f}",
            f"{self.first_step_seconds:.1f}",
            f"{self.loss:.3f}",
        ]


def rows(results: Sequence[Result], batch_size: int, base: str) -> list[Row]:
    """One row for each contender that ran; ratios are to `base`'s time in the same round."""
    based = next((_times(result) for result in results if result.contender == base and not result.problem), [])
    return [_row(result, batch_size, based) for result in results if result.chunks and not result.problem]


def table(rows: Sequence[Row], results: Sequence[Result]) -> str:
    """The rows, the contenders that failed with the reason, the best of each group, and the load by other processes."""
    cells = [list(_HEADS), *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    # Names to the left, figures to the right.
    aligned = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in cells]
    aligned.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    lines = [f"| {' | '.join(line)} |" for line in aligned]
    lines += [f"{result.contender}: {result.problem}" for result in results if result.problem]
    return "\n".join([*lines, *_best(rows), _others(results)])


def machine() -> dict[str, Any]:
    """The machine that was measured on."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "logical_cores": psutil.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "platform": platform.platform(),
        "load_average": list(os.getloadavg()),
    }


def as_dict(results: Sequence[Result], rows: Sequence[Row]) -> dict[str, Any]:
    """All raw figures, and those of the table."""
    return {
        "summary": [{name: _plain(value) for name, value in row._asdict().items()} for row in rows],
        "raw": [dataclasses.asdict(result) for result in results],
    }


def _row(result: Result, batch_size: int, based: Sequence[float]) -> Row:
    times = _times(result)
    return Row(
        contender=result.contender,
        group=result.group,
        ms_per_step=_spread(times),
        examples_per_second=_spread([batch_size * 1e3 / time for time in times]),
        ratio=_spread([time / base for time, base in zip(times, based)]) if based else None,
        peak_mb=result.chunks[-1]["peak_mb"],
        first_step_seconds=result.first_step_seconds,
        loss=result.chunks[-1]["loss"],
    )


def _times(result: Result) -> list[float]:
    return [chunk["ms_per_step"] for chunk in result.chunks]


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def _best(rows: Sequence[Row]) -> list[str]:
    lines = []
    for group in dict.fromkeys(row.group for row in rows):
        members = [row for row in rows if row.group == group]
        best = min(members, key=lambda row: row.ms_per_step.median)
        if len(members) > 1:
            ratio = f", {best.ratio.text('.2f')} times the engine's time" if best.ratio else ""
            lines.append(f"best of {group}: {best.contender}{ratio}")
    return lines


def _others(results: Sequence[Result]) -> str:
    shares = _spread([chunk["others_cpu_share"] for result in results for chunk in result.chunks] or [0.0])
    return f"other processes had {shares.text('.0%')} of the CPU during the chunks"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _plain(value: Any) -> Any:
    return value._asdict() if isinstance(value, Spread) else value
