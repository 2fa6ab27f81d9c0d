"""Label shift: expectation maximisation on classes of known densities, and the prior that a stream carries."""

import itertools
import json
import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import BadInput
from zoo.predict.calibration import label_shift
from zoo.predict.calibration.label_shift import LabelShiftEstimate

MEANS = np.array([[0.0, 0.0], [2.5, 0.0], [0.0, 2.5]])
SOURCE = np.array([0.5, 0.3, 0.2])
TARGET = np.array([0.1, 0.15, 0.75])


def gaussians(seed, examples, shares):
    """Exact probabilities of three Gaussian classes under `SOURCE`, and the labels, of shares of their own."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(3, examples, p=shares)
    x = MEANS[labels] + draw.normal(size=(examples, 2))
    joint = SOURCE * np.exp(-((x[:, None] - MEANS) ** 2).sum(axis=2) / 2)
    return joint / joint.sum(axis=1, keepdims=True), labels


def anything(seed, examples, classes):
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), examples)


def objective(shares, probabilities, source, counts):
    """What expectation maximisation climbs, written from the text; 0 pseudo-examples of nothing are nothing."""
    fit = np.log(probabilities @ (shares / source)).sum()
    return fit + sum(count * math.log(share) for count, share in zip(counts, shares) if count)


def log_loss(probabilities, labels):
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


def test_known_shares_are_found():
    probabilities, labels = gaussians(0, 20_000, TARGET)
    found = label_shift.estimate(probabilities, SOURCE)
    np.testing.assert_allclose(found, TARGET, atol=0.01)
    assert found.sum() == pytest.approx(1)
    corrected = label_shift.correct(probabilities, SOURCE, found)
    assert log_loss(corrected, labels) < log_loss(probabilities, labels) - 0.1
    # Bayes' rule with the densities themselves.
    exact = probabilities / SOURCE * TARGET
    np.testing.assert_allclose(
        label_shift.correct(probabilities, SOURCE, TARGET), exact / exact.sum(axis=1, keepdims=True), rtol=1e-12
    )
    # The predicted classes' shares, which are no estimate, are further off.
    assert np.abs(np.bincount(probabilities.argmax(axis=1)) / 20_000 - TARGET).max() > 0.03


@given(seed=st.integers(0, 2**32 - 1), examples=st.integers(1, 40), counted=st.booleans())
def test_it_climbs_to_where_it_stays(seed, examples, counted):
    draw = np.random.default_rng(seed)
    probabilities, source = anything(seed, examples, 4), draw.dirichlet(np.full(4, 3.0))
    counts = draw.exponential(size=4) * counted
    path = [label_shift.estimate(probabilities, source, counts, iterations) for iterations in range(12)]
    np.testing.assert_array_equal(path[0], source)
    heights = [objective(shares, probabilities, source, counts) for shares in path]
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(heights))
    found = label_shift.estimate(probabilities, source, counts)
    assert objective(found, probabilities, source, counts) >= heights[-1] - 1e-9
    # The equation of the fixed point; the search ends a little before it.
    expected = label_shift.correct(probabilities, source, found).sum(axis=0) + counts
    np.testing.assert_allclose(found, expected / (examples + counts.sum()), atol=2e-6)


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_it_is_the_maximum_of_a_search(weight):
    probabilities = anything(1, 60, 2)
    source, counts = np.array([0.3, 0.7]), weight * np.array([0.9, 0.1])
    found = label_shift.estimate(probabilities, source, counts)
    height = lambda share: -objective(np.array([share, 1 - share]), probabilities, source, counts)  # noqa: E731
    search = scipy.optimize.minimize_scalar(height, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-9})
    assert found[0] == pytest.approx(search.x, abs=1e-4)


@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(4)))
def test_classes_have_no_order(seed, order):
    probabilities, order = anything(seed, 80, 4), list(order)
    one, other = (
        LabelShiftEstimate.from_validation(probabilities[:40], 0.3),
        LabelShiftEstimate.from_validation(probabilities[:40][:, order], 0.3),
    )
    for batch in (probabilities[40:50] ** 4, probabilities[50:]):
        batch = batch / batch.sum(axis=1, keepdims=True)
        (one, found), (other, moved) = one.update(batch), other.update(batch[:, order])
        np.testing.assert_allclose(moved, found[:, order], atol=1e-4)
        assert one.shifted == other.shifted
    np.testing.assert_allclose(other.target, np.array(one.target)[order], atol=1e-4)


def test_validation_data_is_a_fixed_point():
    """Also of probabilities that are far from calibrated: their mean is the source."""
    probabilities = anything(2, 300, 3) ** 3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    prior = LabelShiftEstimate.from_validation(probabilities)
    np.testing.assert_allclose(label_shift.estimate(probabilities, np.array(prior.source)), prior.source, atol=1e-12)


def test_a_few_examples_do_not_run_away():
    probabilities = np.array([[0.02, 0.08, 0.9]])
    alone = label_shift.estimate(probabilities, SOURCE)
    smoothed = label_shift.estimate(probabilities, SOURCE, 3 * SOURCE)
    assert alone[2] > 0.99 and 0.2 < smoothed[2] < 0.5
    np.testing.assert_array_equal(label_shift.estimate(probabilities[:0], SOURCE), SOURCE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_has_not_shifted_is_left_as_it_is(dtype):
    prior = LabelShiftEstimate.from_validation(gaussians(3, 1000, SOURCE)[0])
    for number in range(10):
        batch = gaussians(100 + number, 100, SOURCE)[0].astype(dtype)
        kept = batch.copy()
        prior, found = prior.update(batch)
        assert not prior.shifted
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, kept)
    np.testing.assert_allclose(prior.target, SOURCE, atol=0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_shift_is_found_and_corrected(dtype):
    prior, losses = LabelShiftEstimate.from_validation(gaussians(3, 1000, SOURCE)[0]), []
    for number in range(10):
        batch, labels = gaussians(200 + number, 100, TARGET)
        prior, found = prior.update(batch.astype(dtype))
        exact = label_shift.correct(batch, SOURCE, TARGET)
        losses.append([log_loss(each, labels) for each in (batch, found, exact)])
        assert found.dtype == dtype
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert prior.shifted
    plain, corrected, exact = np.mean(losses, axis=0)
    assert corrected < plain - 0.2 and corrected < exact + 0.03
    np.testing.assert_allclose(prior.target, TARGET, atol=0.05)


def test_level_over_streams():
    """200 unshifted streams of 10 batches, each with a validation set of its own."""
    alarms = 0
    for number in range(200):
        everything = gaussians(1000 + number, 700, SOURCE)[0]
        prior = LabelShiftEstimate.from_validation(everything[:200], level=0.05)
        for first in range(200, 700, 50):
            prior, _ = prior.update(everything[first : first + 50])
        alarms += prior.shifted
    assert alarms <= 0.05 * 200


def test_the_estimate_is_carried():
    """By hand: what the batches before are expected to hold, faded, is a Dirichlet prior of the next one."""
    prior = LabelShiftEstimate.from_validation(gaussians(3, 500, SOURCE)[0], memory=50.0, strength=2.0)
    source = np.array(prior.source)
    first, second = gaussians(4, 30, TARGET)[0], gaussians(5, 20, TARGET)[0]
    target = label_shift.estimate(first, source, 2 * source)
    expected = label_shift.correct(first, source, target).sum(axis=0)
    prior, _ = prior.update(first)
    np.testing.assert_allclose(prior.expected, expected, rtol=1e-12)
    carried = expected * math.exp(-20 / 50)
    target = label_shift.estimate(second, source, carried + 2 * source)
    corrected = label_shift.correct(second, source, target)
    prior, found = prior.update(second)
    np.testing.assert_allclose(prior.expected, carried + corrected.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(prior.target, (prior.expected + 2 * source) / (sum(prior.expected) + 2), rtol=1e-12)
    np.testing.assert_allclose(prior.target, target, atol=1e-5)
    assert prior.shifted
    np.testing.assert_allclose(found, corrected, rtol=1e-12)


def test_shares_that_drift_are_followed_if_it_forgets():
    targets = {}
    for memory in (200.0, math.inf):
        prior = LabelShiftEstimate.from_validation(gaussians(3, 500, SOURCE)[0], memory=memory)
        for number, shares in enumerate([TARGET] * 15 + [TARGET[::-1]] * 10):
            prior, _ = prior.update(gaussians(300 + number, 100, shares)[0])
        targets[memory] = np.abs(np.array(prior.target) - TARGET[::-1]).max()
    assert targets[200.0] < 0.06 < 0.2 < targets[math.inf]


def test_an_old_prior_stays_as_it_was():
    prior = LabelShiftEstimate.from_validation(gaussians(3, 500, SOURCE)[0])
    batch = gaussians(4, 200, TARGET)[0]
    before, kept = prior.as_json(), batch.copy()
    one, found = prior.update(batch)
    again, same = prior.update(batch)
    assert one.shifted and not prior.shifted and prior.as_json() == before
    assert one == again != prior
    np.testing.assert_array_equal(found, same)
    np.testing.assert_array_equal(batch, kept)


def test_no_examples_are_no_news():
    for prior in (LabelShiftEstimate.from_validation(gaussians(3, 500, SOURCE)[0]), shifted()):
        after, found = prior.update(np.zeros((0, 3), np.float32))
        assert after == prior and found.shape == (0, 3)


def test_a_shift_once_found_stays_found():
    """However much the stream is again as in validation; its correction fades instead."""
    prior = shifted()
    for number in range(40):
        batch, _ = gaussians(600 + number, 100, SOURCE)
        prior, found = prior.update(batch)
    assert prior.shifted and prior.evidence == shifted().evidence
    assert 0 < np.abs(found - batch).max() < 0.1


def shifted():
    prior = LabelShiftEstimate.from_validation(gaussians(3, 500, SOURCE)[0])
    for number in range(3):
        prior, _ = prior.update(gaussians(400 + number, 100, TARGET)[0])
    assert prior.shifted
    return prior


def test_reset():
    assert shifted().reset() == LabelShiftEstimate.from_validation(gaussians(3, 500, SOURCE)[0])
    assert shifted().reset().target == pytest.approx(shifted().source)


@pytest.mark.parametrize("make", [shifted, lambda: shifted().reset()])
def test_a_saved_prior_goes_on_bit_for_bit(make):
    prior = make()
    again = LabelShiftEstimate.from_json(json.loads(json.dumps(prior.as_json())))
    assert again == prior
    for number in range(3):
        batch = gaussians(500 + number, 100, TARGET)[0]
        (prior, one), (again, other) = prior.update(batch), again.update(batch)
        np.testing.assert_array_equal(one, other)
    assert again == prior


def test_a_memory_without_end_is_saved():
    prior = LabelShiftEstimate.from_validation(gaussians(3, 500, SOURCE)[0], memory=math.inf)
    assert LabelShiftEstimate.from_json(json.loads(json.dumps(prior.as_json()))) == prior


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"source": [0.5, 0.5]},
        {"source": [0.5, 0.5, 0.0]},
        {"source": [0.5, 0.3, "0.2"]},
        {"source": 1.0},
        {"expected": []},
        {"expected": [1.0, math.nan, 0.0]},
        {"level": 1.0},
        {"level": None},
        {"strength": -1.0},
        {"evidence": None},
        {"evidence": {}},
        {"other": 1},
    ],
)
def test_a_damaged_state_is_refused(change):
    with pytest.raises(BadInput, match=r"label shift state cannot be read .* restart the stream") as error:
        LabelShiftEstimate.from_json(shifted().as_json() | change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damaged", [None, [], {}, 3])
def test_what_is_no_state_is_refused(damaged):
    with pytest.raises(BadInput, match="restart the stream"):
        LabelShiftEstimate.from_json(damaged)


@pytest.mark.parametrize("change", [{"bets": [0.0]}, {"seen": []}, {"memory": 0.0}, {"memory": "1"}, {"batches": -2}])
def test_damaged_evidence_is_refused(change):
    found = shifted().as_json()
    with pytest.raises(BadInput, match="restart the stream"):
        LabelShiftEstimate.from_json(found | {"evidence": found["evidence"] | change})


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros(3), r"float64 \[3\]: expected floats \[examples, 3\]"),
        (np.full((2, 2), 0.5), r"float64 \[2, 2\]: expected floats \[examples, 3\]"),
        (np.ones((2, 3), int), "int64"),
        (np.array([[0.2, 0.3, 0.5], [2.0, -1.0, 0.0]]), "probabilities of example 1 are negative"),
        (np.array([[0.2, 0.3, 0.6]]), "example 0 .* do not sum to 1: expected a softmax"),
        (np.array([[0.2, 0.3, np.nan]]), "not finite"),
    ],
)
def test_what_are_no_probabilities_is_refused(batch, message):
    with pytest.raises(ValueError, match=message) as error:
        shifted().update(batch)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 0.0}, "expected 0 < level < 1"),
        ({"level": 1.0}, "expected 0 < level < 1"),
        ({"memory": 0.0}, "memory above 0"),
        ({"strength": -1.0}, "strength 0 or more"),
        ({"strength": math.inf}, "strength 0 or more"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        LabelShiftEstimate.from_validation(gaussians(3, 10, SOURCE)[0], **options)


def test_a_class_that_validation_excludes_is_refused():
    for validation in (np.array([[0.5, 0.5, 0.0]]), np.zeros((0, 3))):
        with pytest.raises(ValueError, match=r"class \d has no probability on \d validation examples"):
            LabelShiftEstimate.from_validation(validation)
