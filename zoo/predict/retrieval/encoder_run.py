"""Encoders of this project's runs: model.json, model.keras and tokenizer.json of a workdir."""

from pathlib import Path

import keras

from zoo import workdir as folders
from zoo.data.text import tokenizer as tokenizers
from zoo.data.text.tokenizer import Tokenizer
from zoo.errors import BadInput
from zoo.model_info import ModelInfo, read_model_info
from zoo.models import transformer
from zoo.models.hugging_face import weights
from zoo.models.hugging_face.config import Shape
from zoo.predict.predictors import loading


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / folders.ABOUT).is_file()


def read(folder: Path) -> tuple[keras.Model, Tokenizer, tuple[int, int]]:
    """The encoder in a run's model, the tokenizer, and the ids of the special tokens before and after a text.

    Args:
        folder: a run's folder, whose model.json has `"network": "encoder"`, the fields of `Shape` as `"shape"`, and
            `"frame": [first id, last id]`; model.keras has the encoder's layers by their names, and perhaps others.

    Raises:
        BadInput: a file is missing or damaged, the model is not an encoder, or the files do not belong together.
    """
    info = read_model_info(folder)
    if info.network != "encoder":
        raise BadInput(f'{folder / folders.ABOUT} has no "network": "encoder"; expected a run that trained an encoder')
    shape, frame = _described(folder, info)
    tokenizer = tokenizers.load(folder / folders.TOKENIZER)
    if tokenizer.vocabulary_size > shape.vocabulary:
        raise BadInput(
            f"{folder}: {folders.TOKENIZER} has {tokenizer.vocabulary_size} ids, the encoder reads {shape.vocabulary}; "
            "expected the two files of one run"
        )
    return _encoder(folder, shape), tokenizer, frame


def _described(folder: Path, info: ModelInfo) -> tuple[Shape, tuple[int, int]]:
    try:
        shape = Shape(**info.shape)
        fits = info.frame is not None and all(0 <= id < shape.vocabulary for id in info.frame)
    except TypeError:
        fits = False
    if not fits:
        raise BadInput(f"{folder / folders.ABOUT} has no valid shape and frame; restore it or train again")
    return shape, info.frame


def _encoder(folder: Path, shape: Shape) -> keras.Model:
    """The encoder alone, with the weights of the run's layers of the same names."""
    model = loading.read_model(folder / folders.MODEL)
    try:
        block = model.get_layer("block0")
        encoder = transformer.encoder(shape, norm_first=block.norm_first, causal=block.causal)
        weights.assign(encoder, weights.weights(model))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"{folder}: {folders.MODEL} is not the encoder of {folders.ABOUT} ({reason}); expected two files of one run"
        ) from None
    return encoder
