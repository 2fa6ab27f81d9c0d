"""CoNLL files: in each line a token and its columns, after each sentence an empty line."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zoo.data.datasets import text_files
from zoo.errors import BadInput

_DOCUMENT = "-DOCSTART-"


class Sentence(NamedTuple):
    """Tokens and their tags as they stand in a file, each with its line."""

    words: list[str]
    tags: list[str]
    lines: list[int]


class _Row(NamedTuple):
    line: int
    columns: list[str]


def read(path: Path, token_column: int = 1, tag_column: int = -1) -> list[Sentence]:
    """Reads the sentences of a file in its own order; lines that begin a document are passed over.

    Columns are cut at tabs where a line has any, so that a token may have spaces in it, else at spaces. Where all
    other lines have tabs, one without that begins with # is a comment, as in CoNLL-U.

    Args:
        path: a file in UTF-8.
        token_column: number of the tokens' column, 1 for the first, -1 for the last.
        tag_column: likewise of the tags.

    Raises:
        BadInput: what is wrong, with the file and the line.
    """
    content = text_files.content(path)
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise BadInput(f"{path} line {line} has a NUL character: expected text in UTF-8")
    blocks = list(_blocks(content))
    if not blocks:
        raise BadInput(f"{path} has no words: expected a token and its tag in a line, an empty line after a sentence")
    first = blocks[0][0]
    token, tag = _places(path, first, token_column, tag_column)
    found = []
    for rows in blocks:
        for row in rows:
            _check(path, row, first, token, tag)
        # Interned: there are millions of words, and few that differ.
        words, tags = ([sys.intern(row.columns[place]) for row in rows] for place in (token, tag))
        found.append(Sentence(words, tags, [row.line for row in rows]))
    return found


def _blocks(content: str) -> Iterator[list[_Row]]:
    """The lines of each sentence."""
    # Not splitlines: a token may be U+2028.
    lines = re.split("\r\n?|\n", content)
    others = [source for source in lines if source.strip() and not source.startswith(("#", _DOCUMENT))]
    tabs = bool(others) and all("\t" in source for source in others)
    rows = []
    for line, source in enumerate(lines, 1):
        if tabs and source.startswith("#") and "\t" not in source:
            continue
        columns = _columns(source)
        if source.strip() and columns[0] != _DOCUMENT:
            rows.append(_Row(line, columns))
        elif rows:
            yield rows
            rows = []
    if rows:
        yield rows


def _columns(line: str) -> list[str]:
    # Not split(): in a text, a token may be an ideographic or a no-break space.
    if "\t" in line:
        return [column.strip(" ") for column in line.rstrip().split("\t")]
    return re.split(" +", line.strip(" "))


def _places(path: Path, first: _Row, token_column: int, tag_column: int) -> list[int]:
    """Where tokens and tags stand among the columns, from 0 on."""
    places, count = [], len(first.columns)
    for flag, column in (("token_column", token_column), ("tag_column", tag_column)):
        if not column:
            raise BadInput(f"--{flag} is 0: expected 1 for the first column, 2, ..., or -1 for the last, -2, ...")
        if abs(column) > count:
            raise BadInput(
                f"{path} line {first.line} has {count} columns: there is none for --{flag}={column}; expected columns "
                "with tabs or spaces between"
            )
        places.append(column - 1 if column > 0 else count + column)
    if places[0] == places[1]:
        raise BadInput(
            f"{path} line {first.line} has {count} columns: --token_column={token_column} and "
            f"--tag_column={tag_column} are the same one; expected a token and a tag with tabs or spaces between"
        )
    return places


def _check(path: Path, row: _Row, first: _Row, token: int, tag: int) -> None:
    # A space inside of a token would shift the columns without a word.
    if len(row.columns) != len(first.columns):
        raise BadInput(
            f"{path} line {row.line} has {len(row.columns)} columns; expected {len(first.columns)} as in line "
            f"{first.line} (separate them with tabs if tokens have spaces in them)"
        )
    for name, place in (("token", token), ("tag", tag)):
        if not row.columns[place]:
            raise BadInput(f"{path} line {row.line}: its {name} is empty; expected one in column {place + 1}")
