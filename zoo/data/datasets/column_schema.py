"""What the columns of a table are: numbers, categories or dates, and how a row of texts becomes numbers.

A schema is found in the training file, saved with the model, and read again for each file to predict.
"""

import dataclasses
import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.data.datasets import number_fields
from zoo.data.datasets.text_columns import TextColumns, coded, missing_columns, release_memory
from zoo.data.splits import shortened
from zoo.errors import BadInput

NUMBER, CATEGORY, DATE = "number", "category", "date"
# What people and programs write where there is no value, in lower case.
MISSING = ("", "nan", "+nan", "-nan", "null", "<na>", "#n/a", "#na", "nat", "na", "n/a", "none", "?", "-", "--", ".")
# In a column of categories these may be names: "none" is no garage.
_MISSING_CATEGORY = tuple(word for word in MISSING if word not in ("none", "?", "-", "--", "."))
# Code of a category that the training file does not have.
UNSEEN = -1.0
_LARGEST = float(np.finfo(np.float32).max)
# A number with a decimal comma and points between its thousands.
_GROUPED = r"^[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]*)?$"
_PARTS = ("", ":month", ":weekday", ":hour")
_EPOCH = np.datetime64("1970-01-01T00:00:00", "s")


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: its name in the file.
        kind: `NUMBER`, `CATEGORY` or `DATE`.
        levels: names of the categories, the most frequent first; each one's code is its index.
        format: how dates are written, as in `datetime.strptime`; empty for ISO 8601.
        has_time: whether dates have a time of day.
    """

    name: str
    kind: str = NUMBER
    levels: tuple[str, ...] = ()
    format: str = ""
    has_time: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers that it becomes: one, or the day number and parts of a date."""
        if self.kind != DATE:
            return (self.name,)
        return tuple(self.name + part for part in _PARTS[: 4 if self.has_time else 3])

    def as_json(self) -> dict[str, Any]:
        """The column as a JSON object, without what is not set."""
        values = dataclasses.asdict(self) | {"levels": list(self.levels)}
        return {name: value for name, value in values.items() if value or name in ("name", "kind")}


@dataclasses.dataclass(frozen=True)
class TableSchema:
    """The columns that a model reads, in the order of its inputs.

    Attributes:
        columns: the columns.
        decimal: "." or ",", the decimal mark of the numbers.
        has_missing: whether values may be missing, which the model was made for; else they are refused.
    """

    columns: tuple[Column, ...]
    decimal: str = "."
    has_missing: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers of an example."""
        return tuple(feature for column in self.columns for feature in column.features)

    @property
    def categories(self) -> tuple[int, ...]:
        """For each feature the number of its categories; 0 for numbers."""
        sizes = (
            (len(column.levels),) if column.kind == CATEGORY else (0,) * len(column.features) for column in self.columns
        )
        return tuple(size for each in sizes for size in each)

    @property
    def has_numbers_only(self) -> bool:
        """Whether all columns are numbers."""
        return all(column.kind == NUMBER for column in self.columns)

    @property
    def is_plain(self) -> bool:
        """Whether all columns are complete numbers with a decimal point."""
        return self.decimal == "." and not self.has_missing and self.has_numbers_only

    def as_json(self) -> dict[str, Any]:
        """The schema as a JSON object, for model.json."""
        columns = [column.as_json() for column in self.columns]
        return {"columns": columns, "decimal": self.decimal, "has_missing": self.has_missing}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "TableSchema":
        """The schema of a model.json.

        Raises:
            TypeError, KeyError: it was not written by `as_json`.
        """
        columns = (Column(**{**each, "levels": tuple(each.get("levels", ()))}) for each in saved["columns"])
        return cls(tuple(columns), saved["decimal"], saved["has_missing"])

    def describe(self) -> str:
        """What the columns are, in one line."""
        said = []
        for kind, plural in ((NUMBER, "numbers"), (CATEGORY, "categories"), (DATE, "dates")):
            names = [column.name for column in self.columns if column.kind == kind]
            said += [f"{plural}: {shortened(names)}"] if names else []
        return "; ".join(said)


def plain(names: Sequence[str]) -> TableSchema:
    """The schema of columns of complete numbers."""
    return TableSchema(tuple(Column(name) for name in names), has_missing=False)


def encoded(table: TextColumns, schema: TableSchema, *, release: bool = False) -> np.ndarray:
    """The examples of a table.

    Args:
        table: the table; its columns are found by name, others are ignored.
        schema: what its columns are.
        release: whether the table gives up each column that is encoded, so that a large file is not in memory twice.

    Returns:
        float32 `[rows, features]`: numbers, codes of categories (`UNSEEN` for one that the schema lacks), days since
        1970 with fractions, month, weekday (0: Monday) and hour; NaN for missing values.

    Raises:
        BadInput: a column is missing, or a field is not of its column's kind; the message has file, line and column.
    """
    error = missing_columns(table, schema.names)
    if error is not None:
        raise error
    values = np.empty((table.rows, len(schema.features)), np.float32)
    place = 0
    for column in schema.columns:
        width = len(column.features)
        values[:, place : place + width] = _encoded(table, column, schema)
        place += width
        if release:
            del table.columns[column.name]
            release_memory()
    return values


def _encoded(table: TextColumns, column: Column, schema: TableSchema) -> np.ndarray:
    if column.kind == CATEGORY:
        return _codes(table, column)[:, None]
    if column.kind == DATE:
        return _dates(table, column)
    return _numbers(table, column, schema)[:, None]


def missing_words(kind: str) -> tuple[str, ...]:
    """What stands for a missing value in a column of a kind, in lower case."""
    return _MISSING_CATEGORY if kind == CATEGORY else MISSING


def is_missing(texts, kind: str = NUMBER) -> np.ndarray:
    """Which fields of a column are missing values, bool `[rows]`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pa.array(missing_words(kind), texts.type)
    # Chunk by chunk, here and below: a copy of all of a large column would double its memory.
    parts = [pc.is_in(pc.utf8_lower(chunk), value_set=words) for chunk in texts.chunks]
    return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts] or [np.zeros(0, bool)])


def numbers(texts, decimal: str = ".") -> np.ndarray:
    """A column of texts as float64 `[rows]`; NaN for those that are no numbers."""
    return np.concatenate([_numbers_of(chunk, decimal) for chunk in texts.chunks] or [np.zeros(0)])


def _numbers_of(texts, decimal: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(MISSING, texts.type))
    if decimal == ",":
        grouped = pc.match_substring_regex(texts, _GROUPED)
        # Another point is no thousands separator: 1.5 must not become 15.
        points = pc.if_else(grouped, pc.replace_substring(texts, ".", ""), pc.replace_substring(texts, ".", "x"))
        texts = pc.replace_substring(points, ",", ".")
    texts = pc.if_else(missing, "nan", texts)
    try:
        return pc.cast(texts, pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        # Python reads some forms that Arrow does not, such as "+1".
        levels, codes = coded(pa.chunked_array([texts]))
        return np.array([_number(text) for text in levels], np.float64)[codes]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _numbers(table: TextColumns, column: Column, schema: TableSchema) -> np.ndarray:
    texts = table.columns[column.name]
    values = numbers(texts, table.decimal(column.name, schema.decimal))
    # False for NaN as well.
    wrong = ~(np.abs(values) <= _LARGEST)
    if schema.has_missing and wrong.any():
        wrong &= ~is_missing(texts)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadInput(f"{table.place(row)}, column {column.name!r}: {number_fields.not_a_number(texts[row].as_py())}")
    return values


def _codes(table: TextColumns, column: Column) -> np.ndarray:
    texts = table.columns[column.name]
    place = {level: number for number, level in enumerate(column.levels)}
    levels, codes = coded(texts)
    found = np.array([place.get(canonical(level), UNSEEN) for level in levels], np.float32)
    found[[level.lower() in _MISSING_CATEGORY for level in levels]] = np.nan
    return found[codes]


def canonical(level: str) -> str:
    """A category in one spelling, as programs differ: 1 for 1.0, true for True."""
    if level.lower() in ("true", "false"):
        return level.lower()
    return re.sub(r"^([+-]?[0-9]+)\.0+$", r"\1", level)


def _dates(table: TextColumns, column: Column) -> np.ndarray:
    texts = table.columns[column.name]
    seconds = dates(texts, column.format)
    missing = is_missing(texts)
    wrong = np.isnat(seconds) & ~missing
    if wrong.any():
        row = int(np.argmax(wrong))
        form = column.format or "2024-12-31" + (" 23:59" if column.has_time else "")
        raise BadInput(
            f"{table.place(row)}, column {column.name!r}: {texts[row].as_py()!r:.60} is not a date; expected the form "
            f"{form}"
        )
    return _parts(seconds, column.has_time)


def dates(texts, form: str) -> np.ndarray:
    """A column of texts as datetime64 in seconds `[rows]`; NaT for those that are no dates of this form.

    Args:
        texts: the fields.
        form: as in `datetime.strptime`; empty for ISO 8601.
    """
    levels, codes = coded(texts)
    return np.array([_date(text, form) for text in levels], "datetime64[s]")[codes]


def _date(text: str, form: str) -> np.datetime64:
    try:
        found = datetime.datetime.strptime(text, form) if form else datetime.datetime.fromisoformat(text)
    except ValueError:
        return np.datetime64("NaT", "s")
    if found.tzinfo is not None:
        found = found.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64(found, "s")


def _parts(seconds: np.ndarray, has_time: bool) -> np.ndarray:
    """Days since 1970, month, weekday and perhaps hour, float32 `[rows, 3 or 4]`; NaN where there is no date."""
    days = (seconds - _EPOCH) / np.timedelta64(1, "D")
    whole = seconds.astype("datetime64[D]")
    month = (seconds.astype("datetime64[M]") - np.datetime64("1970-01", "M")).astype(np.float64) % 12 + 1
    # The first of January 1970 was a Thursday.
    weekday = ((whole - np.datetime64("1970-01-01", "D")).astype(np.float64) + 3) % 7
    parts = [days, month, weekday]
    if has_time:
        parts.append(((seconds - whole) / np.timedelta64(1, "h")).astype(np.float64))
    stacked = np.stack([np.asarray(part, np.float64) for part in parts], axis=1)
    stacked[np.isnat(seconds)] = np.nan
    return stacked.astype(np.float32)
