"""Text preprocessing of a run, checked against its model: tokenizer, special tokens and longest row."""

from pathlib import Path
from typing import NamedTuple

import keras

from zoo import workdir as folders
from zoo.data.text import tokenizer as tokenizers
from zoo.data.text.special_tokens import SpecialTokens
from zoo.data.text.tokenizer import Tokenizer
from zoo.errors import BadInput
from zoo.model_info import ModelInfo, missing_fields
from zoo.models.lstm_layers import TokenEmbedding
from zoo.models.transformer import Embedding


class TextPreprocessing(NamedTuple):
    """How a run turns texts into token ids.

    Attributes:
        tokenizer: the tokenizer that the model was trained with.
        frame: ids of [CLS] and [SEP]; None for a model without them.
        max_length: most tokens of a row, special tokens included.
    """

    tokenizer: Tokenizer
    frame: SpecialTokens | None
    max_length: int


def read(workdir: Path, info: ModelInfo, model: keras.Model) -> TextPreprocessing:
    """Reads the text preprocessing of a run.

    Args:
        workdir: folder of the run.
        info: content of its model.json.
        model: its model.

    Raises:
        BadInput: model.json lacks a field, or the files do not belong together.
    """
    max_length, frame = info.max_length, info.frame
    tokenizer, tables = tokenizers.load(workdir / folders.TOKENIZER), embeddings(model)
    rows = min((layer.vocabulary for layer in tables), default=tokenizer.vocabulary_size)
    if tokenizer.vocabulary_size > rows:
        raise BadInput(
            f"{workdir}: {folders.TOKENIZER} has {tokenizer.vocabulary_size} ids, the model reads {rows}; expected the "
            "two files of one run"
        )
    encoders = [layer for layer in tables if isinstance(layer, Embedding)]
    if not encoders:
        return TextPreprocessing(tokenizer, None, max_length)
    if max_length is None or frame is None or not all(0 < id < rows for id in frame):
        raise missing_fields(workdir, "max_length and frame")
    # Where an encoder reads the first tokens alone, the n-grams beside it read longer texts.
    most = min((layer.positions for layer in encoders if not layer.first), default=max_length)
    if not 3 <= max_length <= most:
        raise BadInput(
            f"{workdir / folders.ABOUT}: max_length is {max_length}, expected 3 to the model's {most} "
            "positions; restore it or train again"
        )
    return TextPreprocessing(tokenizer, SpecialTokens(*frame), max_length)


def of_encoder(workdir: Path, info: ModelInfo, model: keras.Model) -> TextPreprocessing:
    """Reads the text preprocessing of a run of an encoder; see `read`.

    Raises:
        BadInput: the model has no encoder.
    """
    preprocessing = read(workdir, info, model)
    if preprocessing.frame is None:
        raise BadInput(f"{workdir}: {folders.MODEL} has no encoder; expected the files of one run")
    return preprocessing


def embeddings(model: keras.Model) -> list[TokenEmbedding | Embedding]:
    """The embedding layers of a model."""
    return [layer for layer in model.layers if isinstance(layer, (TokenEmbedding, Embedding))]


def columns_of_run(workdir: Path) -> tuple[str, str]:
    """Names of the columns of texts and of the second texts of pairs, as in the run's own files."""
    # A model may be deployed without the record of its run.
    exists = (workdir / folders.RUN).exists()
    config = folders.read_run(workdir, config_required=False).config if exists else {}
    return str(config.get("text_column") or "text"), str(config.get("pair_column") or "pair")
