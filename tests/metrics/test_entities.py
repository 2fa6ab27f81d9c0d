"""Metrics of entities: seqeval's, those of loops over all that could be one, and bootstraps that repeat sentences."""

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.datasets import tag_schemes
from zoo.metrics import classification, entities, evaluation_report

RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "seqeval.json").read_text(encoding="utf8"))
NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-ORG"]
PAIRS = st.lists(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=6), min_size=1, max_size=6
).filter(any)


def unzipped(pairs):
    return [[[pair[side] for pair in row] for row in pairs] for side in (0, 1)]


def test_equal_to_seqeval():
    for case in RECORDED:
        found = entities.scores(case["true"], case["predicted"])
        assert found.keys() == case["scores"].keys()
        assert found == pytest.approx(case["scores"], rel=1e-12, abs=1e-12)
        assert {type(value) for value in found.values()} == {float}


def holds(row, start, stop, kind):
    """Whether the words make one entity, word by word."""
    for place in range(start, stop + 1):
        tag, before = row[place : place + 1], row[place - 1 : place] if place else []
        joined = tag and before and tag[0][0] in "IE" and before[0][0] in "BI" and tag[0][2:] == before[0][2:]
        inner = start < place < stop
        if bool(joined) != inner or (place < stop and tag[0][2:] != kind):
            return False
    return True


def by_loops(true, predicted):
    """Every stretch of words is asked whether it is an entity."""
    rows = [
        (kind, holds(one, start, stop, kind), holds(other, start, stop, kind))
        for one, other in zip(true, predicted)
        for start in range(len(one))
        for stop in range(start + 1, len(one) + 1)
        for kind in ("PER", "LOC", "ORG")
    ]
    rates, result = {}, {}
    for kind in (None, "PER", "LOC", "ORG"):
        asked = [(a, b) for name, a, b in rows if kind in (None, name)]
        hits, wanted, given = (sum(map(check, asked)) for check in (all, lambda pair: pair[0], lambda pair: pair[1]))
        if kind is None or wanted or given:
            precision, recall = hits / given if given else 0, hits / wanted if wanted else 0
            f1 = 2 * precision * recall / (precision + recall) if hits else 0
            rates[kind] = {"precision": precision, "recall": recall, "f1": f1}
            result |= {f"support/{kind}": wanted} if kind else {}
    overall = rates.pop(None)
    for name, value in overall.items():
        result |= {name: value} | {f"{name}/{kind}": rate[name] for kind, rate in rates.items()}
        result |= {f"{name}_macro": np.mean([rate[name] for rate in rates.values()])} if rates else {}
    flat = [(a, b) for one, other in zip(true, predicted) for a, b in zip(one, other)]
    return result | {"accuracy": sum(a == b for a, b in flat) / len(flat)}


@settings(max_examples=150, deadline=None)
@given(PAIRS)
def test_equal_to_loops(pairs):
    true, predicted = unzipped(pairs)
    found, expected = entities.scores(true, predicted), by_loops(true, predicted)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_plain_tags_are_judged_word_by_word(pairs):
    true, predicted = unzipped(pairs)
    found = entities.scores(true, predicted, tag_schemes.PLAIN)
    flat = [[tag for row in side for tag in row] for side in (true, predicted)]
    kinds = sorted(set(flat[0]) | set(flat[1]))
    for average, names in (("macro", ["f1_macro"]), (None, [f"f1/{kind}" for kind in kinds])):
        scores = sklearn.metrics.f1_score(*flat, labels=kinds, average=average, zero_division=0)
        assert [found[name] for name in names] == pytest.approx(np.atleast_1d(scores).tolist())
    assert found["f1"] == pytest.approx(found["accuracy"]) == pytest.approx(sklearn.metrics.accuracy_score(*flat))


def literal_intervals(true, predicted, resamples, seed, level):
    """The bootstrap as it is told: sentences are drawn, copied and judged."""
    draw, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        rows = draw.integers(0, len(true), len(true))
        found.append(entities.scores([true[row] for row in rows], [predicted[row] for row in rows]))
    tails = (1 - level) / 2, (1 + level) / 2
    names = {name for one in found for name in one if not name.startswith("support")}
    return {name: tuple(np.quantile([one[name] for one in found if name in one], tails)) for name in names}


@pytest.mark.parametrize("chunk", [1, 40, 1 << 14])
def test_intervals_are_those_of_the_literal_bootstrap(chunk, monkeypatch):
    monkeypatch.setattr(classification, "_CHUNK", chunk)
    for case in RECORDED[:12]:
        given_tags = case["true"], case["predicted"]
        found = entities.intervals(*given_tags, resamples=25, seed=3, level=0.8)
        expected = literal_intervals(*given_tags, 25, 3, 0.8)
        assert found.keys() == expected.keys()
        for name, bounds in expected.items():
            assert found[name] == pytest.approx(bounds, rel=1e-9, abs=1e-9), name


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_f1_by_sentence_has_the_mean_f1(pairs):
    true, predicted = unzipped(pairs)
    for scheme in (tag_schemes.IOB2, tag_schemes.PLAIN):
        found = entities.f1_by_sentence(true, predicted, scheme)
        assert found.shape == (len(true),)
        assert found.mean() == pytest.approx(entities.scores(true, predicted, scheme)["f1"], abs=1e-12)


def test_f1_by_sentence_spreads_as_the_bootstrap_says():
    draw = np.random.default_rng(0)
    true = [["B-PER" if draw.random() < 0.4 else "O" for _ in range(draw.integers(1, 9))] for _ in range(400)]
    predicted = [[tag if draw.random() < 0.8 else "O" for tag in row] for row in true]
    error = entities.f1_by_sentence(true, predicted).std(ddof=1) / 20
    low, high = entities.intervals(true, predicted)["f1"]
    assert error == pytest.approx((high - low) / 2 / 1.96, rel=0.1)


def test_the_final_report_has_intervals():
    true = [["B-PER", "I-PER", "O"], ["O", "B-a/b"], ["B-PER", "O"]] * 4
    predicted = [["B-PER", "I-PER", "O"], ["O", "B-a/b"], ["O", "O"]] * 4
    watched, final = (entities.evaluate(true, predicted, final=final) for final in (False, True))
    assert watched == entities.scores(true, predicted) == {name: final[name] for name in watched}
    assert final["f1_low"] < final["f1"] == 0.8 < final["f1_high"]
    assert final["f1/a|b"] == final["f1/a|b_low"] == 1.0 and final["support/PER"] == 8.0
    ends = {name + end for name in watched if not name.startswith("support") for end in ("_low", "_high")}
    assert set(final) == set(watched) | ends


@pytest.mark.parametrize(
    ("true", "predicted", "said"),
    [
        ([["O", "O"]], [["O"]], "2 words in 1 sentences and 1 words in 1 sentences: expected one of each"),
        ([["O"]], [["O"], ["O"]], "1 words in 1 sentences and 2 words in 2 sentences"),
        ([[]], [[]], "no words"),
        ([], [], "no words"),
    ],
)
def test_what_does_not_fit_is_refused(true, predicted, said):
    for function in (entities.scores, entities.intervals):
        with pytest.raises(ValueError, match=said):
            function(true, predicted)
    with pytest.raises(ValueError, match="expected 1 or more, and 0 < level < 1"):
        entities.intervals([["O"]], [["O"]], resamples=0)


def test_of_many_types_the_worst_twenty_are_reported_with_their_counts():
    types = [f"T{number:03}" for number in range(120)]
    true = [[f"B-{kind}", "O"] * (number % 3 + 1) for number, kind in enumerate(types)]
    # The first thirty are never found, and of these nothing else is predicted.
    predicted = [row if number >= 30 else ["O"] * len(row) for number, row in enumerate(true)]
    metrics = entities.evaluate(true, predicted, final=True)
    lines = evaluation_report.report(metrics).splitlines()
    shown = [line.split()[1] for line in lines if line.startswith("support/")]
    assert [line.split()[0] for line in lines if line.startswith("f1/")] == [f"f1/{kind}" for kind in types[:20]]
    assert shown == [f"{number % 3 + 1}" for number in range(20)] and len(lines) < 120
    assert lines[-1] == (
        "of 120 classes the 20 with the lowest F1 are listed; the others are in result.json and TensorBoard"
    )
    assert len(max(lines, key=len)) < 120 and f"f1/{types[-1]}" in metrics
