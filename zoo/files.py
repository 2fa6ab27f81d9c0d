"""Files that must outlast a power cut."""

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
    """A path as a user types it, with ~ and from the current folder."""
    return Path(path).expanduser().absolute()


def write(path: Path, content: str | bytes) -> None:
    """Replaces a file in one stroke; a text is written in UTF-8.

    Raises:
        BadInput: it cannot be written; the old file stays.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("wb") as file:
            file.write(content.encode("utf8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise BadInput(f"cannot write {path}: {error.strerror}") from error
