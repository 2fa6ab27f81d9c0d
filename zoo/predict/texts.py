"""A trained classifier of texts: text in, probabilities out."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Registers the layers that a saved model may have.
import zoo.models.recurrent
from zoo import workdir as folders
from zoo.data import text as arrays
from zoo.data import tokenizer as tokenizers
from zoo.errors import BadInput, NonFinite
from zoo.predict import text_inputs
from zoo.predict.inputs import Line
from zoo.report import judge

# Each pair of a size and a width is compiled once, a third of a second; 1 is for streams, 256 keeps the cores busy.
_SIZES = (1, 16, 256)
_NARROWEST = 32


class TextPredictor:
    """A classifier of texts.

    Attributes:
        model: from tokens int32 `[batch, time]`, padded with 0 at the end, to logits `[batch, classes]`, or for two
            classes `[batch, 1]`: the logit of the second.
        classes: names in the order of the labels.
        tokenizer: that the model was trained with.
        max_length: most tokens that the model reads of a text.
        cut: which tokens of a longer text it reads; one of `zoo.data.text.CUTS`.
        text_column: where a file of several columns has its texts.
    """

    def __init__(
        self,
        model: keras.Model,
        classes: tuple[str, ...],
        tokenizer: tokenizers.Tokenizer,
        max_length: int,
        cut: str = "head",
        text_column: str = "text",
    ):
        self.model, self.classes, self.tokenizer = model, classes, tokenizer
        self.max_length, self.cut, self.text_column = max_length, cut, text_column
        self._widths = _widths(max_length)
        self._forward = tf.function(lambda tokens: model(tokens, training=False), autograph=False)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """The probability of each class, float32 `[texts, classes]`; see `logits` for what it takes and raises."""
        return judge.probabilities(self.logits(texts)).astype(np.float32)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """The model's output, in batches of texts of similar length; who shares a batch changes nothing.

        Args:
            texts: any number, also none; a text may be empty.

        Returns:
            float32 `[texts, 1]` for a model with one logit, else `[texts, classes]`; in the order of the texts.

        Raises:
            BadInput: there is one string in the place of a list, or a text is not Unicode.
            NonFinite: the model's output is.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise BadInput(f"texts are {texts!r:.60}: expected a list of strings")
        found = np.zeros((len(texts), self.model.output_shape[-1]), np.float32)
        columns = arrays.padded(self.tokenizer.encode(texts), self.max_length, self.cut)
        order = np.argsort(columns["length"], kind="stable")
        for first in range(0, len(order), _SIZES[-1]):
            chosen = order[first : first + _SIZES[-1]]
            found[chosen] = self._batch(columns["tokens"][chosen], int(columns["length"][chosen[-1]]))
        wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(wrong):
            raise NonFinite(f"the model's output for text {wrong[0]} is not finite; expected a trained model")
        return found

    def width(self, length: int) -> int:
        """What a text of so many tokens is padded to: one of the few widths that programs are compiled for."""
        return next(width for width in self._widths if width >= length)

    def read(self, path: str | Path, text_column: str | None = None) -> list[str]:
        """The texts of a file; see `text_inputs.read`."""
        return text_inputs.read(path, text_column or self.text_column)

    def lines(self, stream: Iterable[bytes]) -> Iterator[Line]:
        """The texts of a stream; see `text_inputs.lines`."""
        return text_inputs.lines(stream)

    def _batch(self, tokens: np.ndarray, longest: int) -> np.ndarray:
        size = next(size for size in _SIZES if size >= len(tokens))
        padded = np.zeros((size, self.width(longest)), np.int32)
        padded[: len(tokens), :longest] = tokens[:, :longest]
        # The program of this shape by name: called like a function, TensorFlow would warn of the few compilations.
        program = self._forward.get_concrete_function(tf.TensorSpec(padded.shape, tf.int32))
        return program(tf.constant(padded)).numpy()[: len(tokens)].astype(np.float32)


def load(workdir: Path, about: dict[str, Any], model: keras.Model, classes: tuple[str, ...]) -> TextPredictor:
    """Puts the classifier of a run on texts together.

    Args:
        workdir: of the run.
        about: its model.json.
        model: its model.
        classes: names in the order of the labels.

    Raises:
        BadInput: the tokenizer is missing or damaged, or belongs to another model.
    """
    max_length, cut = about.get("max_length"), about.get("cut")
    if type(max_length) is not int or max_length < 1 or cut not in arrays.CUTS:
        raise BadInput(f"{workdir / folders.ABOUT} does not say max_length and cut; restore it or train again")
    tokenizer = tokenizers.load(workdir / folders.TOKENIZER)
    rows = min((layer.vocabulary for layer in embeddings(model)), default=tokenizer.vocabulary_size)
    if tokenizer.vocabulary_size > rows:
        raise BadInput(
            f"{workdir}: {folders.TOKENIZER} has {tokenizer.vocabulary_size} ids, the model reads {rows}; expected the "
            "two files of one run"
        )
    return TextPredictor(model, classes, tokenizer, max_length, cut, text_column(workdir))


def embeddings(model: keras.Model) -> list["zoo.models.recurrent.TokenEmbedding"]:
    """The layers that look tokens up."""
    return [layer for layer in model.layers if isinstance(layer, zoo.models.recurrent.TokenEmbedding)]


def text_column(workdir: Path) -> str:
    """Where a file of several columns has its texts: as the run had them, else `text`."""
    # A model may be copied to where it is used without the record of its run.
    run = folders.read_json(workdir, folders.RUN) if (workdir / folders.RUN).exists() else {}
    config = run.get("config") if isinstance(run, dict) else None
    return str(config.get("text_column") or "text") if isinstance(config, dict) else "text"


def _widths(max_length: int) -> list[int]:
    """Widths that double: the loop over a text ends with the longest one, so padding costs next to nothing."""
    widths = [_NARROWEST]
    while widths[-1] < max_length:
        widths.append(min(2 * widths[-1], -(-max_length // _NARROWEST) * _NARROWEST))
    return widths
