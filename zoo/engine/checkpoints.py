"""Atomic, checksummed checkpoints: written under another name, flushed and renamed; verified before they are read.

checkpoints/step-00001200/state.safetensors   all variables by name
                          record.json         state of the outer loop: metrics since the last log, best value, ...
                          manifest.json       size and SHA-256 of the two, written last
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

from zoo.errors import BadInput, DamagedCheckpoints
from zoo.files import flush

_FORMAT = 1


class Checkpoint(NamedTuple):
    """A verified checkpoint."""

    step: int
    state: dict[str, np.ndarray]
    record: dict[str, Any]


def save(folder: Path, step: int, state: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> Path:
    """Writes a checkpoint atomically: a kill at any moment leaves a whole checkpoint or none.

    Raises:
        BadInput: the disk is full or the folder is not writable; earlier checkpoints are untouched.
    """
    final = folder / f"step-{step:08d}"
    if final.exists() and verify(final) is None:
        return final  # A run is a function of its config: the content would be the same.
    aside = folder / f".partial-{step:08d}-{os.getpid()}"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file({name: np.asarray(value, order="C") for name, value in state.items()}, aside / "state.safetensors")
        (aside / "record.json").write_text(json.dumps(record))
        files = {path.name: _describe(path) for path in sorted(aside.iterdir())}
        (aside / "manifest.json").write_text(json.dumps({"format": _FORMAT, "step": step, "files": files}))
        for path in aside.iterdir():
            flush(path)
        flush(aside)
        if final.exists():
            shutil.rmtree(final)
        aside.rename(final)
        flush(folder)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise BadInput(f"cannot write the checkpoint {final}: {error}; the earlier checkpoints are whole") from error
    return final


def restore(folder: Path, step: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """Reads the newest checkpoint that passes verification.

    Args:
        folder: folder of the checkpoints.
        step: the step to read; None for the newest.

    Returns:
        The checkpoint, or None if the folder has none, and a line for each newer one that was skipped, with the reason.

    Raises:
        DamagedCheckpoints: all are damaged; a run never starts from scratch silently.
    """
    paths = [path for path in _all(folder) if step is None or _step(path) == step]
    problems = []
    for path in paths:
        problem = verify(path)
        if problem is None:
            return _read(path), problems
        problems.append(f"{path.name}: {problem}")
    if paths or (step is not None):
        listing = "; ".join(problems) or f"no step {step}"
        raise DamagedCheckpoints(
            f"no checkpoint in {folder} can be read ({listing}); to start again choose another --workdir"
        )
    return None, problems


def clean(folder: Path) -> list[str]:
    """Removes the remains of killed saves, a line for each; only the run that owns the folder may call this."""
    remains = sorted(folder.glob(".partial-*"))
    for path in remains:
        shutil.rmtree(path, ignore_errors=True)
    return [f"{path.name}: left by an unfinished save, removed" for path in remains]


def prune(folder: Path, keep: int, also: int | None = None) -> None:
    """Removes all checkpoints but the newest `keep` and that of step `also`."""
    for path in _all(folder)[keep:]:
        if _step(path) != also:
            # Renamed first: a kill in the middle of the removal must not leave a torn checkpoint.
            doomed = path.with_name(f".partial-{path.name}")
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def verify(path: Path) -> str | None:
    """The problem of a damaged checkpoint, or None for a good one."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
    except FileNotFoundError:
        return "no manifest"
    except (OSError, ValueError):
        return "its manifest is torn"
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT or "files" not in manifest:
        return f"its manifest is not of format {_FORMAT}"
    for name, expected in manifest["files"].items():
        try:
            if _describe(path / name) != expected:
                return f"{name} is damaged (its size or SHA-256 differs from the manifest)"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _read(path: Path) -> Checkpoint:
    record = json.loads((path / "record.json").read_text())
    return Checkpoint(_step(path), load_file(path / "state.safetensors"), record)


def _all(folder: Path) -> list[Path]:
    """The checkpoints' folders, newest first; copies under other names are ignored."""
    return sorted((path for path in folder.glob("step-*") if path.name[5:].isdecimal()), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
