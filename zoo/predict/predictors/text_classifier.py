"""Trained models of texts, or of pairs of texts: classes with their probabilities, or values."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo import workdir as folders
from zoo.data.text import encoding as arrays
from zoo.data.text import special_tokens
from zoo.data.text import tokenizer as tokenizers
from zoo.data.text.special_tokens import SpecialTokens
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.model_info import ModelInfo, missing_fields
from zoo.predict.predictors import text_inputs, text_preprocessing
from zoo.predict.predictors.array_inputs import InputLine
from zoo.predict.predictors.compiled_forward import CompiledForward
from zoo.predict.predictors.litert import Lite
from zoo.predict.predictors.text_inputs import Example


class TextClassifier:
    """A classifier of texts, or of pairs of texts.

    Attributes:
        model: from tokens int32 `[batch, time]`, padded with 0 at the end, and of an encoder segments of that shape, to
            logits `[batch, classes]`, or for two classes `[batch, 1]`: the logit of the second.
        classes: names in the order of the labels.
        tokenizer: that the model was trained with.
        max_length: most tokens that the model reads of a text, those of the frame included.
        cut: which tokens of a longer text it reads; one of `zoo.data.text.encoding.CUTS`. Of a pair always the head.
        text_column: where a file of several columns has its texts.
        frame: ids of [CLS] and [SEP] around a text; None where the model has none.
        pair_column: where a file has the second texts of pairs; empty where the model reads single texts.
    """

    def __init__(
        self,
        model: keras.Model,
        classes: tuple[str, ...],
        tokenizer: tokenizers.Tokenizer,
        max_length: int,
        cut: str = "head",
        text_column: str = "text",
        frame: SpecialTokens | None = None,
        pair_column: str = "",
    ):
        self.model, self.classes, self.tokenizer = model, classes, tokenizer
        self.max_length, self.cut, self.text_column = max_length, cut, text_column
        self.frame, self.pair_column = frame, pair_column
        # Padding costs an LSTM next to nothing; the positions of an encoder may end at its longest row.
        self._forward = CompiledForward(model, max_length, exactly=frame is not None)

    @property
    def lite(self) -> Lite | None:
        """What may answer for one text at a time."""
        return self._forward.lite

    @lite.setter
    def lite(self, found: Lite | None) -> None:
        self._forward.lite = found

    def probabilities(self, texts: Sequence[Example]) -> np.ndarray:
        """The probability of each class, float32 `[texts, classes]`; see `logits` for what it takes and raises."""
        return class_probabilities(self.logits(texts)).astype(np.float32)

    def logits(self, texts: Sequence[Example]) -> np.ndarray:
        """The model's output, in batches of texts of similar length; who shares a batch changes nothing.

        Args:
            texts: any number, also none; a text may be empty. Of a model of pairs tuples of two texts.

        Returns:
            float32 `[texts, 1]` for a model with one logit, else `[texts, classes]`; in the order of the texts.

        Raises:
            BadInput: there is one string in the place of a list, an example is none, or a text is not Unicode.
            NonFinite: the model's output is.
        """
        columns = self.columns(texts)
        found = np.zeros((len(texts), self.model.output_shape[-1]), np.float32)
        for chosen, [logits] in self._forward.batches(columns):
            found[chosen] = logits
        return found

    def fed(self, texts: Sequence[Example]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Numbers of texts and the model's inputs for them, in the batches of `logits`, which says what is raised."""
        return self._forward.fed(self.columns(texts))

    def width(self, length: int) -> int:
        """What a text of so many tokens is padded to; see `Forward.width`."""
        return self._forward.width(length)

    def read(self, path: str | Path, text_column: str | None = None, pair_column: str | None = None) -> list[Example]:
        """The texts of a file; see `text_inputs.read`."""
        pair_column = (pair_column or self.pair_column) if self.pair_column else ""
        return text_inputs.read(path, text_column or self.text_column, pair_column)

    def lines(self, stream: Iterable[bytes]) -> Iterator[InputLine]:
        """The texts of a stream; see `text_inputs.lines`."""
        return text_inputs.lines(stream, bool(self.pair_column))

    def columns(self, texts: Sequence[Example]) -> Mapping[str, np.ndarray]:
        """`tokens` int32 `[texts, time]`, `length` int `[texts]`, and what else the model takes; see `logits`."""
        text_inputs.check(texts, bool(self.pair_column))
        if self.pair_column:
            sides = [self.tokenizer.encode([pair[side] for pair in texts]) for side in (0, 1)]
            return special_tokens.add_special_tokens_to_pairs(*sides, self.frame, self.max_length)
        encoded = self.tokenizer.encode(texts)
        if self.frame is None:
            return arrays.padded(encoded, self.max_length, self.cut)
        return special_tokens.add_special_tokens(encoded, self.frame, self.max_length, self.cut)


class TextRegressor:
    """A regression of texts, or of pairs of texts.

    Attributes:
        network: gives one logit for each text, the value standardised.
        centre: the value that a logit of 0 stands for.
        scale: what one unit of a logit is in the values' own units.
    """

    def __init__(self, network: TextClassifier, centre: float, scale: float):
        self.network, self.centre, self.scale = network, centre, scale
        self.pair_column, self.read, self.lines = network.pair_column, network.read, network.lines

    def values(self, texts: Sequence[Example]) -> np.ndarray:
        """The value of each text in its own units, float64 `[texts]`; see `TextClassifier.logits`."""
        return self.network.logits(texts)[:, 0].astype(np.float64) * self.scale + self.centre

    def answers(self, texts: Sequence[Example], top: int = 1) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """Of each text what is said as JSON, and in a line."""
        for value in self.values(texts).tolist():
            yield {"value": value}, [f"{value:.6g}"]


def load(workdir: Path, info: ModelInfo, model: keras.Model, classes: tuple[str, ...]) -> TextClassifier:
    """Puts the classifier of a run on texts together.

    Args:
        workdir: of the run.
        info: content of its model.json.
        model: its model.
        classes: names in the order of the labels; none of a regression.

    Raises:
        BadInput: the tokenizer is missing or damaged, or belongs to another model.
    """
    max_length, cut = info.max_length, info.cut
    if max_length is None or max_length < 1 or cut not in arrays.CUTS:
        raise missing_fields(workdir, "max_length and cut")
    tokenizer, frame, _ = text_preprocessing.read(workdir, info, model)
    text_column, pair_column = text_preprocessing.columns_of_run(workdir)
    if info.pair:
        special_tokens.check_room(max_length, 5)
    else:
        pair_column = ""
    return TextClassifier(model, classes, tokenizer, max_length, cut, text_column, frame, pair_column)


def load_values(workdir: Path, info: ModelInfo, model: keras.Model) -> TextRegressor:
    """Puts the regression of a run on texts together; see `load`."""
    if info.centre is None or info.scale is None:
        raise missing_fields(workdir, "centre and scale")
    if model.output_shape[-1] != 1:
        raise BadInput(f"{workdir}: {folders.MODEL} has {model.output_shape[-1]} outputs; expected 1 of a regression")
    return TextRegressor(load(workdir, info, model, ()), info.centre, info.scale)
