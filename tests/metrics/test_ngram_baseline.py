"""The n-gram baseline: fractions worked by hand, the paper's recursion in dictionaries, and what a run says of it."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.metrics import ngram_baseline

TRAIN = np.array([1, 2, 1, 2, 1])


def test_fractions_by_hand():
    """Of 4 ids. Order 1: (c + 2/4) / 7. After 1 there are two 2s, of one kind; after 2 two 1s; 3 is new."""
    losses = ngram_baseline._orders([TRAIN, np.array([2, 1, 2, 3, 1])], 4)
    expected = [
        [Fraction(5, 14), Fraction(1, 2), Fraction(5, 14), Fraction(1, 14), Fraction(1, 2)],
        # The first token has no history; 3 as a history was not seen, so order 1 decides.
        [Fraction(5, 14), Fraction(5, 6), Fraction(11, 14), Fraction(1, 42), Fraction(1, 2)],
        # After 1 2 there are two 1s, after 2 1 one 2.
        [Fraction(5, 14), Fraction(5, 6), Fraction(25, 28), Fraction(1, 126), Fraction(1, 2)],
    ]
    for order, (found,) in zip(expected, losses):
        np.testing.assert_allclose(np.exp(-found), [float(one) for one in order], rtol=1e-12)


def by_recursion(train, text, order, vocabulary):
    """-log P of each token, by the formula of Chen and Goodman (1999), word by word."""
    grams = [tuple(train[i : i + n]) for n in range(1, order + 1) for i in range(len(train) - n + 1)]
    counts = Counter(grams)

    def probability(history, token):
        following = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == history}
        lower = probability(history[1:], token) if history else 1 / vocabulary
        kinds, total = len(following), sum(following.values())
        return lower if not total else (following.get(token, 0) + kinds * lower) / (total + kinds)

    return [-math.log(probability(tuple(text[max(0, i - order + 1) : i]), text[i])) for i in range(len(text))]


TEXTS = st.lists(st.integers(1, 4), min_size=2, max_size=25)


@given(train=TEXTS, texts=st.tuples(TEXTS, TEXTS))
def test_the_papers_recursion(train, texts):
    orders = ngram_baseline._orders([np.array(part) for part in (train, *texts)], 6)
    for order, found in zip(range(1, 5), orders):
        for text, losses in zip(texts, found, strict=True):
            np.testing.assert_allclose(losses, by_recursion(train, text, order, 6), rtol=1e-9)


@given(train=TEXTS, history=TEXTS, order=st.integers(1, 5))
def test_probabilities_add_up_to_one(train, history, order):
    total = 0.0
    for token in range(6):
        orders = ngram_baseline._orders([np.array(train), np.array([*history, token])], 6)
        total += math.exp(-[next(orders) for _ in range(order)][-1][0][-1])
    assert total == pytest.approx(1, abs=1e-9)


def test_the_order_is_that_of_the_validation_text():
    text = np.array([1, 2, 3, 1, 2, 4] * 30)
    found = ngram_baseline.losses(text, text[:60], text[60:], 6)
    # What follows 1 2 depends on the third token back.
    assert found.order >= 4 and len(found.losses) == len(text) - 61 and found.losses[5:].max() < 0.1
    shuffled = np.random.default_rng(0).integers(1, 5, 2000)
    assert ngram_baseline.losses(shuffled[:1000], shuffled[1000:1500], shuffled[1500:], 6).order <= 2
    assert ngram_baseline.losses(text, text, text, 6, max_order=2).order == 2


def test_comparison_with_a_model():
    """Windows of a text, cut end to end and padded; ids of two bytes count twice."""
    rng = np.random.default_rng(1)
    text, sizes = rng.integers(1, 4, 400), np.array([1, 1, 2, 1])
    test = text[300:]
    windows = np.zeros((15, 8), np.int64)
    for row in range(15):
        piece = test[7 * row : 7 * row + 8]
        windows[row, : len(piece)] = piece
    losses = ngram_baseline.losses(text[:200], text[200:300], test, 4).losses
    real = windows[:, 1:] > 0
    per_row = np.array([part.sum() for part in np.split(losses, np.cumsum(real.sum(axis=1))[:-1])])
    compare = ngram_baseline.comparison(text[:200], text[200:300], test, sizes)
    same = compare(windows, per_row / np.maximum(real.sum(axis=1), 1))
    size = sizes[test[1:]].sum()
    assert same["baseline_bits_per_byte"] == pytest.approx(losses.sum() / size / math.log(2))
    assert same["baseline_loss"] == pytest.approx(losses.mean())
    assert same["minus_baseline"] == pytest.approx(0, abs=1e-9) == same["minus_baseline_low"]
    worse = compare(windows, per_row / np.maximum(real.sum(axis=1), 1) + 0.1 * (1 + np.arange(15) % 2))
    assert 0 < worse["minus_baseline_low"] < worse["minus_baseline"] < worse["minus_baseline_high"]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-0.3, -0.2, -0.1), "better than a 5-gram model"),
        ((-0.1, 0.0, 0.1), "not significantly different from a 5-gram model"),
        ((0.1, 0.2, 0.3), "worse than a 5-gram model"),
    ],
)
def test_conclusion(ends, said):
    names = ("minus_baseline_low", "minus_baseline", "minus_baseline_high")
    result = {f"test/{name}": value for name, value in zip(names, ends)} | {"test/baseline_order": 5.0}
    [line] = ngram_baseline.conclusion(result, "do more")
    assert line.startswith(said) and f"95 % interval {ends[0]:+.3f} to {ends[2]:+.3f}" in line
    assert line.endswith("; do more") == (ends[0] > 0)
    assert ngram_baseline.conclusion({"test/loss": 1.0}, "do more") == []
