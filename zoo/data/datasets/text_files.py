"""Text files of labelled examples: .csv, .tsv or .jsonl, each example with its first line number."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zoo import errors
from zoo.errors import BadInput

SUFFIXES = (".csv", ".tsv", ".jsonl")


class Row(NamedTuple):
    """An example of a file, with its first line number."""

    line: int
    text: str
    label: str
    pair: str = ""


def read(path: Path, text_column: str, label_column: str | None, pair_column: str = "") -> list[Row]:
    """Reads a file in its order; empty lines are skipped.

    Args:
        path: a .csv or .tsv with a header, quoted as by spreadsheets, or a .jsonl with one object per line.
        text_column: name of the column of texts, which may be empty.
        label_column: name of the column of classes; None to read texts only.
        pair_column: name of the column of second texts; empty where each example is one text.

    Raises:
        BadInput: the file is missing or malformed; the message has the file and the line.
    """
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path} ends in {path.suffix!r}: expected one of {', '.join(SUFFIXES)}")
    columns = _columns(text_column, label_column, pair_column)
    rows = list((_jsonl if path.suffix == ".jsonl" else _csv)(path, content(path), columns))
    for row in rows:
        if label_column is not None and not row.label:
            raise BadInput(f"{path} line {row.line}: {label_column!r} is empty; expected a class")
    return rows


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


def _csv(path: Path, content: str, columns: list["_Column"]) -> Iterator[Row]:
    lines = records(path, content)
    _, header = next(lines, (1, []))
    if not header:
        names = " and ".join(repr(column.name) for column in columns)
        raise BadInput(f"{path} is empty: expected a header with {names}")
    indices = {column.field: header.index(_checked_name(path, 1, column, header)) for column in columns}
    for line, fields in lines:
        if len(fields) != len(header):
            raise BadInput(
                f"{path} line {line} has {len(fields)} fields; expected {len(header)} as in the header (quote a text "
                "that has separators in it)"
            )
        row = {"label": ""} | {field: fields[index] for field, index in indices.items()}
        yield Row(line, **row | {"label": row["label"].strip()})


def records(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """The non-empty records of a .csv or .tsv, each with its first line; a quoted field may span several lines.

    Raises:
        BadInput: the content is malformed; the message has the line.
    """
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise BadInput(f"{path} line {line} has a NUL character: expected text; save the file as UTF-8")
    # strict: a stray quote would otherwise silently swallow the examples after it.
    reader = csv.reader(
        io.StringIO(content, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
    )
    first = 1
    try:
        for fields in reader:
            if fields:
                yield first, fields
            first = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(
            f"{path} line {first} cannot be read as {path.suffix}: {error}; expected quotes doubled inside of quoted "
            f"fields, and fields of at most {csv.field_size_limit():,} characters"
        ) from None


def _jsonl(path: Path, content: str, columns: list["_Column"]) -> Iterator[Row]:
    # Not splitlines: a JSON string may hold U+2028.
    for line, source in enumerate(content.split("\n"), 1):
        if source.strip():
            try:
                value = json.loads(source)
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{path} line {line} is not JSON ({error}); expected one object per line") from None
            yield _row(path, line, value, columns)


def _row(path: Path, line: int, parsed: Any, columns: list["_Column"]) -> Row:
    if not isinstance(parsed, dict):
        names = ", ".join(repr(column.name) for column in columns)
        raise BadInput(f"{path} line {line} is JSON, but not an object; expected one with {names}")
    row = {column.field: parsed[_checked_name(path, line, column, list(parsed))] for column in columns}
    for column in columns:
        value = row[column.field]
        if column.field != "label" and not isinstance(value, str):
            raise BadInput(f"{path} line {line}: {column.name!r} is {abbreviated_json(value)}; expected a string")
        if not _encodes(str(value)):
            raise BadInput(f"{path} line {line} has half a surrogate pair (\\ud800 to \\udfff); expected Unicode text")
        if value is not None and not isinstance(value, (str, int, float)):
            raise BadInput(
                f"{path} line {line}: {column.name!r} is {abbreviated_json(value)}; expected a string or a number"
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


def _checked_name(path: Path, line: int, column: _Column, names: list[str]) -> str:
    """The column's name, if the file has it."""
    if column.name not in names:
        nearest = errors.nearest(column.name, names) if names else ""
        hint = nearest if nearest.startswith("did") else "give the one"
        raise BadInput(
            f"{path} line {line} has no {column.name!r}, it has {', '.join(names) or 'nothing'}: {hint} with "
            f"--{column.flag}"
        )
    return column.name


def _encodes(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def abbreviated_json(value: Any) -> str:
    """A value as JSON of at most 40 characters, for an error message."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "..."
