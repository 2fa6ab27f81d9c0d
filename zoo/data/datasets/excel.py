"""Excel workbooks: the first sheet as an Arrow table whose columns have types, as a Parquet file of it has them."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.data.datasets import excel_cells
from zoo.errors import BadInput

SUFFIXES = (".xlsx", ".xlsm")
# From here on floats, which all numbers of a workbook are, skip whole numbers.
_LARGEST_WHOLE = 2**53


class Sheet(NamedTuple):
    """The first sheet of a workbook.

    Attributes:
        table: a `pyarrow.Table`; its columns are int64, float64, bool, date32, timestamp, or texts where types differ.
        first_row: number that Excel shows beside the first row below the header.
        notes: what was assumed while reading.
    """

    table: Any
    first_row: int
    notes: list[str]


def read(path: Path) -> Sheet:
    """Reads the first sheet, whose first row with a value is the header; empty rows and columns at its ends are none.

    Raises:
        BadInput: the file is damaged or has no values, a column has no name, or a cell is merged, an error or without
            its value; the message has the cell.
    """
    import pyarrow as pa

    name, others, rows, start, merged = _opened(path)
    while rows and _is_empty(rows[-1]):
        rows.pop()
    if not rows:
        raise BadInput(f"{path} is empty: expected a header in the first row of its first sheet, {name!r}")
    width = max(place + 1 for row in rows for place, value in enumerate(row) if not _is_empty([value]))
    last = (start[0] + len(rows) - 1, start[1] + width - 1)
    for first, end in merged:
        if first != end and _meet((first, end), (start, last)):
            place = excel_cells.name(*first)
            raise BadInput(f"{path} cell {place} is merged with others; expected a value of its own in each cell")
    excel_cells.check(path)
    header = [_text(value) for value in rows[0][:width]]
    for column, text in enumerate(header):
        if not text.strip():
            place = excel_cells.name(start[0], start[1] + column)
            raise BadInput(f"{path} cell {place} is empty: expected the name of the column in each cell of the header")
    columns = [_typed([row[place] for row in rows[1:]]) for place in range(width)]
    notes = [f"{path}: read the first sheet, {name!r}, of {others + 1}"] if others else []
    return Sheet(pa.table(columns, names=header), start[0] + 2, notes)


def _opened(path: Path) -> tuple[str, int, list[list], tuple[int, int], Sequence]:
    """Name of the first sheet, number of others, rows, place of their first cell, and the ends of merged cells."""
    try:
        import python_calamine as calamine
    except ImportError:
        raise BadInput(f"{path} needs python-calamine: run `pip install 'zoo-keras[excel]'`") from None
    try:
        with calamine.load_workbook(path) as book:
            names = book.sheet_names
            sheet = book.get_sheet_by_index(0)
            return names[0], len(names) - 1, sheet.to_python(), sheet.start or (0, 0), sheet.merged_cell_ranges or ()
    except calamine.PasswordError:
        raise BadInput(f"{path} has a password: expected a workbook without one") from None
    except (calamine.CalamineError, OSError, IndexError) as error:
        raise BadInput(f"{path} cannot be read: {error}; expected a whole {path.suffix.lower()} file") from None


def _meet(one: tuple, other: tuple) -> bool:
    """Whether two rectangles of cells, each by its first and last cell, have one in common."""
    return all(one[0][axis] <= other[1][axis] and other[0][axis] <= one[1][axis] for axis in (0, 1))


def _is_empty(row: Sequence[Any]) -> bool:
    return all(isinstance(value, str) and not value.strip() for value in row)


def _typed(values: list[Any]):
    """A column with the type that all of its values have; texts where they differ."""
    import pyarrow as pa

    values = [None if _is_empty([value]) else value for value in values]
    kinds = {type(value) for value in values} - {type(None)}
    if kinds and kinds <= {int, float}:
        whole = all(value is None or _is_whole(value) for value in values)
        return pa.array([value if value is None or not whole else int(value) for value in values], _number(whole))
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {datetime.date}:
        return pa.array(values, pa.date32())
    if kinds and kinds <= {datetime.date, datetime.datetime}:
        return pa.array([_moment(value) for value in values], pa.timestamp("us"))
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _number(whole: bool):
    import pyarrow as pa

    return pa.int64() if whole else pa.float64()


def _is_whole(value: float) -> bool:
    return value == int(value) and abs(value) < _LARGEST_WHOLE


def _moment(value: datetime.date | None) -> datetime.datetime | None:
    if value is None or isinstance(value, datetime.datetime):
        return value
    return datetime.datetime(value.year, value.month, value.day)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if _is_whole(value) else repr(value)
    return str(value)
