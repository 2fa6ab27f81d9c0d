"""Costs of decisions from a .csv: a row for each true class, a column for each decision."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo import files
from zoo.data.splits import shortened
from zoo.errors import BadInput


def read(path: str | Path, classes: Sequence[str]) -> np.ndarray:
    """Reads a cost matrix.

        true,no,yes
        no,0,1
        yes,20,0

    The first cell may say anything. Rows and columns are matched with the classes by name, in any order. A cost is any
    number; a negative one is a benefit (Elkan, 2001, section 1).

    Args:
        path: the file.
        classes: class names in the order of the labels.

    Returns:
        float64 `[classes (true), classes (decision)]`, in the order of the labels.

    Raises:
        BadInput: names the file, what is wrong and what was expected.
    """
    source = f"--cost {path}"
    rows = _rows(files.absolute(path), source)
    header, body = [name.strip() for name in rows[0][1:]], rows[1:]
    names = [row[0].strip() for row in body]
    for where, found in (("header", header), ("first column", names)):
        _check_names(source, where, found, classes)
    wrong = next((number for number, row in enumerate(body, 2) if len(row) != len(rows[0])), None)
    if wrong is not None:
        raise BadInput(f"{source}: row {wrong} has {len(body[wrong - 2])} cells, the header has {len(rows[0])}")
    costs = np.zeros((len(classes), len(classes)))
    for name, row in zip(names, body):
        for decision, cell in zip(header, row[1:]):
            costs[classes.index(name), classes.index(decision)] = _number(source, name, decision, cell)
    if (costs == costs[:, :1]).all():
        raise BadInput(
            f"{source}: all decisions cost the same in each row, so none is better; expected costs of errors"
        )
    return costs


def _rows(path: Path, source: str) -> list[list[str]]:
    if not path.is_file():
        raise BadInput(f"{source}: no such file; expected a .csv with class names in its header and first column")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines(), strict=True) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{source} cannot be read as a .csv: {error}") from None
    if len(rows) < 2:
        raise BadInput(f"{source} has {len(rows)} rows: expected a header and a row for each class")
    return rows


def _check_names(source: str, where: str, found: Sequence[str], classes: Sequence[str]) -> None:
    if sorted(found) == sorted(classes):
        return
    missing, unknown = (
        [name for name in one if name not in other] for one, other in ((classes, found), (found, classes))
    )
    wrong = f"lacks {shortened(missing)}" if missing else f"has {shortened(unknown)}" if unknown else "repeats a class"
    raise BadInput(f"{source}: the {where} {wrong}; expected each class once: {shortened(list(classes))}")


def _number(source: str, true: str, decision: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{source}: the cost of deciding {decision!r} for {true!r} is {cell!r}; expected a number")
    return value
