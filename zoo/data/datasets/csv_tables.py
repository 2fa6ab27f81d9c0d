"""Tables of numbers in delimited files, read in blocks; errors name the line, the column and what to do."""

import itertools
import math
import operator
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.data.datasets import class_labels, delimited
from zoo.data.datasets.delimited import Delimited
from zoo.data.splits import shortened
from zoo.errors import BadInput

SUFFIXES = delimited.SUFFIXES

_LARGEST = float(np.finfo(np.float32).max)
# Fields that are text in memory at once; the numbers of the rows before are float32.
_BLOCK_FIELDS = 1 << 18
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(([,' \u00a0\u202f]\d{3})+(\.\d+)?|(\.\d{3}){2,}(,\d+)?|\.\d{3},\d+)")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2}.*)?")
_BOOLEANS = frozenset(("true", "false", "yes", "no", "t", "f", "y", "n", "on", "off"))


class Cells(NamedTuple):
    """Columns of a table.

    Attributes:
        lines: first line of each row, `[rows]`.
        numbers: float32 `[rows, columns]`.
        texts: the fields of each column of texts, without blanks around them.
    """

    lines: np.ndarray
    numbers: np.ndarray
    texts: dict[str, list[str]]


def is_table(path: Path) -> bool:
    """Whether a path ends as a table does, in any case, perhaps with .gz after it."""
    return delimited.is_supported(path)


def cells(table: Delimited, numbers: Sequence[str], texts: Sequence[str] = (), *, may_ignore: bool = False) -> Cells:
    """Reads columns of a table, a block of rows at a time.

    Args:
        table: the open file.
        numbers: names of columns of numbers; all must be there.
        texts: names of columns of texts; all must be there.
        may_ignore: whether a column may be left out with --ignore_columns, which messages then say.

    Raises:
        BadInput: a column is missing, a field is not a finite number, or a row cannot be read.
    """
    index_of = {name: index for index, name in enumerate(table.header)}
    missing = [repr(name) for name in numbers if name not in index_of]
    if missing:
        raise BadInput(
            f"{table.path} lacks the column{'s' if len(missing) > 1 else ''} {shortened(missing)}; expected the "
            f"columns {shortened(numbers)} that the model was trained on, in any order"
        )
    chosen = [index_of[name] for name in numbers]
    lines: list[np.ndarray] = []
    blocks: list[np.ndarray] = []
    columns: dict[str, list[str]] = {name: [] for name in texts}
    rows = table.rows()
    while block := list(itertools.islice(rows, max(1, _BLOCK_FIELDS // max(1, len(table.header))))):
        lines.append(np.array([line for line, _ in block], np.int64))
        blocks.append(_floats(table.path, block, numbers, chosen, may_ignore))
        for name, column in columns.items():
            index = index_of[name]
            column.extend(fields[index].strip() for _, fields in block)
    if not blocks:
        return Cells(np.zeros(0, np.int64), np.zeros((0, len(numbers)), np.float32), columns)
    return Cells(np.concatenate(lines), np.concatenate(blocks), columns)


def _floats(path: Path, block: list, names: Sequence[str], chosen: list[int], may_ignore: bool) -> np.ndarray:
    """Fields of a block of rows as float32 `[rows, names]`."""
    if not chosen:
        return np.zeros((len(block), 0), np.float32)
    pick = operator.itemgetter(*chosen) if len(chosen) > 1 else lambda fields: (fields[chosen[0]],)
    try:
        flat = itertools.chain.from_iterable(pick(fields) for _, fields in block)
        values = np.fromiter(map(float, flat), np.float64, len(block) * len(chosen)).reshape(len(block), len(chosen))
    except ValueError:
        values = np.full((len(block), len(chosen)), np.nan)
    # False for NaN as well.
    if not np.all(np.abs(values) <= _LARGEST):
        for line, fields in block:
            for name, index in zip(names, chosen):
                _check_number(path, line, name, fields[index], may_ignore)
    return values.astype(np.float32)


def _check_number(path: Path, line: int, column: str, text: str, may_ignore: bool) -> None:
    text = text.strip()
    try:
        value = float(text)
        wrong = "" if abs(value) <= _LARGEST else _not_finite(text, value)
    except ValueError:
        wrong = f"{text!r:.60} is not a number{_mend(text)}" if text else f"is empty{_mend(text)}"
    if wrong:
        ignore = f", or leave the column out with --ignore_columns={column}" if may_ignore else ""
        raise BadInput(f"{path} line {line}, column {column!r}: {wrong}{ignore}")


def _not_finite(text: str, value: float) -> str:
    if math.isnan(value):
        return f"{text!r} is not a finite number{_mend(text)}"
    return f"{text!r} {'is too large for float32' if math.isfinite(value) else 'is not a finite number'}"


def _mend(text: str) -> str:
    """What to do about a field that is not a number."""
    if class_labels.is_missing(text) or text.lower() in ("na", "n/a", "none", "?", "-"):
        return ": fill empty cells in (with the column's median, say) or leave such rows out"
    if _THOUSANDS.fullmatch(text):
        return ": it seems to have thousands separators; write numbers without them"
    if _DECIMAL_COMMA.fullmatch(text):
        return f": it seems to have a decimal comma; write {text.replace(',', '.')}"
    if text.endswith("%"):
        return f": write percentages as numbers, {text[:-1].strip()}"
    if text.lower() in _BOOLEANS:
        return ": write yes and no as 1 and 0"
    if _DATE.fullmatch(text):
        return ": it seems to be a date; write it as a number (days since a first one, or year, month and day)"
    if text[:1] in "$€£¥" or text[-1:] in "$€£¥":
        return ": write amounts without a currency"
    return ": write categories as numbers (a column of 0 and 1 for each is best)"
