"""One's own labelled texts: .csv, .tsv or .jsonl, each example with the line that it begins in."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zoo import errors
from zoo.errors import BadInput

SUFFIXES = (".csv", ".tsv", ".jsonl")


class Row(NamedTuple):
    """An example as it stands in a file."""

    line: int
    text: str
    label: str
    pair: str = ""


def read(path: Path, text_column: str, label_column: str | None, pair_column: str = "") -> list[Row]:
    """Reads a file in its own order; lines with nothing in them are passed over.

    Args:
        path: a .csv or .tsv with a header, quoted as spreadsheets do, or a .jsonl with an object in each line.
        text_column: of the texts, which may be empty.
        label_column: of the classes; None to read texts alone.
        pair_column: of the second texts of pairs; empty where each example is one text.

    Raises:
        BadInput: what is wrong, with the file and the line.
    """
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path} ends in {path.suffix!r}: expected one of {', '.join(SUFFIXES)}")
    whole, wanted = content(path), _columns(text_column, label_column, pair_column)
    rows = list((_jsonl if path.suffix == ".jsonl" else _csv)(path, whole, wanted))
    for row in rows:
        if label_column is not None and not row.label:
            raise BadInput(f"{path} line {row.line}: {label_column!r} is empty; expected a class")
    return rows


def content(path: Path) -> str:
    """The text of a file.

    Raises:
        BadInput: it cannot be read, or is no UTF-8, with the line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; expected a text file") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Its place is counted without the mark that may stand before the text.
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput(f"{path} line {line} is not text in UTF-8 ({error.reason}); save the file as UTF-8") from None


def _csv(path: Path, content: str, wanted: list["_Column"]) -> Iterator[Row]:
    found = records(path, content)
    _, header = next(found, (1, []))
    if not header:
        names = " and ".join(repr(column.name) for column in wanted)
        raise BadInput(f"{path} is empty: expected a header with {names}")
    places = {column.field: header.index(_known(path, 1, column, header)) for column in wanted}
    for line, fields in found:
        if len(fields) != len(header):
            raise BadInput(
                f"{path} line {line} has {len(fields)} fields; expected {len(header)} as in the header (quote a text "
                "that has separators in it)"
            )
        row = {"label": ""} | {field: fields[place] for field, place in places.items()}
        yield Row(line, **row | {"label": row["label"].strip()})


def records(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a .csv or .tsv that are not empty, each with its first line; a quoted field may go over many.

    Raises:
        BadInput: what is wrong, with the line.
    """
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise BadInput(f"{path} line {line} has a NUL character: expected text; save the file as UTF-8")
    # strict: a stray quote would otherwise swallow the examples after it without a word.
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


def _jsonl(path: Path, content: str, wanted: list["_Column"]) -> Iterator[Row]:
    # Not splitlines: a JSON string may hold U+2028.
    for line, source in enumerate(content.split("\n"), 1):
        if source.strip():
            try:
                found = json.loads(source)
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{path} line {line} is no JSON ({error}); expected one object per line") from None
            yield _row(path, line, found, wanted)


def _row(path: Path, line: int, found, wanted: list["_Column"]) -> Row:
    if not isinstance(found, dict):
        names = ", ".join(repr(column.name) for column in wanted)
        raise BadInput(f"{path} line {line} is JSON, but no object; expected one with {names}")
    row = {column.field: found[_known(path, line, column, list(found))] for column in wanted}
    for column in wanted:
        value = row[column.field]
        if column.field != "label" and not isinstance(value, str):
            raise BadInput(f"{path} line {line}: {column.name!r} is {shown(value)}; expected a string")
        if not _encodes(str(value)):
            raise BadInput(f"{path} line {line} has half a surrogate pair (\\ud800 to \\udfff); expected Unicode text")
        if value is not None and not isinstance(value, (str, int, float)):
            raise BadInput(f"{path} line {line}: {column.name!r} is {shown(value)}; expected a string or a number")
    label = row.get("label")
    label = label.strip() if isinstance(label, str) else "" if label is None else json.dumps(label)
    return Row(line, **row | {"label": label})


class _Column(NamedTuple):
    """A column of a file, the flag that names it, and the field of `Row` that it becomes."""

    name: str
    flag: str
    field: str


def _columns(text_column: str, label_column: str | None, pair_column: str) -> list[_Column]:
    columns = [(text_column, "text_column", "text"), (label_column, "label_column", "label")]
    columns += [(pair_column, "pair_column", "pair")]
    return [_Column(*column) for column in columns if column[0] or column[2] == "text"]


def _known(path: Path, line: int, wanted: _Column, columns: list[str]) -> str:
    column, flag, _ = wanted
    if column not in columns:
        near = errors.nearest(column, columns) if columns else ""
        hint = near if near.startswith("did") else "give the one"
        raise BadInput(
            f"{path} line {line} has no {column!r}, it has {', '.join(columns) or 'nothing'}: {hint} with --{flag}"
        )
    return column


def _encodes(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def shown(value) -> str:
    """A value as JSON, for an error."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "..."
