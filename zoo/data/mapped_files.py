"""Columns of numbers in cache files that are mapped into memory: verified when they are opened, written as a stream.

Each column is a file of raw numbers, `NAME.COLUMN`. `NAME.json` describes them and holds a digest of each block, so a
file that is torn, changed or renamed is not used. All bytes are read once before the first step, by several threads:
2.5 s for 1 GB on two busy cores, which is little beside a pass of training over so many tokens.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo.data import cache
from zoo.files import flush

Arrays = dict[str, np.ndarray]

# Bytes per digest: few enough for all threads to have work, many enough for the digests to stay a small file.
_BLOCK = 1 << 24
# Digests of many blocks at once hardly gain from more, as the disk is the limit.
_THREADS = 8


def load(directory: Path, name: str, notes: list[str]) -> Arrays | None:
    """Maps the columns that `store` has written, after a check of all their bytes.

    Args:
        directory: the cache folder.
        name: a hash of everything that the columns depend on.
        notes: gets a line where the files are damaged.

    Returns:
        A `np.memmap` for each column (an empty array for no rows); None if they are missing or damaged.
    """
    path = directory / f"{name}.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf8"))
        if not isinstance(manifest, dict) or manifest.pop("digest", None) != _digest_of(name, manifest):
            raise ValueError("its digest differs")
        columns = manifest["columns"]
        _verify({part: (_file(directory, name, part), one) for part, one in columns.items()})
        return {part: _mapped(_file(directory, name, part), one) for part, one in columns.items()}
    except (FileNotFoundError, NotADirectoryError):
        # Files of which one was deleted are no damage: they are made again.
        return None
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"cache file {path} is damaged ({(str(error).splitlines() or ['torn'])[0]}): computing again")
        return None


def store(
    directory: Path, name: str, dtypes: Mapping[str, np.dtype], chunks: Iterable[Mapping[str, np.ndarray]]
) -> None:
    """Writes columns chunk by chunk, so that they may exceed the memory; the description last, so none is half there.

    Args:
        directory: the cache folder; created if missing.
        name: hash of everything that the columns depend on.
        dtypes: type of each column.
        chunks: arrays by column, `[rows, ...]`; the further axes are the same in all chunks.

    Raises:
        OSError: the files cannot be written; earlier files stay as they are.
    """
    directory.mkdir(parents=True, exist_ok=True)
    cache.remove_remains(directory)
    with contextlib.ExitStack() as stack:
        writers = {
            part: _Writer(stack.enter_context(_partial(_file(directory, name, part))), np.dtype(dtype))
            for part, dtype in dtypes.items()
        }
        for chunk in chunks:
            for part, writer in writers.items():
                writer.add(chunk[part])
        manifest: dict[str, Any] = {"columns": {part: writer.finish() for part, writer in writers.items()}}
        content = json.dumps(manifest | {"digest": _digest_of(name, manifest)}).encode()
        for part, writer in writers.items():
            os.replace(writer.stream.name, _file(directory, name, part))
    cache.replace(directory / f"{name}.json", content)


def prefetch(columns: Iterable[np.ndarray], rows: np.ndarray) -> None:
    """Asks the system for rows of mapped files, all at once, and for nothing around them.

    Left alone it reads up to megabytes around each row that is not in its cache, which a random order does not need.

    Args:
        columns: those in memory are passed over.
        rows: indices of rows; below 0 for none.
    """
    wanted = np.unique(rows[rows >= 0])
    for column in columns:
        mapping = _mapping(column)
        if mapping is None or not column.flags.c_contiguous:
            continue
        mapping.madvise(mmap.MADV_RANDOM)
        size, begin = column.strides[0], column.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
        for row in wanted.tolist():
            start = begin + row * size
            page = start - start % mmap.PAGESIZE
            mapping.madvise(mmap.MADV_WILLNEED, page, start + size - page)


def release(columns: Iterable[np.ndarray]) -> None:
    """Lets go of what was read of mapped files, which counts as this process' memory until the system needs it.

    The pages stay in the system's cache of files, so what is read again costs little.
    """
    for column in columns:
        mapping = _mapping(column)
        if mapping is not None:
            mapping.madvise(mmap.MADV_DONTNEED)


def _mapping(column: np.ndarray) -> mmap.mmap | None:
    """The mapping of a column that is only read; mode "c" would lose what was written to it."""
    if not isinstance(column, np.memmap) or column.mode != "r":
        return None
    base = column.base
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _file(directory: Path, name: str, part: str) -> Path:
    return directory / f"{name}.{part}"


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[BinaryIO]:
    """A locked file beside `path` to write to; what has not been renamed is removed at the end."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with open(partial, "wb") as stream:
        with contextlib.suppress(OSError):
            # Some network disks know no locks.
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield stream
        finally:
            partial.unlink(missing_ok=True)


class _Writer:
    """Writes a column and takes the digest of each block on its way."""

    def __init__(self, stream: BinaryIO, dtype: np.dtype):
        self.stream, self._dtype = stream, dtype
        self._rows, self._axes, self._digests, self._block, self._room = 0, None, [], hashlib.sha256(), _BLOCK

    def add(self, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values, self._dtype)
        self._rows, self._axes = self._rows + len(values), values.shape[1:]
        content = memoryview(values.reshape(-1).view(np.uint8))
        self.stream.write(content)
        while len(content):
            part, content = content[: self._room], content[self._room :]
            self._block.update(part)
            self._room -= len(part)
            if not self._room:
                self._digests.append(self._block.hexdigest())
                self._block, self._room = hashlib.sha256(), _BLOCK

    def finish(self) -> dict[str, Any]:
        """Flushes the file to the disk; returns the column's description."""
        self.stream.flush()
        flush(Path(self.stream.name))
        digests = self._digests + ([self._block.hexdigest()] if self._room < _BLOCK else [])
        return {"dtype": self._dtype.str, "shape": [self._rows, *(self._axes or ())], "digests": digests}


def _verify(columns: Mapping[str, tuple[Path, Mapping[str, Any]]]) -> None:
    """Compares all blocks of all columns with their digests.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file differs from its description.
    """
    blocks = []
    for path, one in columns.values():
        size = int(np.prod(one["shape"], dtype=np.int64)) * np.dtype(one["dtype"]).itemsize
        if path.stat().st_size != size:
            raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes, expected {size:,}")
        blocks += zip(itertools.repeat(path), itertools.count(), one["digests"])
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        # hashlib releases the interpreter's lock.
        for (path, number, expected), digest in zip(blocks, threads.map(_digest_of_block, blocks)):
            if digest != expected:
                raise ValueError(f"{path.name} differs from what was written, from byte {number * _BLOCK:,} on")


def _digest_of_block(block: tuple[Path, int, str]) -> str:
    with open(block[0], "rb") as stream:
        stream.seek(block[1] * _BLOCK)
        return hashlib.sha256(stream.read(_BLOCK)).hexdigest()


def _digest_of(name: str, manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"{name} {json.dumps(manifest, sort_keys=True)}".encode()).hexdigest()


def _mapped(path: Path, one: Mapping[str, Any]) -> np.ndarray:
    shape, dtype = tuple(one["shape"]), np.dtype(one["dtype"])
    # An empty file cannot be mapped.
    return np.memmap(path, dtype, "r", shape=shape) if 0 not in shape else np.zeros(shape, dtype)
