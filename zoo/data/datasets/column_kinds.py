"""Which columns of a raw table are numbers, categories or dates, and which are left out: found in the whole file."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from zoo.data.datasets import column_schema, number_fields
from zoo.data.datasets.column_schema import CATEGORY, DATE, NUMBER, Column, TableSchema
from zoo.data.datasets.text_columns import TextColumns, coded, release_memory
from zoo.data.splits import shortened
from zoo.errors import BadInput

# Most categories of a column: each is an input of the network. A column of more is free text or an identity, unless
# --categorical names it.
_MOST_LEVELS = 100
_MOST_LEVELS_ASKED = 10_000
# Each category must be there this often on average, or a row's category says which row it is.
_ROWS_PER_LEVEL = 3
# Share of numbers among the values of a column from which on another value is a mistake.
_MOSTLY_NUMBERS = 0.5
# Forms of dates besides ISO 8601, each with and without a time.
_DAYS = ("%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d %b %Y", "%b %d, %Y")
_TIMES = ("", " %H:%M", " %H:%M:%S")
_SAMPLE = 100


@dataclasses.dataclass(frozen=True)
class ColumnOptions:
    """What flags say about the columns.

    Attributes:
        categorical: names of columns to be read as categories.
        numeric: names of columns to be read as numbers.
        decimal: decimal mark of numbers, "." or ",".
    """

    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    decimal: str = "."


NO_OPTIONS = ColumnOptions()


def options(categorical: str = "", numeric: str = "", decimal: str = ".") -> ColumnOptions:
    """The options that flags give, names of columns with commas between them."""
    both = (tuple(name.strip() for name in value.split(",") if name.strip()) for value in (categorical, numeric))
    # An earlier run has recorded none.
    return ColumnOptions(*both, decimal or ".")


def infer(table: TextColumns, names: Sequence[str], options: ColumnOptions, notes: list[str]) -> TableSchema:
    """The schema of a training file.

    A column is one of numbers if all its values are; of dates if all are dates of one form; else of categories, if it
    has at most 100 that each occur three times on average. Others are left out and named.

    Args:
        table: the file.
        names: the columns that may be features.
        options: what flags say about them.
        notes: gets a line for each column that is left out, and what was assumed.

    Raises:
        BadInput: a value is not of its column's kind, or no column is left.
    """
    both = set(options.categorical) & set(options.numeric)
    if both:
        raise BadInput(f"--categorical and --numeric both name {sorted(both)[0]!r}: expected one of them")
    columns = []
    for name in names:
        column = _column(table, name, options, notes)
        columns += [] if column is None else [column]
        release_memory()
    if not columns:
        raise BadInput(f"{table.path} has no column to learn from; expected numbers, categories or dates")
    return TableSchema(tuple(columns), options.decimal)


def _column(table: TextColumns, name: str, options: ColumnOptions, notes: list[str]) -> Column | None:
    texts = table.columns[name]
    if name in options.categorical:
        return _category(table, name, notes, asked=True)
    missing = column_schema.is_missing(texts)
    if missing.all():
        notes.append(f"{table.path}: left out the column {name!r}, which has no values")
        return None
    values = column_schema.numbers(texts, table.decimal(name, options.decimal))
    wrong = ~missing & ~np.isfinite(values)
    if not wrong.any():
        return Column(name, NUMBER)
    if name in options.numeric:
        raise _not_a_number(table, name, int(np.argmax(wrong)), "")
    date = _date(table, name, missing, notes)
    if date is not None:
        return date
    if wrong.sum() < (1 - _MOSTLY_NUMBERS) * (~missing).sum():
        ways = f", or say --categorical={name}, or --ignore_columns={name}"
        raise _not_a_number(table, name, int(np.argmax(wrong)), ways)
    return _category(table, name, notes, asked=False)


def _not_a_number(table: TextColumns, name: str, row: int, ways: str) -> BadInput:
    wrong = number_fields.not_a_number(table.columns[name][row].as_py())
    return BadInput(f"{table.place(row)}, column {name!r}: {wrong}{ways}")


def _category(table: TextColumns, name: str, notes: list[str], asked: bool) -> Column | None:
    levels, codes = coded(table.columns[name])
    counts: collections.Counter[str] = collections.Counter()
    for level, count in zip(levels, np.bincount(codes, minlength=len(levels)).tolist()):
        if level.lower() not in column_schema.missing_words(CATEGORY):
            counts[column_schema.canonical(level)] += count
    found = list(counts.items())
    most = _MOST_LEVELS_ASKED if asked else min(_MOST_LEVELS, max(2, table.rows // _ROWS_PER_LEVEL))
    if len(found) > most:
        if asked:
            raise BadInput(
                f"{table.path}, column {name!r}: {len(found):,} different values; expected at most {most:,} categories"
            )
        examples = shortened([repr(level) for level, _ in found[:2]])
        notes.append(
            f"{table.path}: left out the column {name!r}, {len(found):,} different texts in {table.rows:,} rows "
            f"({examples}): --categorical={name} keeps it as categories"
        )
        return None
    if not found:
        notes.append(f"{table.path}: left out the column {name!r}, which has no values")
        return None
    found.sort(key=lambda pair: (-pair[1], pair[0]))
    return Column(name, CATEGORY, tuple(level for level, _ in found))


def _date(table: TextColumns, name: str, missing: np.ndarray, notes: list[str]) -> Column | None:
    texts = table.columns[name]
    there = np.flatnonzero(~missing)
    sample = texts.take(there[:_SAMPLE])
    forms = ["", *(day + time for day in _DAYS for time in _TIMES)]
    # Most forms are ruled out by a few values.
    forms = [form for form in forms if not np.isnat(column_schema.dates(sample, form)).any()]
    fitting = []
    for form in forms:
        seconds = column_schema.dates(texts, form)[there]
        if not np.isnat(seconds).any():
            has_time = bool((seconds != seconds.astype("datetime64[D]")).any())
            fitting.append(Column(name, DATE, format=form, has_time=has_time))
    if len(fitting) > 1:
        notes.append(
            f"WARNING: {table.path}, column {name!r}: dates like {sample[0].as_py()!r} could be "
            f"{' or '.join(column.format for column in fitting)}; read as {fitting[0].format}"
        )
    return fitting[0] if fitting else None
