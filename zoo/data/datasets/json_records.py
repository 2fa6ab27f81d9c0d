"""JSON files of examples: one object per line, or a list of objects; also compressed as .gz."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.data.datasets import delimited, delimited_records
from zoo.errors import BadInput

SUFFIXES = (".jsonl", ".ndjson", ".json")
LIST_EXPECTED = 'a list of objects, or one object per line (pandas: to_json(orient="records"))'

_BLANKS = re.compile(r"[ \t\r\n]*")


def read(path: Path) -> Iterator[tuple[int, Any]]:
    """The values of a file, each with its first line: those of each line, or those of a list that begins the file.

    Raises:
        BadInput: the file cannot be read, a value is not JSON, or a name is in an object twice.
    """
    # Of .json files all may be in one line, which is as long as the file.
    lines = delimited_records.lines(path, endless=delimited.kind(path) == ".json")
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    expected = LIST_EXPECTED if delimited.kind(path) == ".json" else "one object per line"
    first = True
    for number, line in lines:
        if first and line.lstrip().startswith("["):
            yield from _list(path, decoder, number, line + "".join(rest for _, rest in lines))
        elif line.strip():
            first = False
            yield number, _decoded(path, decoder, number, line.strip(" \t\r\n"), 0, expected)[0]


def _list(path: Path, decoder: json.JSONDecoder, line: int, content: str) -> Iterator[tuple[int, Any]]:
    """The values of a list, in whose first line `content` begins; after it the file must end."""
    place, before, closing = content.index("[") + 1, 0, False
    while True:
        place = _BLANKS.match(content, place).end()
        line, before = line + content.count("\n", before, place), place
        if content.startswith("]", place):
            break
        value, place = _decoded(path, decoder, line, content, place, "a list of objects")
        yield line, value
        place = _BLANKS.match(content, place).end()
        closing = content.startswith("]", place)
        if not closing and not content.startswith(",", place):
            line += content.count("\n", before, place)
            raise BadInput(f"{path} line {line} is not JSON (',' or ']' is missing); expected a list of objects")
        place += not closing
    if content[place + 1 :].strip():
        line += content.count("\n", before, place + 1)
        raise BadInput(
            f"{path} line {line} has more after the end of the list; expected one list, or a line per object"
        )


def _decoded(
    path: Path, decoder: json.JSONDecoder, line: int, content: str, place: int, expected: str
) -> tuple[Any, int]:
    """A value, and where it ends."""
    try:
        value, end = decoder.raw_decode(content, place)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise BadInput(f"{path} line {line} is not JSON ({reason}); expected {expected}") from None
    except _Twice as error:
        raise BadInput(f"{path} line {line} names {error.args[0]!r} twice; expected unique names") from None
    if place == 0 and content[end:].strip():
        raise BadInput(f"{path} line {line} is not JSON (there is more after its first value); expected {expected}")
    return value, end


class _Twice(Exception):
    """A name stands twice in an object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return values
