"""Durable, atomic file writes, reads of bounded size, and paths as users type them."""

import glob
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from zoo.errors import BadInput

# Largest record that is read; one with the names of a million columns has 30 MB.
MOST_BYTES = 1 << 26


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


def absolute_list(names: str | Path, folder: str | Path = ".") -> Path:
    """The absolute path of a file as a user types it, or of several with commas between them; see `listed`.

    Args:
        names: a path, or paths and patterns with commas between them.
        folder: what they are relative to.
    """
    whole = Path(folder, Path(names).expanduser()).absolute()
    if "," not in str(names) or whole.exists() or glob.glob(str(whole)):
        return whole
    parts = [Path(folder, Path(part.strip()).expanduser()).absolute() for part in str(names).split(",")]
    return Path(",".join(map(str, parts)))


def listed(path: Path) -> list[Path]:
    """The files that a path names: itself where it exists, else those of its parts between commas.

    A part that is no file may be a pattern such as `part-*.csv`, whose files come in the order of their names. A part
    that is neither stays as it is, so that whoever reads it says that it is missing.

    Raises:
        BadInput: no file matches a pattern, or a file is named twice.
    """
    if path.exists():
        return [path]
    found: list[Path] = []
    whole = sorted(glob.glob(str(path)))
    for part in [str(path)] if whole or "," not in str(path) else str(path).split(","):
        if os.path.exists(part) or not any(sign in part for sign in "*?["):
            found.append(Path(part))
            continue
        names = sorted(glob.glob(part))
        if not names:
            raise BadInput(f"{part}: no file matches; expected a pattern such as part-*.csv, in quotes")
        found += map(Path, names)
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise BadInput(f"{path} has {twice[0]} twice; expected different files")
    return found


@contextmanager
def regular(path: Path, most: int) -> Iterator[BinaryIO]:
    """Opens a regular file for reading; a pipe, a device or a folder neither blocks nor is read.

    Args:
        path: path of the file.
        most: largest size in bytes.

    Raises:
        ValueError: the path is of another kind, larger, or no path.
        OSError: the file cannot be opened.
    """
    # Without O_NONBLOCK the opening of a pipe would wait for a writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a regular file")
        if found.st_size > most:
            raise ValueError(f"it has {found.st_size:,} bytes: expected {most:,} or fewer")
        yield file


def read_text(path: Path, encoding: str = "utf8", most: int = MOST_BYTES) -> str:
    """Reads a text file of at most `most` bytes.

    Raises:
        ValueError: the file is of another kind, larger or encoded otherwise, or the path is no path.
        OSError: the file cannot be read.
    """
    with regular(path, most) as file:
        return file.read().decode(encoding)


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Reads a JSON file of at most `most` bytes.

    Raises:
        ValueError: the file is of another kind, larger, torn, nests too deeply, or the path is no path.
        OSError: the file cannot be read.
    """
    text = read_text(path, most=most)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


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
