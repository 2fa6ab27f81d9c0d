"""Large tables pass through a file, column by column: the same table, in less memory, and nothing is left behind."""

import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from benchmarks import table_memory
from zoo.data.datasets import column_spool, delimited_columns, images, text_columns
from zoo.data.datasets.column_spool import LazyColumns
from zoo.errors import BadInput

RNG = np.random.default_rng(5)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def frame():
    x = RNG.normal(size=3000).round(4)
    texts = [f" é{i}, {'z' * (i % 50)}" if i % 7 else "" for i in range(3000)]
    columns = {"x": x, "city": RNG.choice(["Rome", "Oslo", None], 3000), "text": texts, "day": "2024-01-05"}
    return pd.DataFrame(columns).assign(label=np.where(x > 0, "yes", "no"))


def small(monkeypatch):
    """A kilobyte in memory, and groups of as much."""
    monkeypatch.setattr(column_spool, "_GROUP", 1000)
    monkeypatch.setattr(column_spool, "IN_MEMORY", 1000)


@pytest.mark.parametrize(
    ("name", "options"),
    [("odd, name", {}), ("odd\nname", {}), ("name", {"sep": ";", "lineterminator": "\r\n"})],
    ids=["arrow", "python", "semicolons"],
)
def test_a_spooled_table_is_the_table(folder, frame, monkeypatch, name, options):
    path = folder / "t.csv"
    frame.rename(columns={"city": name}).to_csv(path, index=False, **options)
    whole, loaded = text_columns.read(path), images.load(str(path), ignore_columns="text")
    small(monkeypatch)
    spooled = text_columns.read(path)
    assert isinstance(whole.columns, dict) and isinstance(spooled.columns, LazyColumns)
    assert spooled.rows == whole.rows == 3000 and spooled.header == whole.header
    assert {name: spooled.texts(name) for name in whole.header} == {name: whole.texts(name) for name in whole.header}
    assert spooled.place(2999) == whole.place(2999)
    again = images.load(str(path), ignore_columns="text")
    assert again.schema == loaded.schema and again.notes == loaded.notes
    for part in ("train", "validation", "test"):
        for name, column in getattr(loaded, part).items():
            np.testing.assert_array_equal(column, getattr(again, part)[name])
    # The file has no name.
    assert not [file for _, _, files in os.walk(folder / "cache") for file in files]


def test_several_files_are_spooled_together(folder, frame, monkeypatch):
    frame[:1000].to_csv(folder / "a.csv", index=False)
    frame[1000:1002].to_csv(folder / "b.csv", index=False)
    frame[1002:].to_csv(folder / "c.csv", index=False)
    frame.to_csv(folder / "whole.csv", index=False)
    whole = text_columns.read(folder / "whole.csv")
    monkeypatch.setattr(column_spool, "IN_MEMORY", 9000)
    joined = text_columns.read(folder / "[abc].csv")
    assert isinstance(joined.columns, LazyColumns) and joined.rows == 3000
    assert {name: joined.texts(name) for name in whole.header} == {name: whole.texts(name) for name in whole.header}


@pytest.mark.parametrize("blank", [1, 5000])
def test_rows_of_empty_cells_at_the_end(folder, frame, monkeypatch, blank):
    """Over many blocks, and between rows with texts, where they stay."""
    path, cells = folder / "t.csv", ",,,,\n"
    frame = frame.drop(columns="city").assign(more=1)
    text = frame.to_csv(index=False)
    path.write_text(text + cells * 3 + "1,a,2024-01-05,no,1\n" + cells * blank)
    small(monkeypatch)
    monkeypatch.setattr(delimited_columns, "_BLOCK", 100)
    table = text_columns.read(path)
    assert table.rows == 3004 and table.texts("more")[-4:] == ["", "", "", "1"]
    assert table.notes[-1].endswith(f"left out {blank:,} rows of empty cells at the end")


def test_a_disk_that_cannot_be_written(folder, frame, monkeypatch):
    frame.to_csv(folder / "t.csv", index=False)
    (folder / "cache").write_text("a file is in its place")
    small(monkeypatch)
    with pytest.raises(BadInput, match=r"t\.csv is read by way of a file in .*, which cannot be written"):
        text_columns.read(folder / "t.csv")


def test_the_memory_of_a_large_table(folder, monkeypatch):
    """Texts in memory take more than the file; in a file, no more than the column that is read, and not after it."""
    path = folder / "t.csv"
    table_memory.write(path, 6_000_000)
    before, held = pa.total_allocated_bytes(), []
    for limit in (column_spool.IN_MEMORY, 1 << 20):
        monkeypatch.setattr(column_spool, "IN_MEMORY", limit)
        table = text_columns.read(path)
        held.append(pa.total_allocated_bytes() - before)
        if limit == 1 << 20:
            column = table.columns["x0"]
            assert column.nbytes < pa.total_allocated_bytes() - before < 3 * column.nbytes
            del column
            assert pa.total_allocated_bytes() - before < 1 << 20
        del table
    assert held[0] > path.stat().st_size and held[1] < 1 << 20
