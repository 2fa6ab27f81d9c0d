"""An exact run is the same bit for bit on 1, 2 and 4 replicas, in any micro-batches."""

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.small import SmallConfig, train
from zoo.engine import devices, private_apis, slicing
from zoo.errors import BadInput

EVERYTHING = {
    "optimizer": "adamw", "weight_decay": 0.1, "dropout": 0.3, "clip_norm": 0.5, "l2": 0.01, "ema": 0.9,
    "label_smoothing": 0.1, "weighted": True, "schedule": "cosine", "warmup_steps": 2, "norm": "layer",
}  # fmt: skip
CONFIG = SmallConfig(**EVERYTHING, exact=True)
SPLITS = [(1, 4), (2, 1), (2, 2), (4, 1)]


def assert_same(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        assert not [name for name in one if not np.array_equal(one[name], other[name])]


@pytest.fixture(scope="module")
def one_replica():
    made = {}

    def get(config):
        if config not in made:
            made[config] = train(config)
        return made[config]

    return get


@pytest.mark.parametrize(("replicas", "accumulate"), SPLITS)
def test_the_same_bits_on_any_devices(replicas, accumulate, one_replica):
    """Weights, slots, averages, and each step's sums, norm and rate; batches of 13, 13 and 3 in slices of 4 rows."""
    assert_same(train(CONFIG.replace(accumulate=accumulate), replicas), one_replica(CONFIG))


@pytest.mark.parametrize("compile", ["cores", "islands", "none"])
def test_the_same_bits_in_each_mode(compile, one_replica):
    config = CONFIG.replace(compile=compile, batch_size=64, examples=200)
    assert_same(train(config, 4), one_replica(config))


def test_several_replicas_are_exact_unless_they_need_not_be(one_replica):
    """The order of sums matters: without it some of the numbers differ."""
    config = CONFIG.replace(batch_size=64, examples=200)
    two = train(config.replace(exact=None), 2)
    assert_same(two, train(config.replace(slices=2)))
    inexact = train(config.replace(exact=False, accumulate=4))
    exact = one_replica(config)
    assert [name for name in exact[0] if not np.array_equal(exact[0][name], inexact[0][name])]


def test_more_slices_than_replicas_times_micro_batches(one_replica):
    config = CONFIG.replace(slices=8, accumulate=2)
    assert_same(train(config, 2), one_replica(CONFIG.replace(slices=8)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((1, 1, 1, None, 0), (1, 1, 1, False)),
        ((1, 4, 1, None, 0), (1, 4, 1, False)),
        ((2, 1, 1, None, 0), (2, 1, 1, True)),
        ((3, 1, 1, None, 0), (3, 1, 1, False)),
        ((2, 3, 1, None, 0), (2, 3, 1, False)),
        ((2, 1, 1, False, 0), (2, 1, 1, False)),
        ((1, 1, 1, True, 0), (1, 4, 1, True)),
        ((1, 1, 2, True, 0), (1, 2, 2, True)),
        ((1, 1, 6, True, 0), (1, 1, 4, True)),
        ((1, 3, 1, True, 0), (1, 4, 1, True)),
        ((2, 1, 1, True, 0), (2, 2, 1, True)),
        ((4, 4, 1, True, 0), (4, 4, 1, True)),
        ((1, 1, 1, None, 2), (1, 2, 1, True)),
        ((1, 2, 8, True, 2), (1, 2, 1, True)),
    ],
)
def test_cut(given, expected):
    assert slicing.cut(*given) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((3, 1, 1, True, 0), "--exact: 3 devices"),
        ((1, 1, 1, True, 6), "--slices is 6: expected a power of two of at least 1"),
        ((2, 2, 1, None, 2), "--slices is 2: expected a power of two of at least 4"),
    ],
)
def test_cuts_that_cannot_be(given, said):
    with pytest.raises(BadInput, match=said):
        slicing.cut(*given)


def test_a_loop_is_not_exact():
    with pytest.raises(BadInput, match="--compile=loop makes one program of all slices"):
        train(CONFIG.replace(compile="loop"))


@pytest.mark.parametrize("name", ["gathered", "reduced"])
def test_sums_over_replicas_are_the_tree(name):
    """Devices that add up in an order of their own, such as GPUs, gather the values first."""
    cpus, reduction = [f"CPU:{number}" for number in range(4)], tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(cpus, reduction) if name == "gathered" else devices.mirrored_cpus(4)
    assert isinstance(private_apis.reduction(strategy), slicing.TreeReduction) == (name == "reduced")
    values = np.float32([1e8, 1.0, -1e8, 1.0])[:, None] * np.float32([1.0, 3.0])

    def replica():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        return slicing.sum_over_replicas({"one": tf.gather(values, number), "other": tf.cast(number, tf.float32)})

    found = tf.function(lambda: strategy.run(replica), autograph=False)()
    for one, other in zip(*(strategy.experimental_local_results(found[each]) for each in ("one", "other"))):
        np.testing.assert_array_equal(one, (values[0] + values[1]) + (values[2] + values[3]))
        assert float(other) == 6.0


def test_sums_in_turn_are_the_tree():
    """In an order in which float32 rounds at each step, and with few results kept."""
    values = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32) * 10.0 ** np.arange(16)[:, None]
    values = values.astype(np.float32)
    expected = values
    while len(expected) > 1:
        expected = expected[::2] + expected[1::2]
    rows = tf.constant(values)
    total = tf.function(lambda: slicing.sum_in_turn(lambda number: rows[number], 16), autograph=False)()
    assert np.array_equal(total, expected[0])
    assert np.array_equal(slicing.tree_sum(tf.unstack(rows)), expected[0])
    assert not np.array_equal(expected[0], np.cumsum(values, axis=0, dtype=np.float32)[-1])
