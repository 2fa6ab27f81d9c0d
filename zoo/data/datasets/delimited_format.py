"""What a user says of delimited files: encoding, delimiter, and the names of columns in a file without a header."""

import codecs
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import BadInput

UTF8 = "utf-8"
# A run of spaces and tabs is one delimiter.
BLANKS = " "
# A flag file would lose the characters themselves.
_WORDS = {"tab": "\t", "\\t": "\t", "space": BLANKS}
HELP = {
    "encoding": "Encoding of .csv, .tsv and .txt files, such as latin-1, cp1252, gb18030 or utf-16.",
    "delimiter": "Delimiter of such files: a character, tab or space (any number of spaces and tabs). Empty: found in "
    "each file.",
    "no_header": "Such files have no header: columns are named column1, column2, ..., or by --columns.",
    "columns": "Names of the columns with --no_header, with commas between them. With --delimiter=space the last one "
    "takes the rest of a line.",
}


@dataclasses.dataclass(frozen=True)
class DelimitedFormat:
    """How delimited files are written, as far as a user says so.

    Attributes:
        encoding: name of a codec of Python.
        delimiter: the character between two fields, `BLANKS` for any number of blanks; empty to be found in the file.
        has_header: whether the first line names the columns.
        columns: names of the columns of a file without a header; empty for column1, column2, ...
    """

    encoding: str = UTF8
    delimiter: str = ""
    has_header: bool = True
    columns: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """Names of the flags that are set."""
        names = {"encoding": "encoding", "delimiter": "delimiter", "has_header": "no_header", "columns": "columns"}
        return [flag for name, flag in names.items() if getattr(self, name) != getattr(FOUND, name)]

    def as_json(self) -> dict[str, Any]:
        """What differs from the default, for model.json."""
        given = dataclasses.asdict(self) | {"columns": list(self.columns)}
        default = dataclasses.asdict(FOUND) | {"columns": []}
        return {name: value for name, value in given.items() if value != default[name]}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "DelimitedFormat":
        """The format of a model.json.

        Raises:
            TypeError: it was not written by `as_json`.
        """
        return cls(**{**saved, "columns": tuple(saved.get("columns", ()))})


FOUND = DelimitedFormat()


def of_model(saved: Mapping[str, Any] | None) -> DelimitedFormat:
    """The format in a model.json, None where it says nothing.

    Raises:
        BadInput: it was not written by `DelimitedFormat.as_json`.
    """
    try:
        return FOUND if saved is None else DelimitedFormat.from_json(saved)
    except TypeError:
        raise BadInput("model.json does not say how files are written; restore it or train again") from None


def of_flags(
    encoding: str | None = None,
    delimiter: str | None = None,
    no_header: bool = False,
    columns: str | None = None,
    base: DelimitedFormat = FOUND,
) -> DelimitedFormat:
    """The format that flags give.

    Args:
        encoding: name of a codec; empty or None for that of `base`.
        delimiter: a character, "tab", "space"; empty or None for that of `base`.
        no_header: whether files have no header.
        columns: names with commas between them; empty or None for those of `base`.
        base: what holds where a flag is not given, as a run was trained.

    Raises:
        BadInput: a flag has a value that cannot be, or names columns of a file with a header.
    """
    has_header = base.has_header and not no_header
    names = tuple(name.strip() for name in columns.split(",")) if columns else base.columns
    if names and has_header:
        raise BadInput("--columns without --no_header: the header names the columns; expected both flags or neither")
    if "" in names or len(set(names)) < len(names):
        raise BadInput(f"--columns is {columns!r}: expected different names with commas between them")
    return DelimitedFormat(
        _codec(encoding) if encoding else base.encoding,
        _character(delimiter) if delimiter else base.delimiter,
        has_header,
        names,
    )


def check(path: str | Path, given: Sequence[str], is_delimited: bool) -> None:
    """Refuses flags for a file that they do not apply to.

    Args:
        path: the file, or what is in its place.
        given: names of the flags that are set.
        is_delimited: whether it is a delimited file.

    Raises:
        BadInput: a flag is set, and the file is not delimited.
    """
    if given and not is_delimited:
        raise BadInput(
            f"--{given[0]} is for delimited files (.csv, .tsv, .tab, .txt), {path} is none: leave the flag out"
        )


def _codec(name: str) -> str:
    try:
        found = codecs.lookup(name).name
        # Some codecs are of bytes.
        "a".encode(found)
    except (LookupError, ValueError):
        raise BadInput(
            f"--encoding is {name!r}: expected the name of an encoding, such as utf-8, latin-1, cp1252 or gb18030"
        ) from None
    return UTF8 if found in ("utf-8", "utf-8-sig") else found


def _character(given: str) -> str:
    if given in _WORDS:
        return _WORDS[given]
    if len(given) != 1 or given in '"\0' or given.isalnum() or given.isspace():
        raise BadInput(f"--delimiter is {given!r}: expected one character, such as , or ; or |, or tab or space")
    return given
