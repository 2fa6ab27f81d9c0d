"""Folders of small BERTs to read, and BERT's forward pass in plain numpy."""

import json
import math
import shutil
from pathlib import Path

import numpy as np

from zoo.models.hugging_face import weight_names
from zoo.models.hugging_face.folder import Pretrained, Shape

FIXTURES = Path(__file__).parents[1] / "fixtures"
TINY = FIXTURES / "tiny_bert"
BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I8": 1}


def copy(folder: Path, tensors=None, **changes) -> Path:
    """The tiny BERT with other tensors or another config; a value of None takes the key away."""
    shutil.copytree(TINY, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    if tensors is not None:
        (folder / "model.safetensors").write_bytes(packed(tensors))
    return folder


def spread(folder: Path) -> Path:
    """The tiny BERT with vectors that differ in direction; its own all point where the biases do."""
    tensors = {
        name: np.ones_like(values) if name.endswith("LayerNorm.weight") else 0 * values if "bias" in name else values
        for name, values in unpacked().items()
    }
    return copy(folder, tensors)


def unpacked(path: Path = TINY / "model.safetensors") -> dict[str, np.ndarray]:
    """The tensors of a file by the format's own description, without the library."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*x["data_offsets"])], "<f4").reshape(x["shape"]) for name, x in header.items()
    }


def packed(tensors) -> bytes:
    """A file of tensors, each an array of float32, or its type and an array of the bits."""
    header, data = {}, b""
    for name, value in tensors.items():
        kind, bits = value if isinstance(value, tuple) else ("F32", np.asarray(value, np.float32))
        assert bits.dtype.itemsize == BYTES[kind]
        content = np.ascontiguousarray(bits).tobytes()
        header[name] = {"dtype": kind, "shape": bits.shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype == np.float32 and np.array_equal(one[name], other[name]) for name in one
    )


def same(one: Pretrained, other: Pretrained) -> bool:
    alike = one.shape == other.shape and one.labels == other.labels
    return alike and equal(one.weights, other.weights) and equal(one.extra, other.extra)


def made(shape: Shape, heads=(), classes=3, seed=0) -> Pretrained:
    """A model of random weights."""
    draw = np.random.default_rng(seed)
    body, top = weight_names.backbone(shape), weight_names.heads(shape, heads, classes)
    drawn = [
        {name: draw.normal(size=weight_names.shape_here(x)).astype(np.float32) for name, x in part.items()}
        for part in (body, top)
    ]
    return Pretrained(shape, *drawn, labels=tuple("abcdefgh"[:classes]) if "head" in heads else ())


def hidden(found: Pretrained, ids, segments=None, mask=None) -> np.ndarray:
    """The last hidden states `[batch, time, width]`; `mask` is 0 where nobody may look."""
    shape, w = found.shape, found.weights
    ids = np.asarray(ids)
    segments = np.zeros_like(ids) if segments is None else np.asarray(segments)
    x = w["embedding/token"][ids] + w["embedding/position"][: ids.shape[1]] + w["embedding/segment"][segments]
    x = normal(x, w, "embedding/norm", shape.epsilon)
    blocked = 0 if mask is None else np.where(np.asarray(mask), 0, -np.inf)[:, None, None, :]
    for number in range(shape.layers):
        block = f"block{number}"
        attended = dense(attention(x, w, block, shape.heads, blocked), w, f"{block}/attention/output")
        x = normal(x + attended, w, f"{block}/attention/norm", shape.epsilon)
        inner = ACTIVATIONS[shape.activation](dense(x, w, f"{block}/inner"))
        x = normal(x + dense(inner, w, f"{block}/outer"), w, f"{block}/norm", shape.epsilon)
    return x


def tops(found: Pretrained, states: np.ndarray) -> dict[str, np.ndarray]:
    """What the heads make of the last hidden states."""
    w = found.extra
    guess = ACTIVATIONS[found.shape.activation](dense(states, w, "mask/dense"))
    guess = normal(guess, w, "mask/norm", found.shape.epsilon)
    pooled = np.tanh(dense(states[:, 0], w, "pooler"))
    logits = guess @ found.weights["embedding/token"].T + w["mask/bias"]
    return {"pooler": pooled, "mask": logits, "next": dense(pooled, w, "next")}


def attention(x, w, block, heads, blocked):
    batch, time, width = x.shape
    query, key, value = (
        dense(x, w, f"{block}/attention/{part}").reshape(batch, time, heads, width // heads).transpose(0, 2, 1, 3)
        for part in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(width // heads) + blocked
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = scores / scores.sum(-1, keepdims=True) @ value
    return mixed.transpose(0, 2, 1, 3).reshape(batch, time, width)


def dense(x, w, name):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def normal(x, w, name, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * w[f"{name}/gamma"] + w[f"{name}/beta"]


ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)).astype(x.dtype)),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}
