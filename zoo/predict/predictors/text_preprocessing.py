"""What the runs of an encoder say of the texts that they read, checked: tokenizer, frame and longest row."""

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
    """How a run reads texts.

    Attributes:
        tokenizer: that the model was trained with.
        frame: ids of [CLS] and [SEP]; None where texts have no frame.
        max_length: most tokens of a row, those of the frame included.
    """

    tokenizer: Tokenizer
    frame: SpecialTokens | None
    max_length: int


def read(workdir: Path, info: ModelInfo, model: keras.Model) -> TextPreprocessing:
    """How the model of a run reads texts.

    Args:
        workdir: of the run.
        info: content of its model.json.
        model: its model.

    Raises:
        BadInput: model.json does not say it, or its files do not belong together.
    """
    max_length, frame = info.max_length, info.frame
    tokenizer, tables = tokenizers.load(workdir / folders.TOKENIZER), embeddings(model)
    rows = min((layer.vocabulary for layer in tables), default=tokenizer.vocabulary_size)
    if tokenizer.vocabulary_size > rows:
        raise BadInput(
            f"{workdir}: {folders.TOKENIZER} has {tokenizer.vocabulary_size} ids, the model reads {rows}; expected the "
            "two files of one run"
        )
    positions = [layer.positions for layer in tables if isinstance(layer, Embedding)]
    if not positions:
        return TextPreprocessing(tokenizer, None, max_length)
    if max_length is None or frame is None or not all(0 < id < rows for id in frame):
        raise missing_fields(workdir, "max_length and frame")
    if not 3 <= max_length <= min(positions):
        raise BadInput(
            f"{workdir / folders.ABOUT}: max_length is {max_length}, expected 3 to the model's {min(positions)} "
            "positions; restore it or train again"
        )
    return TextPreprocessing(tokenizer, SpecialTokens(*frame), max_length)


def of_encoder(workdir: Path, info: ModelInfo, model: keras.Model) -> TextPreprocessing:
    """As `read`, of a model that must be an encoder's.

    Raises:
        BadInput: it is not.
    """
    found = read(workdir, info, model)
    if found.frame is None:
        raise BadInput(f"{workdir}: {folders.MODEL} has no encoder; expected the files of one run")
    return found


def embeddings(model: keras.Model) -> list[TokenEmbedding | Embedding]:
    """The layers that look tokens up."""
    kinds = (TokenEmbedding, Embedding)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def columns_of_run(workdir: Path) -> tuple[str, str]:
    """Where files of several columns have their texts, and the second ones of pairs: as the run had them."""
    # A model may be copied to where it is used without the record of its run.
    exists = (workdir / folders.RUN).exists()
    config = folders.read_run(workdir, config_required=False).config if exists else {}
    return str(config.get("text_column") or "text"), str(config.get("pair_column") or "pair")
