"""Batches: a permutation per epoch, each example once, the same from memory and from disk, sought in no time."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import shuffling
from zoo.data.batches import Batches
from zoo.engine.feed import Feed
from zoo.errors import BadInput


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_order_is_a_permutation(size, seed, epoch):
    found = shuffling.shuffled(np.arange(size), size, seed, epoch)
    np.testing.assert_array_equal(np.sort(found), np.arange(size))


def test_order_seeks():
    whole = shuffling.shuffled(np.arange(100_000), 100_000, 5, 3)
    np.testing.assert_array_equal(
        shuffling.shuffled(np.array([99_999, 0, 777]), 100_000, 5, 3), whole[[99_999, 0, 777]]
    )


def test_order_of_a_huge_set_needs_no_memory():
    size = 2**31 - 10
    found = shuffling.shuffled(np.array([0, 1, size - 1]), size, 0, 0)
    assert len(set(found.tolist())) == 3 and found.min() >= 0 and found.max() < size


def test_order_is_uniform():
    """Each example comes first equally often, and neighbours are torn apart."""
    first = [shuffling.shuffled(np.arange(1), 50, 0, epoch)[0] for epoch in range(5000)]
    assert scipy.stats.chisquare(np.bincount(first, minlength=50)).pvalue > 1e-3
    whole = shuffling.shuffled(np.arange(10_000), 10_000, 0, 0)
    assert abs(np.corrcoef(whole[:-1], whole[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(np.arange(10_000), whole)[0, 1]) < 0.05


def test_epochs_and_seeds_differ():
    orders = [shuffling.shuffled(np.arange(1000), 1000, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert np.mean(one == other) < 0.02


def test_frozen_order():
    """Written down once: a change here changes every run that was ever made."""
    assert shuffling.shuffled(np.arange(10), 10, 0, 0).tolist() == FROZEN


FROZEN = [0, 8, 9, 2, 4, 3, 1, 7, 5, 6]


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 400), st.integers(1, 30), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_cut_reads_the_same(examples, batch_size, first, steps, shuffle):
    batches = Batches({"x": np.arange(examples)}, batch_size, seed=3 if shuffle else None)
    found = batches.indices(first, steps)
    one_by_one = [batches.indices(step, 1)[0] for step in range(first, first + steps)]
    np.testing.assert_array_equal(found, one_by_one)


@given(st.integers(1, 200), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_each_example_once(examples, batch_size):
    batches = Batches({"x": np.arange(examples)}, batch_size, seed=1)
    for epoch in range(2):
        index = batches.indices(epoch * batches.steps_per_epoch, batches.steps_per_epoch)
        np.testing.assert_array_equal(np.sort(index[index >= 0]), np.arange(examples))
        assert index.size - examples == (index < 0).sum()


def test_at_gives_columns_and_weights():
    batches = Batches({"x": np.arange(5) * 10, "y": np.arange(5)}, 3)
    batch, weights = batches.at(1)
    assert batch["x"][:2].tolist() == [30, 40] and batch["y"][:2].tolist() == [3, 4]
    assert weights.tolist() == [1, 1, 0]


@pytest.mark.parametrize("parts", [1, 4])
def test_from_disk_as_from_memory(tmp_path, parts):
    data = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", data)
    memory = Feed(Batches({"x": data}, 5, seed=2), 4, parts)
    disk = Feed(Batches({"x": np.load(tmp_path / "x.npy", mmap_mode="r")}, 5, seed=2), 4, parts)
    for first, steps in [(0, 4), (4, 3), (7, 1), (100_000_000, 2), (3, 4)]:
        rows = []
        for feed in (memory, disk):
            columns, index, *_ = feed.chunk(first, steps)
            index = index.numpy()[:steps]
            taken = columns["x"].numpy()[np.maximum(index, 0)]
            rows.append(np.where((index >= 0)[..., None], taken, 0))
        np.testing.assert_array_equal(rows[0], rows[1])
        assert rows[0].shape == (steps, -(-5 // parts) * parts, 4)


@pytest.mark.parametrize(
    ("columns", "size", "said"),
    [
        ({"x": np.zeros(3), "y": np.zeros(4)}, 2, "columns differ in length"),
        ({"x": np.zeros((0, 3))}, 2, "empty"),
        ({"x": np.zeros(3)}, 0, "batch size is 0"),
    ],
)
def test_refused(columns, size, said):
    with pytest.raises(BadInput, match=said):
        Batches(columns, size)


def test_fingerprint_sees_every_byte_and_the_order():
    data = np.arange(1000.0)
    changed = data.copy()
    changed[500] += 1
    prints = {
        Batches({"x": data}, 5, seed=0).fingerprint(),
        Batches({"x": changed}, 5, seed=0).fingerprint(),
        Batches({"x": data}, 6, seed=0).fingerprint(),
        Batches({"x": data}, 5, seed=1).fingerprint(),
        Batches({"z": data}, 5, seed=0).fingerprint(),
    }
    assert len(prints) == 5
