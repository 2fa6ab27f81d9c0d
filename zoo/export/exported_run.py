"""A finished run read for export: its network in plain Keras layers, and the signature needed to use it."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import keras

import zoo
from zoo import files
from zoo import workdir as folders
from zoo.data.datasets import column_schema, delimited_format
from zoo.data.datasets.column_schema import TableSchema
from zoo.data.text.tokenizer import PADDING, Tokenizer
from zoo.data.text.tokenizer import load as load_tokenizer
from zoo.errors import BadInput
from zoo.metrics.label_thresholds import PLAIN
from zoo.model_info import ModelInfo, read_model_info
from zoo.models.keras_only import plain
from zoo.models.word_logits import WordLogits
from zoo.predict.language_models import language_model
from zoo.predict.predictors import loading
from zoo.predict.predictors.fill_mask import MASK

_MEANINGS = {
    "tokens": "ids of tokens, 0 behind a text's end",
    "segments": "0 at the first text of a pair and at padding, 1 at the second text",
    "features": "hashed features of the word that begins at a token, 0 elsewhere; see word_features.py",
    "places": "which tokens to guess; there the text has [MASK]",
}
_LOGITS = {
    "classification": "softmax over the last axis gives the probabilities of the classes",
    "multi_label": "sigmoid gives the probability of each label",
    "regression": "the value is logit * scale + centre",
    "tagging": "of each token; softmax over the last axis gives the probabilities of the tags",
    "pretraining": "of each place; softmax over the last axis gives the probabilities of the ids",
    "language_model": "at each token, of the token that follows it; softmax over the last axis",
}
# Name of the module that computes the features of words, beside the model.
WORD_FEATURES = "word_features.py"
_ONE_LOGIT = "sigmoid gives the probability of the second class"


class RunModel(NamedTuple):
    """A finished run, ready for export.

    Attributes:
        source: the run's model, as `zoo.load` returns it.
        network: the same network in Keras' own layers and float32; see `plain`.
        info: content of the run's model.json.
        signature: description of inputs, outputs and texts, written as signature.json beside the artefact.
        tokenizer: tokenizer of a run on texts, or None.
    """

    source: keras.Model
    network: keras.Model
    info: ModelInfo
    signature: dict[str, Any]
    tokenizer: Tokenizer | None


def read(workdir: str | Path) -> RunModel:
    """Reads a run for export.

    Raises:
        BadInput: the model is missing, cannot be read, or cannot be exported.
    """
    workdir = files.absolute(workdir)
    info = read_model_info(workdir)
    is_language_model = info.task == "language_model"
    # Loading for prediction reports any damage. Without LiteRT, which may be the format to export to.
    loaded = language_model.load(workdir) if is_language_model else loading.load(workdir, runtime="compiled")
    source = loaded.model
    reads_text = info.input == "text" or is_language_model
    tokenizer = load_tokenizer(workdir / folders.TOKENIZER) if reads_text else None
    network = plain(source, segments=info.pair)
    signature = _signature(info, network, tokenizer)
    buckets = [layer.buckets for layer in source.layers if isinstance(layer, WordLogits)]
    if buckets:
        signature["word_features"] = {"module": WORD_FEATURES, "buckets": buckets[0]}
    return RunModel(source, network, info, signature, tokenizer)


def _signature(info: ModelInfo, network: keras.Model, tokenizer: Tokenizer | None) -> dict[str, Any]:
    task, logits = info.task, network.output.shape
    meaning = _ONE_LOGIT if task == "classification" and logits[-1] == 1 else _LOGITS[task]
    names = {
        name: getattr(info, name) for name in ("classes", "tags", "scheme", "words", "word_rule", "centre", "scale")
    }
    signature = {
        "zoo": zoo.__version__,
        "task": task,
        **{name: value for name, value in names.items() if value is not None},
        "inputs": [
            {"name": each.name, "dtype": each.dtype, "shape": _shape(each.shape), "is": _meaning(each, info)}
            for each in network.inputs
        ],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": _shape(logits), "is": meaning}],
        "precision": "float32",
    }
    if task == "multi_label":
        rule = info.decision or {}
        signature["thresholds"] = list(rule.get("thresholds") or [PLAIN] * len(info.classes))
    if info.features:
        signature["table"] = _table(info)
    if tokenizer is not None:
        signature["text"] = _text(info, tokenizer)
    return signature


def _table(info: ModelInfo) -> dict[str, Any]:
    """The columns of the training table in the order of the inputs, and what a missing value is written as."""
    schema = column_schema.plain(info.features) if info.columns is None else TableSchema.from_json(info.columns)
    kinds = (column_schema.NUMBER, column_schema.CATEGORY, column_schema.DATE)
    missing = {kind: list(column_schema.missing_words(kind)) if schema.has_missing else [] for kind in kinds}
    file = dataclasses.asdict(delimited_format.of_model(info.file_format))
    return {**schema.as_json(), "features": list(info.features), "missing": missing, "file": file}


def _text(info: ModelInfo, tokenizer: Tokenizer) -> dict[str, Any]:
    """Description of how texts become token ids."""
    return {
        "tokenizer": folders.TOKENIZER,
        # Where id 0 of the file is not padding, the model's ids are the file's plus 1.
        "id_shift": _shift(tokenizer),
        "vocabulary": tokenizer.vocabulary_size,
        "frame": info.frame,
        "max_length": info.max_length or info.context,
        "cut": info.cut or "head",
        "pair": info.pair,
        "mask": tokenizer.id_of(MASK) if info.task == "pretraining" else None,
        "padding": PADDING,
    }


def _shift(tokenizer: Tokenizer) -> int:
    return 0 if tokenizer.token(PADDING) is not None else 1


def _shape(shape: tuple) -> list:
    names = {0: "batch", 1: "time"}
    return [names.get(axis, "any") if size is None else size for axis, size in enumerate(shape)]


def _meaning(tensor: Any, info: ModelInfo) -> str:
    if tensor.name != "x":
        return _MEANINGS[tensor.name]
    if info.largest:
        return f"raw pixels, 0 to {info.largest:g}"
    if info.columns is not None:
        return "numbers, codes of categories (-1: another one), days since 1970; NaN: missing; see table"
    return "raw features; they are standardised inside of the model"


def refuse(signature: dict[str, Any], format: str, why: str) -> None:
    """Refuses a format that cannot hold a run.

    Raises:
        BadInput: always.
    """
    raise BadInput(f"--format={format} cannot hold this run for {signature['task']}: {why}")
