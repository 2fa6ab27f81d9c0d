"""Paired comparisons over blocks: SciPy's paired t-test with equal weights, and its error rate elsewhere."""

import numpy as np
import pytest
from scipy import stats

from zoo.metrics import paired_blocks
from zoo.metrics.paired_blocks import Sums


def drawn(seed, blocks=12):
    draw = np.random.default_rng(seed)
    return draw.normal(1.0, 0.3, blocks), draw.normal(0.8, 0.3, blocks)


def of(values, weights):
    return Sums(np.array([values * weights]), np.array([weights]))


@pytest.mark.parametrize("seed", range(3))
def test_equal_weights_are_a_paired_t_test(seed):
    one, other = drawn(seed)
    weights = np.full(len(one), 5.0)
    gain = paired_blocks.gain(of(other, weights), of(one, weights), larger_is_better=False, level=0.975)
    theirs = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert gain.value == pytest.approx(np.mean(one - other), abs=1e-12)
    assert gain.low == pytest.approx(theirs.low, abs=1e-12)
    larger = paired_blocks.gain(of(one, weights), of(other, weights), larger_is_better=True, level=0.975)
    assert larger == pytest.approx(gain, abs=1e-12)


def test_a_bound_of_weighted_blocks_holds_as_often_as_it_says():
    draw, held = np.random.default_rng(0), 0
    for _ in range(2000):
        weights = draw.integers(1, 40, 25).astype(float)
        # A sum over n examples of a block has a variance of n.
        sums = weights * 0.1 + draw.normal(size=25) * np.sqrt(weights)
        gain = paired_blocks.gain(
            Sums(sums[None], weights[None]), Sums(np.zeros((1, 25)), weights[None]), larger_is_better=True, level=0.95
        )
        held += gain.low <= 0.1
    assert 0.93 < held / 2000 < 0.97


def test_terms_with_weights_of_their_own_are_added_up():
    one, other = drawn(4), drawn(5)
    weights = np.arange(1.0, 13.0), np.full(12, 2.0)
    sums = Sums(np.stack([value * weight for value, weight in zip(one, weights, strict=True)]), np.stack(weights))
    others = Sums(np.stack([value * weight for value, weight in zip(other, weights, strict=True)]), np.stack(weights))
    assert sums.value == pytest.approx(np.average(one[0], weights=weights[0]) + np.average(one[1], weights=weights[1]))
    gain = paired_blocks.gain(others, sums, larger_is_better=False, level=0.95)
    assert gain.value == pytest.approx(sums.value - others.value, abs=1e-12) and gain.low < gain.value


def test_what_is_not_finite_is_not_better():
    weights = np.ones(12)
    lost = of(np.full(12, np.nan), weights)
    gain = paired_blocks.gain(lost, of(drawn(0)[0], weights), larger_is_better=False, level=0.95)
    assert not gain.low > 0
