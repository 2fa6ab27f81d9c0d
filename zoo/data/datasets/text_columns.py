"""Tables as columns of texts, whatever file they come from: .csv and its kind, Parquet, Arrow, Excel, JSON lines.

One form for all of them, so that the same table gives the same model and the same predictions from any file. PyArrow
reads Parquet and Arrow files, and delimited files where it can; `delimited` reads those where it cannot, and finds the
line of a mistake.
"""

import dataclasses
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo.data.datasets import (
    column_spool,
    delimited,
    delimited_columns,
    delimited_records,
    excel,
    json_records,
    saved_datasets,
)
from zoo.data.datasets.column_spool import LazyColumns
from zoo.data.datasets.delimited_columns import release_memory as release_memory
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.splits import Origins, shortened
from zoo.errors import BadInput

ARROW_SUFFIXES = (".parquet", ".arrow", ".feather")
JSON_SUFFIXES = json_records.SUFFIXES
SUFFIXES = (*delimited.SUFFIXES, *ARROW_SUFFIXES, *excel.SUFFIXES, *JSON_SUFFIXES)
# Their values have types.
TYPED_SUFFIXES = (*ARROW_SUFFIXES, *excel.SUFFIXES)
_SAME = "expected the same columns in all files"
_SCALAR = "expected a number, a text or a boolean"


@dataclasses.dataclass
class TextColumns:
    """A table in memory.

    Attributes:
        path: the file; None where it comes from none.
        header: names of the columns.
        columns: for each name a chunked array of texts, without blanks around them; empty where there is no value.
        rows: number of rows.
        notes: what was assumed while reading, to be reported.
        form: what a user says of a delimited file.
        numbers: names of columns that are numbers in the file, whatever the decimal mark of its texts.
        parts: the tables, without columns, that this one joins; empty where it is one file.
        first_row: number of the first row: 1, but in a sheet of Excel the one that is beside it there.
    """

    path: Path | None
    header: tuple[str, ...]
    columns: MutableMapping[str, "pyarrow.ChunkedArray"]  # noqa: F821  (imported where it is used)
    rows: int
    notes: list[str]
    form: DelimitedFormat = FOUND
    numbers: frozenset[str] = frozenset()
    parts: tuple["TextColumns", ...] = ()
    first_row: int = 1

    def place(self, row: int) -> str:
        """Where a row is in the file, for messages: its line, or its number from 1 where there are no lines."""
        if self.path is None:
            return "the example"
        for part in self.parts:
            if row < part.rows:
                return part.place(row)
            row -= part.rows
        if origin_kind(self.path) == "row":
            return f"{self.path} row {row + self.first_row}"
        table = delimited.read(self.path, self.form)
        for number, (line, _) in enumerate(table.rows()):
            if number == row:
                return f"{self.path} line {line}"
        return f"{self.path} row {row + 1}"

    def origins(self) -> Origins:
        """Where each row is in the file: its line, or its number from 1 where there are no lines."""
        if self.path is None or origin_kind(self.path) == "row":
            return Origins("row", np.arange(self.rows) + self.first_row)
        lines = np.array([line for line, _ in delimited.read(self.path, self.form).rows()], int)
        return Origins("line", lines[: self.rows])

    def column(self, name: str, flag: str) -> str:
        """The name of a column as the file has it; see `delimited.Delimited.column`."""
        table = delimited.Delimited(self.path, self.header, delimited_records.Dialect(","), self.notes)
        return self.header[table.column(name, flag)]

    def decimal(self, name: str, of_texts: str) -> str:
        """The decimal mark of a column; `of_texts`: that of columns that are texts in the file."""
        return "." if name in self.numbers else of_texts

    def texts(self, name: str) -> list[str]:
        """A column as a list, in which equal texts are one object."""
        levels, codes = coded(self.columns[name])
        return [levels[code] for code in codes.tolist()]


def origin_kind(path: Path) -> str:
    """What tells the place of a row in a file, or in several: "line" or "row"."""
    is_row = len(files.listed(path)) > 1 or is_typed(path) or delimited.kind(path) in JSON_SUFFIXES
    return "row" if is_row else "line"


def is_table(path: Path) -> bool:
    """Whether a path, or each of several, is what `read` reads; a file need not exist.

    A file has one of the `SUFFIXES`, in any case, perhaps with .gz after it; a folder is one of `saved_datasets`.
    """
    return all(saved_datasets.is_saved(each) or delimited.kind(each) in SUFFIXES for each in files.listed(path))


def is_typed(path: Path) -> bool:
    """Whether a path is of a kind whose values have types: Parquet, Arrow, Excel, or a folder of `saved_datasets`."""
    return delimited.kind(path) in TYPED_SUFFIXES or saved_datasets.is_saved(path)


def read(path: Path, form: DelimitedFormat = FOUND) -> TextColumns:
    """Reads a table.

    Args:
        path: a file of one of the `SUFFIXES`, or several as for `files.listed`, whose rows follow one another.
        form: what a user says of a delimited file; of no matter for others.

    Raises:
        BadInput: a file is missing or damaged, has no columns, or others than the first; the message has the file and
            the line.
    """
    paths = files.listed(path)
    if len(paths) > 1:
        return _joined(path, [_read(each, form, column_spool.IN_MEMORY // len(paths)) for each in paths])
    return _read(paths[0], form, column_spool.IN_MEMORY)


def _joined(path: Path, tables: list[TextColumns]) -> TextColumns:
    """The rows of several files, one after the other; their columns may be in another order."""
    first = tables[0]
    for table in tables[1:]:
        lacking = [name for name in first.header if name not in table.columns]
        if lacking:
            raise BadInput(f"{table.path} lacks the column {lacking[0]!r}, which {first.path} has; {_SAME}")
        more = [name for name in table.header if name not in first.columns]
        if more:
            raise BadInput(f"{table.path} has the column {more[0]!r}, which {first.path} lacks; {_SAME}")
    if any(isinstance(table.columns, LazyColumns) for table in tables):
        sources = [table.columns for table in tables]
        columns = LazyColumns(first.header, lambda name: _concatenated([source[name] for source in sources]))
        for table in tables:
            table.columns = {}
    else:
        columns = {name: _concatenated([table.columns.pop(name) for table in tables]) for name in first.header}
    numbers = frozenset.intersection(*(table.numbers for table in tables))
    rows, notes = sum(table.rows for table in tables), [note for table in tables for note in table.notes]
    return TextColumns(path, first.header, columns, rows, notes, first.form, numbers, tuple(tables))


def _concatenated(columns: Sequence):
    import pyarrow as pa

    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())


def _read(path: Path, form: DelimitedFormat, in_memory: int) -> TextColumns:
    if saved_datasets.is_saved(path):
        return _of_arrow(path, saved_datasets.read(path), [])
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected a table ({', '.join(SUFFIXES)})")
    kind = delimited.kind(path)
    if kind in ARROW_SUFFIXES:
        return _arrow(path)
    if kind in excel.SUFFIXES:
        sheet = excel.read(path)
        return dataclasses.replace(_of_arrow(path, sheet.table, sheet.notes), first_row=sheet.first_row)
    return _json_lines(path) if kind in JSON_SUFFIXES else _delimited(path, form, in_memory)


def _delimited(path: Path, form: DelimitedFormat, in_memory: int) -> TextColumns:
    table = delimited.read(path, form)
    spool = delimited_columns.fast(table, in_memory) or delimited_columns.slow(table, in_memory)
    return TextColumns(path, table.header, spool.columns(), spool.rows, table.notes, form)


def _arrow(path: Path) -> TextColumns:
    import pyarrow as pa
    import pyarrow.feather as feather
    import pyarrow.parquet as parquet

    try:
        is_parquet = delimited.kind(path) == ".parquet"
        table = parquet.read_table(path) if is_parquet else _arrow_file(path, pa, feather)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path} cannot be read: {reason}; expected a whole {path.suffix.lower()} file") from None
    return _of_arrow(path, table, [])


def _arrow_file(path: Path, pa, feather):
    with path.open("rb") as file:
        begins = file.read(6)
    # What Hugging Face's datasets write is a stream without the file format's first bytes.
    return feather.read_table(path) if begins == b"ARROW1" else pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def _of_arrow(path: Path, table, notes: list[str]) -> TextColumns:
    if not table.num_columns:
        raise BadInput(f"{path} is empty: expected columns")
    names = [name.strip() for name in table.column_names]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadInput(f"{path} names the column {twice[0]!r} twice; expected unique names")
    columns = {name: _as_texts(path, name, column) for name, column in zip(names, table.columns)}
    numbers = frozenset(name for name, column in zip(names, table.columns) if _is_number(column.type))
    return TextColumns(path, tuple(names), columns, table.num_rows, notes, numbers=numbers)


def _is_number(kind) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_integer(kind)


def _as_texts(path: Path, name: str, column):
    """Values of any type as the texts that a .csv has of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise BadInput(f"{path}, column {name!r} has values of {kind}: expected numbers, texts, booleans or dates")
    if pa.types.is_floating(kind):
        # Not a number is a missing one.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    return _trimmed(pc.fill_null(column.cast(pa.string()), ""))


def _json_lines(path: Path) -> TextColumns:
    header: dict[str, None] = {}
    values: list[dict] = []
    for number, record in json_records.read(path):
        if not isinstance(record, dict):
            raise BadInput(f"{path} line {number}: expected an object with a value for each column")
        for name, value in record.items():
            if isinstance(value, (dict, list)):
                raise BadInput(f"{path} line {number}: {name!r} is nested: {_SCALAR}")
        header |= dict.fromkeys(record)
        values.append(record)
    if not values:
        raise BadInput(f"{path} is empty: expected an object in each line")
    return of_records(values, tuple(header), path)


def of_records(records: Sequence[Mapping[str, Any]], header: Sequence[str], path: Path | None = None) -> TextColumns:
    """A table from objects with values by column; what an object lacks is missing.

    Raises:
        BadInput: a value is a list or an object.
    """
    import pyarrow as pa

    nested = [name for record in records for name in header if isinstance(record.get(name), (dict, list))]
    if nested:
        raise BadInput(f"{nested[0]!r} is nested: {_SCALAR}")
    columns = {
        name: _trimmed(pa.chunked_array([[_text(record.get(name)) for record in records]], pa.string()))
        for name in header
    }
    texts = {name for record in records for name in header if isinstance(record.get(name), (str, bool))}
    return TextColumns(path, tuple(header), columns, len(records), [], numbers=frozenset(header) - texts)


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def coded(column) -> tuple[list[str], np.ndarray]:
    """The different texts of a chunked array, and the index of each row's, int `[rows]`."""
    if not len(column):
        return [], np.zeros(0, np.int64)
    encoded = column.dictionary_encode().unify_dictionaries()
    codes = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded.chunks]
    return encoded.chunk(0).dictionary.to_pylist(), np.concatenate(codes)


def _trimmed(column):
    import pyarrow as pa

    return pa.chunked_array([delimited_columns.trimmed(chunk) for chunk in column.chunks], column.type)


def missing_columns(table: TextColumns, expected: Sequence[str]) -> BadInput | None:
    """The error for a table that lacks columns; None where it has all."""
    missing = [repr(name) for name in expected if name not in table.columns]
    if not missing:
        return None
    return BadInput(
        f"{table.path} lacks the column{'s' if len(missing) > 1 else ''} {shortened(missing)}; expected the columns "
        f"{shortened(expected)} that the model was trained on, in any order"
    )
