"""The files of tensors in a folder: one or many, of any float type, as float32."""

import re
from pathlib import Path

import numpy as np
import safetensors

from zoo.errors import BadInput
from zoo.models.hugging_face import config, weight_names

FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# Weights that other libraries keep, and that are read by running what stands in them, or not at all here.
_OTHERS = ("*.bin", "*.pt", "*.ckpt*", "*.h5", "*.msgpack", "*.onnx")
_CONVERT = (
    'python -c "import torch, safetensors.torch as s; s.save_file({name: x.clone().contiguous() for name, x in '
    "torch.load('pytorch_model.bin', map_location='cpu', weights_only=True).items()}, 'model.safetensors')\""
)
_SHARD = r"[\w.-]+\.safetensors"
_TYPES = {"F32": "<f4", "F16": "<f2"}

# Each file, with the tensors that an index says are in it.
Shards = list[tuple[Path, set[str] | None]]


def read(folder: Path) -> tuple[Path, dict[str, np.ndarray], list[str]]:
    """Reads all tensors of a folder but `position_ids`.

    Returns:
        The file to name in an error, float32 tensors by name, and what is wrong with them, one phrase each.

    Raises:
        BadInput: there are none, or a file is damaged.
    """
    source, shards = _shards(folder)
    found, wrong = {}, []
    for path, listed in shards:
        raw = _raw(path)
        differs = sorted(listed ^ raw.keys()) if listed is not None else []
        wrong += [f"{name}: {'not' if name in raw else 'only'} in the index as of {path.name}" for name in differs]
        for name, (kind, shape, content) in raw.items():
            if weight_names.is_buffer(name):
                continue
            if kind != "BF16" and kind not in _TYPES:
                wrong.append(f"{name}: of type {kind}, expected F32, F16 or BF16")
            else:
                found[name] = _float32(kind, content).reshape(shape)
    return source, found, wrong


def _shards(folder: Path) -> tuple[Path, Shards]:
    """The file to name in an error, and all files."""
    single, index = folder / FILE, folder / _INDEX
    if single.exists():
        return single, [(single, None)]
    if index.exists():
        return index, _listed(index)
    others = sorted(path.name for pattern in _OTHERS for path in folder.glob(pattern))
    if others:
        raise BadInput(
            f"{folder} has {others[0]}, and no {FILE}; expected safetensors, which cannot run code when they are "
            f"read: convert weights of PyTorch with {_CONVERT}"
        )
    raise BadInput(f"{folder} has no {FILE} (nor {_INDEX}); expected the weights there")


def _listed(index: Path) -> Shards:
    places = config.read_object(index, "the index of the shards").get("weight_map")
    # Names alone: an index must not point out of its folder.
    if not isinstance(places, dict) or not places or not all(re.fullmatch(_SHARD, str(x)) for x in places.values()):
        raise BadInput(f"{index} has no weight_map; expected the name of a file in the same folder for each tensor")
    files = sorted(set(places.values()))
    return [(index.with_name(file), {name for name, place in places.items() if place == file}) for file in files]


def _raw(path: Path) -> dict[str, tuple[str, list[int], bytearray]]:
    """Type, shape and bytes of each tensor: the library's own arrays cannot be bfloat16."""
    try:
        content = path.read_bytes()
        return {name: (x["dtype"], x["shape"], x["data"]) for name, x in safetensors.deserialize(content)}
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; expected a file of weights") from None
    except safetensors.SafetensorError as error:
        pointer = content.startswith(b"version https://git-lfs")
        mend = "it is Git LFS' note of the file, run `git lfs pull`" if pointer else "fetch or convert it again"
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path} is damaged or not whole ({reason}); expected safetensors: {mend}") from None


def _float32(kind: str, content: bytearray) -> np.ndarray:
    if kind == "BF16":
        # NumPy has no such type. It is the upper half of a float32, so this is exact.
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, _TYPES[kind]).astype(np.float32, copy=False)
