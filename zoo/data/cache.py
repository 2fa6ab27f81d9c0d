"""Results that are dear to compute, kept between runs in files that are checked when they are read."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from zoo import files

Arrays = dict[str, np.ndarray]


def folder() -> Path:
    """Where results are kept: `$ZOO_CACHE`, else ~/.cache/zoo. It may be deleted at any time."""
    return files.absolute(os.environ.get("ZOO_CACHE") or "~/.cache/zoo")


def kept(place: Path | None, name: str, compute: Callable[[], Arrays], notes: list[str] | None = None) -> Arrays:
    """Reads the result of an earlier run, or computes it and keeps it.

    A file that is torn, changed or of another name is found by its digest and made anew; a folder that cannot be
    written costs the time of computing, not the run.

    Args:
        place: folder; None keeps nothing.
        name: a hash of all that the result depends on.
        compute: makes the arrays.
        notes: gets a line for whatever went wrong.
    """
    notes = [] if notes is None else notes
    if place is None:
        return compute()
    path = place / f"{name}.safetensors"
    found = _read(path, notes)
    if found is not None:
        return found
    # Of an array that is a view with gaps, the library would write other bytes without a word.
    arrays = {part: np.ascontiguousarray(values) for part, values in compute().items()}
    try:
        place.mkdir(parents=True, exist_ok=True)
        digest = np.frombuffer(_digest(name, arrays), np.uint8)
        replace(path, safetensors.numpy.save({**arrays, "digest": digest}))
    except OSError as error:
        notes.append(f"cache {place} cannot be written ({error.strerror}): went on without; $ZOO_CACHE names another")
    return arrays


def replace(path: Path, content: bytes) -> None:
    """Replaces a file in one stroke.

    Raises:
        OSError: it cannot be written; the old file stays.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def name_of(*parts: bytes) -> str:
    """A name for what depends on all of the parts and on their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def content(texts: Sequence[str]) -> tuple[bytes, bytes]:
    """Texts as parts of a name."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return lengths.tobytes(), "".join(texts).encode("utf8", "surrogatepass")


def _read(path: Path, notes: list[str]) -> Arrays | None:
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
        digest = arrays.pop("digest").tobytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    # A changed header may name any type or shape, and the library fails in as many ways.
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, LookupError, AttributeError) as error:
        notes.append(f"cache file {path} cannot be read ({(str(error).splitlines() or ['torn'])[0]}): made anew")
        return None
    if digest != _digest(path.stem, arrays):
        notes.append(f"cache file {path} is damaged: made anew")
        return None
    return arrays


def _digest(name: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.blake2b(name.encode(), digest_size=32)
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
