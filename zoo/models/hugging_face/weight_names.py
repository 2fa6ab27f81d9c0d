"""Where each weight of a BERT stands in a PyTorch file, and what it is called here."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from zoo.models.hugging_face.config import Shape

# The first part of their names here, and the start of their names there.
HEADS = {"pooler": "pooler.", "mask": "cls.predictions.", "next": "cls.seq_relationship.", "head": "classifier."}
_TOKENS = "embeddings.word_embeddings.weight"
_DECODER = "cls.predictions.decoder.weight"
_BACKBONE = "bert."
# TensorFlow's names, in files of 2018 and 2019; and a second name of one tensor.
_OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias", "decoder.bias": "bias"}
# 0, 1, 2, ...: no weight.
_BUFFER = "embeddings.position_ids"


class Tensor(NamedTuple):
    """A tensor of a PyTorch file.

    Attributes:
        name: without `bert.`.
        shape: as it is there.
        kernel: whether it is `[out, in]` there, `[in, out]` here.
    """

    name: str
    shape: tuple[int, ...]
    kernel: bool = False


def backbone(shape: Shape) -> dict[str, Tensor]:
    """All weights but the heads' by their names here."""
    found = {
        "embedding/token": Tensor(_TOKENS, (shape.vocabulary, shape.width)),
        "embedding/position": Tensor("embeddings.position_embeddings.weight", (shape.positions, shape.width)),
        "embedding/segment": Tensor("embeddings.token_type_embeddings.weight", (shape.segments, shape.width)),
        **_norm("embedding/norm", "embeddings.LayerNorm", shape.width),
    }
    for number in range(shape.layers):
        found |= _block(f"block{number}", f"encoder.layer.{number}", shape)
    return found


def heads(shape: Shape, names: Collection[str], classes: int) -> dict[str, Tensor]:
    """The weights of the heads in `names` by their names here; `classes` is the number of the head's."""
    width = shape.width
    found = {
        "pooler": _dense("pooler", "pooler.dense", width, width),
        "mask": {
            **_dense("mask/dense", "cls.predictions.transform.dense", width, width),
            **_norm("mask/norm", "cls.predictions.transform.LayerNorm", width),
            "mask/bias": Tensor("cls.predictions.bias", (shape.vocabulary,)),
        },
        "next": _dense("next", "cls.seq_relationship", width, 2),
        "head": _dense("head", "classifier", width, classes),
    }
    return {ours: tensor for name in HEADS if name in names for ours, tensor in found[name].items()}


def to_ours(
    found: Mapping[str, np.ndarray], shape: Shape
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """Renames and transposes the float32 tensors of a PyTorch file.

    Returns:
        The backbone's weights and the heads', with the names and in the orientation that they have here, and what is
        wrong with the tensors, one phrase each.
    """
    plain, wrong = _plain(found)
    decoder = plain.get(_DECODER)
    present = [head for head, start in HEADS.items() if any(name.startswith(start) for name in plain)]
    if decoder is not None and not np.array_equal(plain.pop(_DECODER), plain.get(_TOKENS, ())):
        wrong.append(f"{_DECODER}: not {_TOKENS}, and here the two are one: a decoder of its own is not supported")
    classes = len(np.atleast_1d(plain.get("classifier.weight", plain.get("classifier.bias", 0))))
    body, top = backbone(shape), heads(shape, present, classes)
    wrong += misfits(plain, {tensor.name: tensor.shape for tensor in (body | top).values()})
    if wrong:
        return {}, {}, wrong
    return _renamed(plain, body), _renamed(plain, top), []


def to_theirs(weights: Mapping[str, np.ndarray], layout: Mapping[str, Tensor], prefix: bool) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file, each contiguous; `prefix` puts `bert.` before those below the heads."""
    found = {}
    for ours, (name, _, kernel) in layout.items():
        own = name.startswith(("cls.", "classifier."))
        # Contiguous: safetensors writes the memory as it lies, whatever a view of it says.
        values = np.ascontiguousarray(weights[ours].T if kernel else weights[ours], np.float32)
        found[_BACKBONE + name if prefix and not own else name] = values
    return found


def shape_here(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor in the orientation that it has here."""
    return tensor.shape[::-1] if tensor.kernel else tensor.shape


def misfits(found: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is missing, unexpected, of another shape than wanted, or not finite, one phrase each."""
    wrong = [f"{name}: missing" for name in wanted.keys() - found.keys()]
    wrong += [f"{name}: unexpected" for name in found.keys() - wanted.keys()]
    for name in wanted.keys() & found.keys():
        if np.shape(found[name]) != wanted[name]:
            wrong.append(f"{name}: shape {np.shape(found[name])}, expected {wanted[name]}")
        elif not np.isfinite(found[name]).all():
            wrong.append(f"{name}: has numbers that are not finite")
    return wrong


def is_buffer(name: str) -> bool:
    """Whether a tensor of a file is no weight."""
    return name.removeprefix(_BACKBONE) == _BUFFER


def _dense(ours: str, theirs: str, width: int, units: int) -> dict[str, Tensor]:
    return {
        f"{ours}/kernel": Tensor(f"{theirs}.weight", (units, width), kernel=True),
        f"{ours}/bias": Tensor(f"{theirs}.bias", (units,)),
    }


def _norm(ours: str, theirs: str, width: int) -> dict[str, Tensor]:
    return {f"{ours}/gamma": Tensor(f"{theirs}.weight", (width,)), f"{ours}/beta": Tensor(f"{theirs}.bias", (width,))}


def _block(ours: str, theirs: str, shape: Shape) -> dict[str, Tensor]:
    width, inner = shape.width, shape.inner
    found = {}
    for part in ("query", "key", "value"):
        found |= _dense(f"{ours}/attention/{part}", f"{theirs}.attention.self.{part}", width, width)
    return {
        **found,
        **_dense(f"{ours}/attention/output", f"{theirs}.attention.output.dense", width, width),
        **_norm(f"{ours}/attention/norm", f"{theirs}.attention.output.LayerNorm", width),
        **_dense(f"{ours}/inner", f"{theirs}.intermediate.dense", width, inner),
        **_dense(f"{ours}/outer", f"{theirs}.output.dense", inner, width),
        **_norm(f"{ours}/norm", f"{theirs}.output.LayerNorm", width),
    }


def _plain(found: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors by today's names without prefix, and what contradicts itself."""
    plain, wrong = {}, []
    for name, values in found.items():
        short = name.removeprefix(_BACKBONE)
        for old, new in _OLD.items():
            short = short.removesuffix(old) + new if short.endswith(f".{old}") else short
        if short in plain and not np.array_equal(plain[short], values):
            wrong.append(f"{name}: differs from another tensor that means {short}")
        plain[short] = values
    return plain, wrong


def _renamed(plain: Mapping[str, np.ndarray], layout: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {
        ours: np.ascontiguousarray(plain[name].T) if kernel else plain[name]
        for ours, (name, _, kernel) in layout.items()
    }
