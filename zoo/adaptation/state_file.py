"""The state of a `Refiner` as a JSON file; reading it executes no code."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files, memory
from zoo.errors import BadInput

_FORMAT = 1


def write(path: str | Path, kept: Any, model: str) -> None:
    """Replaces the file in one step.

    Args:
        path: file to write.
        kept: lists, tuples, dicts, arrays and JSON's own types.
        model: digest of the source model.

    Raises:
        BadInput: the file cannot be written; an older one stays.
    """
    files.write(Path(path), json.dumps({"format": _FORMAT, "model": model, "kept": _to_json(kept)}) + "\n")


def read(path: str | Path, model: str) -> Any:
    """Returns what `write` was called with; tuples come back as lists.

    Raises:
        BadInput: the file cannot be read, is not a state file, or belongs to another model.
    """
    mend = "delete it to start from the source model"
    try:
        content = files.read_json(Path(path), memory.total())
        if content["format"] != _FORMAT:
            raise BadInput(f"{path} has format {content['format']}, expected {_FORMAT}: {mend}")
        if content["model"] != model:
            raise BadInput(f"{path} was learned by another model than this run's: {mend}, or name another file")
        return _from_json(content["kept"])
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{path} is not a state file of --refine, or is damaged ({error}): {mend}") from None


def _to_json(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        data = base64.b64encode(np.asarray(value).tobytes()).decode()
        return {"array": data, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {name: _to_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(part) for part in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and "array" in value:
        data = base64.b64decode(value["array"], validate=True)
        return np.frombuffer(data, np.dtype(value["dtype"])).reshape(value["shape"]).copy()
    if isinstance(value, dict):
        return {name: _from_json(part) for name, part in value.items()}
    return [_from_json(part) for part in value] if isinstance(value, list) else value
