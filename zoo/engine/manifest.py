"""The manifest of a checkpoint: what must be true of its folder, its files and its origin before it is trusted.

manifest.json  {"format": 1, "step": 1200, "files": {"record.json": {"bytes": ..., "sha256": ...}, ...}}
record.json    {"checkpoint": {"step": 1200, "run": "9f86d081884c7d65"}, ...}, under the manifest's checksum

The step stands in the folder's name, in the manifest and in the record; a checkpoint is trusted where all agree, so
that a copy, a link or a renamed folder does not pass for another step, nor that of another run for one of this run.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import files, memory
from zoo.errors import BadInput

STATE = "state.safetensors"
RECORD = "record.json"
MANIFEST = "manifest.json"
ORIGIN = "checkpoint"

_FORMAT = 1


def folder_name(step: int) -> str:
    """The name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def write(folder: Path, step: int) -> None:
    """Writes the manifest of the files in a folder."""
    described = {name: describe(folder / name) for name in (RECORD, STATE)}
    (folder / MANIFEST).write_text(json.dumps({"format": _FORMAT, "step": step, "files": described}))


def describe(path: Path) -> dict[str, Any]:
    """The size and SHA-256 of a regular file; a larger one than the memory is no state that this machine trained."""
    with files.regular(path, memory.total()) as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def problem(path: Path, run: str | None = None) -> str | None:
    """The problem of a checkpoint that is not to be trusted, or None.

    Args:
        path: folder of the checkpoint.
        run: identity of the run that it must belong to; None for any. Checkpoints of version 0.1.0 name no run.

    Raises:
        BadInput: there is no permission to read it. It may be whole, so no older one is to be taken.
    """
    try:
        return _wrong_files(path) or _wrong_origin(path, run)
    except PermissionError as error:
        raise BadInput(
            f"the checkpoint {path} cannot be read ({error.strerror}): give this user the permission to read it"
        ) from error


def _wrong_files(path: Path) -> str | None:
    try:
        saved = files.read_json(path / MANIFEST)
    except FileNotFoundError:
        return "no manifest"
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        return f"its manifest is torn ({_reason(error)})"
    if not isinstance(saved, dict) or saved.get("format") != _FORMAT or not isinstance(saved.get("files"), dict):
        return f"its manifest is not of format {_FORMAT}"
    if set(saved["files"]) != {RECORD, STATE}:
        # Other names could lead out of the folder.
        return f"its manifest does not list {RECORD} and {STATE}"
    if path.name != (name := _name(saved.get("step"))):
        return f"it is a copy or link of {name}, or was renamed" if name else "its manifest names no step"
    for name, expected in saved["files"].items():
        try:
            if describe(path / name) != expected:
                return f"{name} is damaged (its size or SHA-256 differs from the manifest)"
        except PermissionError:
            raise
        except (OSError, ValueError) as error:
            return f"{name} cannot be read ({_reason(error)})"
    return None


def _wrong_origin(path: Path, run: str | None) -> str | None:
    """The files are whole; whether they are those of this step and this run."""
    try:
        record = files.read_json(path / RECORD)
    except ValueError as error:
        return f"{RECORD} is damaged ({_reason(error)})"
    if not isinstance(record, dict):
        return f"{RECORD} is damaged (it is not an object)"
    origin = record.get(ORIGIN)
    if origin is None:
        return None  # Version 0.1.0.
    if not isinstance(origin, Mapping) or path.name != (name := _name(origin.get("step"))):
        return f"it is a copy of {name}" if isinstance(origin, Mapping) and name else f"{RECORD} names no step"
    if run is not None and origin.get("run") not in (None, run):
        return "it belongs to another run"
    return None


def _name(step: Any) -> str:
    """The folder's name for a step as a file gives it; empty for what is no step."""
    is_step = isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 10**18
    return folder_name(step) if is_step else ""


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
