"""Durable, atomic file writes, and paths as users type them."""

import os
from pathlib import Path

from zoo.errors import BadInput


def flush(path: Path) -> None:
    """Waits until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def absolute(path: str | Path) -> Path:
    """The absolute path of a path as a user types it: relative to the current folder, with ~ expanded."""
    return Path(path).expanduser().absolute()


def write(path: Path, content: str | bytes) -> None:
    """Replaces a file atomically; text is encoded as UTF-8.

    Raises:
        BadInput: the file cannot be written; the old file stays.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content.encode("utf8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise BadInput(f"cannot write {path}: {error.strerror}") from error
