"""Conformal p-values are uniform without a shift, bets on them seldom win, and soon win under one."""

import numpy as np
import pytest
from scipy import stats

from zoo.predict.calibration.shift_martingale import ConformalRanks, Jumpers, edges_of


def ranks(draw, examples=200, classes=3, ties=False):
    scores, categories = draw.standard_normal(examples), draw.integers(classes, size=examples)
    edges = edges_of(draw.standard_normal(100))
    return ConformalRanks(edges, np.round(scores) if ties else scores, categories, classes)


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_are_independent_and_uniform(ties):
    """Of each category, whatever its share in the stream; a category without validation examples, too."""
    draw, found = np.random.default_rng(0), []
    for _ in range(20):
        scores = draw.standard_normal(300)
        categories = draw.choice(4, 300, p=[0.9, 0.05, 0.03, 0.02])
        made = ranks(draw, ties=ties, classes=3)
        made = ConformalRanks(made._edges, np.zeros(0), np.zeros(0, int), 4) if len(found) % 2 else _four(draw, made)
        found.append(made.add(np.round(scores) if ties else scores, categories))
    values = np.concatenate(found)
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    pairs = np.corrcoef(values[:-1], values[1:])[0, 1]
    assert abs(pairs) < 0.04


def _four(draw, made):
    return ConformalRanks(made._edges, draw.standard_normal(200), draw.integers(4, size=200), 4)


def test_the_rank_by_hand():
    """The first example is larger than all three of its category: its p-value is below 1 / 4."""
    made = ConformalRanks(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 2.5, 9.0]), np.array([0, 0, 0, 1]), 2)
    large, small = made.add(np.array([3.5, 0.0]), np.array([0, 0]))
    # Then the smallest of five is tied with the other one below 1.
    assert 0 <= large < 1 / 4 and 3 / 5 <= small <= 1


def test_bets_on_uniform_p_values_seldom_win():
    """Ville's inequality: a wealth of 20 is reached in at most one stream in twenty, on average nothing is won."""
    draw, highest, last = np.random.default_rng(1), [], []
    for _ in range(200):
        jumpers, top = Jumpers(1), 0.0
        for p_value in draw.uniform(size=(300, 1)):
            jumpers.add(p_value)
            top = max(top, jumpers.wealths[0])
        highest.append(top)
        last.append(jumpers.wealths[0])
    assert np.mean(np.array(highest) >= 20) <= 0.05 and np.mean(last) < 1.3


@pytest.mark.parametrize("power", [0.3, 3.0])
def test_bets_win_after_a_shift_in_either_direction(power):
    draw, jumpers = np.random.default_rng(2), Jumpers(2)
    for p_values in draw.uniform(size=(500, 2)):
        jumpers.add(p_values)
    assert max(jumpers.wealths) < 20
    for p_value in draw.uniform(size=100):
        jumpers.add(np.array([draw.uniform(), p_value**power]))
    assert jumpers.wealths[0] < 20 and jumpers.wealths[1] > 1e3
    assert 450 < jumpers.since(1) < 530
