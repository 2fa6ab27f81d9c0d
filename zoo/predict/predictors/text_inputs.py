"""Reading of texts or pairs of texts to predict: files of lines, delimited and JSON files, streams and flags."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo import files
from zoo.data.datasets import delimited, delimited_records, text_files
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.errors import BadInput
from zoo.predict.predictors.array_inputs import InputLine, json_id, one_line

_OF_PAIRS = '{"text": "...", "pair": "..."}'
# A text, or a pair of texts.
Example = str | tuple[str, str]


def read(path: str | Path, column: str, pair_column: str = "", form: DelimitedFormat = FOUND) -> list[Example]:
    """Reads the texts of one file, in its order.

    Args:
        path: a .txt with a text per line (an empty line is an empty text), unless `form` says that it has columns; or
            a file that `text_files.read` reads; or several, as for `files.listed`.
        column: name of the text column, in files of several columns.
        pair_column: name of the column of second texts; empty for single texts. A .txt cannot hold pairs.
        form: how delimited files are written, as far as it is known.

    Raises:
        BadInput: names the file, the line, what is wrong and what was expected.
    """
    path = Path(path)
    paths = files.listed(path)
    if len(paths) > 1:
        return [example for each in paths for example in read(each, column, pair_column, form)]
    if not text_files.is_supported(path):
        raise BadInput(
            f"{path}: unknown kind of file for a run on texts; expected {text_files.EXPECTED}, --text, or - for lines "
            "on stdin"
        )
    if delimited.kind(path) != ".txt" or form.delimiter or not form.has_header:
        notes: list[str] = []
        rows = text_files.read(path, column, None, pair_column, notes=notes, form=form)
        for note in notes:
            print(f"zoo: {note}", file=sys.stderr)
        return [(row.text, row.pair) if pair_column else row.text for row in rows]
    if pair_column:
        raise BadInput(f"{path} has single texts, the run judges pairs; expected .csv, .tsv, .jsonl or .json")
    return [
        line.removesuffix("\n").removesuffix("\r") for _, line in delimited_records.lines(path, encoding=form.encoding)
    ]


def lines(stream: Iterable[bytes], pairs: bool = False) -> Iterator[InputLine]:
    """Reads one text from each line; empty lines are skipped.

    A line that begins with `{` is JSON, `{"text": "...", "id": ...}`, and so is a line that is one JSON string; any
    other line is itself the text. A line that cannot be used becomes an `InputLine` with an error, and reading
    continues.

    Args:
        stream: lines in UTF-8.
        pairs: whether examples are pairs: then each line is `{"text": "...", "pair": "...", "id": ...}`.
    """
    for number, raw in enumerate(stream, 1):
        if not raw.strip():
            continue
        name = None
        try:
            value = _parsed(raw)
            if isinstance(value, dict):
                name = json_id(value)
                value = _example(value, pairs)
            elif pairs:
                raise BadInput(f"is one text, the run judges pairs; expected {_OF_PAIRS}")
            yield InputLine(number, name, [value])
        except BadInput as error:
            yield InputLine(number, name, None, str(error))


def from_flags(texts: Sequence[str], second: Sequence[str], pairs: bool) -> list[Example]:
    """The examples of the flags --text and --pair.

    Raises:
        BadInput: a second text is missing, or one is given for a run on single texts.
    """
    if not pairs and second:
        raise BadInput("--pair: the run is on single texts; expected --text alone")
    if pairs and len(texts) != len(second):
        raise BadInput(f"{len(texts)} --text and {len(second)} --pair: the run judges pairs; expected as many of both")
    return list(zip(texts, second)) if pairs else list(texts)


def check(texts: Sequence[Example], pairs: bool = False) -> None:
    """Refuses anything but a list of texts, or of pairs of texts.

    Raises:
        BadInput: `texts` is something else.
    """
    if isinstance(texts, str) or not all(_is_pair(each) if pairs else isinstance(each, str) for each in texts):
        raise BadInput(f"texts are {texts!r:.60}: expected a list of {'pairs of ' if pairs else ''}strings")


def _is_pair(example: Any) -> bool:
    return isinstance(example, tuple) and len(example) == 2 and all(isinstance(text, str) for text in example)


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
            # A review may begin with a quotation; JSON would close it.
            return line
        raise BadInput(f'is not JSON: {one_line(error)}; expected {{"text": "...", "id": ...}} or a text') from None


def _example(value: dict[str, Any], pairs: bool) -> Example:
    if pairs:
        return _member(value, "text", _OF_PAIRS), _member(value, "pair", _OF_PAIRS)
    if "pair" in value:
        raise BadInput('has a pair, the run is on single texts; expected "text" alone')
    return _member(value, "text", '{"text": "..."}')


def _member(value: dict[str, Any], name: str, expected: str) -> str:
    if name not in value:
        raise BadInput(f"has {', '.join(map(repr, value)) or 'nothing'}, expected {expected}")
    if not isinstance(value[name], str):
        raise BadInput(f"{name} is {text_files.abbreviated_json(value[name])}, expected a string")
    return value[name]
