"""One's own labelled texts: .csv, .tsv or .jsonl, each example with the line that it begins in."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zoo import config as configs
from zoo.errors import BadInput

SUFFIXES = (".csv", ".tsv", ".jsonl")


class Row(NamedTuple):
    """An example as it stands in a file."""

    line: int
    text: str
    label: str


def read(path: Path, text_column: str, label_column: str | None) -> list[Row]:
    """Reads a file in its own order; lines with nothing in them are passed over.

    Args:
        path: a .csv or .tsv with a header, quoted as spreadsheets do, or a .jsonl with an object in each line.
        text_column: of the texts, which may be empty.
        label_column: of the classes; None to read texts alone.

    Raises:
        BadInput: what is wrong, with the file and the line.
    """
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path} ends in {path.suffix!r}: expected one of {', '.join(SUFFIXES)}")
    whole = content(path)
    if path.suffix == ".jsonl":
        rows = list(_jsonl(path, whole, text_column, label_column))
    else:
        rows = list(_csv(path, whole, text_column, label_column))
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
        raise BadInput(f"{path} cannot be read: {error.strerror}; expected a file of texts") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Its place is counted without the mark that may stand before the text.
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput(f"{path} line {line} is not text in UTF-8 ({error.reason}); save the file as UTF-8") from None


def _csv(path: Path, content: str, text_column: str, label_column: str | None) -> Iterator[Row]:
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise BadInput(f"{path} line {line} has a NUL character: expected text")
    found = _records(path, content)
    _, header = next(found, (1, []))
    if not header:
        names = " and ".join(repr(column) for column, _ in _columns(text_column, label_column))
        raise BadInput(f"{path} is empty: expected a header with {names}")
    places = [header.index(_known(path, 1, *column, header)) for column in _columns(text_column, label_column)]
    for line, fields in found:
        if len(fields) != len(header):
            raise BadInput(
                f"{path} line {line} has {len(fields)} fields; expected {len(header)} as in the header (quote a text "
                "that has separators in it)"
            )
        text, label = (*(fields[place] for place in places), "")[:2]
        yield Row(line, text, label.strip())


def _records(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty, each with its first line; a quoted field may go over many."""
    # strict: a stray quote would otherwise swallow the examples after it without a word.
    reader = csv.reader(io.StringIO(content, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
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


def _jsonl(path: Path, content: str, text_column: str, label_column: str | None) -> Iterator[Row]:
    # Not splitlines: a JSON string may hold U+2028.
    for line, source in enumerate(content.split("\n"), 1):
        if source.strip():
            try:
                found = json.loads(source)
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{path} line {line} is no JSON ({error}); expected one object per line") from None
            yield _row(path, line, found, text_column, label_column)


def _row(path: Path, line: int, found, text_column: str, label_column: str | None) -> Row:
    columns = _columns(text_column, label_column)
    if not isinstance(found, dict):
        names = ", ".join(repr(column) for column, _ in columns)
        raise BadInput(f"{path} line {line} is JSON, but no object; expected one with {names}")
    text, label = (*(found[_known(path, line, *column, list(found))] for column in columns), None)[:2]
    if not isinstance(text, str):
        raise BadInput(f"{path} line {line}: {text_column!r} is {shown(text)}; expected a string")
    if not _encodes(text) or not _encodes(str(label)):
        raise BadInput(f"{path} line {line} has half a surrogate pair (\\ud800 to \\udfff); expected Unicode text")
    if label is not None and not isinstance(label, (str, int, float)):
        raise BadInput(f"{path} line {line}: {label_column!r} is {shown(label)}; expected a string or a number")
    return Row(line, text, label.strip() if isinstance(label, str) else "" if label is None else json.dumps(label))


def _columns(text_column: str, label_column: str | None) -> list[tuple[str, str]]:
    """Each column with the flag that names it."""
    columns = [(text_column, "text_column"), (label_column, "label_column")]
    return columns if label_column is not None else columns[:1]


def _known(path: Path, line: int, column: str, flag: str, columns: list[str]) -> str:
    if column not in columns:
        near = configs.nearest(column, columns) if columns else ""
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
