"""Tensor files of a folder: one or several safetensors, of any float type, read as float32."""

import re
from pathlib import Path

import numpy as np
import safetensors

from zoo import memory
from zoo.errors import BadInput
from zoo.files import regular
from zoo.models.hugging_face import config, weight_names

FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# Weight files of other libraries: reading them would run code, or is not supported here.
_OTHERS = ("*.bin", "*.pt", "*.ckpt*", "*.h5", "*.msgpack", "*.onnx")
_CONVERT = (
    'python -c "import torch, safetensors.torch as s; s.save_file({name: x.clone().contiguous() for name, x in '
    "torch.load('pytorch_model.bin', map_location='cpu', weights_only=True).items()}, 'model.safetensors')\""
)
_SHARD = r"[\w.-]+\.safetensors"
_TYPES = {"F32": "<f4", "F16": "<f2"}

# Each file, with the names of its tensors by the index.
Shards = list[tuple[Path, set[str] | None]]


def read(folder: Path) -> tuple[Path, dict[str, np.ndarray], list[str]]:
    """Reads all tensors of a folder but `position_ids`.

    Returns:
        The file to name in error messages, float32 tensors by name, and a list of problems, one phrase each.

    Raises:
        BadInput: there are no weights, or a file is damaged.
    """
    source, shards = _shards(folder)
    tensors, problems = {}, []
    for path, listed in shards:
        raw = _raw(path)
        differs = sorted(listed ^ raw.keys()) if listed is not None else []
        problems += [f"{name}: {'not' if name in raw else 'only'} in the index as of {path.name}" for name in differs]
        for name, (dtype, shape, content) in raw.items():
            if weight_names.is_buffer(name):
                continue
            if dtype != "BF16" and dtype not in _TYPES:
                problems.append(f"{name}: of type {dtype}, expected F32, F16 or BF16")
            else:
                tensors[name] = _float32(dtype, content).reshape(shape)
    return source, tensors, problems


def _shards(folder: Path) -> tuple[Path, Shards]:
    """The file to name in error messages, and all files."""
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
    file_of = config.read_object(index, "the index of the shards").get("weight_map")
    # File names only: an index must not point out of its folder.
    if not isinstance(file_of, dict) or not file_of or not all(re.fullmatch(_SHARD, str(x)) for x in file_of.values()):
        raise BadInput(f"{index} has no weight_map; expected the name of a file in the same folder for each tensor")
    files = sorted(set(file_of.values()))
    return [(index.with_name(file), {name for name, other in file_of.items() if other == file}) for file in files]


def _raw(path: Path) -> dict[str, tuple[str, list[int], bytearray]]:
    """Dtype, shape and bytes of each tensor: the library's arrays cannot be bfloat16."""
    try:
        with regular(path, memory.total()) as file:
            content = file.read()
        return {name: (x["dtype"], x["shape"], x["data"]) for name, x in safetensors.deserialize(content)}
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; expected a file of weights") from None
    except ValueError as error:
        raise BadInput(f"{path} cannot be read: {error}; expected a file of weights") from None
    except safetensors.SafetensorError as error:
        pointer = content.startswith(b"version https://git-lfs")
        hint = "it is a pointer of Git LFS, run `git lfs pull`" if pointer else "fetch or convert it again"
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path} is damaged or incomplete ({reason}); expected safetensors: {hint}") from None


def _float32(dtype: str, content: bytearray) -> np.ndarray:
    if dtype == "BF16":
        # NumPy has no bfloat16, which is the upper half of a float32: the conversion is exact.
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, _TYPES[dtype]).astype(np.float32, copy=False)
