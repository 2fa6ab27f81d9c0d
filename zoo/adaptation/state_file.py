"""What `zoo.adaptation.refiner` has learned of a stream, as a file of JSON: reading it executes nothing."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo.errors import BadInput

_FORMAT = 1


def write(path: str | Path, kept: Any, model: str) -> None:
    """Replaces the file in one stroke.

    Args:
        path: of the file.
        kept: lists, tuples, dicts, arrays and what JSON knows.
        model: digest of the source model that it belongs to.

    Raises:
        BadInput: it cannot be written; an older one stays.
    """
    files.write(Path(path), json.dumps({"format": _FORMAT, "model": model, "kept": _plain(kept)}) + "\n")


def read(path: str | Path, model: str) -> Any:
    """What `write` was given; tuples come back as lists.

    Raises:
        BadInput: the file cannot be read, is none of this kind, or belongs to another model.
    """
    mend = "delete it to start from the source model"
    try:
        found = json.loads(Path(path).read_text(encoding="utf8"))
        if found["format"] != _FORMAT:
            raise BadInput(f"{path} has format {found['format']}, expected {_FORMAT}: {mend}")
        if found["model"] != model:
            raise BadInput(f"{path} was learned by another model than this run's: {mend}, or name another file")
        return _arrays(found["kept"])
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} holds no state of a stream, or a torn one ({error}): {mend}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        data = base64.b64encode(np.asarray(value).tobytes()).decode()
        return {"array": data, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _arrays(value: Any) -> Any:
    if isinstance(value, dict) and "array" in value:
        data = base64.b64decode(value["array"], validate=True)
        return np.frombuffer(data, np.dtype(value["dtype"])).reshape(value["shape"]).copy()
    if isinstance(value, dict):
        return {name: _arrays(part) for name, part in value.items()}
    return [_arrays(part) for part in value] if isinstance(value, list) else value
