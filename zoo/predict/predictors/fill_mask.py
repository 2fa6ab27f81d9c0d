"""Fill-mask: the most probable words for each [MASK] of a text, by a pretrained encoder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo import workdir as folders
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.text.special_tokens import SpecialTokens
from zoo.data.text.tokenizer import Tokenizer
from zoo.errors import BadInput
from zoo.model_info import ModelInfo
from zoo.predict.predictors import text_inputs, text_preprocessing
from zoo.predict.predictors.array_inputs import InputLine
from zoo.predict.predictors.compiled_forward import CompiledForward

MASK = "[MASK]"


class Guess(NamedTuple):
    """A word for a gap; word pieces are written as in the tokenizer."""

    word: str
    probability: float


class Asked(NamedTuple):
    """A gap to predict: index of its text, ids of the text without special tokens, and the gap's index in the ids."""

    text: int
    ids: np.ndarray
    gap: int


class FillMask:
    """A masked language model (Devlin et al., "BERT", 2019).

    Attributes:
        model: from tokens, segments and places int32 `[batch, places]` to logits `[batch, places, vocabulary]`.
        max_length: most tokens that are read around a gap, [CLS] and [SEP] included.
        text_column: column of the texts in a file of several columns.
        mask: id of [MASK].
    """

    task, reads_text, pair_column = "pretraining", True, ""

    def __init__(
        self, model: keras.Model, tokenizer: Tokenizer, frame: SpecialTokens, max_length: int, text_column: str = "text"
    ):
        self.model, self.max_length, self.text_column = model, max_length, text_column
        self._tokenizer, self._frame, self.mask = tokenizer, frame, tokenizer.id_of(MASK)
        self._forward = CompiledForward(model, max_length, exactly=True, then=tf.nn.softmax)

    def predict(self, texts: Sequence[str], top: int = 1) -> list[list[list[Guess]]]:
        """The guesses for each gap of each text; see `fill` and `Predictor`."""
        return self.fill(texts, top)

    def fill(self, texts: Sequence[str], top: int = 1) -> list[list[list[Guess]]]:
        """The most probable words for each gap of each text, the best first.

        Each gap is filled independently: the other gaps stay masked.

        Args:
            texts: texts with one [MASK] or more.
            top: how many words per gap; probabilities are relative to the whole vocabulary.

        Raises:
            BadInput: `texts` is one string instead of a list, a text is not Unicode, or has no [MASK].
            NonFinite: the model's output is not finite.
        """
        asked = [Asked(number, ids, gap) for number, ids in enumerate(self.ids(texts)) for gap in self.gaps(ids)]
        filled: list[list[list[Guess]]] = [[] for _ in texts]
        best = self.ask(asked, lambda _, probabilities: self.best(probabilities, top))
        for each, guesses in zip(asked, best):
            filled[each.text].append(guesses)
        return filled

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The token ids of each text, int32, gaps included, without special tokens; errors as in `fill`."""
        text_inputs.check(texts)
        for text in texts:
            if MASK not in text:
                raise BadInput(f"the text {text!r:.60} has no {MASK}: expected one or more, as gaps to fill")
        return [self._ids(text) for text in texts]

    def gaps(self, ids: np.ndarray) -> list[int]:
        """The indices of the gaps."""
        return np.flatnonzero(ids == self.mask).tolist()

    def ask(self, asked: Sequence[Asked], read: Callable[[int, np.ndarray], Any]) -> list[Any]:
        """Predicts gaps, and returns the results of `read` for them.

        Args:
            asked: the gaps.
            read: function of a gap's index in `asked` and its word probabilities float32 `[vocabulary]`, by id. Ids
                beyond the tokenizer's, which the model may have, are left out; that of padding has probability 0.

        Raises:
            NonFinite: the model's output is not finite.
        """
        rows = [self._row(each.ids, each.gap) for each in asked]
        owners, results = np.array([each.text for each in asked], np.int64), [None] * len(rows)
        for indices, [probabilities] in self._forward.batches(self._columns(rows), owners):
            words = probabilities[:, 0, : self._tokenizer.vocabulary_size]  # [batch, vocabulary]
            for row, each in zip(indices.tolist(), words):
                each[0] = 0.0
                results[row] = read(row, each)
        return results

    def best(self, probabilities: np.ndarray, top: int) -> list[Guess]:
        """The most probable words, from probabilities `[vocabulary]`."""
        order = 1 + (-probabilities[1:]).argsort(kind="stable")[:top]
        return [Guess(self._tokenizer.decode([id]), float(probabilities[id])) for id in order.tolist()]

    def read(self, path: str | Path, text_column: str | None = None, form: DelimitedFormat = FOUND) -> list[str]:
        """The texts of a file; see `text_inputs.read`."""
        return text_inputs.read(path, text_column or self.text_column, form=form)

    def lines(self, stream: Iterable[bytes]) -> Iterator[InputLine]:
        """The texts of a stream; see `text_inputs.lines`."""
        return text_inputs.lines(stream)

    def _ids(self, text: str) -> np.ndarray:
        """The text's token ids, gaps included, without special tokens."""
        encoded = self._tokenizer.encode(text.split(MASK))
        # The tokenizer reads [MASK] as a word in brackets, so that a text cannot hide its own words.
        return np.insert(encoded.ids.astype(np.int32), encoded.starts[1:-1], self.mask)

    def _row(self, ids: np.ndarray, gap: int) -> tuple[np.ndarray, int]:
        """The row of ids around a gap, equally long on both sides where possible, and the gap's index in the row."""
        room = self.max_length - 2
        first = min(max(0, gap - room // 2), max(0, len(ids) - room))
        row = np.array([self._frame.first, *ids[first : first + room], self._frame.last], np.int32)
        return row, gap - first + 1

    def _columns(self, rows: Sequence[tuple[np.ndarray, int]]) -> dict[str, np.ndarray]:
        lengths = np.array([len(row) for row, _ in rows], np.int64)
        tokens = np.zeros((len(rows), int(lengths.max(initial=1))), np.int32)
        for line, (row, _) in zip(tokens, rows):
            line[: len(row)] = row
        return {"tokens": tokens, "places": np.array([[gap] for _, gap in rows], np.int32), "length": lengths}


def load(workdir: Path, info: ModelInfo, model: keras.Model) -> FillMask:
    """Loads the masked language model of a run.

    Args:
        workdir: folder of the run.
        info: content of its model.json.
        model: its model.

    Raises:
        BadInput: the tokenizer is missing or damaged, has no [MASK], or the files do not belong together.
    """
    if "places" not in [each.name for each in model.inputs]:
        raise BadInput(f"{workdir}: {folders.MODEL} is of no pretraining; expected the files of one run")
    tokenizer, frame, max_length = text_preprocessing.of_encoder(workdir, info, model)
    if tokenizer.id_of(MASK) is None:
        raise BadInput(f"{workdir / folders.TOKENIZER} has no {MASK}; expected the tokenizer of the run")
    return FillMask(model, tokenizer, frame, max_length, text_preprocessing.columns_of_run(workdir)[0])
