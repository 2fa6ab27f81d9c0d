"""Files of labelled texts: delimited, JSON or a table with types, each example with its first line or row number."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zoo import files
from zoo.data.datasets import class_labels, delimited, json_records, text_columns
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.errors import BadInput

# Kinds that are read and written; more are read, see `is_supported`.
SUFFIXES = (".csv", ".tsv", ".jsonl")
EXPECTED = (
    ".csv, .tsv, .txt, .jsonl or .json, perhaps with .gz after it, .parquet, .arrow, .xlsx, or a folder that "
    "Hugging Face's datasets saved"
)


class Row(NamedTuple):
    """An example of a file, with its first line or row number, and the file where it is one of several."""

    line: int
    text: str
    label: str
    pair: str = ""
    file: Path | None = None

    def place(self, source: str) -> str:
        """Where it is, for messages: its line in its file, where it is one of several, or else in `source`."""
        return f"{self.file or source} {unit(Path(self.file or source))} {self.line}"


def unit(path: Path) -> str:
    """What `Row.line` counts in a file: "line", or "row" where there are no lines."""
    return "row" if text_columns.is_typed(path) else "line"


def is_supported(path: Path) -> bool:
    """Whether a path is of a kind that `read` reads; a file need not exist."""
    kinds = (*delimited.SUFFIXES, *json_records.SUFFIXES)
    return all(delimited.kind(each) in kinds or text_columns.is_typed(each) for each in files.listed(path))


def read(
    path: Path,
    text_column: str,
    label_column: str | None,
    pair_column: str = "",
    *,
    drop_unlabelled: bool = False,
    notes: list[str] | None = None,
    form: DelimitedFormat = FOUND,
    separator: str = "",
    keeps_empty: bool = False,
) -> list[Row]:
    """Reads a file in its order; empty lines are skipped.

    Args:
        path: a .csv, .tsv or .txt with a header, a .jsonl with one object per line, a .json with a list of objects,
            a Parquet, Arrow or Excel file, or a folder of `saved_datasets`; or several, as for `files.listed`.
        text_column: name of the column of texts, which may be empty.
        label_column: name of the column of classes; None to read texts only.
        pair_column: name of the column of second texts; empty where each example is one text.
        drop_unlabelled: whether to leave out examples whose label is missing; else they are refused.
        notes: list that gets a line for each assumption made while reading.
        form: what a user says of a delimited file; of no matter for others.
        separator: what stands between several labels of an example, which JSON may have as a list; empty for one label.
        keeps_empty: whether an empty label is kept instead of taken as missing.

    Raises:
        BadInput: the file is missing or malformed, or a label is missing; the message has the file and the line.
    """
    notes = [] if notes is None else notes
    columns = _columns(text_column, label_column, pair_column)
    paths = files.listed(path)
    if len(paths) > 1:
        each = (text_column, label_column, pair_column)
        more = {"form": form, "separator": separator, "keeps_empty": keeps_empty}
        parts = ((one, read(one, *each, drop_unlabelled=drop_unlabelled, notes=notes, **more)) for one in paths)
        return [row._replace(file=one) for one, rows in parts for row in rows]
    path = paths[0]
    if delimited.is_supported(path):
        rows = _delimited(path, columns, notes, form)
    elif delimited.kind(path) in json_records.SUFFIXES:
        rows = _json(path, columns, notes, separator)
    elif text_columns.is_typed(path):
        rows = _typed(path, columns, notes)
    else:
        raise BadInput(f"{path} ends in {path.suffix!r}: expected one of {EXPECTED}")
    if label_column is None:
        return list(rows)
    return _labelled(path, rows, label_column, drop_unlabelled, notes, keeps_empty)


def content(path: Path) -> str:
    """The text of a file.

    Raises:
        BadInput: the file cannot be read, or is not UTF-8; the message has the line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; expected a text file") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.start does not count the byte-order mark; error.object does not contain it.
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput(f"{path} line {line} is not text in UTF-8 ({error.reason}); save the file as UTF-8") from None


def _labelled(
    path: Path, rows: Iterable[Row], column: str, drop: bool, notes: list[str], keeps_empty: bool
) -> list[Row]:
    kept, dropped = [], 0
    for row in rows:
        if not class_labels.is_missing(row.label) or (keeps_empty and not row.label):
            kept.append(row)
        elif drop:
            dropped += 1
        else:
            raise BadInput(class_labels.missing_message(row.place(str(path)), column, row.label))
    if dropped:
        notes.append(class_labels.dropped_note(str(path), dropped))
    return kept


def _delimited(path: Path, columns: list["_Column"], notes: list[str], form: DelimitedFormat) -> Iterator[Row]:
    source = delimited.read(path, form)
    indices = {column.field: source.column(column.name, column.flag) for column in columns}
    for line, fields in source.rows():
        row = {"label": ""} | {field: fields[index] for field, index in indices.items()}
        yield Row(line, **row | {"label": row["label"].strip()})
    notes += source.notes


def _typed(path: Path, columns: list["_Column"], notes: list[str]) -> Iterator[Row]:
    table = text_columns.read(path)
    names = {column.field: table.column(column.name, column.flag) for column in columns}
    fields = {field: table.texts(name) for field, name in names.items()}
    for number, values in enumerate(zip(*fields.values()), table.first_row):
        yield Row(number, **{"label": ""} | dict(zip(fields, values)))
    notes += table.notes


def _json(path: Path, columns: list["_Column"], notes: list[str], separator: str) -> Iterator[Row]:
    renamed: dict[str, str] = {}
    for line, value in json_records.read(path):
        if not isinstance(value, dict):
            names = ", ".join(repr(column.name) for column in columns)
            raise BadInput(f"{path} line {line} is JSON, but not an object; expected one with {names}")
        row = {}
        for column in columns:
            name = delimited.match(column.name, value)
            if name is None:
                missing = delimited.missing_column(column.name, value, column.flag)
                raise BadInput(f"{path} line {line} has no {column.name!r}, it has {missing}")
            if name != column.name:
                renamed[name] = f"{path}: --{column.flag} is {name!r} there, not {column.name!r}"
            row[column.field] = value[name]
        if separator and isinstance(row.get("label"), list):
            row["label"] = _joined(row["label"], separator, f"{path} line {line}")
        yield _row(path, line, row, columns)
    notes += renamed.values()


def _joined(names: list, separator: str, place: str) -> str:
    """A list of labels as one text with the separator between them."""
    for name in names:
        if not isinstance(name, (str, int, float)) or (isinstance(name, str) and separator in name):
            raise BadInput(
                f"{place}: a label is {abbreviated_json(name)}; expected names without the --label_separator "
                f"{separator!r}"
            )
    return separator.join(name if isinstance(name, str) else json.dumps(name) for name in names)


def _row(path: Path, line: int, row: dict[str, Any], columns: list["_Column"]) -> Row:
    for column in columns:
        value = row[column.field]
        if column.field != "label" and not isinstance(value, str):
            hint = f", in {json_records.LIST_EXPECTED}" if isinstance(value, (dict, list)) else ""
            raise BadInput(f"{path} line {line}: {column.name!r} is {abbreviated_json(value)}; expected a string{hint}")
        if not _encodes(str(value)):
            raise BadInput(f"{path} line {line} has half a surrogate pair (\\ud800 to \\udfff); expected Unicode text")
        if value is not None and not isinstance(value, (str, int, float)):
            several = ": one class per example; several are for bert_finetune --task=multi_label" if value else ""
            raise BadInput(
                f"{path} line {line}: {column.name!r} is {abbreviated_json(value)}; expected a string or a number"
                f"{several}"
            )
    label = row.get("label")
    label = label.strip() if isinstance(label, str) else "" if label is None else json.dumps(label)
    return Row(line, **row | {"label": label})


class _Column(NamedTuple):
    """A column of a file, the flag that sets its name, and the field of `Row` that it becomes."""

    name: str
    flag: str
    field: str


def _columns(text_column: str, label_column: str | None, pair_column: str) -> list[_Column]:
    columns = [(text_column, "text_column", "text"), (label_column, "label_column", "label")]
    columns += [(pair_column, "pair_column", "pair")]
    return [_Column(*column) for column in columns if column[0] or column[2] == "text"]


def _encodes(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def abbreviated_json(value: Any) -> str:
    """A value as JSON of at most 40 characters, for an error message."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "..."
