"""Evidence for a shift: a fair game where nothing has shifted, its level over whole streams, and its power."""

import itertools
import json
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from zoo.predict.calibration.label_shift_test import ShiftEProcess

PRIORS = (0.1, 0.5, 2.5, 12.5, 62.5, 312.5)


def histograms(examples, classes):
    """All of them."""
    every = itertools.product(range(examples + 1), repeat=classes)
    return [np.array(counts) for counts in every if sum(counts) == examples]


def unshifted(counts, known):
    """The probability of a histogram after the known one, all of one distribution: by SciPy and Bayes' rule."""
    total = 0.0
    before = [scipy.stats.dirichlet_multinomial.pmf(known, [a] * len(known), known.sum()) for a in PRIORS]
    for prior, weight in zip(PRIORS, np.array(before) / sum(before)):
        total += weight * scipy.stats.dirichlet_multinomial.pmf(counts, known + prior, counts.sum())
    return total


@pytest.mark.parametrize("history", [[], [[2, 0, 1]], [[0, 5, 0], [0, 0, 1], [3, 3, 3]]])
def test_the_game_is_fair_where_nothing_has_shifted(history):
    """The mean of the money after a batch is the money before it, over all batches that there can be."""
    found = ShiftEProcess((4, 1, 7), 10.0)
    assert found.log_wealth == pytest.approx(0, abs=1e-12)
    for batch in history:
        found = found.add(np.array(batch))
    known = np.array([4, 1, 7]) + np.sum([[0, 0, 0], *history], axis=0)
    every = histograms(4, 3)
    chances = [unshifted(counts, known) for counts in every]
    money = [math.exp(found.add(counts).log_wealth) for counts in every]
    assert sum(chances) == pytest.approx(1)
    assert np.dot(chances, money) == pytest.approx(math.exp(found.log_wealth), rel=1e-9)
    assert np.ptp(money) > 0.1


def test_the_first_batch_by_hand():
    counts, validation = np.array([5, 1]), np.array([10, 30])
    shares = (validation + 0.5) / 41
    wide, mild = (scipy.stats.dirichlet_multinomial.pmf(counts, prior, 6) for prior in ([0.5, 0.5], 100 * shares))
    # Half is held back; there is no recent stream, so two alternatives each are the same.
    expected = 0.5 + 0.25 * (wide + mild) / unshifted(counts, validation)
    assert math.exp(ShiftEProcess((10, 30), 1000.0).add(counts).log_wealth) == pytest.approx(expected, rel=1e-9)


def test_the_second_batch_by_hand():
    """Four alternatives, of which two know the first batch; an eighth of the money on each, and then more."""
    first, second, validation = np.array([5, 1]), np.array([0, 4]), np.array([10, 30])
    mild, recent = 100 * (validation + 0.5) / 41, first
    priors = [[0.5, 0.5], [0.5, 0.5], mild, mild], [[0.5, 0.5], 0.5 + recent, mild, mild + recent]
    chances = [
        np.array([scipy.stats.dirichlet_multinomial.pmf(counts, prior, counts.sum()) for prior in each])
        for counts, each in zip((first, second), priors)
    ]
    bets = np.full(4, 1 / 8) * chances[0] / unshifted(first, validation) + (1 / 2 - 1 / 3) / 4
    bets = bets * chances[1] / unshifted(second, validation + first)
    found = ShiftEProcess((10, 30), 20.0).add(first).add(second)
    assert math.exp(found.log_wealth) == pytest.approx(1 / 3 + bets.sum(), rel=1e-9)


def test_what_is_held_back_is_never_lost():
    found = ShiftEProcess((5, 5), 1000.0)
    for batch in range(1, 6):
        found = found.add(np.array([5000, 5000]))
        assert 1 / (batch + 2) < math.exp(found.log_wealth) < 1


def test_recent_examples_fade():
    found = ShiftEProcess((10, 10), 20.0).add(np.array([4, 0])).add(np.array([0, 10]))
    assert found.recent == pytest.approx((4 * math.exp(-0.5), 10))
    assert found.seen == (4, 10) and found.batches == 2
    forever = ShiftEProcess((10, 10), math.inf).add(np.array([4, 0])).add(np.array([0, 10]))
    assert forever.recent == (4, 10)


def stream(draw, validation, shares, batches, size, before=0):
    """The largest money of a stream, and after how many batches of the shift it reached 100."""
    found, most, first = ShiftEProcess(tuple(validation), 1000.0), -math.inf, None
    source = validation / validation.sum()
    for batch in range(-before, batches):
        found = found.add(draw.multinomial(size, shares if batch >= 0 else source))
        most = max(most, found.log_wealth)
        if first is None and found.log_wealth >= math.log(100):
            first = batch + 1
    return most, first


@pytest.mark.parametrize(("examples", "size"), [(200, 100), (1000, 10)])
def test_the_level_holds_over_whole_streams(examples, size):
    """200 streams of 30 batches each, whose validation set is a draw like them; shares even, and very uneven."""
    draw = np.random.default_rng(0)
    most = []
    for number in range(200):
        shares = np.full(10, 0.1) if number % 2 else 2.0 ** -np.arange(1, 11) / (1 - 2.0**-10)
        most.append(stream(draw, draw.multinomial(examples, shares), shares, 30, size)[0])
    for level in (0.5, 0.2, 0.05, 0.01):
        alarms = np.mean(np.array(most) >= -math.log(level))
        # What 200 draws of a stream that is at its level would have.
        assert alarms <= scipy.stats.binom.isf(1e-3, 200, level) / 200, level


def test_a_validation_set_that_is_taken_for_the_truth_has_no_level():
    """Why the size of the validation set has to count: 30 batches tell it from the truth that it was drawn from."""
    draw = np.random.default_rng(1)
    shares = np.full(10, 0.1)
    alarms = 0
    for _ in range(40):
        validation = draw.multinomial(200, shares)
        seen = draw.multinomial(3000, shares)
        ratio = scipy.stats.power_divergence(seen, validation / 200 * 3000, lambda_="log-likelihood")
        alarms += ratio.pvalue < 0.01
    assert alarms > 20


@pytest.mark.parametrize(("concentration", "share"), [(0.1, [1.0, 1.0]), (1.0, [0.7, 0.95]), (10.0, [0.0, 0.3])])
def test_power(concentration, share):
    """Shares of streams from Dirichlet distributions that are found after 1 and 5 batches of 100, at level 0.01."""
    draw = np.random.default_rng(2)
    validation = draw.multinomial(1000, np.full(10, 0.1))
    first = []
    for _ in range(40):
        shares = 0.9 * draw.dirichlet(np.full(10, concentration)) + 0.01
        first.append(stream(draw, validation, shares, 5, 100)[1])
    assert np.mean([each == 1 for each in first]) >= share[0]
    assert np.mean([each is not None for each in first]) >= share[1]


def test_a_late_shift_is_found_soon():
    draw = np.random.default_rng(3)
    validation = draw.multinomial(1000, np.full(10, 0.1))
    shares = np.array([0.4, *[0.6 / 9] * 9])
    for before in (0, 60):
        first = [stream(draw, validation, shares, 10, 100, before)[1] for _ in range(10)]
        assert all(each is not None and 0 < each <= 3 for each in first), before


def test_classes_have_no_order():
    draw = np.random.default_rng(4)
    order = draw.permutation(5)
    batches = draw.multinomial(20, np.full(5, 0.2), size=6)
    one, other = (
        ShiftEProcess((3, 1, 4, 1, 5), 30.0),
        ShiftEProcess(tuple(np.array([3, 1, 4, 1, 5])[order].tolist()), 30.0),
    )
    for batch in batches:
        one, other = one.add(batch), other.add(batch[order])
    assert other.log_wealth == pytest.approx(one.log_wealth, rel=1e-9)
    assert one.log_wealth != 0


def test_it_is_plain_numbers():
    found = ShiftEProcess((3, 4), 30.0).add(np.array([1, 2]))
    assert found == ShiftEProcess(**{name: tuple(v) if isinstance(v, list) else v for name, v in _json(found).items()})


def _json(found):
    return json.loads(json.dumps(vars(found)))
