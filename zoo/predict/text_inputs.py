"""Texts to predict: from .txt, .csv, .tsv and .jsonl files, and from lines of a stream."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zoo.data import text_files
from zoo.errors import BadInput
from zoo.predict.inputs import Line, one_line

SUFFIXES = (".txt", *text_files.SUFFIXES)


def read(path: str | Path, column: str) -> list[str]:
    """Reads the texts of one file, in its order.

    Args:
        path: a .txt with a text in each line (an empty line is an empty text), a .csv or .tsv with a header, or a
            .jsonl with an object in each line.
        column: of the texts, in a file of several.

    Raises:
        BadInput: names the file, the line, what is wrong and what was expected.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise BadInput(
            f"{path}: unknown kind of file for a run on texts; expected {', '.join(SUFFIXES)}, --text, or - for lines "
            "on stdin"
        )
    if path.suffix != ".txt":
        return [row.text for row in text_files.read(path, column, None)]
    lines = text_files.content(path).split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def lines(stream: Iterable[bytes]) -> Iterator[Line]:
    """Reads one text from each line; empty lines are skipped.

    A line that begins with `{` is JSON, `{"text": "...", "id": ...}`, and so is a line that is one JSON string; any
    other line is itself the text. A line that cannot be used becomes a `Line` with an error, and the reading goes on.
    """
    for number, raw in enumerate(stream, 1):
        if not raw.strip():
            continue
        name = None
        try:
            value = _parsed(raw)
            if isinstance(value, dict):
                name = value.get("id")
                value = _member(value)
            yield Line(number, name, [value])
        except BadInput as error:
            yield Line(number, name, None, str(error))


def _parsed(raw: bytes) -> Any:
    try:
        line = raw.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise BadInput(f"is not text in UTF-8 ({error.reason}); expected UTF-8") from None
    start = line.lstrip()[:1]
    if start not in ("{", '"'):
        return line
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        if start == '"':
            # A review may begin with a quotation; whoever writes JSON closes it.
            return line
        raise BadInput(f'is not JSON: {one_line(error)}; expected {{"text": "...", "id": ...}} or a text') from None


def _member(value: dict[str, Any]) -> str:
    if "text" not in value:
        raise BadInput(f'has {", ".join(map(repr, value)) or "nothing"}, expected {{"text": "..."}}')
    if not isinstance(value["text"], str):
        raise BadInput(f"text is {text_files.shown(value['text'])}, expected a string")
    return value["text"]
