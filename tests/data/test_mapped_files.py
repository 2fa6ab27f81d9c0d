"""Mapped cache files: what is read is what was written, and nothing of a killed writer stays."""

import contextlib
import ctypes
import itertools
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import cache, mapped_files

ROWS = np.arange(60, dtype=np.int32).reshape(20, 3)


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of 64 bytes, so that a small file has several."""
    monkeypatch.setattr(mapped_files, "_BLOCK", 64)


def _store(folder, chunks=(ROWS[:7], ROWS[7:])):
    mapped_files.store(folder, "name", {"a": np.int32, "b": np.uint8}, [{"a": c, "b": c[:, 0] % 2} for c in chunks])


@given(cuts=st.lists(st.integers(0, 20), max_size=5), place=st.integers(0, 239), bit=st.integers(0, 7))
@settings(max_examples=30, deadline=None)
def test_any_flipped_bit_is_noticed(cuts, place, bit, tmp_path_factory):
    folder, edges = tmp_path_factory.mktemp("cache"), [0, *sorted(cuts), 20]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped_files, "_BLOCK", 64)
        _store(folder, [ROWS[a:b] for a, b in itertools.pairwise(edges)])
        columns = mapped_files.load(folder, "name", notes := [])
        assert not notes and isinstance(columns["a"], np.memmap)
        np.testing.assert_array_equal(columns["a"], ROWS)
        np.testing.assert_array_equal(columns["b"], ROWS[:, 0] % 2)
        content = bytearray((folder / "name.a").read_bytes())
        content[place] ^= 1 << bit
        (folder / "name.a").write_bytes(content)
        assert mapped_files.load(folder, "name", notes) is None
    assert f"from byte {place // 64 * 64:,} on" in notes[0]


def _renamed(folder):
    for path in folder.glob("name.*"):
        path.rename(path.with_name(path.name.replace("name", "other")))


@pytest.mark.parametrize(
    ("damage", "notes"),
    [
        (lambda folder: (folder / "name.json").write_text("[1]"), 1),
        (lambda folder: (folder / "name.json").write_text("[" * 100_000), 1),
        (lambda folder: (folder / "name.json").write_bytes(b"\xff"), 1),
        (lambda folder: (folder / "name.b").write_bytes(b"ab"), 1),
        (lambda folder: (folder / "name.b").unlink(), 0),
        (_renamed, 0),
    ],
)
def test_what_is_not_mapped(tmp_path, blocks, damage, notes):
    _store(tmp_path)
    damage(tmp_path)
    assert mapped_files.load(tmp_path, "name", said := []) is None and len(said) == notes


def test_a_description_belongs_to_its_name(tmp_path, blocks):
    _store(tmp_path)
    _renamed(tmp_path)
    assert mapped_files.load(tmp_path, "other", notes := []) is None and "damaged" in notes[0]


def test_no_rows(tmp_path):
    mapped_files.store(tmp_path, "name", {"a": np.int32}, [])
    assert mapped_files.load(tmp_path, "name", [])["a"].size == 0


def test_a_stopped_writer_leaves_nothing(tmp_path):
    def chunks():
        yield {"a": ROWS}
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        mapped_files.store(tmp_path, "name", {"a": np.int32}, chunks())
    assert not list(tmp_path.iterdir())


def test_remains_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    """A writer that is killed leaves its partial file; the next write removes it, but no file of a living writer."""
    hold = "import fcntl, sys, time; f = open(sys.argv[1], 'wb'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    paths = [tmp_path / f".{name}.partial" for name in ("dead.1", "living.2", "young.3")]
    with subprocess.Popen([sys.executable, "-c", hold, str(paths[1])], stdout=subprocess.PIPE) as living:
        living.stdout.readline()
        for path in (paths[0], paths[2]):
            path.write_bytes(b"half")
        for path in paths[:2]:
            os.utime(path, (time.time() - 3600,) * 2)
        cache.cached(tmp_path, "name", lambda: {"a": ROWS})
        assert [path.exists() for path in paths] == [False, True, True]
        living.kill()
    _store(tmp_path)
    assert [path.exists() for path in paths] == [False, False, True]


def _mapped_kilobytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def _cached_pages(column):
    """Pages of a column's file that the system has in its cache."""
    vector = np.zeros(-(-column.nbytes // mmap.PAGESIZE), np.uint8)
    length = ctypes.c_size_t(column.nbytes)
    assert (
        ctypes.CDLL(None).mincore(ctypes.c_void_p(column.ctypes.data), length, ctypes.c_void_p(vector.ctypes.data)) == 0
    )
    return int((vector & 1).sum())


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_reading_ahead_and_letting_go_change_no_value(mode, tmp_path):
    """Of whole columns, of parts that begin anywhere, and of what was written to memory only."""
    rows = np.arange(30000, dtype=np.int32).reshape(10000, 3)
    np.save(tmp_path / "rows.npy", rows)
    column = np.load(tmp_path / "rows.npy", mmap_mode=mode)
    if mode == "c":
        column[5] = rows[5] = 7
    for part, expected in ((column, rows), (column[4321:], rows[4321:]), (column[:, 1:], rows[:, 1:])):
        index = np.array([0, 5, 5678, -1, 5])
        mapped_files.prefetch([part, expected], index)
        np.testing.assert_array_equal(part[index], expected[index])
        mapped_files.release([part, expected])
        np.testing.assert_array_equal(part, expected)


def test_reading_ahead_reads_the_rows_alone_and_letting_go_frees_memory(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (20000, 3072), dtype=np.uint8)
    with open(tmp_path / "rows", "wb") as stream:
        rows.tofile(stream)
        stream.flush()
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    column = np.memmap(tmp_path / "rows", np.uint8, "r", shape=rows.shape)
    before, index = _cached_pages(column), np.arange(0, 20000, 500)
    mapped_files.prefetch([column], index)
    np.testing.assert_array_equal(column[index], rows[index])
    # Two pages of 4 kB hold a row at most; left alone, the system reads 32 or more for each.
    assert _cached_pages(column) - before <= 2 * len(index)
    assert column.sum(dtype=np.int64) == rows.sum(dtype=np.int64)
    read = _mapped_kilobytes()
    mapped_files.release([column])
    assert read - _mapped_kilobytes() > 50_000
