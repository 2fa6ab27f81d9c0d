"""How a delimited file is written, decided from the file: its delimiter, and whether quotes are part of the texts.

A .csv is quoted as in RFC 4180. A .tsv may be, too (spreadsheets, pandas), or its quotes are literal (GLUE): there a
text that begins with a quote would swallow the rows up to the next quote. Each reading is tried on the whole file. One
that gives each row as many fields as the header has is possible; where both are, evidence decides.
"""

import contextlib
import csv
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from zoo.data.datasets import delimited_records as records
from zoo.data.datasets.delimited_format import BLANKS, FOUND, DelimitedFormat
from zoo.data.datasets.delimited_records import Dialect, Malformed, Record
from zoo.errors import BadInput

_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
# Lines, and about as many characters, that decide the delimiter; the whole file is then checked row by row.
_SAMPLE = 200
_SAMPLE_CHARACTERS = 1 << 20
_STATED = re.compile(r'"?sep=([^"])"?\s*')


def decide(path: Path, kind: str, form: DelimitedFormat = FOUND) -> tuple[Dialect, list[str]]:
    """The dialect of a file.

    Args:
        path: the file.
        kind: its suffix, like ".csv"; a file is expected to have its kind's delimiter.
        form: what a user says of it.

    Returns:
        The dialect, and what was assumed, to be reported.

    Raises:
        BadInput: the file cannot be read as text, or under no dialect; the message has the line.
    """
    sample = _sample(path, form.encoding)
    if form.delimiter:
        dialect, notes = _given_delimiter(path, sample, form)
    else:
        dialect, notes = _delimiter(path, sample, "," if kind == ".csv" else "\t")
    dialect = dialect._replace(encoding=form.encoding, has_header=form.has_header, columns=len(form.columns))
    dialect = dialect._replace(has_rest=bool(dialect.delimiter == BLANKS and form.columns))
    if dialect.has_rest or not any('"' in line for _, line in records.lines(path, encoding=form.encoding)):
        return dialect._replace(quoted=False), notes
    deciding = {"\t": _of_tabs, BLANKS: _of_blanks}.get(dialect.delimiter, _of_commas)
    dialect, note = deciding(path, dialect)
    return dialect, [*notes, f"{path}: {note}"] if note else notes


def refusal(path: Path, error: Malformed) -> BadInput:
    """The error message for a line that cannot be read."""
    return BadInput(f"{path} line {error.line} {error.reason}")


# The delimiter


def _sample(path: Path, encoding: str) -> list[str]:
    sample, size = [], 0
    for _, line in islice(records.lines(path, encoding=encoding), _SAMPLE):
        sample.append(line)
        size += len(line)
        if size > _SAMPLE_CHARACTERS:
            break
    return sample


def _given_delimiter(path: Path, sample: Sequence[str], form: DelimitedFormat) -> tuple[Dialect, list[str]]:
    if sample and _STATED.fullmatch(sample[0]):
        return Dialect(form.delimiter, skip=1), []
    # A text may begin with #.
    skip = 0 if form.columns and form.delimiter == BLANKS else _comments(sample, form.delimiter)
    return Dialect(form.delimiter, skip=skip), _comments_note(path, skip)


def _comments_note(path: Path, skip: int) -> list[str]:
    return [f"{path}: left out {skip} lines of comment before the header"] if skip else []


def _delimiter(path: Path, sample: Sequence[str], own: str) -> tuple[Dialect, list[str]]:
    stated = _STATED.fullmatch(sample[0]) if sample else None
    if stated:
        return Dialect(stated[1], skip=1), []
    found = [_fit(sample, delimiter) for delimiter in (own, *(each for each in _NAMES if each != own))]
    # The first of the best: a rectangle of two columns or more, else any two columns, else the file's own delimiter.
    best = max(found, key=lambda fit: (fit.width > 1 and fit.regular, fit.width > 1))
    notes = []
    if best.delimiter != own:
        notes.append(f"{path}: the columns are separated by {_NAMES[best.delimiter]}")
    return Dialect(best.delimiter, skip=best.skip), [*notes, *_comments_note(path, best.skip)]


class _Fit(NamedTuple):
    """A delimiter, the header's number of fields, whether all rows have as many, and the lines before the header."""

    delimiter: str
    width: int
    regular: bool
    skip: int


def _fit(sample: Sequence[str], delimiter: str) -> _Fit:
    skip = _comments(sample, delimiter)
    lines = [line.rstrip("\r\n") for line in sample[skip:]]
    literal = [line.count(delimiter) + 1 for line in lines if line.strip()]
    quoted = []
    # A field that is too long is an error of the whole file, found when it is read.
    with contextlib.suppress(csv.Error):
        quoted = [len(fields) for fields in records.reader(sample[skip:], delimiter) if fields]
    width = quoted[0] if quoted else 0
    # The last record may be cut off where the sample ends.
    regular = any(len(set(widths[:-1] or widths)) == 1 for widths in (quoted, literal))
    return _Fit(delimiter, width, regular, skip)


def _comments(sample: Sequence[str], delimiter: str) -> int:
    """Leading lines that begin with # and are not the header: they have another number of fields than what follows."""
    marked = next((place for place, line in enumerate(sample) if not line.startswith("#")), len(sample))
    follows = next((line for line in sample[marked:] if line.strip()), "")
    width = follows.count(delimiter)
    if marked and width and sample[marked - 1].count(delimiter) == width:
        # The header itself begins with #.
        return marked - 1
    return marked if follows else 0


# Quotes


def _of_tabs(path: Path, dialect: Dialect) -> tuple[Dialect, str]:
    """Literal quotes, unless the file cannot be read so or every quoted field proves the opposite."""
    literal, quoted = (_scan(path, dialect._replace(quoted=quoted)) for quoted in (False, True))
    if literal.error is None:
        if quoted.error is None and not quoted.spanning and _proven(path, dialect):
            return dialect, f"fields in double quotes are read without them, in {quoted.count:,} rows"
        return dialect._replace(quoted=False), _literal_note(literal)
    if quoted.error is None:
        return dialect, ""
    raise refusal(path, max(literal.error, quoted.error, key=lambda error: error.line))


def _of_blanks(path: Path, dialect: Dialect) -> tuple[Dialect, str]:
    """Quoted fields, as R writes them, if the file can be read so; else literal quotes."""
    quoted, literal = _scan(path, dialect), _scan(path, dialect._replace(quoted=False))
    if quoted.error is None and not quoted.spanning and (literal.opening or literal.error is not None):
        return dialect, ""
    if literal.error is None:
        return dialect._replace(quoted=False), _literal_note(literal)
    raise refusal(path, max(literal.error, quoted.error or literal.error, key=lambda error: error.line))


def _of_commas(path: Path, dialect: Dialect) -> tuple[Dialect, str]:
    """Quoted fields as in RFC 4180, unless the file cannot be read so or another reading is proven."""
    blank = f'{dialect.delimiter} "'
    if any(blank in line for _, line in records.lines(path, encoding=dialect.encoding)):
        loose = dialect._replace(blanks=True)
        if _scan(path, loose).error is None and _has_unquoted_blank(path, dialect):
            return loose, "blanks before quotes are ignored"
    quoted = _scan(path, dialect)
    if quoted.error is None and not quoted.spanning:
        return dialect, ""
    if quoted.error is not None and (quoted.error.too_long or (quoted.spanning and quoted.width == 1)):
        # Any file is rows of one column, so that they would prove nothing.
        raise refusal(path, quoted.error)
    literal = _scan(path, dialect._replace(quoted=False))
    if literal.error is None and not (quoted.error is None and _proven(path, dialect)):
        return dialect._replace(quoted=False), _literal_note(literal)
    if quoted.error is not None:
        raise refusal(path, quoted.error)
    if literal.error is None:
        return dialect, (
            f"WARNING: the quoted field at line {quoted.spanning} is read as one of several lines, though each of them "
            f"would be a row; {quoted.count:,} rows; write each quote twice in a quoted text if quotes are part of it"
        )
    return dialect, ""


def _literal_note(literal: "_Scan") -> str:
    if not literal.opening:
        return ""
    return (
        f"quotes are read as part of the texts (first at line {literal.opening}), each line as a row: "
        f"{literal.count:,} rows"
    )


class _Scan(NamedTuple):
    """What a dialect makes of a file.

    Attributes:
        error: the first line that it cannot read; None where it can read all.
        count: number of rows.
        width: number of columns.
        spanning: first line of the first row that spans several lines; 0 for none.
        opening: line of the first row with a field that begins with a quote; 0 for none.
    """

    error: Malformed | None
    count: int
    width: int
    spanning: int
    opening: int


def _scan(path: Path, dialect: Dialect) -> _Scan:
    count = width = spanning = opening = 0
    try:
        for line, fields in records.rows(path, dialect):
            count, width = count + 1, len(fields)
            if not spanning and any("\n" in field for field in fields):
                spanning = line
            if not opening and any(field.startswith('"') for field in fields):
                opening = line
    except Malformed as error:
        return _Scan(error, count, width, spanning, opening)
    return _Scan(None, count, width, spanning, opening)


def _has_unquoted_blank(path: Path, dialect: Dialect) -> bool:
    """Whether a field begins with a blank and a quote in the file, which no writer of RFC 4180 leaves unquoted."""
    try:
        for record in records.records(path, dialect, raw=True):
            begins = any(field[:1] == " " and field.lstrip().startswith('"') for field in record.fields)
            if begins and _quoted_fields(record, dialect.delimiter) is None:
                return True
    except Malformed:
        return True
    return False


def _proven(path: Path, dialect: Dialect) -> bool:
    """Whether a file that can be read as quoted was written so.

    Writers quote a field that needs it (a delimiter, a line end or a quote is inside; for some a comma) or every field
    of a column. So a file was not written so where a quote is inside of an unquoted field, or where a field is quoted
    without need and another one of its column is not quoted.
    """
    columns: dict[int, _Column] = {}
    for number, record in enumerate(records.records(path, dialect, raw=True)):
        mask = _quoted_fields(record, dialect.delimiter) if '"' in record.raw else [False] * len(record.fields)
        if mask is None:
            return False
        if number:
            for index, (field, quoted) in enumerate(zip(record.fields, mask)):
                columns[index] = columns.get(index, _NOTHING).including(field, quoted, dialect.delimiter)
    by_comma = not any(column.bare_commas for column in columns.values())
    return all(
        column.all_quoted or (not column.needless and (by_comma or not column.commas)) for column in columns.values()
    )


class _Column(NamedTuple):
    """What the fields of a column show.

    Attributes:
        all_quoted: whether every field with something in it is quoted.
        needless: whether a field is quoted that needs no quotes.
        commas: whether a field is quoted for nothing but a comma.
        bare_commas: whether an unquoted field has a comma.
    """

    all_quoted: bool = True
    needless: bool = False
    commas: bool = False
    bare_commas: bool = False

    def including(self, field: str, quoted: bool, delimiter: str) -> "_Column":
        """The same with one more field."""
        if not field:
            return self
        if not quoted:
            return self._replace(all_quoted=False, bare_commas=self.bare_commas or "," in field)
        if any(each in field for each in (delimiter, '"', "\n", "\r")):
            return self
        return self._replace(commas=True) if "," in field else self._replace(needless=True)


_NOTHING = _Column()


def _quoted_fields(record: Record, delimiter: str) -> list[bool] | None:
    """Which fields of a record are quoted in the file; None where it is not written as in RFC 4180."""
    place, mask = 0, []
    for field in record.fields:
        quoted = record.raw.startswith('"', place)
        source = '"' + field.replace('"', '""') + '"' if quoted else field
        if not record.raw.startswith(source, place) or (not quoted and '"' in field):
            return None
        mask.append(quoted)
        place += len(source) + len(delimiter)
    return mask
