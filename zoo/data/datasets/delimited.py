"""Delimited files: .csv, .tsv, .tab and .txt with a header, read row by row; also compressed as .gz."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from zoo import errors, files
from zoo.data.datasets import delimited_dialects, delimited_records
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.datasets.delimited_records import Dialect, Malformed
from zoo.data.splits import shortened
from zoo.errors import BadInput

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")


@dataclasses.dataclass
class Delimited:
    """A delimited file, whose dialect and header are known.

    Attributes:
        path: the file.
        header: unique column names, stripped.
        dialect: how its fields are written.
        notes: what was assumed while reading, to be reported.
    """

    path: Path
    header: tuple[str, ...]
    dialect: Dialect
    notes: list[str]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Reads the rows from the file: the first line of each and its fields, one per column, as they are.

        Empty lines are skipped; rows of empty cells at the end, which spreadsheets write, are dropped with a note.

        Raises:
            BadInput: a row has another number of fields, or cannot be read; the message has the line.
        """
        try:
            empty = yield from delimited_records.rows(self.path, self.dialect)
        except Malformed as error:
            raise delimited_dialects.refusal(self.path, error) from None
        note = f"{self.path}: left out {empty:,} rows of empty cells at the end"
        if empty and note not in self.notes:
            self.notes.append(note)

    def column(self, name: str, flag: str) -> int:
        """The index of a column, by its name; by a name that differs in case or blanks alone if that is the only one.

        Args:
            name: column name.
            flag: flag that sets the name, for the error message.

        Raises:
            BadInput: the column is missing.
        """
        found = match(name, self.header)
        if found is None:
            raise BadInput(f"{self.path} has no column {name!r}, it has {missing_column(name, self.header, flag)}")
        if found != name.strip():
            note = f"{self.path}: --{flag} is {found!r} there, not {name!r}"
            if note not in self.notes:
                self.notes.append(note)
        return self.header.index(found)


def read(path: Path, form: DelimitedFormat = FOUND) -> Delimited:
    """Opens a delimited file: decides how it is written, and reads its header.

    Args:
        path: a file of one of the `SUFFIXES`, in any case, perhaps with .gz after it.
        form: what a user says of it.

    Raises:
        BadInput: the file cannot be read, is empty, or two columns have one name.
    """
    dialect, notes = delimited_dialects.decide(path, kind(path), form)
    try:
        record = next(delimited_records.records(path, dialect), None)
    except Malformed as error:
        raise delimited_dialects.refusal(path, error) from None
    if record is None:
        raise BadInput(f"{path} is empty: expected {'a header and ' if form.has_header else ''}at least one row")
    header = delimited_records.trimmed(record.fields)
    if not form.has_header:
        if not (len(header) > 1 and len(set(header)) == len(header) and set(header) <= set(form.columns)):
            names = form.columns or [f"column{number}" for number in range(1, len(record.fields) + 1)]
            return Delimited(path, tuple(names), dialect, notes)
        notes.append(f"{path}: the first line names the columns, and is no row")
        dialect = dialect._replace(has_header=True)
    twice = [name for name, count in collections.Counter(header).items() if count > 1]
    if twice:
        raise BadInput(f"{path} line {record.first} names the column {twice[0]!r} twice; expected unique names")
    return Delimited(path, tuple(header), dialect, notes)


def is_supported(path: Path) -> bool:
    """Whether a path, or each of several, has one of the `SUFFIXES`."""
    return all(kind(each) in SUFFIXES for each in files.listed(path))


def kind(path: Path) -> str:
    """The suffix of a path in lower case, without .gz: ".csv" for `A.CSV` and `a.csv.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]


def match(name: str, names: Iterable[str]) -> str | None:
    """The one of the names that is `name`, or the only one that is equal up to case and blanks; else None."""
    names = list(names)
    if name.strip() in names:
        return name.strip()
    if name in names:
        return name
    alike = [each for each in names if _letters(each) == _letters(name)]
    return alike[0] if len(alike) == 1 else None


def _letters(name: str) -> str:
    # Some tools begin the header like a comment: "#text".
    return "".join(name.casefold().split()).removeprefix("#")


def missing_column(name: str, names: Iterable[str], flag: str) -> str:
    """The end of an error message about a missing column: the columns there, and what to do."""
    names = list(names)
    nearest = errors.nearest(name, names) if names else ""
    hint = f"{nearest} Give it" if nearest.startswith("did") else "give the one"
    return f"{shortened(names) or 'nothing'}: {hint} with --{flag}"
