"""Tagging of texts: their words, a tag for each, and named entities."""

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo import workdir as folders
from zoo.data.datasets import tag_schemes
from zoo.data.text import word_alignment
from zoo.data.text.special_tokens import SpecialTokens
from zoo.data.text.tokenizer import Tokenizer
from zoo.errors import BadInput
from zoo.model_info import ModelInfo, missing_fields
from zoo.predict.predictors import text_inputs, text_preprocessing
from zoo.predict.predictors.array_inputs import InputLine
from zoo.predict.predictors.compiled_forward import CompiledForward

# Ways of splitting a text into words; see `words_of`.
WORDS = ("characters", "spaces", "signs")
# A row best ends where a sentence does, as in training.
_STOPS = frozenset("。！？.!?")


class Entity(NamedTuple):
    """A named entity and its characters, `text[start:end]`."""

    type: str
    text: str
    start: int
    end: int


class Tagged(NamedTuple):
    """A text with its tags.

    Attributes:
        text: the input text.
        words: words of the text.
        spans: start and end of each word, `text[start:end]`.
        tags: tag of each word.
        entities: entities of the tags; None for a scheme without entities.
    """

    text: str
    words: list[str]
    spans: list[tuple[int, int]]
    tags: list[str]
    entities: list[Entity] | None


class Tagger:
    """A tagger of words.

    Attributes:
        model: from tokens, and segments, int32 `[batch, time]`, to logits `[batch, time, tags]`.
        names: all tags in the order of the labels; a word without tokens gets the first.
        scheme: `tag_schemes.IOB2`, whose tags mark entities, or `tag_schemes.PLAIN`.
        words: how a text is split into words; one of `WORDS`.
        max_length: most tokens of a row, [CLS] and [SEP] included; a longer text becomes several rows.
        text_column: column of the texts in a file of several columns.
    """

    task, reads_text, pair_column = "tagging", True, ""

    def __init__(
        self,
        model: keras.Model,
        names: tuple[str, ...],
        scheme: str,
        words: str,
        tokenizer: Tokenizer,
        frame: SpecialTokens,
        max_length: int,
        text_column: str = "text",
    ):
        self.model, self.names, self.scheme, self.words = model, names, scheme, words
        self.max_length, self.text_column = max_length, text_column
        self._tokenizer, self._frame = tokenizer, frame
        then = functools.partial(tf.argmax, axis=-1, output_type=tf.int32)
        self._forward = CompiledForward(model, max_length, exactly=True, then=then)

    def predict(self, texts: Sequence[str], top: int = 1) -> list[Tagged]:
        """The tagged texts; see `tag` and `Predictor`."""
        return self.tag(texts)

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """The words of texts and their tags; no word of a long text is lost.

        Raises:
            BadInput: `texts` is one string instead of a list, or a text is not Unicode.
            NonFinite: the model's output is not finite.
        """
        text_inputs.check(texts)
        spans = [words_of(text, self.words) for text in texts]
        tags = self.tags_of([[text[start:end] for start, end in each] for text, each in zip(texts, spans)])
        return [self._tagged(*each) for each in zip(texts, spans, tags)]

    def tags_of(self, sentences: Sequence[Sequence[str]], whole: bool = True) -> list[list[str]]:
        """The tags of sentences that are already split into words.

        Args:
            sentences: words of each sentence.
            whole: whether to cut a long sentence into several rows; else, as in training, words beyond `max_length`
                get the first tag unread.
        """
        rows = [self._rows(words) if whole else [list(words)] for words in sentences]
        owners = np.repeat(np.arange(len(rows)), list(map(len, rows)))
        flat = [row for each in rows for row in each]
        if not flat:
            return [[] for _ in sentences]
        room = self.max_length, tuple(self._frame)
        columns, places = word_alignment.aligned(flat, None, self.names, self._tokenizer, *room)
        predicted = np.zeros(columns["tokens"].shape, np.int32)
        for indices, [labels] in self._forward.batches(columns, owners):
            width = min(labels.shape[1], predicted.shape[1])
            predicted[indices, :width] = labels[:, :width]
        tags: list[list[str]] = [[] for _ in sentences]
        for owner, row in zip(owners.tolist(), word_alignment.by_word(predicted, places, self.names)):
            tags[owner] += row
        return tags

    def read(self, path: str | Path, text_column: str | None = None) -> list[str]:
        """The texts of a file; see `text_inputs.read`."""
        return text_inputs.read(path, text_column or self.text_column)

    def lines(self, stream: Iterable[bytes]) -> Iterator[InputLine]:
        """The texts of a stream; see `text_inputs.lines`."""
        return text_inputs.lines(stream)

    def _rows(self, words: Sequence[str]) -> list[list[str]]:
        """A sentence in parts that fit a row, as long as possible, best cut at the end of a sentence."""
        room = self.max_length - 2
        counts = np.diff(self._tokenizer.encode(words).starts)
        # A word longer than a row is read up to where the row ends.
        words = [self._beginning(word, room) if count > room else word for word, count in zip(words, counts)]
        ends = np.cumsum(np.minimum(counts, room))
        rows, first = [], 0
        while first < len(words):
            begins = ends[first - 1] if first else 0
            stop = int(np.searchsorted(ends, begins + room, side="right"))
            if stop < len(words):
                stop = next((end for end in range(stop, first, -1) if words[end - 1] in _STOPS), stop)
            rows.append(words[first:stop])
            first = stop
        return rows

    def _beginning(self, word: str, pieces: int) -> str:
        return word[: self._tokenizer.pieces(word)[pieces - 1].end]

    def _tagged(self, text: str, spans: list[tuple[int, int]], tags: list[str]) -> Tagged:
        entities = None
        if self.scheme == tag_schemes.IOB2:
            ends = ((spans[start][0], spans[stop - 1][1], kind) for start, stop, kind in tag_schemes.spans(tags))
            entities = [Entity(kind, text[start:end], start, end) for start, end, kind in ends]
        return Tagged(text, [text[start:end] for start, end in spans], spans, tags, entities)


def words_of(text: str, how: str) -> list[tuple[int, int]]:
    """Splits a text into words: start and end of each; only white space is left out.

    Args:
        text: any text.
        how: "characters": each character is a word, as in `people_daily.names`; "spaces": words are separated by white
            space; "signs": in addition, each punctuation mark and each Chinese character is a word of its own.
    """
    if how == "characters":
        return [(index, index + 1) for index, character in enumerate(text) if not character.isspace()]
    words = [match.span() for match in re.finditer(r"\S+", text)]
    if how == "spaces":
        return words
    spans = []
    for start, end in words:
        for alone, group in itertools.groupby(range(start, end), lambda index: _alone(text[index])):
            indices = list(group)
            spans += [(index, index + 1) for index in indices] if alone else [(indices[0], indices[-1] + 1)]
    return spans


def _alone(character: str) -> bool:
    """Whether a character is a word of its own: punctuation or Chinese; combining marks belong to their letters."""
    return unicodedata.category(character)[0] not in "LNM" or unicodedata.name(character, "").startswith("CJK ")


def load(workdir: Path, info: ModelInfo, model: keras.Model) -> Tagger:
    """Loads the tagger of a run.

    Args:
        workdir: folder of the run.
        info: content of its model.json.
        model: its model.

    Raises:
        BadInput: the tokenizer is missing or damaged, or the files do not belong together.
    """
    names, scheme, words = info.tags, info.scheme, info.words
    if names is None or scheme not in (tag_schemes.IOB2, tag_schemes.PLAIN) or words not in WORDS:
        raise missing_fields(workdir, "tags, scheme and words")
    if model.output_shape[-1] != len(names):
        raise BadInput(
            f"{workdir}: {folders.MODEL} has {model.output_shape[-1]} outputs, {folders.ABOUT} has {len(names)} tags; "
            "expected the two files of one run"
        )
    reads = text_preprocessing.of_encoder(workdir, info, model)
    return Tagger(model, names, scheme, words, *reads, text_preprocessing.columns_of_run(workdir)[0])
