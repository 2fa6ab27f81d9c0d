"""Lines and records of delimited text files, one at a time, under a given dialect."""

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from zoo.data.datasets.delimited_format import BLANKS, UTF8
from zoo.errors import BadInput

# The longest books have 5 million characters. A longer field is a quote that is not closed, which would otherwise take
# the rest of the file into memory.
LONGEST_FIELD = 1 << 24
# Bytes of a line: a book in Chinese, or a million numbers of 30 digits.
LONGEST_LINE = 1 << 25
# Bytes that are decoded at once to find an error.
_BLOCK = 1 << 20


class Dialect(NamedTuple):
    """How the fields of a file are written.

    Attributes:
        delimiter: the character between two fields.
        quoted: whether a field in double quotes is read without them (RFC 4180); else quotes are part of the text.
        blanks: whether blanks after a delimiter are ignored, so that a quote may follow them.
        skip: lines before the header.
        encoding: encoding of the file.
        has_header: whether the first record names the columns.
        columns: number of columns, where it is known otherwise than by the first record; else 0.
        has_rest: whether the last of the `columns` takes the rest of a line.
    """

    delimiter: str
    quoted: bool = True
    blanks: bool = False
    skip: int = 0
    encoding: str = UTF8
    has_header: bool = True
    columns: int = 0
    has_rest: bool = False


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


def lines(path: Path, endless: bool = False, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers and line ends, one at a time; .gz is decompressed.

    Args:
        path: the file.
        endless: whether a line may be as long as the file.
        encoding: encoding of the file, where a flag may say so, which errors then name; None: UTF-8.

    Raises:
        BadInput: the file cannot be read, or a line is not text in its encoding or too long; the message has the line.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"{path} is not a regular file; expected a text file")
        longest = -1 if endless else LONGEST_LINE
        with opened(path, "rb") as file:
            source = file
            if encoding not in (None, UTF8):
                source = io.TextIOWrapper(file, encoding=encoding, newline="\n")
            number = 0
            while raw := source.readline(longest):
                for text in _split(path, number, raw, longest, encoding):
                    number += 1
                    yield number, text
    except UnicodeError:
        with opened(path, "rb") as file:
            raise _undecodable(path, file, encoding) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path} cannot be read: {reason}; expected a text file") from None


def _split(path: Path, before: int, raw: bytes | str, longest: int, encoding: str | None) -> Iterable[str]:
    """The lines of a piece up to a line feed: one, but in an old file that ends its lines with carriage returns.

    Raises:
        UnicodeDecodeError: the piece is not UTF-8.
    """
    text = raw.decode() if isinstance(raw, bytes) else raw
    if len(raw) == longest and not text.endswith("\n"):
        raise BadInput(f"{path} line {before + 1} has more than {longest:,} bytes; expected lines of text")
    if "\0" in text:
        mend = "" if encoding is None else ", or say --encoding=utf-16"
        raise BadInput(f"{path} line {before + 1} has a NUL character: expected text; save the file as UTF-8{mend}")
    text = text.removeprefix("\ufeff") if before == 0 else text
    return io.StringIO(text, newline="") if before == 0 and "\r" in text and "\n" not in text else (text,)


def _undecodable(path: Path, file: BinaryIO, encoding: str | None) -> BadInput:
    """The error for a file that is not text in its encoding: where the first such byte is, and how to mend it."""
    decoder = codecs.getincrementaldecoder(encoding or UTF8)()
    text, raw, feeds, returns = "", b"", 0, 0
    try:
        while raw := file.read(_BLOCK):
            text = decoder.decode(raw)
            feeds, returns = feeds + text.count("\n"), returns + text.count("\r")
        decoder.decode(b"", True)
    except UnicodeError as error:
        # The part of the block that can be read; a codec like UTF-16 reads from an even place.
        before, reason, byte = "", str(error), ""
        if isinstance(error, UnicodeDecodeError):
            before = error.object[: error.start].decode(encoding or UTF8, "ignore")
            reason, byte = error.reason, f"byte 0x{error.object[error.start]:02x}, "
        feeds, returns = feeds + before.count("\n"), returns + before.count("\r")
        line = 1 + (feeds or returns)
        said = f"{path} line {line} is not text in {(encoding or UTF8).upper()} ({byte}{reason})"
        if encoding is None:
            return BadInput(f"{said}; save the file as UTF-8")
        if encoding == UTF8:
            return BadInput(f"{said}; save the file as UTF-8, or say --encoding=latin-1 (or cp1252, gb18030, utf-16)")
        return BadInput(f"{said}; expected another --encoding")
    return BadInput(f"{path} changed while it was read; expected a file that stays as it is")


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
    numbered = (each for each in lines(path, encoding=dialect.encoding) if each[0] > dialect.skip)
    return _quoted_records(numbered, dialect, raw) if dialect.quoted else _literal_records(numbered, dialect)


def _literal_records(numbered: Iterable[tuple[int, str]], dialect: Dialect) -> Iterator[Record]:
    for number, line in numbered:
        text = line.rstrip("\r\n")
        if dialect.delimiter == BLANKS:
            text = text.strip(" \t")
        if text:
            yield Record(number, _literal_fields(text, dialect), text)


def _literal_fields(text: str, dialect: Dialect) -> list[str]:
    if dialect.delimiter != BLANKS:
        return text.split(dialect.delimiter)
    if dialect.has_rest and dialect.columns == 1:
        return [text]
    return re.split("[ \t]+", text, maxsplit=dialect.columns - 1 if dialect.has_rest else 0)


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
            yield line if dialect.delimiter != BLANKS else line.strip(" \t\r\n") + "\n"

    first = dialect.skip + 1
    try:
        # strict: a stray quote would otherwise silently swallow the examples after it.
        blanks = dialect.blanks or dialect.delimiter == BLANKS
        for fields in reader(taking(), dialect.delimiter, strict=True, skipinitialspace=blanks):
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
    """The rows: the first line of each and its fields, as many as there are columns.

    Columns without a name at the end, which spreadsheets write, are cut where they are empty.

    Returns:
        The number of rows of empty cells at the end, which are left out.

    Raises:
        BadInput: the file cannot be read as text.
        Malformed: a line cannot be read under the dialect, or has another number of fields.
    """
    source = records(path, dialect)
    first = next(source, None)
    if first is None:
        return 0
    width = len(first.fields)
    named = len(trimmed(first.fields)) if dialect.has_header else dialect.columns or width
    if not dialect.has_header:
        source = itertools.chain([first], source)
        if width < named:
            raise Malformed(first.first, f"has {width} fields; expected {named}, which --columns names")
    empty: list[Record] = []
    for record in source:
        if width > 1 and not any(field.strip() for field in record.fields):
            empty.append(record)
            continue
        for blank in empty:
            # A line of blanks is not a row of cells.
            if len(blank.fields) > 1:
                yield blank.first, _checked(blank, width, named, dialect)
        empty.clear()
        yield record.first, _checked(record, width, named, dialect)
    return sum(len(blank.fields) > 1 for blank in empty)


def trimmed(header: list[str]) -> list[str]:
    """The names of a header, stripped, without empty ones at the end."""
    names = [name.strip() for name in header]
    while len(names) > 1 and not names[-1]:
        names.pop()
    return names


def _checked(record: Record, width: int, named: int, dialect: Dialect) -> list[str]:
    fields = record.fields
    if len(fields) != width:
        hint = "take the comment out" if fields[0].startswith("#") else "quote a text that has separators in it"
        of = "as in the header" if dialect.has_header else "as in the first row"
        raise Malformed(record.first, f"has {len(fields)} fields; expected {width} {of} ({hint})")
    for index in range(named, width):
        if fields[index].strip():
            by = "" if dialect.has_header else f": --columns names {named}"
            raise Malformed(record.first, f"has {fields[index]!r:.40} in column {index + 1}, which has no name{by}")
    return fields[:named] if named < width else fields
