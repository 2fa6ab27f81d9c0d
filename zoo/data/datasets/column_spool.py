"""Columns of texts that are collected batch by batch: in memory while they are small, else in a file without a name.

A large table as texts takes more memory than its file. In the file, Parquet, each column is read when it is asked for,
so that no more than one is in memory at once. The system frees the file with its last reader.
"""

import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

from zoo.data import cache
from zoo.errors import BadInput

# Bytes of texts that are kept in memory: where this is all of a table, it is read in a second or two.
IN_MEMORY = 1 << 28
# Bytes that are written at once; each is a part of every column's chunks.
_GROUP = 1 << 26
# Without dictionaries, which most columns of a large table do not profit from, writing costs next to nothing.
_OPTIONS = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}


class LazyColumns(MutableMapping):
    """Columns by name, each read when it is asked for, and never kept.

    Args:
        names: names of the columns.
        read: gives the column of a name, a `pyarrow.ChunkedArray`.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], Any]):
        self._names, self._read = dict.fromkeys(names), read

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __setitem__(self, name: str, column: Any) -> None:
        raise TypeError("columns of a file are read, not written")

    def __delitem__(self, name: str) -> None:
        del self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class ColumnSpool:
    """Collects columns of texts; use it once.

    Args:
        name: what is read, for errors.
        names: names of the columns.
        in_memory: bytes from which on the columns go to a file of the cache folder.
    """

    def __init__(self, name: str, names: Sequence[str], in_memory: int = IN_MEMORY):
        self._name, self._names, self._in_memory = name, names, in_memory
        self._batches: list[list] = []
        self._size = self.rows = 0
        self._path, self._sink, self._writer = "", None, None

    def add(self, columns: Sequence[Any]) -> None:
        """Adds rows: an array of texts for each column.

        Raises:
            BadInput: the disk has no room.
        """
        self._batches.append(list(columns))
        self.rows += len(columns[0])
        self._size += sum(column.nbytes for column in columns)
        if self._size > (self._in_memory if self._writer is None else _GROUP):
            self._write()

    def columns(self) -> MutableMapping:
        """The columns by name, `pyarrow.ChunkedArray` each."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        if self._writer is None:
            table = self._table()
            return {name: table.column(place) for place, name in enumerate(self._names)}
        self._write(last=True)
        source = parquet.ParquetFile(pa.OSFile(self._path, "rb"))
        places = {name: str(place) for place, name in enumerate(self._names)}
        return LazyColumns(self._names, lambda name: source.read([places[name]], use_threads=False).column(0))

    def _table(self) -> Any:
        import pyarrow as pa

        batches, self._batches, self._size = self._batches, [], 0
        columns = [pa.chunked_array([batch[place] for batch in batches], pa.string()) for place in self._places]
        # Names of a file may be odd; numbers are not.
        return pa.table(columns, names=[str(place) for place in self._places])

    @property
    def _places(self) -> range:
        return range(len(self._names))

    def _write(self, last: bool = False) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        folder = cache.folder()
        try:
            if self._writer is None:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as file:
                    descriptor = os.dup(file.fileno())
                weakref.finalize(self, os.close, descriptor)
                # A file without a name is opened again by its descriptor.
                self._path = f"/proc/self/fd/{descriptor}"
                schema = pa.schema([(str(place), pa.string()) for place in self._places])
                self._sink = pa.OSFile(self._path, "wb")
                self._writer = parquet.ParquetWriter(self._sink, schema, **_OPTIONS)
            if self._batches:
                table = self._table()
                self._writer.write_table(table, row_group_size=max(1, table.num_rows))
                del table
                pa.default_memory_pool().release_unused()
            if last:
                self._writer.close()
                self._sink.close()
        except OSError as error:
            raise BadInput(
                f"{self._name} is read by way of a file in {folder}, which cannot be written: {error}; expected room "
                "there, or set $ZOO_CACHE to another folder"
            ) from None
