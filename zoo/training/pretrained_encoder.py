"""Pretrained encoders to start from: earlier runs, and folders as Hugging Face's transformers writes them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import workdir as folders
from zoo.data.text import tokenizer as tokenizers
from zoo.data.text.tokenizer import Tokenizer
from zoo.errors import BadInput
from zoo.model_info import read_model_info
from zoo.models.hugging_face import config
from zoo.models.hugging_face import folder as pretrained
from zoo.models.hugging_face.config import Shape

ENCODER = "encoder"


class Origin(NamedTuple):
    """A pretrained encoder.

    Attributes:
        shape: sizes and rates of the network.
        norm_first: whether its blocks are pre-norm.
        tokenizer: the tokenizer that it was trained with.
        weights: arrays from a folder, by the names in `Pretrained`, heads included; None for a run, whose checkpoint
            has them.
    """

    shape: Shape
    norm_first: bool
    tokenizer: Tokenizer
    weights: Mapping[str, np.ndarray] | None = None


def read(source: str) -> Origin:
    """Reads a pretrained encoder.

    Args:
        source: a workdir, a folder with config.json and safetensors, or `pretrained.MINILM`.

    Raises:
        BadInput: it is neither, or its files do not belong together.
    """
    folder = pretrained.folder(source)
    if (folder / folders.ABOUT).is_file():
        return _run(folder)
    if folder.is_dir() and not (folder / config.FILE).exists():
        raise BadInput(
            f"--init_from {folder} has neither {folders.ABOUT} nor {config.FILE}: expected the folder of a "
            f"finished run, of a BERT with config.json and model.safetensors, or {pretrained.MINILM}"
        )
    contents = pretrained.read(folder)
    if contents.tokenizer is None:
        raise BadInput(
            f"--init_from {folder} has no tokenizer: expected tokenizer.json or vocab.txt beside the weights"
        )
    words = Tokenizer.from_json(pretrained.tokenizer_json(contents.tokenizer.parent), str(contents.tokenizer))
    return Origin(contents.shape, False, _checked(words, contents.shape, folder), contents.weights | contents.extra)


def described(shape: Shape, norm_first: bool) -> dict:
    """The entries in model.json by which `read` builds the network again."""
    return {"network": ENCODER, "shape": dataclasses.asdict(shape), "norm_first": norm_first}


def _run(folder: Path) -> Origin:
    info = read_model_info(folder)
    if info.network not in (None, ENCODER):
        raise BadInput(f"--init_from {folder} holds a network of another kind; expected an encoder")
    try:
        shape = Shape(**info.shape)
    except TypeError:
        shape = None
    if info.network is None or shape is None or info.norm_first is None:
        raise BadInput(f"--init_from {folder}: {folders.ABOUT} describes no encoder; expected a run of bert_*")
    words = tokenizers.load(folder / folders.TOKENIZER)
    return Origin(shape, info.norm_first, _checked(words, shape, folder))


def _checked(words: Tokenizer, shape: Shape, folder: Path) -> Tokenizer:
    if words.vocabulary_size > shape.vocabulary:
        raise BadInput(
            f"--init_from {folder}: the tokenizer has {words.vocabulary_size} ids, the weights {shape.vocabulary}; "
            "expected the files of one model"
        )
    return words
