"""Reading of what a tagger predicts: raw texts, sentences that are already split into words, and CoNLL files."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.data.datasets import conll, delimited, json_records, text_files
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.errors import BadInput
from zoo.predict.predictors import text_inputs
from zoo.predict.predictors.array_inputs import InputLine, one_line

_EXPECTED = '{"words": ["...", ...]} or {"text": "..."}'


class Words(NamedTuple):
    """A sentence that is already split into words.

    Attributes:
        words: words of the sentence.
        columns: columns of each word's line in a CoNLL file; None for a sentence from elsewhere.
    """

    words: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...] | None = None


# A raw text, or the words of a sentence.
Sentence = str | Words


def read(
    path: str | Path, text_column: str, token_column: int | None, of_run: int, form: DelimitedFormat = FOUND
) -> list[Sentence]:
    """Reads the sentences of one file, in its order.

    Args:
        path: a .txt with a text per line, a .csv or .tsv with a column of texts, a .jsonl or .json with objects that
            have `words` or a text; or a CoNLL file, which is any other.
        text_column: name of the text column, in files of several columns.
        token_column: number of the token column of a CoNLL file, whatever the file's name; None to go by the name.
        of_run: number of the token column in the files of the run, used where `token_column` is None.
        form: how delimited files are written, as far as it is known.

    Raises:
        BadInput: names the file, the line, what is wrong and what was expected.
    """
    path = Path(path)
    if token_column is not None or not text_files.is_supported(path):
        return _conll(path, token_column, of_run)
    if delimited.kind(path) not in json_records.SUFFIXES:
        return list(text_inputs.read(path, text_column, form=form))
    return [_sentence(f"{path} line {line}", value, text_column) for line, value in json_records.read(path)]


def lines(stream: Iterable[bytes]) -> Iterator[InputLine]:
    """Reads one text or sentence from each line, as `text_inputs.lines`, or `{"words": [...], "id": ...}`."""
    for number, raw in enumerate(stream, 1):
        if b'"words"' not in raw or not raw.lstrip().startswith(b"{"):
            for line in text_inputs.lines([raw]):
                yield line._replace(number=number)
            continue
        name = None
        try:
            value = _parsed(raw)
            name = value.get("id")
            yield InputLine(number, name, [_sentence("the line", value, "text")])
        except BadInput as error:
            yield InputLine(number, name, None, str(error))


def check(sentences: Sequence[Sentence]) -> None:
    """Refuses anything but a list of texts and of sentences.

    Raises:
        BadInput: `sentences` is something else.
    """
    if isinstance(sentences, Words):
        raise BadInput("sentences are one Words: expected a list of them")
    text_inputs.check([each for each in sentences if not isinstance(each, Words)] if sentences else sentences)


def _conll(path: Path, token_column: int | None, of_run: int) -> list[Sentence]:
    blocks, token = conll.read_rows(path, of_run if token_column is None else token_column)
    return [
        Words(tuple(row.columns[token] for row in rows), tuple(tuple(row.columns) for row in rows)) for rows in blocks
    ]


def _parsed(raw: bytes) -> Any:
    """The JSON value of a line."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInput(f"is not text in UTF-8 ({error.reason}); expected UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {one_line(error)}; expected {_EXPECTED}") from None


def _sentence(where: str, value: Any, text_column: str) -> Sentence:
    """The sentence or text of a JSON object."""
    if not isinstance(value, dict):
        raise BadInput(f"{where} is JSON, but not an object; expected {_EXPECTED}")
    if "words" in value:
        words = value["words"]
        if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
            given = text_files.abbreviated_json(words)
            raise BadInput(f"{where}: words is {given}; expected a list of strings, none of them empty")
        _check_unicode(where, *words)
        return Words(tuple(words))
    column = delimited.match(text_column, value)
    if column is None or not isinstance(value[column], str):
        names = ", ".join(map(repr, value)) or "nothing"
        raise BadInput(f"{where} has {names}; expected {_EXPECTED}, or the text's column with --text_column")
    _check_unicode(where, value[column])
    return value[column]


def _check_unicode(where: str, *texts: str) -> None:
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise BadInput(f"{where} has half a surrogate pair (\\ud800 to \\udfff); expected Unicode text")
