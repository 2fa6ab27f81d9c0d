"""CoNLL files: one token with its columns per line, an empty line after each sentence; CoNLL-U among them."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.data.datasets import text_files
from zoo.errors import BadInput

_DOCUMENT = "-DOCSTART-"
# CoNLL-U (https://universaldependencies.org/format.html): a word's number, the range of a multiword token, the number
# of an empty node; the first row of a sentence; a value that is not given.
_ID = re.compile(r"[0-9]+([-.][0-9]+)?")
_FIRST_ID = re.compile(r"1(-[0-9]+)?|0\.1")
_UNSPECIFIED = "_"
_CONLLU_COLUMNS = 10
_KEY_VALUE = re.compile(r"#\s*\w+ = ")


class Sentence(NamedTuple):
    """Tokens and tags as a file has them, each with its line number; the tag "" where CoNLL-U gives none (`_`)."""

    words: list[str]
    tags: list[str]
    lines: list[int]


class Row(NamedTuple):
    """A line of a file: its number and its columns."""

    line: int
    columns: list[str]


class _Content(NamedTuple):
    """The rows of each sentence, and whether their first column has the numbers of the words, as in CoNLL-U."""

    blocks: list[list[Row]]
    numbered: bool


def read(path: Path, token_column: int = 1, tag_column: int = -1) -> list[Sentence]:
    """Reads the sentences of a file in its order; document headers (-DOCSTART-) are skipped.

    A line with tabs is split at tabs, so that tokens may contain spaces, any other at spaces. Comments, that is lines
    before the first word of a sentence that begin with # and do not have its columns, are skipped. Where the first
    column counts the words, as in CoNLL-U, so are the ranges of multiword tokens (1-2) and empty nodes (8.1).

    Args:
        path: a file in UTF-8.
        token_column: number of the token column, 1 for the first, -1 for the last.
        tag_column: number of the tag column, counted in the same way.

    Raises:
        BadInput: the file is malformed; the message has the file and the line.
    """
    blocks, numbered = _read(path)
    first = blocks[0][0]
    token = _index(path, first, "token_column", token_column)
    tag = _index(path, first, "tag_column", tag_column)
    if token == tag:
        raise BadInput(
            f"{path} line {first.line} has {len(first.columns)} columns: --token_column={token_column} and "
            f"--tag_column={tag_column} are the same one; expected a token and a tag separated by tabs or spaces"
        )
    _check(path, blocks, {"token": token, "tag": tag})
    _check_tokens(path, blocks, token)
    if numbered:
        _check_tags_of_conllu(path, blocks, tag)
    sentences = []
    for rows in blocks:
        # Interned: there are millions of words, and few distinct ones.
        words, tags = ([sys.intern(row.columns[index]) for row in rows] for index in (token, tag))
        if numbered:
            tags = ["" if each == _UNSPECIFIED else each for each in tags]
        sentences.append(Sentence(words, tags, [row.line for row in rows]))
    return sentences


def read_rows(path: Path, token_column: int = 1) -> tuple[list[list[Row]], int]:
    """Reads the rows of each sentence of a file that needs no tags, and the index of the token column.

    A file of one column has words alone, whatever `token_column` is.

    Raises:
        BadInput: as in `read`.
    """
    blocks, _ = _read(path)
    alone = len(blocks[0][0].columns) == 1
    token = 0 if alone else _index(path, blocks[0][0], "token_column", token_column)
    _check(path, blocks, {"token": token})
    _check_tokens(path, blocks, token)
    return blocks, token


def _read(path: Path) -> _Content:
    content = text_files.content(path)
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        raise BadInput(f"{path} line {line} has a NUL character: expected text in UTF-8")
    blocks = list(_blocks(content))
    ids = [row.columns[0] for rows in blocks for row in rows]
    numbered = bool(ids) and len(blocks[0][0].columns) > 1 and bool(_FIRST_ID.fullmatch(ids[0]))
    numbered = numbered and all(map(_ID.fullmatch, ids))
    if numbered:
        blocks = [[row for row in rows if row.columns[0].isdecimal()] for rows in blocks]
        blocks = [rows for rows in blocks if rows]
    if not blocks:
        raise BadInput(f"{path} has no words: expected a token and its tag in a line, an empty line after a sentence")
    return _Content(blocks, numbered)


def _blocks(content: str) -> Iterator[list[Row]]:
    """The rows of each sentence, comments left out."""
    # Not splitlines: a token may be U+2028.
    lines = re.split("\r\n?|\n", content)
    others = [line for line in lines if line.strip() and not line.startswith(("#", _DOCUMENT))]
    tabs = bool(others) and all("\t" in line for line in others)
    numbered = bool(others) and all(_ID.fullmatch(_columns(line)[0]) for line in others)
    width = len(_columns(others[0])) if others else 0
    rows = []
    for number, line in enumerate(lines, 1):
        columns = _columns(line)
        if line.startswith("#") and (numbered or _is_comment(line, columns, tabs, width, bool(rows))):
            continue
        if line.strip() and columns[0] != _DOCUMENT:
            rows.append(Row(number, columns))
        elif rows:
            yield rows
            rows = []
    if rows:
        yield rows


def _is_comment(line: str, columns: list[str], tabs: bool, width: int, inside: bool) -> bool:
    """Whether a line that begins with # is a comment, and not the word # or a hashtag."""
    if tabs and "\t" not in line:
        return True
    if inside or not width:
        return False
    return len(columns) != width or bool(_KEY_VALUE.match(line)) or (tabs and line.startswith("# "))


def _columns(line: str) -> list[str]:
    # Not split(): a token may be an ideographic or a no-break space.
    if "\t" in line:
        return [column.strip(" ") for column in line.rstrip().split("\t")]
    return re.split(" +", line.strip(" "))


def _index(path: Path, first: Row, flag: str, column: int) -> int:
    """Index of a column, counted from 0."""
    count = len(first.columns)
    if not column:
        raise BadInput(f"--{flag} is 0: expected 1 for the first column, 2, ..., or -1 for the last, -2, ...")
    if abs(column) > count:
        raise BadInput(
            f"{path} line {first.line} has {count} columns: there is none for --{flag}={column}; expected columns "
            "separated by tabs or spaces"
        )
    return column - 1 if column > 0 else count + column


def _check(path: Path, blocks: Sequence[Sequence[Row]], indices: dict[str, int]) -> None:
    """Refuses rows of another number of columns, which a space inside a token would shift, and empty ones."""
    first = blocks[0][0]
    for row in (row for rows in blocks for row in rows):
        if len(row.columns) != len(first.columns):
            raise BadInput(
                f"{path} line {row.line} has {len(row.columns)} columns; expected {len(first.columns)} as in line "
                f"{first.line} (separate them with tabs if tokens have spaces in them)"
            )
        for name, index in indices.items():
            if not row.columns[index]:
                raise BadInput(f"{path} line {row.line}: its {name} is empty; expected one in column {index + 1}")


def _check_tokens(path: Path, blocks: Sequence[Sequence[Row]], token: int) -> None:
    """Refuses a token column that counts the words of each sentence."""
    width = len(blocks[0][0].columns)
    if width < 3 or max(map(len, blocks)) < 2:
        return
    for start in (0, 1):
        counts = (row.columns[token] == str(place) for rows in blocks for place, row in enumerate(rows, start))
        if all(counts):
            raise BadInput(
                f"{path} line {blocks[0][0].line}: column {token + 1} has the numbers of the words, not the words; "
                f"expected --token_column={token + 2}, or another one of the {width} columns"
            )


def _check_tags_of_conllu(path: Path, blocks: Sequence[Sequence[Row]], tag: int) -> None:
    """Refuses a tag column without a tag, and the features of the last column of CoNLL-U."""
    rows = [row for rows in blocks for row in rows]
    given = [row for row in rows if row.columns[tag] != _UNSPECIFIED]
    last = len(rows[0].columns) == _CONLLU_COLUMNS and tag == _CONLLU_COLUMNS - 1
    if not given or (last and all("=" in row.columns[tag] for row in given)):
        row = given[0] if given else rows[0]
        hint = " (4 is UPOS, 5 XPOS)" if len(row.columns) == _CONLLU_COLUMNS else ""
        raise BadInput(
            f"{path} line {row.line}: column {tag + 1} has {row.columns[tag]!r}, and no line has a tag there; expected "
            f"--tag_column with the number of the tags' column{hint}"
        )
