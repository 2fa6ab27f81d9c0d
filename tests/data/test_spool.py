"""Columns that are read batch by batch: small ones in memory, large ones in files of which nothing is left."""

import gc
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from zoo import memory
from zoo.data import spool
from zoo.data.batches import Batches
from zoo.errors import BadInput

ROWS = 40
X = np.random.default_rng(0).normal(size=(ROWS, 7)).astype(np.float32)
Y = np.arange(ROWS)
TEXTS = np.array([f"text {row}" for row in range(ROWS)], object)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def room_for(monkeypatch, share):
    """So much free memory that the columns are this share of what may stay there."""
    monkeypatch.setattr(memory, "available", lambda: int((X.nbytes + Y.nbytes) * spool.MEMORY_SHARE / share))


def read(batches=None, columns=(X, Y), size=8):
    with spool.Spool("x", batches) as kept:
        for start in range(0, ROWS, size):
            kept.add([column[start : start + size] for column in columns])
        return kept, kept.columns()


def mapped():
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if "(deleted)" in line]


@pytest.mark.parametrize("share", [0.9, 1.1, 3.0, 100.0])
def test_columns_are_the_same_in_memory_and_in_files(share, monkeypatch, folder):
    room_for(monkeypatch, share)
    kept, columns = read()
    for column, expected in zip(columns, (X, Y), strict=True):
        np.testing.assert_array_equal(column, expected)
        assert column.dtype == expected.dtype and spool.is_spooled(column) == (share > 1)
    assert kept.on_disk == (share > 1) == bool(kept.notes())
    # Not even while they are used.
    assert not folder.exists() or list(folder.iterdir()) == []


def test_the_note_says_where(monkeypatch, folder):
    room_for(monkeypatch, 2.0)
    kept, _ = read()
    size, free = X.nbytes + Y.nbytes, (X.nbytes + Y.nbytes) * spool.MEMORY_SHARE // 2
    expected = f"x takes {memory.readable(size)}, more than 1/8 of the free memory ({memory.readable(free)})"
    assert kept.notes() == (f"{expected}: it is kept in {folder} until the end of the run",)


def test_a_known_number_of_batches_goes_to_files_at_once(monkeypatch):
    room_for(monkeypatch, 2.0)
    for batches in (ROWS // 8, None):
        with spool.Spool("x", batches) as kept:
            kept.add([X[:8], Y[:8]])
            assert kept.on_disk == (batches is not None)


def test_texts_stay_in_memory(monkeypatch):
    room_for(monkeypatch, 2.0)
    _, columns = read(columns=(X, TEXTS))
    assert [spool.is_spooled(column) for column in columns] == [True, False]
    np.testing.assert_array_equal(columns[1], TEXTS)


def test_the_disk_is_freed_with_the_columns(monkeypatch):
    room_for(monkeypatch, 2.0)
    gc.collect()
    before = mapped()
    _, columns = read()
    # A circle, as the parts of a run are.
    circle = [columns]
    circle.append(circle)
    assert len(mapped()) == len(before) + 2
    del columns, circle
    spool.collect()
    assert mapped() == before


def test_a_hash_does_not_depend_on_where_the_columns_are(monkeypatch, tmp_path):
    expected = Batches({"x": X, "y": Y}, 8).fingerprint()
    room_for(monkeypatch, 2.0)
    _, (x, y) = read()
    assert Batches({"x": x, "y": y}, 8).fingerprint() == expected
    monkeypatch.setattr("zoo.data.batches._HASHED_BYTES", 100)
    assert Batches({"x": x, "y": y}, 8).fingerprint() == expected
    # Of a column that the user has mapped the middle does not count.
    changed = X.copy()
    changed[20] += 1
    _, (x, y) = read(columns=(changed, Y))
    assert Batches({"x": x, "y": y}, 8).fingerprint() != expected


def test_the_hash_of_texts_is_that_of_what_they_say():
    copies = np.array(["".join(list(text)) for text in TEXTS], object)
    assert Batches({"x": TEXTS}, 8).fingerprint() == Batches({"x": copies}, 8).fingerprint()
    assert Batches({"x": TEXTS}, 8).fingerprint() != Batches({"x": TEXTS[::-1]}, 8).fingerprint()


@pytest.mark.parametrize("batches", [None, ROWS // 8])
def test_a_full_disk(batches, monkeypatch):
    room_for(monkeypatch, 2.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=(1 << 30) + X.nbytes // 2))
    with pytest.raises(BadInput, match=r"x takes .* needs .* more, with 1.1 GB left over, and has 1.1 GB; expected"):
        read(batches)


def test_a_folder_that_cannot_be_made(monkeypatch, tmp_path):
    room_for(monkeypatch, 2.0)
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BadInput, match=r"x cannot be kept in .*: Not a directory; expected a folder with room"):
        read()


def test_batches_of_other_shapes_and_types():
    with pytest.raises(BadInput, match=r"shapes \(7,\) and \(3,\): expected one shape"):
        kept = spool.Spool("x")
        kept.add([X[:2]])
        kept.add([X[:2, :3]])
    with pytest.raises(BadInput, match="batches of float32 and of int64: expected one type"):
        kept = spool.Spool("x")
        kept.add([X[:2]])
        kept.add([X[:2].astype(np.int64)])


def test_the_free_memory_is_some_of_all():
    assert 0 < memory.available() <= memory.total()


def test_the_free_memory_of_a_container(monkeypatch, tmp_path):
    """Limit 1,000,000; 400,000 used, 150,000 of it cached files."""
    texts = {"max": "1000000", "current": "400000", "stat": "anon 250000\nactive_file 100000\ninactive_file 50000"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_LIMITS", (str(tmp_path / "max"),))
    monkeypatch.setattr(memory, "_USED", str(tmp_path / "current"))
    monkeypatch.setattr(memory, "_STATISTICS", str(tmp_path / "stat"))
    assert memory.available() == 750_000
