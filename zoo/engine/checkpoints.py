"""Atomic, checksummed checkpoints: written under another name, flushed and renamed; verified before they are read.

checkpoints/step-00001200/state.safetensors   all variables by name
                          record.json         state of the outer loop: metrics since the last log, best value, ...
                          manifest.json       size and SHA-256 of the two, written last; see `zoo.engine.manifest`
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

from zoo import files
from zoo.engine import manifest
from zoo.errors import BadInput, DamagedCheckpoints


class Checkpoint(NamedTuple):
    """A verified checkpoint."""

    step: int
    state: dict[str, np.ndarray]
    record: dict[str, Any]


def save(folder: Path, step: int, state: Mapping[str, np.ndarray], record: Mapping[str, Any], run: str = "") -> Path:
    """Writes a checkpoint atomically: a kill at any moment leaves a whole checkpoint or none.

    Args:
        folder: folder of the checkpoints.
        step: steps done.
        state: all variables by name.
        record: state of the outer loop, as JSON has it.
        run: identity of the run; empty for none.

    Raises:
        BadInput: the disk is full or the folder is not writable; earlier checkpoints are untouched.
    """
    final = folder / manifest.folder_name(step)
    if final.exists() and manifest.problem(final, run or None) is None:
        return final  # A run is a function of its config: the content would be the same.
    aside = folder / f".partial-{step:08d}-{os.getpid()}"
    origin = {manifest.ORIGIN: {"step": step, **({"run": run} if run else {})}}
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file({name: np.asarray(value, order="C") for name, value in state.items()}, aside / manifest.STATE)
        (aside / manifest.RECORD).write_text(json.dumps(dict(record) | origin))
        manifest.write(aside, step)
        for path in aside.iterdir():
            files.flush(path)
        files.flush(aside)
        if os.path.lexists(final):
            _remove(final)
        aside.rename(final)
        files.flush(folder)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise BadInput(f"cannot write the checkpoint {final}: {error}; the earlier checkpoints are whole") from error
    return final


def restore(
    folder: Path,
    step: int | None = None,
    run: str | None = None,
    unusable: Callable[[dict[str, Any]], str | None] = lambda record: None,
) -> tuple[Checkpoint | None, list[str]]:
    """Reads the newest checkpoint that passes verification.

    Args:
        folder: folder of the checkpoints.
        step: the step to read; None for the newest.
        run: identity of the run that the checkpoint must belong to; None for any.
        unusable: the problem of a record that the outer loop cannot use, or None.

    Returns:
        The checkpoint, or None if the folder has none, and a line for each newer one that was skipped, with the reason.

    Raises:
        DamagedCheckpoints: all are damaged; a run never starts from scratch silently.
        BadInput: there is no permission to read the folder or a checkpoint in it.
    """
    paths, problems = _all(folder)
    paths = [path for path in paths if step is None or _step(path) == step]
    for path in paths:
        wrong = manifest.problem(path, run)
        if wrong is None:
            checkpoint, wrong = _read(path)
            wrong = wrong or unusable(checkpoint.record)
        if wrong is None:
            return checkpoint, problems
        problems.append(f"{path.name}: {wrong}")
    if problems or (step is not None):
        listing = "; ".join(problems) or f"no step {step}"
        raise DamagedCheckpoints(
            f"no checkpoint in {folder} can be read ({listing}); to start again choose another --workdir"
        )
    return None, problems


def newest_step(folder: Path) -> int:
    """Step of the newest checkpoint, whether it can be read or not; 0 without any."""
    return max((_step(path) for path in _all(folder)[0]), default=0)


def clean(folder: Path) -> list[str]:
    """Removes the remains of killed saves, a line for each; only the run that owns the folder may call this."""
    lines = []
    for path in sorted(folder.glob(".partial-*")):
        try:
            _remove(path)
            lines.append(f"{path.name}: left by an unfinished save, removed")
        except OSError as error:
            lines.append(f"{path.name}: left by an unfinished save, cannot be removed ({error.strerror})")
    return lines


def prune(folder: Path, step: int, keep: int, also: Collection[int | None] = ()) -> list[str]:
    """Removes the checkpoints before `step` but the newest `keep`, that of `step` included, and those of steps `also`.

    Later ones are damaged or another run's, or the run would have resumed from them: they take no good one's place.

    Returns:
        A line for each that could not be removed: the run may go on, as nothing is lost.
    """
    lines = []
    for path in [path for path in _all(folder)[0] if _step(path) <= step][keep:]:
        if _step(path) in also:
            continue
        # Renamed first: a kill in the middle of the removal must not leave a torn checkpoint.
        doomed = path.with_name(f".partial-{path.name}")
        try:
            path.rename(doomed)
            _remove(doomed)
        except OSError as error:
            lines.append(f"{path.name}: an old one, cannot be removed ({error.strerror}); the run goes on")
    return lines


def remove_after(folder: Path, step: int) -> None:
    """Removes the checkpoints after a step that the run goes back to, the newest first.

    Raises:
        BadInput: one cannot be removed: a resumed run would take it for its own.
    """
    for path in _all(folder)[0]:
        if _step(path) <= step:
            return
        doomed = path.with_name(f".partial-{path.name}")
        try:
            path.rename(doomed)
            _remove(doomed)
        except OSError as error:
            raise BadInput(f"{path} is to be removed, as the run goes back, and cannot be: {error.strerror}") from error


def _read(path: Path) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint, or None and its problem: files with the right checksum may still hold another thing."""
    try:
        state = load_file(path / manifest.STATE)
        return Checkpoint(_step(path), state, files.read_json(path / manifest.RECORD)), None
    except Exception as error:
        # Such a file can fail anywhere in JSON, NumPy or safetensors; to the run all mean the same.
        return None, f"it cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})"


def _all(folder: Path) -> tuple[list[Path], list[str]]:
    """The checkpoints' folders, newest first, and a line for each other name that looks like one."""
    try:
        # Not `glob`, which takes a folder that cannot be read for an empty one.
        names = [name for name in os.listdir(folder) if name.startswith("step-")]
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise BadInput(f"the checkpoints in {folder} cannot be read: {error.strerror}") from error
    paths = sorted((folder / name for name in names if _is_checkpoint(name)), key=_step, reverse=True)
    others = sorted(name for name in names if not _is_checkpoint(name))
    return paths, [f"{name!r}: not the name of a checkpoint, like step-00000040; passed over" for name in others]


def _is_checkpoint(name: str) -> bool:
    digits = name.removeprefix("step-")
    return digits.isascii() and digits.isdecimal() and name == manifest.folder_name(int(digits))


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _remove(path: Path) -> None:
    """Removes a folder, a file or a link, which is not followed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)
