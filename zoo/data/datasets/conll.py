"""CoNLL files: one token with its columns per line, an empty line after each sentence."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zoo.data.datasets import text_files
from zoo.errors import BadInput

_DOCUMENT = "-DOCSTART-"


class Sentence(NamedTuple):
    """Tokens and tags as a file has them, each with its line number."""

    words: list[str]
    tags: list[str]
    lines: list[int]


class _Row(NamedTuple):
    line: int
    columns: list[str]


def read(path: Path, token_column: int = 1, tag_column: int = -1) -> list[Sentence]:
    """Reads the sentences of a file in its order; document headers (-DOCSTART-) are skipped.

    A line with tabs is split at tabs, so that tokens may contain spaces, any other at spaces. Where all other lines
    have tabs, a line without tabs that begins with # is a comment, as in CoNLL-U.

    Args:
        path: a file in UTF-8.
        token_column: number of the token column, 1 for the first, -1 for the last.
        tag_column: number of the tag column, counted in the same way.

    Raises:
        BadInput: the file is malformed; the message has the file and the line.
    """
    content = text_files.content(path)
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise BadInput(f"{path} line {line} has a NUL character: expected text in UTF-8")
    blocks = list(_blocks(content))
    if not blocks:
        raise BadInput(f"{path} has no words: expected a token and its tag in a line, an empty line after a sentence")
    first = blocks[0][0]
    token, tag = _column_indices(path, first, token_column, tag_column)
    sentences = []
    for rows in blocks:
        for row in rows:
            _check(path, row, first, token, tag)
        # Interned: there are millions of words, and few distinct ones.
        words, tags = ([sys.intern(row.columns[index]) for row in rows] for index in (token, tag))
        sentences.append(Sentence(words, tags, [row.line for row in rows]))
    return sentences


def _blocks(content: str) -> Iterator[list[_Row]]:
    """The rows of each sentence."""
    # Not splitlines: a token may be U+2028.
    lines = re.split("\r\n?|\n", content)
    others = [line for line in lines if line.strip() and not line.startswith(("#", _DOCUMENT))]
    tabs = bool(others) and all("\t" in line for line in others)
    rows = []
    for number, line in enumerate(lines, 1):
        if tabs and line.startswith("#") and "\t" not in line:
            continue
        columns = _columns(line)
        if line.strip() and columns[0] != _DOCUMENT:
            rows.append(_Row(number, columns))
        elif rows:
            yield rows
            rows = []
    if rows:
        yield rows


def _columns(line: str) -> list[str]:
    # Not split(): a token may be an ideographic or a no-break space.
    if "\t" in line:
        return [column.strip(" ") for column in line.rstrip().split("\t")]
    return re.split(" +", line.strip(" "))


def _column_indices(path: Path, first: _Row, token_column: int, tag_column: int) -> list[int]:
    """Indices of the token and the tag column, counted from 0."""
    indices, count = [], len(first.columns)
    for flag, column in (("token_column", token_column), ("tag_column", tag_column)):
        if not column:
            raise BadInput(f"--{flag} is 0: expected 1 for the first column, 2, ..., or -1 for the last, -2, ...")
        if abs(column) > count:
            raise BadInput(
                f"{path} line {first.line} has {count} columns: there is none for --{flag}={column}; expected columns "
                "separated by tabs or spaces"
            )
        indices.append(column - 1 if column > 0 else count + column)
    if indices[0] == indices[1]:
        raise BadInput(
            f"{path} line {first.line} has {count} columns: --token_column={token_column} and "
            f"--tag_column={tag_column} are the same one; expected a token and a tag separated by tabs or spaces"
        )
    return indices


def _check(path: Path, row: _Row, first: _Row, token: int, tag: int) -> None:
    # A space inside a token would silently shift the columns.
    if len(row.columns) != len(first.columns):
        raise BadInput(
            f"{path} line {row.line} has {len(row.columns)} columns; expected {len(first.columns)} as in line "
            f"{first.line} (separate them with tabs if tokens have spaces in them)"
        )
    for name, index in (("token", token), ("tag", tag)):
        if not row.columns[index]:
            raise BadInput(f"{path} line {row.line}: its {name} is empty; expected one in column {index + 1}")
