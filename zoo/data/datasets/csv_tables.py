"""Tables of numbers: .csv and .tsv files with a header; errors name the line and the column."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import errors
from zoo.data.datasets import text_files
from zoo.data.splits import shortened
from zoo.errors import BadInput

SUFFIXES = (".csv", ".tsv")

_LARGEST = float(np.finfo(np.float32).max)


class Table(NamedTuple):
    """The contents of a table file.

    Attributes:
        path: the file.
        header: unique column names, stripped.
        rows: the first line of each row and its fields, one per column.
    """

    path: Path
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str, flag: str) -> list[str]:
        """The stripped fields of a column.

        Args:
            name: column name.
            flag: flag that sets the name, for the error message.

        Raises:
            BadInput: the column is missing.
        """
        if name not in self.header:
            raise BadInput(
                f"{self.path} has no column {name!r}, it has {shortened(self.header)}: {self._hint(name, flag)}"
            )
        index = self.header.index(name)
        return [row[index].strip() for _, row in self.rows]

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Columns as numbers: float32 `[rows, names]`.

        Raises:
            BadInput: columns are missing, or a field is not a finite number.
        """
        missing = [name for name in names if name not in self.header]
        if missing:
            plural = "s" if len(missing) > 1 else ""
            raise BadInput(
                f"{self.path} lacks the column{plural} {shortened([repr(name) for name in missing])}; expected the "
                f"columns {shortened(names)} that the model was trained on, in any order"
            )
        indices = [(name, self.header.index(name)) for name in names]
        values = [[_number(self.path, line, name, row[index]) for name, index in indices] for line, row in self.rows]
        return np.array(values, np.float32).reshape(len(self.rows), len(names))  # [rows, names]

    def _hint(self, name: str, flag: str) -> str:
        # errors.nearest is case-sensitive; a name that differs only in case is the best match.
        same_letters = [column for column in self.header if column.lower() == name.lower()]
        hint = f"did you mean {same_letters[0]}?" if same_letters else errors.nearest(name, self.header)
        return f"{hint} Give it with --{flag}" if hint.startswith("did") else f"give the one with --{flag}"


def read(path: Path) -> Table:
    """Reads a table; empty lines are skipped.

    Args:
        path: a .csv (with commas) or a .tsv (with tabs), quoted as by spreadsheets.

    Raises:
        BadInput: the file cannot be read, has no header, a duplicate name, or a row of another length.
    """
    records = text_files.records(path, text_files.content(path))
    _, header = next(records, (1, []))
    if not header:
        raise BadInput(f"{path} is empty: expected a header and at least one row")
    names = tuple(name.strip() for name in header)
    _check_header(path, names)
    rows = list(records)
    for line, row in rows:
        if len(row) != len(names):
            raise BadInput(f"{path} line {line} has {len(row)} fields; expected {len(names)} as in the header")
    return Table(path, names, rows)


def _check_header(path: Path, names: tuple[str, ...]) -> None:
    expected = "tabs" if path.suffix.lower() == ".tsv" else "commas"
    for separator, shown in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
        if len(names) == 1 and separator in names[0] and shown != expected:
            raise BadInput(
                f"{path} line 1 is one column, {names[0]!r:.40}: the columns seem to be separated by {shown}; expected "
                f"{expected}; save it with {expected}{', or as .tsv' if shown == 'tabs' else ''}"
            )
    duplicates = [name for index, name in enumerate(names) if name in names[:index]]
    if duplicates:
        raise BadInput(f"{path} line 1 names the column {duplicates[0]!r} twice; expected unique names")


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"{path} line {line}, column {column!r}: {text!r} is not a number") from None
    # False for NaN as well.
    if abs(value) <= _LARGEST:
        return value
    wrong = "is too large for float32" if math.isfinite(value) else "is not a finite number"
    raise BadInput(f"{path} line {line}, column {column!r}: {text.strip()!r} {wrong}")
