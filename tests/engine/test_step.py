"""The promise of one step: the same run on any replicas, with any micro-batches, for every option."""

import numpy as np
import pytest

from tests.helpers.small import SmallConfig, furthest, train

# Differences of float32 sums in another order, after some steps of a large learning rate: 1e-6 on a processor with
# AVX-512, 5e-6 on one without. What each feature changes is above 1e-4 (see below).
TOLERANCE = 1e-5

FEATURES = {
    "plain sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": "momentum"},
    "dropout": {"dropout": 0.4},
    "clip": {"clip_norm": 0.05},
    "l2": {"l2": 0.1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "ema": {"ema": 0.9},
    "label smoothing": {"label_smoothing": 0.2},
    "sample weights": {"weighted": True},
    "layer norm": {"norm": "layer"},
    # A slice of a batch must hold whole groups: 16 rows on 2 replicas in 2 micro-batches are 2 groups of 2 each.
    "batch norm": {"norm": "batch", "batch_size": 16, "examples": 29},
}
EVERYTHING = {
    "optimizer": "adamw", "weight_decay": 0.1, "dropout": 0.3, "clip_norm": 0.5, "l2": 0.01, "ema": 0.9,
    "label_smoothing": 0.1, "weighted": True, "schedule": "cosine", "warmup_steps": 2, "norm": "layer",
}  # fmt: skip
SIZES = {
    "even": {"examples": 32, "batch_size": 16},
    "one example": {"examples": 3, "batch_size": 1},
    "an empty shard": {"examples": 9, "batch_size": 6},
}
SPLITS = [(r, k) for r in (1, 2, 4) for k in (1, 2, 4) if (r, k) != (1, 1)]


@pytest.fixture(scope="module")
def one_replica():
    """The reference run of a config, made once."""
    made = {}

    def get(config):
        if config not in made:
            made[config] = train(config)[0]
        return made[config]

    return get


@pytest.mark.parametrize(("replicas", "accumulate"), SPLITS)
def test_everything_at_once(replicas, accumulate, one_replica):
    """Two batches of 13, and one of 3: on four replicas three of them hold no example of it."""
    config = SmallConfig(**EVERYTHING, compile="none")
    state, _ = train(config.replace(accumulate=accumulate), replicas)
    assert furthest(state, one_replica(config)) < TOLERANCE


@pytest.mark.parametrize("size", SIZES)
def test_every_size_of_batch(size, one_replica):
    config = SmallConfig(**SIZES[size], **EVERYTHING, compile="none")
    state, _ = train(config.replace(accumulate=2), 4)
    assert furthest(state, one_replica(config)) < TOLERANCE


@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature(feature, one_replica):
    config = SmallConfig(**FEATURES[feature], compile="none")
    state, _ = train(config.replace(accumulate=2), 2)
    assert furthest(state, one_replica(config)) < TOLERANCE


@pytest.mark.parametrize(("compile", "replicas"), [("loop", 1), ("step", 1), ("step", 4)])
def test_compilation_changes_nothing(compile, replicas, one_replica):
    config = SmallConfig(**EVERYTHING, compile="none")
    state, _ = train(config.replace(compile=compile), replicas)
    assert furthest(state, one_replica(config)) < TOLERANCE


@pytest.mark.parametrize("steps_per_loop", [1, 2, 5])
def test_steps_per_loop_is_bitwise(steps_per_loop):
    config = SmallConfig(**EVERYTHING)
    whole, scalars = train(config)
    cut, cut_scalars = train(config.replace(steps_per_loop=steps_per_loop))
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)
    assert all(np.array_equal(scalars[name], cut_scalars[name]) for name in scalars)


def test_features_do_something(one_replica):
    """Each option changes the run, or the tests above would compare nothing."""

    def kernels(config):
        return [value for name, value in one_replica(config).items() if name.endswith("kernel")]

    plain = kernels(SmallConfig(compile="none"))
    for name in ("dropout", "clip", "l2", "label smoothing", "sample weights"):
        changed = kernels(SmallConfig(**FEATURES[name], compile="none"))
        assert max(np.abs(one - other).max() for one, other in zip(plain, changed, strict=True)) > 1e-4, name
