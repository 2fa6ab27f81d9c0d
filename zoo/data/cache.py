"""Disk cache of expensive results, in files that are verified when they are read."""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from zoo import files

Arrays = dict[str, np.ndarray]

# Seconds for which a partial file without a lock is left alone: its writer may be about to lock or to rename it.
_UNLOCKED = 60.0


def folder() -> Path:
    """The cache folder: `$ZOO_CACHE`, else ~/.cache/zoo. It may be deleted at any time."""
    return files.absolute(os.environ.get("ZOO_CACHE") or "~/.cache/zoo")


def cached(directory: Path | None, name: str, compute: Callable[[], Arrays], notes: list[str] | None = None) -> Arrays:
    """Reads the result of an earlier run, or computes and stores it.

    The digest detects a file that is torn, changed or renamed, and the result is computed again; a folder that cannot
    be written costs computing time and does not stop the run.

    Args:
        directory: the cache folder; None disables the cache.
        name: a hash of everything that the result depends on.
        compute: returns the arrays.
        notes: gets a line for each problem.
    """
    notes = [] if notes is None else notes
    if directory is None:
        return compute()
    path = directory / f"{name}.safetensors"
    arrays = _read(path, notes)
    if arrays is not None:
        return arrays
    # safetensors silently writes wrong bytes for a view that is not contiguous.
    arrays = {part: np.ascontiguousarray(values) for part, values in compute().items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_remains(directory)
        digest = np.frombuffer(_digest(name, arrays), np.uint8)
        replace(path, safetensors.numpy.save({**arrays, "digest": digest}))
    except OSError as error:
        notes.append(
            f"cache {directory} cannot be written ({error.strerror}): continuing without; $ZOO_CACHE sets the folder"
        )
    return arrays


def replace(path: Path, content: bytes) -> None:
    """Replaces a file atomically.

    Raises:
        OSError: the file cannot be written; the old file stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def remove_remains(directory: Path) -> None:
    """Removes the partial files of killed processes from a cache folder: those that no process writes to or locks."""
    for path in directory.glob(".*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _UNLOCKED:
                with open(path, "rb+") as stream:
                    # Raises OSError while a writer of `mapped_files` lives.
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


def name_of(*parts: bytes) -> str:
    """The cache name of a result: a hash of the parts and their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def content(texts: Sequence[str]) -> tuple[bytes, bytes]:
    """Texts as `parts` of `name_of`."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return lengths.tobytes(), "".join(texts).encode("utf8", "surrogatepass")


def _read(path: Path, notes: list[str]) -> Arrays | None:
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
        digest = arrays.pop("digest").tobytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    # A changed header may hold any type or shape, and the library raises as many kinds of errors.
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, LookupError, AttributeError) as error:
        notes.append(f"cache file {path} cannot be read ({(str(error).splitlines() or ['torn'])[0]}): computing again")
        return None
    if digest != _digest(path.stem, arrays):
        notes.append(f"cache file {path} is damaged: computing again")
        return None
    return arrays


def _digest(name: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.blake2b(name.encode(), digest_size=32)
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
