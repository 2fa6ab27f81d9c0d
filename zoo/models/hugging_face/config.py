"""config.json of a BERT: checked when it is read, and written for others to read."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import BadInput

FILE = "config.json"
ACTIVATIONS = ("gelu", "gelu_new", "relu")
# Far more than anybody has; a damaged number must not make names of a million layers.
_MOST_LAYERS = 1000


@dataclasses.dataclass(frozen=True)
class Shape:
    """What decides, besides the weights, what a BERT computes (Devlin et al. 2019, arXiv:1810.04805).

    Attributes:
        vocabulary: rows of the token embedding; ids of the tokenizer are less.
        width: of the hidden states.
        layers: number of blocks.
        heads: of attention, each `width / heads` wide.
        inner: width of the feed-forward layer inside of a block.
        positions: the longest sequence, special tokens included.
        segments: rows of the segment embedding.
        activation: `gelu` is exact (erf), `gelu_new` its tanh approximation, or `relu`.
        epsilon: added to the variance in each layer norm.
        dropout: rate after the embeddings, the attention and the feed-forward layer.
        attention_dropout: rate of the attention's weights.
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
# Of the first BERT: what to add to a file of the time before these keys. Never guessed, for they change the network.
_FIRST = {"model_type": "bert", **{_KEYS[f.name]: f.default for f in dataclasses.fields(Shape)[6:]}}
# With another value the same weights are another network.
_FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False, "pruned_heads": {}}


def read(folder: Path) -> dict[str, Any]:
    """The config.json of a folder.

    Raises:
        BadInput: it is missing, or no JSON object.
    """
    return read_object(folder / FILE, "the one that came with the weights")


def read_object(path: Path, expected: str) -> dict[str, Any]:
    """A file with one JSON object.

    Raises:
        BadInput: it cannot be read as such; `expected` says what it should have been.
    """
    found = read_json(path, expected)
    if not isinstance(found, dict):
        raise BadInput(f"{path} is JSON, but not an object; expected {expected}")
    return found


def read_json(path: Path, expected: str) -> Any:
    """A file of JSON.

    Raises:
        BadInput: it cannot be read as such; `expected` says what it should have been.
    """
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; expected {expected}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON ({error}); expected {expected}") from None


def shape_of(config: Mapping[str, Any], source: Path) -> Shape:
    """The shape that a config.json tells.

    Raises:
        BadInput: no BERT, a key is missing or a number does not fit; `source` is named.
    """
    kind = _value(config, "model_type", source)
    if kind != "bert":
        raise BadInput(
            f"{source}: model_type is {_shown(kind)}; expected 'bert' (BERT itself, MacBERT, Chinese wwm, MiniLM): "
            "other networks compute something else from their weights, choose a folder of this kind"
        )
    for key, only in _FIXED.items():
        if config.get(key, only) != only:
            raise BadInput(f"{source}: {key} is {_shown(config[key])}; expected {only!r}, no other is known here")
    values = {field: _value(config, key, source) for field, key in _KEYS.items()}
    for field, value in values.items():
        expected = _expected(field, value)
        if expected:
            raise BadInput(f"{source}: {_KEYS[field]} is {_shown(value)}; expected {expected}")
    values |= {field: float(values[field]) for field in ("epsilon", "dropout", "attention_dropout")}
    if values["width"] % values["heads"]:
        raise BadInput(
            f"{source}: hidden_size is {values['width']}, num_attention_heads is {values['heads']}; expected heads of "
            "one width: numbers where the second divides the first"
        )
    return Shape(**values)


def labels_of(config: Mapping[str, Any], classes: int, source: Path) -> tuple[str, ...]:
    """The names of the classes of a `head`, LABEL_0 and so on where the file has none.

    Raises:
        BadInput: the names are not those of so many classes.
    """
    named = config.get("id2label") or {str(number): f"LABEL_{number}" for number in range(classes)}
    if not isinstance(named, dict) or set(named) != set(map(str, range(classes))):
        raise BadInput(
            f"{source}: id2label is {_shown(named)}; expected names for 0 to {classes - 1}, as many as "
            "classifier.weight has rows"
        )
    return tuple(str(named[str(number)]) for number in range(classes))


def written(shape: Shape, architecture: str, labels: tuple[str, ...]) -> dict[str, Any]:
    """What config.json says of a model; `architecture` is the class of transformers that has its heads."""
    named = {
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
        **(named if labels else {}),
    }


def _value(config: Mapping[str, Any], key: str, source: Path) -> Any:
    if key not in config:
        usual = f": add it, the first BERT's is {json.dumps(_FIRST[key])}" if key in _FIRST else ""
        raise BadInput(f"{source} lacks {key!r}; expected a config.json as transformers writes it{usual}")
    return config[key]


def _expected(field: str, value: Any) -> str | None:
    """What a value should have been, or None where it is good."""
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


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
