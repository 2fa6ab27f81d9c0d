"""Columns that are read batch by batch: in memory while they are small, in files where they are large.

The files have no name, so nothing of them is left however the process ends: the system frees each with its last array.
"""

import gc
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from zoo import memory
from zoo.data import cache
from zoo.errors import BadInput

# Columns may take the free memory divided by this. In memory a run has up to four copies of them at once: the batches,
# the columns, and those of the device; half of the memory is left to the model.
MEMORY_SHARE = 8
# Bytes of the disk that are left to others.
_RESERVE = 1 << 30


class Spool:
    """Columns of a data set, `[examples, ...]` each.

    Columns of numbers go to files of the cache folder as soon as all columns take more than an eighth of the memory
    that was free at first, or will, by the size of the first batch; texts stay in memory. Use it in a `with` block.

    Args:
        name: what is read, for errors and notes.
        batches: number of batches; None if unknown.
    """

    def __init__(self, name: str, batches: int | None = None):
        self._name, self._expected = name, batches
        self._free = memory.available()
        self._columns: list[_Column] = []
        self._size = self._seen = 0
        self._folder = cache.folder()
        self.on_disk = False

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *exception) -> None:
        for column in self._columns:
            column.close()

    def add(self, batch: Sequence[np.ndarray]) -> None:
        """Adds the rows of a batch to the columns.

        Raises:
            BadInput: a column has rows of another shape or type than before, or neither memory nor disk has room.
        """
        self._columns = self._columns or [_Column(self._name, rows) for rows in batch]
        size = sum(rows.nbytes for rows in batch)
        self._size, self._seen = self._size + size, self._seen + 1
        if not self.on_disk and max(self._size, size * (self._expected or 0)) > self._free // MEMORY_SHARE:
            self._spill(size)
        if self.on_disk:
            self._check_disk(size * max(1, (self._expected or 0) - self._seen + 1))
        try:
            for column, rows in zip(self._columns, batch, strict=True):
                column.add(rows)
        except OSError as error:
            raise BadInput(f"{self._name} cannot be kept in {self._folder}: {error.strerror}; {_MEND}") from error
        if sum(column.bytes_in_memory for column in self._columns) > memory.total():
            raise BadInput(
                f"{self._name} has more texts than this machine's memory ({memory.readable(memory.total())}), where "
                "they are kept: expected fewer, or numbers"
            )

    def columns(self) -> list[np.ndarray]:
        """The columns: arrays in memory, or `np.memmap` of files that are gone with them."""
        return [column.finish() for column in self._columns]

    def notes(self) -> tuple[str, ...]:
        """What a user should know."""
        if not self.on_disk:
            return ()
        return (
            f"{self._name} takes {memory.readable(self._size)}, more than 1/{MEMORY_SHARE} of the free memory "
            f"({memory.readable(self._free)}): it is kept in {self._folder} until the end of the run",
        )

    def _spill(self, size: int) -> None:
        """From now on to files, with what was read so far."""
        self.on_disk = True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._check_disk(self._size - size)
            for column in self._columns:
                column.spill(self._folder)
        except OSError as error:
            raise BadInput(f"{self._name} cannot be kept in {self._folder}: {error.strerror}; {_MEND}") from error

    def _check_disk(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if needed + _RESERVE > free:
            raise BadInput(
                f"{self._name} takes {memory.readable(self._size)} so far and is larger than the memory: "
                f"{self._folder} needs {memory.readable(needed)} more, with {memory.readable(_RESERVE)} left over, and "
                f"has {memory.readable(free)}; {_MEND}"
            )


# The columns in files, as long as there are any.
_mapped: list[weakref.ref] = []
_MEND = "expected a folder with room in $ZOO_CACHE, fewer examples, or np.memmap arrays"


def collect() -> None:
    """Frees the files whose columns nobody reads any more; parts of a run refer to each other, so Python waits."""
    _mapped[:] = [column for column in _mapped if column() is not None]
    if _mapped:
        gc.collect()


def is_spooled(column: np.ndarray) -> bool:
    """Whether a column is in a file of a spool, which this process has read as a whole: it has no name."""
    return isinstance(column, np.memmap) and column.filename is None


class _Column:
    def __init__(self, name: str, first: np.ndarray):
        self._name, self._axes, self._dtype = name, first.shape[1:], first.dtype
        self._rows: list[np.ndarray] = []
        self._file: BinaryIO | None = None
        self._count = self.bytes_in_memory = 0

    def add(self, rows: np.ndarray) -> None:
        self._check(rows)
        self._count += len(rows)
        if self._file is None:
            self._rows.append(rows)
            self.bytes_in_memory += rows.nbytes
        else:
            self._write(rows)

    def spill(self, folder: os.PathLike) -> None:
        if self._dtype.kind in "OSU":
            return
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        for rows in self._rows:
            self._write(rows)
        self._rows, self.bytes_in_memory = [], 0

    def finish(self) -> np.ndarray:
        rows, self._rows = self._rows, []
        if self._file is None:
            return np.concatenate(rows)
        self._file.flush()
        shape = (self._count, *self._axes)
        # An empty file cannot be mapped.
        if 0 in shape:
            return np.zeros(shape, self._dtype)
        column = np.memmap(self._file, self._dtype, "r", shape=shape)
        _mapped.append(weakref.ref(column))
        return column

    def close(self) -> None:
        """A mapped file stays as long as the array."""
        if self._file is not None:
            self._file.close()

    def _write(self, rows: np.ndarray) -> None:
        self._file.write(memoryview(np.ascontiguousarray(rows).reshape(-1).view(np.uint8)))

    def _check(self, rows: np.ndarray) -> None:
        if rows.shape[1:] != self._axes:
            raise BadInput(
                f"{self._name} has batches whose examples have shapes {self._axes} and {rows.shape[1:]}: expected one "
                "shape; pad them all to the same length"
            )
        if rows.dtype != self._dtype and self._dtype.kind not in "OSU":
            raise BadInput(f"{self._name} has batches of {self._dtype} and of {rows.dtype}: expected one type")
