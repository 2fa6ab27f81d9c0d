"""Classification and regression of texts or pairs of texts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from zoo import files
from zoo import workdir as folders
from zoo.data.datasets import delimited, delimited_format
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.text import encoding, special_tokens
from zoo.data.text import tokenizer as tokenizers
from zoo.data.text.special_tokens import SpecialTokens
from zoo.errors import BadInput
from zoo.metrics import decisions
from zoo.metrics.decisions import Decision
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
        model: from tokens int32 `[batch, time]`, padded with 0 at the end, and for an encoder segments of the same
            shape, to logits `[batch, classes]`, or for two classes `[batch, 1]`: the logit of the second class.
        classes: class names in the order of the labels.
        tokenizer: the tokenizer that the model was trained with.
        max_length: most tokens that the model reads of a text, special tokens included.
        cut: which tokens of a longer text are read; one of `zoo.data.text.encoding.CUTS`. Pairs: always the head.
        text_column: column of the texts in a file of several columns.
        frame: ids of [CLS] and [SEP] around a text; None for a model without them.
        pair_column: column of the second texts in a file of pairs; empty where the model reads single texts.
        file_format: how the delimited files of the training were written, as far as flags said so.
        decision: how probabilities become a class; None: the most probable one.
    """

    task, reads_text, takes_images = "classification", True, False

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
        self.decision: Decision | None = None
        self.file_format = FOUND
        # Padding costs an LSTM next to nothing; the positions of an encoder may end at its longest row.
        self._forward = CompiledForward(model, max_length, exactly=frame is not None)

    @property
    def lite(self) -> Lite | None:
        """LiteRT version for single texts, or None."""
        return self._forward.lite

    @lite.setter
    def lite(self, lite: Lite | None) -> None:
        self._forward.lite = lite

    def predict(self, texts: Sequence[Example], top: int = 1) -> np.ndarray:
        """The probabilities of all classes, whatever `top` is; see `Predictor`."""
        return self.probabilities(texts)

    def probabilities(self, texts: Sequence[Example]) -> np.ndarray:
        """Class probabilities, float32 `[texts, classes]`; arguments and errors as in `logits`."""
        return class_probabilities(self.logits(texts)).astype(np.float32)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """See `Classifier`."""
        return decisions.decide(self.decision, probabilities)

    def logits(self, texts: Sequence[Example]) -> np.ndarray:
        """The model's output, computed in batches of texts of similar length, which do not affect each other.

        Args:
            texts: any number, also 0; a text may be empty. For a model of pairs, tuples of two texts.

        Returns:
            float32 `[texts, 1]` for a model with one logit, else `[texts, classes]`; in the order of the texts.

        Raises:
            BadInput: `texts` is one string instead of a list, an example is of the wrong type, or a text is not
                Unicode.
            NonFinite: the model's output is not finite.
        """
        columns = self.columns(texts)
        logits = np.zeros((len(texts), self.model.output_shape[-1]), np.float32)
        for rows, [batch] in self._forward.batches(columns):
            logits[rows] = batch
        return logits

    def fed(self, texts: Sequence[Example]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """The batches of `logits` as indices of texts and the model's inputs for them; errors as there."""
        return self._forward.fed(self.columns(texts))

    def width(self, length: int) -> int:
        """The padded length of a text of `length` tokens; see `CompiledForward.width`."""
        return self._forward.width(length)

    def read(
        self,
        path: str | Path,
        text_column: str | None = None,
        pair_column: str | None = None,
        form: DelimitedFormat | None = None,
    ) -> list[Example]:
        """The texts of a file; what is None is as in the training. See `text_inputs.read`."""
        pair_column = (pair_column or self.pair_column) if self.pair_column else ""
        examples: list[Example] = []
        for each in files.listed(Path(path)):
            # A .txt has a text per line, however the training file was written.
            is_lines = delimited.kind(each) == ".txt"
            own = DelimitedFormat(self.file_format.encoding) if is_lines else self.file_format
            examples += text_inputs.read(each, text_column or self.text_column, pair_column, form or own)
        return examples

    def lines(self, stream: Iterable[bytes]) -> Iterator[InputLine]:
        """The texts of a stream; see `text_inputs.lines`."""
        return text_inputs.lines(stream, bool(self.pair_column))

    def columns(self, texts: Sequence[Example]) -> Mapping[str, np.ndarray]:
        """`tokens` int32 `[texts, time]`, `length` int `[texts]`, and other inputs of the model; see `logits`."""
        text_inputs.check(texts, bool(self.pair_column))
        if self.pair_column:
            sides = [self.tokenizer.encode([pair[side] for pair in texts]) for side in (0, 1)]
            return special_tokens.add_special_tokens_to_pairs(*sides, self.frame, self.max_length)
        encoded = self.tokenizer.encode(texts)
        if self.frame is None:
            return encoding.padded(encoded, self.max_length, self.cut)
        return special_tokens.add_special_tokens(encoded, self.frame, self.max_length, self.cut)

    def with_model(self, model: keras.Model, classes: tuple[str, ...]) -> "TextClassifier":
        """See `Classifier`."""
        reading = self.tokenizer, self.max_length, self.cut, self.text_column, self.frame, self.pair_column
        other = TextClassifier(model, classes, *reading)
        other.file_format = self.file_format
        other.decision = self.decision if classes == self.classes else None
        return other


class TextRegressor:
    """A regression of texts, or of pairs of texts.

    Attributes:
        network: from texts to one logit each, the standardised value.
        centre: value at a logit of 0.
        scale: change of the value per unit of the logit.
    """

    task, reads_text, classes = "regression", True, ()

    def __init__(self, network: TextClassifier, centre: float, scale: float):
        self.network, self.centre, self.scale = network, centre, scale
        self.model, self.pair_column = network.model, network.pair_column
        self.read, self.lines, self.file_format = network.read, network.lines, network.file_format

    def predict(self, texts: Sequence[Example], top: int = 1) -> list[float]:
        """The value of each text; see `values` and `Predictor`."""
        return self.values(texts).tolist()

    def values(self, texts: Sequence[Example]) -> np.ndarray:
        """The value of each text in the units of the training data, float64 `[texts]`; see `TextClassifier.logits`."""
        return self.network.logits(texts)[:, 0].astype(np.float64) * self.scale + self.centre


def load(workdir: Path, info: ModelInfo, model: keras.Model, classes: tuple[str, ...]) -> TextClassifier:
    """Loads the text classifier of a run.

    Args:
        workdir: folder of the run.
        info: content of its model.json.
        model: its model.
        classes: class names in the order of the labels; empty for a regression.

    Raises:
        BadInput: the tokenizer is missing or damaged, or belongs to another model.
    """
    max_length, cut = info.max_length, info.cut
    if max_length is None or max_length < 1 or cut not in encoding.CUTS:
        raise missing_fields(workdir, "max_length and cut")
    tokenizer, frame, _ = text_preprocessing.read(workdir, info, model)
    text_column, pair_column = text_preprocessing.columns_of_run(workdir)
    if info.pair:
        special_tokens.check_room(max_length, 5)
    else:
        pair_column = ""
    predictor = TextClassifier(model, classes, tokenizer, max_length, cut, text_column, frame, pair_column)
    predictor.file_format = delimited_format.of_model(info.file_format)
    return predictor


def load_values(workdir: Path, info: ModelInfo, model: keras.Model) -> TextRegressor:
    """Loads the text regression of a run; see `load`."""
    if info.centre is None or info.scale is None:
        raise missing_fields(workdir, "centre and scale")
    if model.output_shape[-1] != 1:
        raise BadInput(f"{workdir}: {folders.MODEL} has {model.output_shape[-1]} outputs; expected 1 of a regression")
    return TextRegressor(load(workdir, info, model, ()), info.centre, info.scale)
