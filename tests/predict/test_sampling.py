"""Filters against plain loops, and what must hold for any logits; text from bytes, wherever they are cut."""

import math

import hypothesis
import hypothesis.strategies as some
import numpy as np
import pytest

from zoo.errors import BadInput
from zoo.metrics.logits import log_softmax
from zoo.predict.language_models import sampling
from zoo.predict.language_models.sampling import SamplingConfig
from zoo.predict.language_models.streamer import TextStreamer

numbers = some.floats(-30, 30, width=32)
logits_of_any_kind = some.lists(numbers, min_size=1, max_size=12)
properties = hypothesis.settings(deadline=None, max_examples=150, derandomize=True, database=None)


def by_hand(logits, temperature, top_k, top_p):
    """The same with sorted lists."""
    left = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: top_k or None]
    weights = {i: math.exp((logits[i] - max(logits)) / temperature) for i in left}
    nucleus, total = [], 0.0
    for i in left:
        if total < top_p or top_p == 1:
            nucleus.append(i)
        total += weights[i] / sum(weights.values())
    return [weights[i] / sum(weights[j] for j in nucleus) if i in nucleus else 0.0 for i in range(len(logits))]


@properties
@hypothesis.given(logits_of_any_kind, some.floats(0.3, 5), some.integers(0, 13), some.sampled_from([0.1, 0.5, 0.93, 1]))
def test_filters_are_those_of_plain_loops(logits, temperature, top_k, top_p):
    found = sampling.probabilities(np.array(logits, np.float32), temperature, top_k, top_p)
    expected = np.array(by_hand(logits, temperature, top_k, top_p))
    # A nucleus whose edge is hit exactly may lie on either side of it after rounding.
    edge = np.cumsum(np.sort(by_hand(logits, temperature, top_k, 1))[::-1])
    hypothesis.assume(top_p == 1 or np.abs(edge - top_p).min() > 1e-9)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@properties
@hypothesis.given(logits_of_any_kind, some.floats(0, 5), some.integers(0, 13), some.floats(1e-6, 1))
def test_what_any_filter_must_keep_to(logits, temperature, top_k, top_p):
    logits = np.array(logits, np.float32)
    found = sampling.probabilities(logits, temperature, top_k, top_p)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    kept = found > 0
    assert 1 <= kept.sum() <= (top_k or len(logits)) and kept[logits.argmax()]
    # What is kept is at least as probable as what is not, and the order stays.
    assert logits[kept].min() >= logits[~kept].max(initial=-np.inf)
    assert (np.diff(found[np.argsort(-logits, kind="stable")]) <= 1e-12).all()
    if temperature == 0:
        assert found[np.flatnonzero(logits == logits.max())[0]] == 1
    elif top_k == 0:
        # The nucleus is the smallest: without its last member it is too small.
        alone = sampling.probabilities(logits, temperature)
        assert alone[kept].sum() >= top_p - 1e-9
        assert alone[kept].sum() - alone[kept].min() < top_p + 1e-9


def test_extremes_are_finite():
    logits = np.array([3e38, -3e38, 3e38, -np.inf], np.float32)
    np.testing.assert_array_equal(sampling.probabilities(logits, 1e-300), [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(sampling.probabilities(logits, 1e300), [1 / 3] * 3 + [0])
    np.testing.assert_array_equal(sampling.probabilities(logits, 1.0, top_p=1e-300), [1, 0, 0, 0])


@properties
@hypothesis.given(some.lists(numbers, min_size=4, max_size=4), some.lists(some.integers(0, 3)), some.floats(0.5, 3))
def test_repetition_penalty(logits, present, penalty):
    logits = np.array(logits, np.float32)
    found = sampling.penalise_repetition(logits, present, penalty)
    for id, (before, after) in enumerate(zip(logits, found)):
        expected = float(before) / penalty if before > 0 else float(before) * penalty
        assert after == pytest.approx(expected if id in present else before, rel=1e-6)
    if penalty > 1:
        assert (found <= logits).all()


@properties
@hypothesis.given(some.lists(some.sampled_from([0.0, 0.1, 0.7, 3.0]), min_size=1).filter(any), some.floats(0, 1))
def test_drawn_by_the_inverse_of_the_sums(weights, number):
    chances = np.array(weights) / sum(weights)
    found = sampling.draw(chances, number)
    before = chances[:found].sum()
    assert chances[found] > 0 and before - 1e-12 <= number <= before + chances[found] + 1e-12


def test_drawn_as_often_as_probable():
    chances = np.array([0.2, 0.0, 0.5, 0.3])
    found = np.bincount([sampling.draw(chances, number) for number in (np.arange(1000) + 0.5) / 1000], minlength=4)
    np.testing.assert_array_equal(found, [200, 0, 500, 300])


def test_log_softmax():
    logits = np.array([[1000.0, 1001.0], [0.0, -2000.0]], np.float32)
    np.testing.assert_allclose(np.exp(log_softmax(logits)).sum(axis=1), 1)
    np.testing.assert_allclose(log_softmax(logits)[1], [0, -2000])


WRONG = [
    ({"top_p": 0.0}, "--top_p is 0.0: expected a probability, more than 0 and at most 1"),
    ({"top_p": 1.1}, "--top_p is 1.1: expected a probability"),
    ({"top_p": math.nan}, "--top_p is nan"),
    ({"temperature": -0.1}, "--temperature is -0.1: expected a number, 0 or more"),
    ({"temperature": math.inf}, "--temperature is inf"),
    ({"repetition_penalty": 0.0}, "--repetition_penalty is 0.0: expected a number, 0.01 to 100"),
    ({"top_k": -1}, "--top_k is -1: expected a whole number, 0 to 2,147,483,648"),
    ({"tokens": 0}, "--tokens is 0: expected a whole number, 1 to 1,000,000"),
    ({"tokens": 1.5}, "--tokens is 1.5: expected a whole number"),
    ({"seed": -1}, "--seed is -1"),
    ({"count": 0}, "--count is 0"),
    ({"stop": [""]}, "--stop is ['']: expected strings of one character or more"),
    ({"stop": "end"}, "--stop is 'end': expected strings"),
    ({"beams": 3, "temperature": 0.5}, "--beams is 3 and --temperature 0.5: a beam search does not sample"),
    ({"beams": 3, "top_k": 5}, "--beams is 3 and --top_k 5"),
    ({"beams": 3, "top_p": 0.5}, "--beams is 3 and --top_p 0.5"),
    ({"beams": 3, "count": 4}, "--count is 4 and --beams 3: expected at most as many texts"),
    ({"temperature": 0.0, "count": 2}, "--count is 2 and --temperature 0: all texts would be the same"),
]


@pytest.mark.parametrize(("settings", "said"), WRONG)
def test_settings_that_are_refused(settings, said):
    with pytest.raises(BadInput) as error:
        SamplingConfig(**settings)
    assert said in str(error.value) and "\n" not in str(error.value)


def ended(text, stops):
    """The text before the stop string that is whole first, character by character."""
    for end in range(1, len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)], stop
    return text, None


@properties
@hypothesis.given(
    some.text("ab好é", max_size=12).map(str.encode) | some.binary(max_size=8),
    some.lists(some.text("ab好é", min_size=1, max_size=4), max_size=3),
    some.lists(some.integers(1, 3), min_size=12, max_size=12),
)
def test_text_is_the_same_wherever_its_bytes_are_cut(content, stops, lengths):
    written, told, place = TextStreamer(stops), [], 0
    for length in lengths:
        told.append(written.add(content[place : place + length]))
        place += length
    assert "�" not in "".join(told) or "�" in content.decode(errors="replace")
    told.append(written.add(content[place:], final=True))
    expected, stopped = ended(content.decode(errors="replace"), stops)
    assert (written.text, written.stopped) == (expected, stopped)
    assert "".join(told) == expected


def test_what_may_become_a_stop_string_waits():
    written = TextStreamer(["ende"])
    assert [written.add(one.encode()) for one in ("am e", "n", "d", " en", "de", "x")] == [
        "am ",
        "",
        "",
        "end ",
        "",
        "",
    ]
    assert (written.text, written.stopped) == ("am end ", "ende")
    written = TextStreamer()
    assert [written.add(bytes([byte])) for byte in "好a".encode()] == ["", "", "好", "a"]
