"""Tagging of texts: their words, a tag for each, and named entities."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo import workdir as folders
from zoo.data.datasets import tag_schemes
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.text import word_alignment, word_features, word_splitting
from zoo.data.text.special_tokens import SpecialTokens
from zoo.data.text.tokenizer import Tokenizer
from zoo.data.text.word_splitting import WordRule
from zoo.errors import BadInput
from zoo.model_info import ModelInfo, missing_fields
from zoo.models.word_logits import WordLogits
from zoo.predict.predictors import tagger_inputs, text_preprocessing
from zoo.predict.predictors.array_inputs import InputLine
from zoo.predict.predictors.compiled_forward import CompiledForward
from zoo.predict.predictors.tagger_inputs import Sentence, Words


class Entity(NamedTuple):
    """A named entity and its characters, `text[start:end]`."""

    type: str
    text: str
    start: int
    end: int


class Tagged(NamedTuple):
    """A text with its tags.

    Attributes:
        text: the input text; the words with a space between where a sentence was given in words.
        words: words of the text.
        spans: start and end of each word, `text[start:end]`.
        tags: tag of each word.
        entities: entities of the tags; None for a scheme without entities.
        columns: columns of each word's line in the CoNLL file that the words are from; else None.
    """

    text: str
    words: list[str]
    spans: list[tuple[int, int]]
    tags: list[str]
    entities: list[Entity] | None
    columns: tuple[tuple[str, ...], ...] | None = None


class Tagger:
    """A tagger of words.

    Attributes:
        model: from tokens, and segments, int32 `[batch, time]`, and perhaps the features of words (`word_features`), to
            logits `[batch, time, tags]`.
        names: all tags in the order of the labels; a word without tokens gets the first.
        scheme: `tag_schemes.IOB2`, whose tags mark entities, or `tag_schemes.PLAIN`.
        words: how a text is split into words; one of `word_splitting.WORDS`.
        rule: how signs are separated from words, where `words` is "learned".
        token_column: number of the token column in the CoNLL files of the run.
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
        rule: WordRule | None = None,
        token_column: int = 1,
    ):
        self.model, self.names, self.scheme, self.words = model, names, scheme, words
        self.max_length, self.text_column = max_length, text_column
        self.rule, self.token_column = rule, token_column
        self._tokenizer, self._frame = tokenizer, frame
        then = functools.partial(tf.argmax, axis=-1, output_type=tf.int32)
        # Hash buckets of the features of words; 0 without them.
        self._buckets = next((layer.buckets for layer in model.layers if isinstance(layer, WordLogits)), 0)
        self._forward = CompiledForward(model, max_length, exactly=True, then=then)

    def predict(self, texts: Sequence[Sentence], top: int = 1) -> list[Tagged]:
        """The tagged texts; see `tag` and `Predictor`."""
        return self.tag(texts)

    def tag(self, texts: Sequence[Sentence]) -> list[Tagged]:
        """The words of texts and their tags; no word of a long text is lost.

        Args:
            texts: raw texts, which are split into words, and `Words`, which are not split again.

        Raises:
            BadInput: `texts` is one string instead of a list, or a text is not Unicode.
            NonFinite: the model's output is not finite.
        """
        tagger_inputs.check(texts)
        split = [self._split(text) for text in texts]
        tags = self.tags_of([[text[start:end] for start, end in spans] for text, spans in split])
        return [
            self._tagged(*each, given.columns if isinstance(given, Words) else None)
            for each, given in zip(((*parts, row) for parts, row in zip(split, tags)), texts)
        ]

    def tags_of(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """The tags of sentences that are already split into words; a long sentence is read in several rows.

        Args:
            sentences: words of each sentence.
        """
        split = word_alignment.split_rows(sentences, self._tokenizer, self.max_length - 2)
        rows = [row for each in split for row in each]
        owners = np.repeat(np.arange(len(split)), list(map(len, split)))
        if not any(rows):
            return [[] for _ in sentences]
        room = self.max_length, tuple(self._frame)
        columns, places = word_alignment.aligned(rows, None, self.names, self._tokenizer, *room)
        if self._buckets:
            columns["features"] = word_features.column(rows, places, columns["tokens"].shape[1], self._buckets)
        predicted = np.zeros(columns["tokens"].shape, np.int32)
        for indices, [labels] in self._forward.batches(columns, owners):
            width = min(labels.shape[1], predicted.shape[1])
            predicted[indices, :width] = labels[:, :width]
        tags: list[list[str]] = [[] for _ in sentences]
        for owner, row in zip(owners.tolist(), word_alignment.by_word(predicted, places, self.names)):
            tags[owner] += row
        return tags

    def read(
        self,
        path: str | Path,
        text_column: str | None = None,
        token_column: int | None = None,
        form: DelimitedFormat = FOUND,
    ) -> list[Sentence]:
        """The texts or sentences of a file; see `tagger_inputs.read`."""
        return tagger_inputs.read(path, text_column or self.text_column, token_column, self.token_column, form)

    def lines(self, stream: Iterable[bytes]) -> Iterator[InputLine]:
        """The texts or sentences of a stream; see `tagger_inputs.lines`."""
        return tagger_inputs.lines(stream)

    def _split(self, text: Sentence) -> tuple[str, list[tuple[int, int]]]:
        """The text and the start and end of each of its words."""
        if isinstance(text, str):
            return text, word_splitting.words_of(text, self.words, self.rule)
        ends = np.cumsum([len(word) + 1 for word in text.words]).tolist()
        return " ".join(text.words), [(end - 1 - len(word), end - 1) for word, end in zip(text.words, ends)]

    def _tagged(self, text: str, spans: list[tuple[int, int]], tags: list[str], columns) -> Tagged:
        entities = None
        if self.scheme == tag_schemes.IOB2:
            ends = ((spans[start][0], spans[stop - 1][1], kind) for start, stop, kind in tag_schemes.spans(tags))
            entities = [Entity(kind, text[start:end], start, end) for start, end, kind in ends]
        return Tagged(text, [text[start:end] for start, end in spans], spans, tags, entities, columns)


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
    rule = word_splitting.from_json(info.word_rule)
    if names is None or scheme not in (tag_schemes.IOB2, tag_schemes.PLAIN) or words not in word_splitting.WORDS:
        raise missing_fields(workdir, "tags, scheme and words")
    if words == "learned" and rule is None:
        raise missing_fields(workdir, "word_rule")
    if model.output_shape[-1] != len(names):
        raise BadInput(
            f"{workdir}: {folders.MODEL} has {model.output_shape[-1]} outputs, {folders.ABOUT} has {len(names)} tags; "
            "expected the two files of one run"
        )
    reads = text_preprocessing.of_encoder(workdir, info, model)
    text_column = text_preprocessing.columns_of_run(workdir)[0]
    return Tagger(model, names, scheme, words, *reads, text_column, rule, _token_column(workdir))


def _token_column(workdir: Path) -> int:
    """The token column of the run's own files; the first for a model that came without its run."""
    try:
        column = folders.read_run(workdir).config.get("token_column", 1)
    except BadInput:
        return 1
    return column if type(column) is int else 1
