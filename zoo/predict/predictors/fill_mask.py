"""A pretrained encoder fills the gaps of a text: the most probable words where [MASK] stands."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo import workdir as folders
from zoo.data.text.special_tokens import SpecialTokens
from zoo.data.text.tokenizer import Tokenizer
from zoo.errors import BadInput
from zoo.model_info import ModelInfo
from zoo.predict.predictors import text_inputs, text_preprocessing
from zoo.predict.predictors.array_inputs import InputLine
from zoo.predict.predictors.compiled_forward import CompiledForward

MASK = "[MASK]"


class Guess(NamedTuple):
    """A word for a gap; pieces of words are as the tokenizer writes them."""

    word: str
    probability: float


class Asked(NamedTuple):
    """A place of a text: the text's number, its ids without the frame, and where among them a word is asked for."""

    text: int
    ids: np.ndarray
    gap: int


class FillMask:
    """What a run of masked language modelling has learned (Devlin et al., "BERT", 2019).

    Attributes:
        model: from tokens, segments and places int32 `[batch, places]` to logits `[batch, places, vocabulary]`.
        max_length: most tokens that are read around a gap, [CLS] and [SEP] included.
        text_column: where a file of several columns has its texts.
        mask: id of [MASK].
    """

    task, reads_text, pair_column, rounds = "pretraining", True, "", 1

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

        Each gap is filled by itself: what another one may hold is not known then.

        Args:
            texts: each with one [MASK] or more.
            top: how many words; probabilities are of all words that the model knows.

        Raises:
            BadInput: there is one string in the place of a list, a text is not Unicode, or has no [MASK].
            NonFinite: the model's output is.
        """
        asked = [Asked(number, ids, gap) for number, ids in enumerate(self.ids(texts)) for gap in self.gaps(ids)]
        found: list[list[list[Guess]]] = [[] for _ in texts]
        for each, guesses in zip(asked, self.ask(asked, lambda _, chances: self.best(chances, top))):
            found[each.text].append(guesses)
        return found

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, int32, with those of its gaps, without the frame; see `fill` for what is raised."""
        text_inputs.check(texts)
        for text in texts:
            if MASK not in text:
                raise BadInput(f"the text {text!r:.60} has no {MASK}: expected one or more, as gaps to fill")
        return [self._ids(text) for text in texts]

    def gaps(self, ids: np.ndarray) -> list[int]:
        """The places of the gaps."""
        return np.flatnonzero(ids == self.mask).tolist()

    def ask(self, asked: Sequence[Asked], read: Callable[[int, np.ndarray], Any]) -> list[Any]:
        """What is read of the words' probabilities at places, each of them a gap.

        Args:
            asked: the places.
            read: is given the number of one of them, and the probabilities float32 `[vocabulary]`, by id; those behind
                the tokenizer's ids are left out, though the model may have them, and the padding's is 0.

        Raises:
            NonFinite: the model's output is.
        """
        rows = [self._row(each.ids, each.gap) for each in asked]
        owners, found = np.array([each.text for each in asked], np.int64), [None] * len(rows)
        for chosen, [probabilities] in self._forward.batches(self._columns(rows), owners):
            for row, each in zip(chosen.tolist(), probabilities[:, 0, : self._tokenizer.vocabulary_size]):
                each[0] = 0.0
                found[row] = read(row, each)
        return found

    def best(self, chances: np.ndarray, top: int) -> list[Guess]:
        """The most probable words, of probabilities as of `ask`."""
        order = 1 + (-chances[1:]).argsort(kind="stable")[:top]
        return [Guess(self._tokenizer.decode([id]), float(chances[id])) for id in order.tolist()]

    def read(self, path: str | Path, text_column: str | None = None) -> list[str]:
        """The texts of a file; see `text_inputs.read`."""
        return text_inputs.read(path, text_column or self.text_column)

    def lines(self, stream: Iterable[bytes]) -> Iterator[InputLine]:
        """The texts of a stream; see `text_inputs.lines`."""
        return text_inputs.lines(stream)

    def _ids(self, text: str) -> np.ndarray:
        """The text's ids with those of its gaps, without the frame."""
        encoded = self._tokenizer.encode(text.split(MASK))
        # In the tokenizer's own eyes [MASK] is a word in brackets: a text cannot hide its words.
        return np.insert(encoded.ids.astype(np.int32), encoded.starts[1:-1], self.mask)

    def _row(self, ids: np.ndarray, gap: int) -> tuple[np.ndarray, int]:
        """What is read around a gap, as much on both sides as there is, and where in the row the gap stands."""
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
    """Puts the pretrained encoder of a run together with what it reads by.

    Args:
        workdir: of the run.
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
