"""Weights of classes against scikit-learn and the papers' formulas; balanced draws as a function of the step."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from zoo.data import bucketing, class_balance
from zoo.data.batches import Batches
from zoo.errors import BadInput


def labels_of(*sizes):
    return np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)


def test_inverse_frequencies_are_scikit_learns():
    labels = labels_of(70, 25, 5)
    weights = class_balance.inverse_frequencies(class_balance.class_sizes(labels, 3))
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=labels))


@pytest.mark.parametrize(
    ("weigh", "formula"),
    [
        (class_balance.inverse_frequencies, lambda n: 1 / n),
        (class_balance.square_roots, lambda n: n**-0.5),
        (class_balance.effective_numbers, lambda n: (1 - 0.999) / (1 - 0.999**n)),
        (lambda n: class_balance.effective_numbers(n, 0.0), lambda n: n**0.0),
    ],
)
def test_weights_have_their_ratios_and_the_mean_1(weigh, formula):
    sizes = np.array([6000.0, 600.0, 0.0, 60.0])
    weights, present = weigh(sizes), sizes > 0
    np.testing.assert_allclose(weights[present] / weights[0], formula(sizes[present]) / formula(sizes[0]))
    assert (weights * sizes).sum() == pytest.approx(sizes.sum())
    assert weights[2] == 1.0


def test_sizes_by_example_weights_whatever_their_unit():
    labels, weights = labels_of(3, 1), np.array([1.0, 0.0, 1.0, 2.0])
    for unit in (1.0, 1000.0):
        np.testing.assert_allclose(class_balance.class_sizes(labels, 3, unit * weights), [2.0, 2.0, 0.0])
    np.testing.assert_array_equal(class_balance.class_sizes(labels, 2, 0 * weights), [3.0, 1.0])


def test_log_shares():
    shares = class_balance.log_shares(np.array([9.0, 0.0, 1.0]))
    np.testing.assert_allclose(shares, [np.log(0.9), 0.0, np.log(0.1)])


@given(st.lists(st.integers(0, 40), min_size=2, max_size=5).filter(any), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_any_draws_in_a_row_have_each_class_once(sizes, seed):
    labels = labels_of(*sizes)
    drawn = labels[class_balance.BalancedDraws(labels, seed).examples(np.arange(2000))]
    present = np.unique(labels)
    for first in (0, 7, 1000):
        assert sorted(drawn[first : first + len(present)]) == present.tolist()


def test_examples_of_a_class_are_drawn_equally_often_and_in_new_orders():
    labels = labels_of(500, 100, 3)
    draws = class_balance.BalancedDraws(labels, 0).examples(np.arange(3 * 1500))
    counts = np.bincount(draws, minlength=len(labels))
    assert set(counts[:500]) == {3} and set(counts[500:600]) == {15}
    assert counts[600:].sum() == 1500 and np.ptp(counts[600:]) <= 86  # Passes of 258 draws, 86 of each.
    of_first = draws[labels[draws] == 0].reshape(3, 500)
    assert not np.array_equal(of_first[0], of_first[1])
    other = class_balance.BalancedDraws(labels, 1).examples(np.arange(3 * 1500))
    assert np.mean(other == draws) < 0.2


@given(st.integers(0, 300), st.integers(1, 30), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_cut_of_balanced_batches_reads_the_same(first, steps, has_lengths):
    batches = balanced(has_lengths)
    found = batches.indices(first, steps)
    one_by_one = [batches.indices(step, 1)[0] for step in range(first, first + steps)]
    np.testing.assert_array_equal(found, one_by_one)


@pytest.mark.parametrize("has_lengths", [False, True])
def test_epochs_of_balanced_batches_are_as_long_as_ever(has_lengths):
    batches, whole = balanced(has_lengths), np.zeros(2)
    for epoch in range(4):
        index = batches.indices(epoch * batches.steps_per_epoch, batches.steps_per_epoch)
        drawn = batches.balance[index[index >= 0]]
        assert len(drawn) == batches.examples
        whole += np.bincount(drawn)
        assert np.ptp(np.bincount(drawn)) <= 1 and np.ptp(whole) <= 1
    first, second = (batches.indices(epoch * batches.steps_per_epoch, 1)[0] for epoch in (0, 1))
    assert not np.array_equal(first, second)


def test_widths_fit_the_drawn_sequences():
    batches = balanced(True)
    index, numbers = batches.indices(0, 60), batches.width_numbers(0, 60)
    for row, number in zip(index, numbers):
        assert batches.lengths[row[row >= 0]].max() <= batches.widths[number]


def test_fingerprint_tells_balanced_batches():
    batches = balanced(False)
    others = [None, batches.balance[::-1].copy()]
    prints = {dataclasses.replace(batches, balance=other).fingerprint() for other in others}
    assert len(prints | {batches.fingerprint()}) == 3


@pytest.mark.parametrize(
    ("change", "said"), [({"seed": None}, "the seed is None"), ({"balance": np.zeros(3)}, "has 3")]
)
def test_refused(change, said):
    with pytest.raises(BadInput, match=said):
        dataclasses.replace(balanced(False), **change)


def test_only_balanced_sampling_draws():
    labels = labels_of(2, 1)
    assert class_balance.sampled("balanced_sampling", labels) is labels
    assert class_balance.sampled("weights", labels) is None


def balanced(has_lengths):
    labels = np.random.default_rng(0).permutation(labels_of(90, 11))
    if not has_lengths:
        return Batches({"y": labels}, 7, seed=3, balance=labels)
    lengths = np.random.default_rng(1).integers(1, 40, len(labels))
    columns = {"tokens": np.zeros((len(labels), 40), np.int32), "y": labels}
    return Batches(columns, 7, 3, lengths, bucketing.widths(lengths), ("tokens",), labels)
