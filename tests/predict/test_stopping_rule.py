"""Thresholds that keep a promise: against loops, on simulated stages, and patience against the paper's own counting."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import BadInput
from zoo.predict.calibration.selective_prediction import upper_bound
from zoo.predict.early_exit import stopping_rule
from zoo.predict.early_exit.stopping_rule import NEVER


def drawn(seed, examples, stages=5, classes=2):
    """Stages that grow surer and more often right: their probabilities, the full model's answers, labels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, examples)
    hard = draw.exponential(1.0, examples)
    skill = np.linspace(1.0, 4.0, stages)[:, None] / (0.3 + hard)
    logits = draw.normal(size=(stages, examples, classes)) + np.eye(classes)[labels] * skill[:, :, None]
    given = np.exp(logits - logits.max(axis=2, keepdims=True))
    probabilities = given / given.sum(axis=2, keepdims=True)
    return probabilities, probabilities[-1].argmax(axis=1), labels


def chosen(seed, examples, stages=5, classes=2, **options):
    probabilities, full, labels = drawn(seed, examples, stages, classes)
    return stopping_rule.choose(probabilities, np.full(examples, stages - 1), full, labels, **options)


def patient(answers, patience):
    """Zhou et al. (2020), algorithm 1, whose counter is of agreements with the layer before."""
    counter, before = 0, None
    for layer, answer in enumerate(answers):
        counter = counter + 1 if answer == before else 1
        before = answer
        if counter >= patience:
            return layer
    return len(answers) - 1


def lost_by_loops(probabilities, last, full, labels, rule, threshold, kind):
    count = 0
    for example in range(len(full)):
        answers = probabilities[:, example].argmax(axis=1)
        if rule == "patient":
            stop = patient(answers, threshold + 1)
        else:
            sure = [stage for stage, some in enumerate(probabilities[:, example]) if some.max() > threshold]
            stop = sure[0] if sure else len(answers) - 1
        if stop < last[example]:
            right = labels[example] if kind == "errors" else full[example]
            count += answers[stop] != right and (kind == "changed" or full[example] == labels[example])
    return count


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    rule=st.sampled_from(stopping_rule.RULES),
    kind=st.sampled_from(stopping_rule.RISKS),
    risk=st.sampled_from([0.03, 0.1, 0.3]),
    classes=st.integers(2, 3),
)
def test_the_choice_is_that_of_loops(seed, rule, kind, risk, classes):
    """The last threshold before the first whose losses could come from a larger risk."""
    probabilities, full, labels = drawn(seed, 60, 4, classes)
    last = np.random.default_rng(seed).integers(0, 4, 60)
    expected = NEVER
    for threshold in stopping_rule.thresholds(rule, 4, classes):
        lost = lost_by_loops(probabilities, last, full, labels, rule, threshold, kind)
        if upper_bound(lost, 60, 0.1) > risk:
            break
        expected = threshold
    found = stopping_rule.choose(probabilities, last, full, labels, risk=risk, delta=0.1, rule=rule, kind=kind)
    assert found.threshold == expected
    if expected < NEVER:
        assert found.lost == lost_by_loops(probabilities, last, full, labels, rule, expected, kind)
        assert found.lost / 60 <= found.bound <= risk


@pytest.mark.parametrize("rule", stopping_rule.RULES)
@pytest.mark.parametrize("kind", stopping_rule.RISKS)
def test_the_promise_holds_on_examples_to_come(rule, kind):
    """Of 200 validation sets at most a share delta ends with a threshold that is too risky on 40,000 other examples."""
    delta, risk, stages = 0.2, 0.08, 5
    probabilities, full, labels = drawn(1, 40_000)
    watch = stopping_rule.ExitScores(rule, 40_000)
    scores = np.stack([watch.scores(each) for each in probabilities])
    answers, last = probabilities.argmax(axis=2), np.full(40_000, stages - 1)
    failures, depths = 0, []
    for seed in range(200):
        found = chosen(seed + 10, 500, risk=risk, delta=delta, rule=rule, kind=kind)
        stop = stopping_rule.stops(scores, found.threshold, last)
        taken = answers[stop, np.arange(40_000)]
        lost = taken != full if kind == "changed" else (taken != labels) & (full == labels)
        failures += lost.mean() > risk
        depths.append(stop.mean())
    assert failures <= scipy.stats.binom.isf(1e-3, 200, delta)
    # It is no promise that is kept by never stopping.
    assert np.mean(depths) < stages - 1.2


@given(seed=st.integers(0, 2**32 - 1), rule=st.sampled_from(stopping_rule.RULES))
def test_a_larger_risk_stops_no_later(seed, rule):
    found = [chosen(seed, 200, risk=risk, rule=rule).threshold for risk in (0.001, 0.03, 0.06, 0.12, 0.25, 0.9)]
    assert found[0] == NEVER and found[-1] == 0
    assert found == sorted(found, reverse=True)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(1, 9))
def test_patience_is_the_papers(answers, patience):
    watch = stopping_rule.ExitScores("patient", 2)
    scores = np.stack([watch.scores(np.eye(3)[[answer, answer]]) for answer in answers])
    stop = stopping_rule.stops(scores, patience - 1, np.full(2, len(answers) - 1))
    assert stop.tolist() == [patient(answers, patience)] * 2


def test_a_finished_example_loses_nothing():
    """Texts end in different stages; what stands behind their ends is not read."""
    probabilities, full, labels = drawn(3, 300)
    done = np.zeros(300, int)
    found = stopping_rule.choose(probabilities, done, full, labels, risk=0.02)
    assert (found.threshold, found.lost) == (0, 0)


def test_lines():
    assert chosen(0, 100, risk=0.01).line() == (
        "nothing stops early: no threshold promises at most 0.01 of the answers changed, with probability 0.95, on 100 "
        "validation examples; expected 299 or more, a larger risk or a larger delta"
    )
    said = chosen(0, 400, risk=0.1, rule="patient", kind="errors").line()
    assert said.startswith(
        "at most 0.1 of the answers wrong that would have been right, with probability 0.95: stops after"
    )
    assert "equal answers in a row" in said and "of 400 validation examples lost by it" in said


def test_parts_are_a_quarter_and_the_rest():
    fitted, tested = stopping_rule.parts(101)
    assert sorted([*fitted, *tested]) == list(range(101)) and len(fitted) == 26
    assert fitted.tolist() == stopping_rule.parts(101)[0].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"risk": 0.0}, "risk 0.0, delta 0.05: expected both above 0 and below 1"),
        ({"risk": 0.1, "delta": 1.0}, "expected both above 0 and below 1"),
        ({"risk": 0.1, "rule": "sure"}, "the rule is 'sure': expected one of confident, patient"),
        ({"risk": 0.1, "kind": "all"}, "the kind of risk is 'all': expected one of changed, errors"),
    ],
)
def test_what_cannot_be_promised_is_refused(options, message):
    with pytest.raises(BadInput, match=message) as error:
        chosen(0, 50, **options)
    assert "\n" not in str(error.value)
