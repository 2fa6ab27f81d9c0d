"""Tables of numbers: .csv and .tsv files with a header; what is wrong in one is told with its line and column."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import errors
from zoo.data.datasets import text_files
from zoo.data.splits import few
from zoo.errors import BadInput

SUFFIXES = (".csv", ".tsv")

_LARGEST = float(np.finfo(np.float32).max)


class Table(NamedTuple):
    """A table as it stands in a file.

    Attributes:
        path: of the file.
        header: names of the columns, each once, without white space around them.
        rows: the line that each begins in, and its fields, as many as there are columns.
    """

    path: Path
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str, flag: str) -> list[str]:
        """The fields of a column, without white space around them.

        Args:
            name: of the column.
            flag: that gave the name, for the error.

        Raises:
            BadInput: there is no such column.
        """
        if name not in self.header:
            raise BadInput(f"{self.path} has no column {name!r}, it has {few(self.header)}: {self._hint(name, flag)}")
        place = self.header.index(name)
        return [row[place].strip() for _, row in self.rows]

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Columns as numbers: float32 `[rows, names]`.

        Raises:
            BadInput: columns are missing, or a field is no finite number.
        """
        missing = [name for name in names if name not in self.header]
        if missing:
            plural = "s" if len(missing) > 1 else ""
            raise BadInput(
                f"{self.path} lacks the column{plural} {few([repr(name) for name in missing])}; expected the columns "
                f"{few(names)} that the model was trained on, in any order"
            )
        places = [(name, self.header.index(name)) for name in names]
        found = [[_number(self.path, line, name, row[place]) for name, place in places] for line, row in self.rows]
        return np.array(found, np.float32).reshape(len(self.rows), len(names))

    def _hint(self, name: str, flag: str) -> str:
        # Nearness is of letters as they are; a name that differs in their case alone is the nearest of all.
        alike = [column for column in self.header if column.lower() == name.lower()]
        near = f"did you mean {alike[0]}?" if alike else errors.nearest(name, self.header)
        return f"{near} Give it with --{flag}" if near.startswith("did") else f"give the one with --{flag}"


def read(path: Path) -> Table:
    """Reads a table; lines with nothing in them are passed over.

    Args:
        path: a .csv (with commas) or a .tsv (with tabs), quoted as spreadsheets do.

    Raises:
        BadInput: it cannot be read, has no header, a name twice, or a row of another length.
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
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise BadInput(f"{path} line 1 names the column {twice[0]!r} twice; expected a name of its own for each")


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"{path} line {line}, column {column!r}: {text!r} is not a number") from None
    # Also of NaN this is not true.
    if abs(value) <= _LARGEST:
        return value
    wrong = "is too large for float32" if math.isfinite(value) else "is not a finite number"
    raise BadInput(f"{path} line {line}, column {column!r}: {text.strip()!r} {wrong}")
