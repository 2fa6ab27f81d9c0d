"""Abstention: the promise in simulated trials, the search against loops over subsets, curves against permutations."""

import itertools
import json
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import BadInput
from zoo.predict.calibration import selective_prediction
from zoo.predict.calibration.selective_prediction import SelectiveRule


def drawn(draw, examples):
    """Confidences as even as they are honest: the risk above a threshold t is (1 - t) / 2."""
    confidence = draw.uniform(0.5, 1.0, examples)
    return confidence, draw.random(examples) < confidence


def levels(seed, examples, distinct):
    """Confidences most of which tie, and what is right."""
    draw = np.random.default_rng(seed)
    confidence = draw.integers(1, distinct + 1, examples) / distinct
    return confidence, draw.random(examples) < 0.3 + 0.7 * confidence


@pytest.mark.parametrize(("errors", "answered"), [(0, 1), (0, 50), (3, 40), (39, 40)])
def test_the_bound_is_the_exact_one(errors, answered):
    found = selective_prediction.upper_bound(errors, answered, 0.05)
    theirs = scipy.stats.binomtest(errors, answered, alternative="less").proportion_ci(0.95, "exact")
    assert found == pytest.approx(theirs.high, rel=1e-9)
    assert scipy.stats.binom.cdf(errors, answered, found) == pytest.approx(0.05, rel=1e-6)


def test_the_bound_at_the_ends():
    assert selective_prediction.upper_bound(0, 20, 0.1) == pytest.approx(1 - 0.1 ** (1 / 20), rel=1e-9)
    assert selective_prediction.upper_bound(7, 7, 0.1) == selective_prediction.upper_bound(0, 0, 0.1) == 1


def test_the_promise_holds():
    """Of 300 validation sets at most a share delta ends with a threshold that is too risky; and of the examples that
    may be answered most are."""
    draw, delta, risk = np.random.default_rng(0), 0.2, 0.15
    failures, coverage = 0, []
    for _ in range(300):
        found = selective_prediction.choose(*drawn(draw, 800), risk, delta)
        failures += (1 - max(found.threshold, 0.5)) / 2 > risk
        coverage.append(found.coverage)
    assert failures <= delta * 300
    # The threshold 0.7, 60 % of the examples, has this risk.
    assert 0.45 < np.mean(coverage) < 0.62


@pytest.mark.parametrize("distinct", [None, 1, 4])
def test_the_promise_holds_where_it_is_hardest(distinct):
    """Every threshold is a little too risky, so any answer breaks the promise."""
    draw, delta, risk = np.random.default_rng(1), 0.2, 0.1
    failures = 0
    for _ in range(300):
        confidence = draw.uniform(0.5, 1.0, 600) if distinct is None else draw.integers(1, distinct + 1, 600) / distinct
        failures += selective_prediction.choose(confidence, draw.random(600) > risk + 1e-6, risk, delta).answered > 0
    assert failures <= scipy.stats.binom.isf(1e-3, 300, delta)
    # Nor is it idle: it fails as often as a test may that is not wasted.
    assert failures >= 3


def by_loops(confidence, correct, risk, delta):
    """From each start downward through the distinct confidences, as the text says; how many are answered."""
    values, answered = sorted(set(confidence.tolist()), reverse=True), 0
    for start in (0.1, 0.25, 0.5, 0.75):
        for value in values:
            chosen = confidence >= value
            if chosen.sum() < max(1, math.floor(start * len(confidence))):
                continue
            if selective_prediction.upper_bound((chosen & ~correct).sum(), chosen.sum(), delta / 4) > risk:
                break
            answered = max(answered, chosen.sum())
    return answered


@given(
    seed=st.integers(0, 2**32 - 1),
    examples=st.integers(1, 150),
    distinct=st.sampled_from([1, 2, 7, 10_000]),
    risk=st.sampled_from([0.05, 0.2, 0.5]),
    delta=st.sampled_from([0.05, 0.3]),
)
def test_the_choice_is_that_of_loops(seed, examples, distinct, risk, delta):
    confidence, correct = levels(seed, examples, distinct)
    found = selective_prediction.choose(confidence, correct, risk, delta)
    assert found.answered == by_loops(confidence, correct, risk, delta)
    answers = found.answers(confidence)
    assert (answers.sum(), (answers & ~correct).sum()) == (found.answered, found.errors)
    assert found.coverage == found.answered / examples
    if found.answered:
        assert found.errors / found.answered <= found.bound <= risk
        assert found.bound == selective_prediction.upper_bound(found.errors, found.answered, delta / 4)
        assert confidence[~answers].max(initial=found.threshold) == found.threshold
    else:
        assert (found.threshold, found.bound) == (1.0, 1.0)
    order = np.random.default_rng(seed).permutation(examples)
    assert selective_prediction.choose(confidence[order], correct[order], risk, delta) == found


def test_one_wrong_label_among_the_surest_does_not_end_it():
    confidence = np.linspace(0.5, 0.99, 1000)
    correct = np.ones(1000, bool)
    correct[-5] = False
    assert selective_prediction.choose(confidence, correct, 0.05, 0.05).coverage == 1


def test_all_but_one_are_answered():
    """72 right answers suffice, one wrong among 73 is too many."""
    confidence, correct = np.append(np.full(72, 0.9), 0.5), np.append(np.ones(72, bool), False)
    found = selective_prediction.choose(confidence, correct, 0.05, 0.1)
    assert (found.answered, found.threshold) == (72, 0.5)


def test_a_certain_model():
    """Half of the confidences are 1, as float32 rounds them."""
    confidence = np.array([1.0] * 300 + [0.6] * 300, np.float32)
    correct = np.array([True] * 300 + [False, True] * 150)
    found = selective_prediction.choose(confidence, correct, 0.05)
    assert (found.answered, found.threshold) == (300, np.float64(np.float32(0.6)))
    np.testing.assert_array_equal(found.answers(confidence), confidence == 1)


def test_where_nothing_can_be_promised():
    risk, delta = 0.05, 0.1
    least = math.ceil(math.log(delta / 4) / math.log(1 - risk))
    sure = lambda examples: (np.full(examples, 0.9), np.ones(examples, bool))  # noqa: E731
    found = selective_prediction.choose(*sure(least - 1), risk, delta)
    assert (found.answered, found.coverage, found.errors) == (0, 0.0, 0)
    assert not found.answers(np.array([0.5, 1.0])).any()
    assert found.line() == (
        "abstains from everything: no threshold promises at most 0.05 of the answers wrong, with probability 0.9, "
        "on 71 validation examples; expected at least 72 that are sure and right, or a larger risk or delta"
    )
    found = selective_prediction.choose(*sure(least), risk, delta)
    assert (found.coverage, found.threshold) == (1.0, 0.0)
    assert found.answers(np.array([1e-6, 0.5, np.nan])).tolist() == [True, True, False]
    assert found.line() == (
        "at most 0.05 of the answers wrong, with probability 0.9: answers everything, 72 of 72 validation examples, "
        "0 of them wrong"
    )


@given(seed=st.integers(0, 2**32 - 1), examples=st.integers(1, 6), distinct=st.sampled_from([1, 2, 4]))
def test_the_curve_is_the_mean_over_orders_of_ties(seed, examples, distinct):
    confidence, correct = levels(seed, examples, distinct)
    risks = []
    for order in itertools.permutations(range(examples)):
        if all(confidence[i] >= confidence[j] for i, j in itertools.pairwise(order)):
            risks.append(np.cumsum(~correct[list(order)]) / np.arange(1, examples + 1))
    found = selective_prediction.curve(confidence, correct)
    np.testing.assert_allclose(found.risk, np.mean(risks, axis=0), atol=1e-12)
    np.testing.assert_allclose(found.coverage, np.arange(1, examples + 1) / examples)
    assert found.risk[-1] == pytest.approx(1 - correct.mean())


def test_area():
    correct = np.array([True, True, False, True])
    best = selective_prediction.curve(np.array([0.9, 0.8, 0.1, 0.7]), correct)
    worst = selective_prediction.curve(np.array([0.3, 0.2, 0.9, 0.1]), correct)
    assert best.area == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)
    assert worst.area == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert selective_prediction.curve(np.full(4, 0.5), correct).area == pytest.approx(1 / 4)
    # An even and honest confidence: the risk at coverage c is c / 4.
    assert selective_prediction.curve(*drawn(np.random.default_rng(2), 20_000)).area == pytest.approx(1 / 8, abs=0.01)


@pytest.mark.parametrize("risk", [None, 0.15, 1e-4])
def test_a_picture(tmp_path, risk):
    confidence, correct = drawn(np.random.default_rng(3), 500)
    chosen = None if risk is None else selective_prediction.choose(confidence, correct, risk)
    path = tmp_path / "curve.png"
    selective_prediction.draw(path, selective_prediction.curve(confidence, correct), chosen, "a title")
    from matplotlib import image

    pixels = image.imread(path)
    assert pixels.shape[:2] == (480, 640) and pixels.std() > 0.05
    reds = (pixels[..., 0] > 0.8) & (pixels[..., 1:3].max(axis=-1) < 0.3)
    assert reds.any() == (risk is not None)


def test_json():
    for risk in (0.2, 1e-6):
        found = selective_prediction.choose(*drawn(np.random.default_rng(4), 500), risk)
        assert SelectiveRule.from_json(json.loads(json.dumps(found.as_json()))) == found


@pytest.mark.parametrize("change", [{"threshold": None}, {"threshold": math.nan}, {"risk": "0.1"}, {"more": 1}])
def test_damaged_json_is_refused(change):
    good = selective_prediction.choose(*drawn(np.random.default_rng(4), 100), 0.2).as_json()
    for damaged in (good | change, {}, None, []):
        with pytest.raises(BadInput, match=r"abstention: expected numbers named .*choose again") as error:
            SelectiveRule.from_json(damaged)
        assert "\n" not in str(error.value)


GOOD = {"confidence": np.array([0.5, 1.0]), "correct": np.array([True, False])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confidence": np.array([0.5, 0.0])}, r"confidence of example 1 is 0\.0: expected above 0 and at most 1"),
        ({"confidence": np.array([1.5, 1.0])}, r"confidence of example 0 is 1\.5"),
        ({"confidence": np.array([np.nan, 1.0])}, "confidence of example 0 is nan"),
        ({"confidence": np.array([[0.5, 1.0]])}, r"float64 \[1, 2\]: expected floats \[examples\]"),
        ({"confidence": np.array([1, 1])}, "int64"),
        ({"confidence": np.zeros(0), "correct": np.zeros(0, bool)}, "one or more"),
        ({"correct": np.array([True])}, r"bool \[1\]: expected bool \[2\]"),
        ({"correct": np.array([1, 0])}, "int64.*expected bool"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    for function in (lambda **given: selective_prediction.choose(**given, risk=0.1), selective_prediction.curve):
        with pytest.raises(ValueError, match=message) as error:
            function(**GOOD | change)
        assert "\n" not in str(error.value)
        function(**GOOD)


@pytest.mark.parametrize(
    "options", [{"risk": 0.0}, {"risk": 1.0}, {"risk": 0.1, "delta": 0.0}, {"risk": 0.1, "delta": 1}]
)
def test_what_cannot_be_promised_is_refused(options):
    with pytest.raises(ValueError, match="expected both above 0 and below 1"):
        selective_prediction.choose(**GOOD, **options)
