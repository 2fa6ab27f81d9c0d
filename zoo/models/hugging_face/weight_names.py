"""Weight names of a BERT: in PyTorch files, and in the zoo."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from zoo.models.hugging_face.config import Shape

# Heads: first part of the zoo's weight names -> prefix of PyTorch's names.
HEADS = {"pooler": "pooler.", "mask": "cls.predictions.", "next": "cls.seq_relationship.", "head": "classifier."}
_TOKENS = "embeddings.word_embeddings.weight"
_DECODER = "cls.predictions.decoder.weight"
_BACKBONE = "bert."
# TensorFlow's names, in files of 2018 and 2019; and a second name of the same tensor.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias", "decoder.bias": "bias"}
# 0, 1, 2, ...: not a weight.
_BUFFER = "embeddings.position_ids"


class Tensor(NamedTuple):
    """A tensor of a PyTorch file.

    Attributes:
        name: name in the file, without `bert.`.
        shape: shape in the file.
        kernel: whether it is a kernel, `[out, in]` in the file and `[in, out]` in the zoo.
    """

    name: str
    shape: tuple[int, ...]
    kernel: bool = False


def backbone(shape: Shape) -> dict[str, Tensor]:
    """All weights but the heads', by the zoo's names."""
    tensors = {
        "embedding/token": Tensor(_TOKENS, (shape.vocabulary, shape.width)),
        "embedding/position": Tensor("embeddings.position_embeddings.weight", (shape.positions, shape.width)),
        "embedding/segment": Tensor("embeddings.token_type_embeddings.weight", (shape.segments, shape.width)),
        **_norm("embedding/norm", "embeddings.LayerNorm", shape.width),
    }
    for number in range(shape.layers):
        tensors |= _block(f"block{number}", f"encoder.layer.{number}", shape)
    return tensors


def heads(shape: Shape, names: Collection[str], classes: int) -> dict[str, Tensor]:
    """The weights of the heads in `names`, by the zoo's names; `classes` is the number of classes of `head`."""
    width = shape.width
    by_head = {
        "pooler": _dense("pooler", "pooler.dense", width, width),
        "mask": {
            **_dense("mask/dense", "cls.predictions.transform.dense", width, width),
            **_norm("mask/norm", "cls.predictions.transform.LayerNorm", width),
            "mask/bias": Tensor("cls.predictions.bias", (shape.vocabulary,)),
        },
        "next": _dense("next", "cls.seq_relationship", width, 2),
        "head": _dense("head", "classifier", width, classes),
    }
    return {ours: tensor for name in HEADS if name in names for ours, tensor in by_head[name].items()}


def to_ours(
    tensors: Mapping[str, np.ndarray], shape: Shape
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """Renames and transposes the float32 tensors of a PyTorch file.

    Returns:
        The weights of the backbone and of the heads, with the zoo's names and orientation, and a list of problems, one
        phrase each.
    """
    plain, problems = _plain(tensors)
    decoder = plain.get(_DECODER)
    present = [head for head, start in HEADS.items() if any(name.startswith(start) for name in plain)]
    if decoder is not None and not np.array_equal(plain.pop(_DECODER), plain.get(_TOKENS, ())):
        problems.append(f"{_DECODER}: not {_TOKENS}, and here the two are one: an untied decoder is not supported")
    classes = len(np.atleast_1d(plain.get("classifier.weight", plain.get("classifier.bias", 0))))
    backbone_layout, head_layout = backbone(shape), heads(shape, present, classes)
    problems += misfits(plain, {tensor.name: tensor.shape for tensor in (backbone_layout | head_layout).values()})
    if problems:
        return {}, {}, problems
    return _renamed(plain, backbone_layout), _renamed(plain, head_layout), []


def to_theirs(weights: Mapping[str, np.ndarray], layout: Mapping[str, Tensor], prefix: bool) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file; `prefix` adds `bert.` to the names of the backbone and the pooler."""
    tensors = {}
    for ours, (name, _, kernel) in layout.items():
        is_head = name.startswith(("cls.", "classifier."))
        # Contiguous: safetensors writes the memory of a view as it is, without its strides.
        values = np.ascontiguousarray(weights[ours].T if kernel else weights[ours], np.float32)
        tensors[_BACKBONE + name if prefix and not is_head else name] = values
    return tensors


def shape_here(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor in the zoo's orientation."""
    return tensor.shape[::-1] if tensor.kernel else tensor.shape


def misfits(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The tensors that are missing, unexpected, of another shape or not finite, one phrase each."""
    problems = [f"{name}: missing" for name in shapes.keys() - tensors.keys()]
    problems += [f"{name}: unexpected" for name in tensors.keys() - shapes.keys()]
    for name in shapes.keys() & tensors.keys():
        if np.shape(tensors[name]) != shapes[name]:
            problems.append(f"{name}: shape {np.shape(tensors[name])}, expected {shapes[name]}")
        elif not np.isfinite(tensors[name]).all():
            problems.append(f"{name}: has numbers that are not finite")
    return problems


def is_buffer(name: str) -> bool:
    """Whether a tensor of a file is a buffer, not a weight."""
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
    qkv = {}
    for part in ("query", "key", "value"):
        qkv |= _dense(f"{ours}/attention/{part}", f"{theirs}.attention.self.{part}", width, width)
    return {
        **qkv,
        **_dense(f"{ours}/attention/output", f"{theirs}.attention.output.dense", width, width),
        **_norm(f"{ours}/attention/norm", f"{theirs}.attention.output.LayerNorm", width),
        **_dense(f"{ours}/inner", f"{theirs}.intermediate.dense", width, inner),
        **_dense(f"{ours}/outer", f"{theirs}.output.dense", inner, width),
        **_norm(f"{ours}/norm", f"{theirs}.output.LayerNorm", width),
    }


def _plain(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors by their current names without prefix, and contradictions between them."""
    plain, problems = {}, []
    for name, values in tensors.items():
        short = name.removeprefix(_BACKBONE)
        for old, new in _OLD_NAMES.items():
            short = short.removesuffix(old) + new if short.endswith(f".{old}") else short
        if short in plain and not np.array_equal(plain[short], values):
            problems.append(f"{name}: differs from another tensor that means {short}")
        plain[short] = values
    return plain, problems


def _renamed(plain: Mapping[str, np.ndarray], layout: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {
        ours: np.ascontiguousarray(plain[name].T) if kernel else plain[name]
        for ours, (name, _, kernel) in layout.items()
    }
