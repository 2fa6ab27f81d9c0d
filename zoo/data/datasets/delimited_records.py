"""Lines and records of delimited text files, one at a time, under a given dialect."""

import csv
import gzip
import io
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from zoo.errors import BadInput

# The longest books have 5 million characters. A longer field is a quote that is not closed, which would otherwise take
# the rest of the file into memory.
LONGEST_FIELD = 1 << 24
# Bytes of a line: a book in Chinese, or a million numbers of 30 digits.
LONGEST_LINE = 1 << 25


class Dialect(NamedTuple):
    """How the fields of a file are written.

    Attributes:
        delimiter: the character between two fields.
        quoted: whether a field in double quotes is read without them (RFC 4180); else quotes are part of the text.
        blanks: whether blanks after a delimiter are ignored, so that a quote may follow them.
        skip: lines before the header.
    """

    delimiter: str
    quoted: bool = True
    blanks: bool = False
    skip: int = 0


class Record(NamedTuple):
    """A record of a file: its first line, its fields, and its text in the file if that was asked for."""

    first: int
    fields: list[str]
    raw: str = ""


class Malformed(Exception):
    """A line that a dialect cannot read."""

    def __init__(self, line: int, reason: str, too_long: bool = False):
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.too_long = too_long


def lines(path: Path, endless: bool = False) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers and line ends, one at a time; .gz is decompressed.

    Args:
        path: the file.
        endless: whether a line may be as long as the file.

    Raises:
        BadInput: the file cannot be read, or a line is not text in UTF-8 or too long; the message has the line.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"{path} is not a regular file; expected a text file")
        longest = -1 if endless else LONGEST_LINE
        with opened(path, "rb") as file:
            number = 0
            while raw := file.readline(longest):
                for text in _split(path, number, raw, longest):
                    number += 1
                    yield number, text
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path} cannot be read: {reason}; expected a text file") from None


def _split(path: Path, before: int, raw: bytes, longest: int) -> Iterable[str]:
    """The lines of a piece up to a line feed: one, but in an old file that ends its lines with carriage returns."""
    if len(raw) == longest and not raw.endswith(b"\n"):
        raise BadInput(f"{path} line {before + 1} has more than {longest:,} bytes; expected lines of text")
    try:
        text = raw.decode("utf-8-sig" if before == 0 else "utf-8")
    except UnicodeDecodeError as error:
        line = before + 1 + (error.object[: error.start].count(b"\r") if b"\n" not in raw else 0)
        raise BadInput(f"{path} line {line} is not text in UTF-8 ({error.reason}); save the file as UTF-8") from None
    if "\0" in text:
        raise BadInput(f"{path} line {before + 1} has a NUL character: expected text; save the file as UTF-8")
    return io.StringIO(text, newline="") if before == 0 and "\r" in text and "\n" not in text else (text,)


def records(path: Path, dialect: Dialect, raw: bool = False) -> Iterator[Record]:
    """The non-empty records of a file under a dialect, from the header on.

    Args:
        path: the file.
        dialect: how its fields are written.
        raw: whether the records have their text as it stands in the file; it takes much memory for a long field.

    Raises:
        BadInput: the file cannot be read as text.
        Malformed: a line cannot be read under the dialect.
    """
    numbered = (each for each in lines(path) if each[0] > dialect.skip)
    return _quoted_records(numbered, dialect, raw) if dialect.quoted else _literal_records(numbered, dialect)


def _literal_records(numbered: Iterable[tuple[int, str]], dialect: Dialect) -> Iterator[Record]:
    for number, line in numbered:
        text = line.rstrip("\r\n")
        if text:
            yield Record(number, text.split(dialect.delimiter), text)


def reader(source: Iterable[str], delimiter: str, **options: bool) -> Iterator[list[str]]:
    """A `csv.reader` that reads fields of up to `LONGEST_FIELD` characters."""
    # Python's own limit, 131,072, is below ordinary documents; there is one for the whole process.
    csv.field_size_limit(LONGEST_FIELD)
    return csv.reader(source, delimiter=delimiter, **options)


def _quoted_records(numbered: Iterable[tuple[int, str]], dialect: Dialect, raw: bool) -> Iterator[Record]:
    taken: list[str] = []
    number = dialect.skip

    def taking() -> Iterator[str]:
        nonlocal number
        for number, line in numbered:  # noqa: B007  (read outside)
            if raw:
                taken.append(line)
            yield line

    first = dialect.skip + 1
    try:
        # strict: a stray quote would otherwise silently swallow the examples after it.
        for fields in reader(taking(), dialect.delimiter, strict=True, skipinitialspace=dialect.blanks):
            if fields:
                yield Record(first, fields, "".join(taken).rstrip("\r\n"))
            taken.clear()
            first = number + 1
    except csv.Error as error:
        raise Malformed(
            first,
            f"cannot be read ({error}); expected quotes doubled inside of quoted fields, and fields of at "
            f"most {LONGEST_FIELD:,} characters",
            too_long="field limit" in str(error),
        ) from None


def rows(path: Path, dialect: Dialect) -> Generator[tuple[int, list[str]], None, int]:
    """The rows after the header: the first line of each and its fields, as many as the header has names.

    Columns without a name at the end, which spreadsheets write, are cut where they are empty.

    Returns:
        The number of rows of empty cells at the end, which are left out.

    Raises:
        BadInput: the file cannot be read as text.
        Malformed: a line cannot be read under the dialect, or has another number of fields.
    """
    source = records(path, dialect)
    header = next(source, None)
    if header is None:
        return 0
    width, named = len(header.fields), len(trimmed(header.fields))
    empty: list[Record] = []
    for record in source:
        if width > 1 and not any(field.strip() for field in record.fields):
            empty.append(record)
            continue
        for blank in empty:
            # A line of blanks is not a row of cells.
            if len(blank.fields) > 1:
                yield blank.first, _checked(blank, width, named)
        empty.clear()
        yield record.first, _checked(record, width, named)
    return sum(len(blank.fields) > 1 for blank in empty)


def trimmed(header: list[str]) -> list[str]:
    """The names of a header, stripped, without empty ones at the end."""
    names = [name.strip() for name in header]
    while len(names) > 1 and not names[-1]:
        names.pop()
    return names


def _checked(record: Record, width: int, named: int) -> list[str]:
    fields = record.fields
    if len(fields) != width:
        hint = "take the comment out" if fields[0].startswith("#") else "quote a text that has separators in it"
        raise Malformed(record.first, f"has {len(fields)} fields; expected {width} as in the header ({hint})")
    for index in range(named, width):
        if fields[index].strip():
            raise Malformed(record.first, f"has {fields[index]!r:.40} in column {index + 1}, which has no name")
    return fields[:named] if named < width else fields
