"""Equal examples: copies are removed from the earlier split, coincidences stay, and no split is emptied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data import duplicates, splits
from zoo.data.datasets import images

RNG = np.random.default_rng(0)
MEASURED = RNG.normal(size=(1000, 5))
MOOD = np.clip(np.round(3 + 1.2 * RNG.normal(size=(1600, 1)) + 0.5 * RNG.normal(size=(1600, 6))), 1, 5)
AT_REST = np.where(RNG.random((1000, 1)) < 0.3, 0.0, MEASURED)


def share_of_copies(x):
    """Share of the examples that are taken for copies, the originals included."""
    x = np.ascontiguousarray(x, np.float32)
    keys = splits.keys(x)
    found = duplicates.copies(x, keys)
    return sum(key in found for key in keys) / len(keys)


@pytest.mark.parametrize(
    "x",
    [
        RNG.integers(0, 2, (1600, 6)),
        RNG.integers(0, 2, (1600, 8)),
        RNG.integers(0, 2, (1600, 12)),
        np.eye(20)[RNG.integers(0, 20, 1600)],
        1_000_000_000 + np.arange(1600)[:, None],
        np.round(MEASURED[:, :3], 1),
        MOOD,
        AT_REST,
    ],
    ids=["6 bits", "8 bits", "12 bits", "one-hot", "beyond float32", "rounded", "answers of one mood", "at rest"],
)
def test_coincidences_are_no_copies(x):
    assert len(np.unique(x.astype(np.float32), axis=0)) < len(x)
    assert share_of_copies(x) < 0.02


@pytest.mark.parametrize(
    ("x", "share"),
    [
        (np.r_[MEASURED, MEASURED[:30]], 60 / 1030),
        (np.r_[MEASURED[:, :1], MEASURED[:1, :1]], 2 / 1001),
        (np.r_[MEASURED, MEASURED], 1.0),
        (np.r_[MEASURED, np.repeat(MEASURED[:50], 9, axis=0)], 500 / 1450),
        (np.r_[AT_REST, AT_REST[AT_REST[:, 0] != 0][:20]], 40 / 1020),
        (np.r_[MEASURED, MEASURED[:9]].repeat(20, axis=1), 18 / 1009),
    ],
    ids=["some", "one number", "all", "a class tenfold", "beside states", "wide"],
)
def test_copies_are_found(x, share):
    assert share_of_copies(x) == pytest.approx(share, abs=0.003)


def written(tmp_path, x, y):
    np.savez(tmp_path / "data.npz", x=np.asarray(x, np.float32), y=y)
    return images.load(str(tmp_path / "data.npz"))


def test_a_table_of_yes_and_no_keeps_its_examples(tmp_path):
    x = RNG.integers(0, 2, (1600, 6))
    data = written(tmp_path, x, x[:, 0] ^ x[:, 1])
    assert [len(part["y"]) for part in (data.train, data.validation, data.test)] == [1280, 160, 160]
    assert data.notes == (
        "160 of 160 test examples (100%) equal a training example: kept, as chance alone gives such examples with "
        "these columns",
    )


def test_whole_numbers_that_float32_rounds_keep_their_examples(tmp_path):
    data = written(tmp_path, 10**9 + np.arange(1600)[:, None], np.arange(1600) % 2)
    assert len(data.train["y"]) == 1280 and "kept, as chance alone" in data.notes[0]


def test_no_split_is_emptied(tmp_path):
    x = MEASURED[:40].astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(40) % 2, x_test=x, y_test=np.arange(40) % 2)
    data = images.load(str(tmp_path / "data.npz"))
    assert len(data.train["y"]) and len(data.validation["y"]) and len(data.test["y"]) == 40
    assert any("all training examples are in the test split" in note for note in data.notes)


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), max_size=12),
    st.sampled_from(["float32", "uint8", "float64", "int16"]),
)
def test_overlap_is_never_missed(rows, dtype):
    """The quick look at numbers finds what the keys of the bytes find."""
    x = np.array(rows).astype(dtype).reshape(-1, 2)
    train, validation, test = np.array_split(x, 3)
    one, two, three = (set(splits.keys(part)) for part in (train, validation, test))
    overlap = bool(one & (two | three) or two & three)
    assert splits._may_overlap(train, validation, test) >= overlap
    assert splits._may_overlap(train, validation, test) == overlap
