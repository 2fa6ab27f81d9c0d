"""config.json of a BERT: read and checked, and written."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import files
from zoo.errors import BadInput

FILE = "config.json"
ACTIVATIONS = ("gelu", "gelu_new", "relu")
# Far more than any BERT has; a damaged number must not make names of a million layers.
_MOST_LAYERS = 1000


@dataclasses.dataclass(frozen=True)
class Shape:
    """Hyperparameters of a BERT's architecture (Devlin et al. 2019, arXiv:1810.04805).

    Attributes:
        vocabulary: rows of the token embedding, more than the tokenizer's largest id.
        width: width of the hidden states.
        layers: number of blocks.
        heads: number of attention heads, each `width / heads` wide.
        inner: width of the hidden layer of the feed-forward layer.
        positions: maximum sequence length, special tokens included.
        segments: rows of the segment embedding.
        activation: `gelu` (exact, with erf), `gelu_new` (approximated with tanh) or `relu`.
        epsilon: added to the variance in each layer norm.
        dropout: dropout rate after the embeddings, the attention and the feed-forward layer.
        attention_dropout: dropout rate of the attention weights.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    segments: int = 2
    activation: str = "gelu"
    epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1


_KEYS = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
    "positions": "max_position_embeddings",
    "segments": "type_vocab_size",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
# Values of the original BERT, suggested for files older than these keys. Not assumed, as they change the network.
_ORIGINAL = {"model_type": "bert", **{_KEYS[f.name]: f.default for f in dataclasses.fields(Shape)[6:]}}
# With other values the same weights are a different network.
_FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False, "pruned_heads": {}}


def read(folder: Path) -> dict[str, Any]:
    """The config.json of a folder.

    Raises:
        BadInput: the file is missing, or not a JSON object.
    """
    return read_object(folder / FILE, "the one that came with the weights")


def read_object(path: Path, expected: str) -> dict[str, Any]:
    """Reads a file with one JSON object.

    Raises:
        BadInput: the file is missing or not a JSON object; the message ends with `expected`.
    """
    value = read_json(path, expected)
    if not isinstance(value, dict):
        raise BadInput(f"{path} is JSON, but not an object; expected {expected}")
    return value


def read_json(path: Path, expected: str) -> Any:
    """Reads a JSON file.

    Raises:
        BadInput: the file is missing or not JSON; the message ends with `expected`.
    """
    try:
        return files.read_json(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; expected {expected}") from None
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}); expected {expected}") from None


def shape_of(config: Mapping[str, Any], source: Path) -> Shape:
    """The shape of a network from its config.json.

    Raises:
        BadInput: the model is not a BERT, a key is missing or a number does not fit; the message names `source`.
    """
    model_type = _value(config, "model_type", source)
    if model_type != "bert":
        raise BadInput(
            f"{source}: model_type is {_abbreviated(model_type)}; expected 'bert' (BERT itself, MacBERT, Chinese wwm, "
            "MiniLM): other networks compute something else from their weights, choose a folder of this kind"
        )
    for key, only in _FIXED.items():
        if config.get(key, only) != only:
            raise BadInput(f"{source}: {key} is {_abbreviated(config[key])}; expected {only!r}, no other is known here")
    values = {field: _value(config, key, source) for field, key in _KEYS.items()}
    for field, value in values.items():
        expected = _expected(field, value)
        if expected:
            raise BadInput(f"{source}: {_KEYS[field]} is {_abbreviated(value)}; expected {expected}")
    values |= {field: float(values[field]) for field in ("epsilon", "dropout", "attention_dropout")}
    if values["width"] % values["heads"]:
        raise BadInput(
            f"{source}: hidden_size is {values['width']}, num_attention_heads is {values['heads']}; expected heads of "
            "one width: numbers where the second divides the first"
        )
    return Shape(**values)


def labels_of(config: Mapping[str, Any], classes: int, source: Path) -> tuple[str, ...]:
    """The class names of a `head`; LABEL_0, LABEL_1, ... where the file has none.

    Raises:
        BadInput: the names are not those of `classes` classes.
    """
    id2label = config.get("id2label") or {str(number): f"LABEL_{number}" for number in range(classes)}
    if not isinstance(id2label, dict) or set(id2label) != set(map(str, range(classes))):
        raise BadInput(
            f"{source}: id2label is {_abbreviated(id2label)}; expected names for 0 to {classes - 1}, as many as "
            "classifier.weight has rows"
        )
    return tuple(str(id2label[str(number)]) for number in range(classes))


def to_config(shape: Shape, architecture: str, labels: tuple[str, ...]) -> dict[str, Any]:
    """The config.json of a model; `architecture` is the class of transformers that has its heads."""
    label_maps = {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    return {
        "architectures": [architecture],
        "model_type": "bert",
        **{key: getattr(shape, field) for field, key in _KEYS.items()},
        "position_embedding_type": "absolute",
        "pad_token_id": 0,
        "tie_word_embeddings": True,
        **(label_maps if labels else {}),
    }


def _value(config: Mapping[str, Any], key: str, source: Path) -> Any:
    if key not in config:
        hint = f": add it, the first BERT's is {json.dumps(_ORIGINAL[key])}" if key in _ORIGINAL else ""
        raise BadInput(f"{source} lacks {key!r}; expected a config.json as transformers writes it{hint}")
    return config[key]


def _expected(field: str, value: Any) -> str | None:
    """A description of valid values, or None where the value is valid."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    whole = number and isinstance(value, int)
    if field == "activation":
        return None if value in ACTIVATIONS else f"one of {', '.join(ACTIVATIONS)}"
    if field == "epsilon":
        return None if number and 0 < value < 1 else "a small number above 0, such as 1e-12"
    if "dropout" in field:
        return None if number and 0 <= value < 1 else "a rate from 0 to less than 1"
    if field == "layers":
        return None if whole and 1 <= value <= _MOST_LAYERS else f"a whole number from 1 to {_MOST_LAYERS}"
    return None if whole and value >= 1 else "a whole number, 1 or more"


def _abbreviated(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
