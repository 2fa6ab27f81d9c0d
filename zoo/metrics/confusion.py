"""Confusion matrices as text: all cells of a few classes, the most frequent errors of many, and a CSV file of all."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from zoo.names import escaped

# A matrix of twelve classes fits in 100 columns, with names of usual length.
_WHOLE, _WIDTH = 12, 100
# Maximum number of pairs to list: a screen has 24 lines.
PAIRS = 20


def text(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """The matrix for a terminal; where it is too wide, the pairs of classes that are confused most often.

    Args:
        matrix: counts or sums of weights, `[classes (true), classes (predicted)]`.
        classes: class names in the order of the matrix.
    """
    whole = "" if len(classes) > _WHOLE else _whole(matrix, classes)
    if whole and max(map(len, whole.splitlines())) <= _WIDTH:
        return whole
    pairs = worst(matrix)
    correct, total = float(np.trace(matrix)), float(matrix.sum())
    errors = int((matrix > 0).sum() - (np.diagonal(matrix) > 0).sum())
    head = f"{len(classes)} classes, {_number(total - correct)} of {_number(total)} predictions are wrong"
    if not pairs:
        return head
    rows = [("true", "predicted", "count", "of the true class")]
    for true, predicted, count in pairs:
        names = (_short(escaped(str(classes[k]))) for k in (true, predicted))
        rows.append((*names, _number(count), f"{count / matrix[true].sum():.1%}"))
    which = "pairs confused" if errors <= len(pairs) else f"{len(pairs)} most frequent of {errors:,} pairs confused"
    return f"{head}; {which}:\n{aligned(rows)}"


def worst(matrix: np.ndarray, most: int = PAIRS) -> list[tuple[int, int, float]]:
    """The cells off the diagonal with the largest counts, as (true, predicted, count); ties in their order."""
    errors = matrix.astype(np.float64)
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    cells = [(*map(int, divmod(int(cell), len(matrix))), float(errors.flat[cell])) for cell in order]
    return [cell for cell in cells if cell[2] > 0]


def as_csv(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """All of the matrix: a row for each true class, a column for each predicted one."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["true \\ predicted", *classes])
    for name, counts in zip(classes, matrix.tolist(), strict=True):
        writer.writerow([name, *map(_number, counts)])
    return file.getvalue()


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest entry, the first left-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [row[0].ljust(widths[0]), *(entry.rjust(width) for entry, width in zip(row[1:], widths[1:]))] for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _whole(matrix: np.ndarray, classes: Sequence[str]) -> str:
    names = [escaped(str(name)) for name in classes]
    rows = [("true \\ predicted", *names)]
    for name, counts in zip(names, matrix, strict=True):
        rows.append((name, *map(_number, counts)))
    return aligned(rows)


def _number(count: float) -> str:
    return f"{count:.0f}" if count == round(count) else f"{count:.6g}"


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"
