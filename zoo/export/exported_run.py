"""What a run offers to take away: its network in Keras' own layers, and what must be known to use it."""

from pathlib import Path
from typing import Any, NamedTuple

import keras

import zoo
from zoo import files
from zoo import workdir as folders
from zoo.data.text.tokenizer import PADDING, Tokenizer
from zoo.data.text.tokenizer import load as load_tokenizer
from zoo.errors import BadInput
from zoo.models.keras_only import plain
from zoo.predict.language_models import language_model
from zoo.predict.predictors import loading
from zoo.predict.predictors.fill_mask import MASK

_MEANINGS = {
    "tokens": "ids of tokens, 0 behind a text's end",
    "segments": "0 at the first text of a pair and at padding, 1 at the second text",
    "places": "which tokens to guess; there the text has [MASK]",
}
_LOGITS = {
    "classification": "softmax over the last axis gives the probabilities of the classes",
    "regression": "the value is logit * scale + centre",
    "tagging": "of each token; softmax over the last axis gives the probabilities of the tags",
    "pretraining": "of each place; softmax over the last axis gives the probabilities of the ids",
    "language_model": "at each token, of the token that follows it; softmax over the last axis",
}
_ONE_LOGIT = "sigmoid gives the probability of the second class"


class RunModel(NamedTuple):
    """A finished run, read.

    Attributes:
        source: the run's own model, as `zoo.load` has it.
        network: the same of Keras' own layers, float32, see `plain`.
        about: the run's model.json.
        signature: what lies beside an artefact as JSON.
        tokenizer: of a run on texts.
    """

    source: keras.Model
    network: keras.Model
    about: dict[str, Any]
    signature: dict[str, Any]
    tokenizer: Tokenizer | None


def read(workdir: str | Path) -> RunModel:
    """Reads a run for export.

    Raises:
        BadInput: there is no model, it cannot be read, or it is of a kind that is not exported.
    """
    workdir = files.absolute(workdir)
    about = folders.read_json(workdir, folders.ABOUT)
    # What loads a run for prediction finds all that may be wrong with it.
    is_language_model = isinstance(about, dict) and about.get("task") == "language_model"
    # Without LiteRT, which may be just what this is read for.
    loaded = language_model.load(workdir) if is_language_model else loading.load(workdir, runtime="compiled")
    source = getattr(loaded, "network", loaded).model
    reads_text = about.get("input") == "text" or is_language_model
    tokenizer = load_tokenizer(workdir / folders.TOKENIZER) if reads_text else None
    network = plain(source, segments=bool(about.get("pair")))
    return RunModel(source, network, about, _signature(about, source, network, tokenizer), tokenizer)


def _signature(
    about: dict[str, Any], source: keras.Model, network: keras.Model, tokenizer: Tokenizer | None
) -> dict[str, Any]:
    task, logits = about["task"], network.output.shape
    meaning = _ONE_LOGIT if task == "classification" and logits[-1] == 1 else _LOGITS[task]
    found = {
        "zoo": zoo.__version__,
        "task": task,
        **{name: about[name] for name in ("classes", "tags", "scheme", "words", "centre", "scale") if name in about},
        "inputs": [
            {"name": each.name, "dtype": each.dtype, "shape": _shape(each.shape), "is": _meaning(each, about)}
            for each in network.inputs
        ],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": _shape(logits), "is": meaning}],
        "precision": "float32",
    }
    if tokenizer is not None:
        found["text"] = _text(about, source, tokenizer)
    return found


def _text(about: dict[str, Any], source: keras.Model, tokenizer: Tokenizer) -> dict[str, Any]:
    """How texts become ids."""
    longest = about.get("max_length") or about.get("context")
    return {
        "tokenizer": folders.TOKENIZER,
        # Where the file's own id 0 is no padding, the model's ids are one more than the file's.
        "id_shift": _shift(tokenizer),
        "vocabulary": tokenizer.vocabulary_size,
        "frame": about.get("frame"),
        "max_length": longest,
        "cut": about.get("cut", "head"),
        "pair": bool(about.get("pair")),
        "mask": tokenizer.id_of(MASK) if about["task"] == "pretraining" else None,
        "padding": PADDING,
    }


def _shift(tokenizer: Tokenizer) -> int:
    # The first id of the file, whatever it stands for, is this one here.
    return 0 if tokenizer.token(PADDING) is not None else 1


def _shape(shape: tuple) -> list:
    names = {0: "batch", 1: "time"}
    return [names.get(place, "any") if size is None else size for place, size in enumerate(shape)]


def _meaning(each: Any, about: dict[str, Any]) -> str:
    if each.name != "x":
        return _MEANINGS[each.name]
    largest = about.get("largest")
    return f"raw pixels, 0 to {largest:g}" if largest else "raw features; they are standardised inside of the model"


def refuse(signature: dict[str, Any], format: str, why: str) -> None:
    """Says that a format cannot hold a run.

    Raises:
        BadInput: always.
    """
    raise BadInput(f"--format={format} cannot hold this run for {signature['task']}: {why}")
