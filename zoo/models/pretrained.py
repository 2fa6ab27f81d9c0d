"""BERTs from folders as Hugging Face's transformers has them: config.json, safetensors, tokenizer.

Needs neither PyTorch nor transformers.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import config as configs
from zoo.errors import BadInput
from zoo.models import bert_config, bert_names, bert_tensors, bert_tokenizer
from zoo.models.bert_config import Shape
from zoo.models.bert_tokenizer import tokenizer_json

__all__ = ["Pretrained", "Shape", "read", "tokenizer_json"]


class Pretrained(NamedTuple):
    """A BERT.

    Attributes:
        shape: what its forward pass needs besides weights.
        weights: float32, kernels `[in, out]`: `embedding/token`, `embedding/position`, `embedding/segment`,
            `embedding/norm/gamma|beta`; of each block i `block{i}/attention/query|key|value|output/kernel|bias`,
            `block{i}/attention/norm/gamma|beta`, `block{i}/inner|outer/kernel|bias`, `block{i}/norm/gamma|beta`.
        extra: of the heads that it has: `pooler/kernel|bias`; `mask/dense/kernel|bias`, `mask/norm/gamma|beta` and
            `mask/bias` of masked language modelling, whose last kernel is `embedding/token` transposed;
            `next/kernel|bias` of next sentence prediction; `head/kernel|bias` of a classifier.
        tokenizer: tokenizer.json or vocab.txt, see `tokenizer_json`; None for a model that was made here.
        labels: the classes of `head`, in the order of its columns.
    """

    shape: Shape
    weights: dict[str, np.ndarray]
    extra: dict[str, np.ndarray]
    tokenizer: Path | None = None
    labels: tuple[str, ...] = ()


def read(folder: str | Path) -> Pretrained:
    """Reads a folder as `save_pretrained` of transformers makes it, of any BERT with any of the known heads.

    Raises:
        BadInput: a file is missing or damaged, it is no BERT, or tensors are missing, unexpected or of another shape.
    """
    folder = configs.absolute(folder)
    if not folder.is_dir():
        raise BadInput(
            f"{folder} is no folder; expected one with config.json, model.safetensors and tokenizer.json or vocab.txt"
        )
    config = bert_config.read(folder)
    shape = bert_config.shape_of(config, folder / bert_config.FILE)
    tokenizer = bert_tokenizer.find(folder)
    bert_tokenizer.check(tokenizer_json(folder), shape.vocabulary, tokenizer)
    source, found, wrong = bert_tensors.read(folder)
    _refuse(source, wrong, "the model of its config.json")
    weights, extra, wrong = bert_names.to_ours(found, shape)
    _refuse(source, wrong, "the model of its config.json")
    classes = len(extra.get("head/bias", ()))
    labels = bert_config.labels_of(config, classes, folder / bert_config.FILE) if classes else ()
    return Pretrained(shape, weights, extra, tokenizer, labels)


def _refuse(source: str | Path, wrong: list[str], expected: str) -> None:
    if wrong:
        listing = "; ".join(sorted(wrong)[:6])
        raise BadInput(f"{source} does not fit {expected}: {listing} ({len(wrong)} in all)")
