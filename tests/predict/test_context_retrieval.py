"""Retrieval of earlier contexts and the mixture of several models, beside plain counting; and their guarantees."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import NonFinite
from zoo.predict.language_models import context_counts, context_retrieval
from zoo.predict.language_models.context_counts import FixedCounts, GrowingCounts
from zoo.predict.language_models.context_retrieval import LENGTHS, ContextRetrieval, lengths
from zoo.predict.language_models.fixed_share import FixedShareMixture
from zoo.predict.language_models.segment_mixture import SegmentMixture

# Few different tokens, so that contexts repeat; or none at all.
TEXTS = st.lists(st.integers(0, 2), max_size=40)
LOGS = st.one_of(st.floats(-30, 0), st.just(-math.inf))


def counted(text, context, token):
    """Count, total and number of different tokens after a context, by looking at each place."""
    k = len(context)
    after = [text[i] for i in range(k, len(text)) if text[i - k : i] == context]
    return after.count(token), len(after), len(set(after))


@given(text=TEXTS, other=TEXTS)
@settings(max_examples=40, deadline=None)
def test_counts_of_a_fixed_and_of_a_growing_text(text, other):
    sizes, ids = (1, 2, 5), np.array(text, np.int32)
    fixed = FixedCounts(np.array(other, np.int32), sizes).find(context_counts.keys(ids, sizes))
    for size, found, at in zip(sizes, fixed, context_counts.keys(ids, sizes)):
        growing = GrowingCounts()
        for place in range(size, len(text)):
            context, pair = int(at.contexts[place]), int(at.pairs[place])
            wanted = text[place - size : place], text[place]
            assert tuple(int(each[place]) for each in found) == counted(other, *wanted)
            assert tuple(growing.find(context, pair)) == counted(text[:place], *wanted)
            growing.add(context, pair)


def reference(text, longest, base, other, memory):
    """Log P of each token but the first: the formula, over contexts that are compared token by token."""
    weights, result = {}, []
    for place in range(1, len(text)):
        p, learned = math.exp(base[place - 1]), []
        for k in (length for length in LENGTHS if length <= min(longest, place)):
            for name, source in (("text", text[:place]), ("other", other or [])):
                count, total, distinct = counted(source, text[place - k : place], text[place])
                if total:
                    kind = name, k, min(int(math.log2(total)), 7), min(distinct, 4) if distinct < total else 0
                    w = weights.setdefault(kind, (0.1, 8))[0]
                    before, p = p, (1 - w) * p + w * count / total
                    learned.append((kind, 1 - (1 - w) * before / p))
        for kind, came in learned:
            share, tokens = weights[kind]
            weights[kind] = (share * tokens + came) / (tokens + 1), min(tokens + 1, memory)
        result.append(math.log(p))
    return result


@pytest.mark.parametrize("other", [None, [0, 1, 1, 2, 0, 1, 2, 2, 1, 0] * 4])
@pytest.mark.parametrize(("longest", "memory"), [(1, 1000), (7, 12), (16, 1000)])
def test_retrieval_is_the_formula(other, longest, memory, monkeypatch):
    monkeypatch.setattr(context_retrieval, "_MEMORY", memory)
    draw = np.random.default_rng(longest)
    text = [*draw.integers(0, 3, 60).tolist(), *([0, 1, 1, 2] * 8)]
    base = np.log(draw.uniform(0.05, 0.6, len(text) - 1)).tolist()
    neighbours = None if other is None else FixedCounts(np.array(other, np.int32), LENGTHS)
    retrieval = ContextRetrieval(np.array(text, np.int32), longest, neighbours)
    # In segments of any lengths.
    found = [retrieval.log_probabilities(a + 1, base[a:b]) for a, b in itertools.pairwise((0, 1, 12, 40, len(base)))]
    np.testing.assert_allclose(np.concatenate(found), reference(text, longest, base, other, memory), atol=1e-12)


@given(text=TEXTS.filter(bool), other=TEXTS, base=st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_probabilities_sum_to_one_and_later_tokens_change_nothing(text, other, base):
    """Whichever token comes next, what was answered before is the same, bit for bit."""
    neighbours, before, total = FixedCounts(np.array(other, np.int32), LENGTHS), set(), 0.0
    logs = np.log(np.array(base) / sum(base))
    for token in range(3):
        whole = np.array([*text, token], np.int32)
        *earlier, last = ContextRetrieval(whole, 16, neighbours).log_probabilities(1, logs[whole[1:]].tolist())
        before.add(tuple(earlier))
        total += math.exp(last)
    assert total == pytest.approx(1, abs=1e-9) and len(before) == 1


def test_lengths_of_contexts():
    assert lengths(16) == LENGTHS and lengths(7) == (1, 2, 3, 4, 5, 6) and lengths(0) == ()


def by_paths(logs):
    """The mixture by its definition: the first model alone, and all paths between the models."""
    n, k = len(logs), len(logs[0])
    total = math.exp(sum(one[0] for one in logs)) / 2
    for path in itertools.product(range(k), repeat=n):
        prior = 1 / (2 * k)
        for t, (one, other) in enumerate(itertools.pairwise(path), 1):
            prior *= 1 / ((t + 1) * (k - 1)) if one != other else t / (t + 1)
        total += prior * math.exp(sum(logs[t][who] for t, who in enumerate(path)))
    return math.log(total)


@pytest.mark.parametrize("models", [2, 3, 4])
def test_the_mixture_is_one_of_all_paths(models):
    logs = np.log(np.random.default_rng(models).uniform(0.01, 1, (5, models)))
    mixture = FixedShareMixture(models)
    told = [mixture.add(*one) for one in logs.tolist()]
    for n in range(1, 6):
        assert sum(told[:n]) == pytest.approx(by_paths(logs[:n].tolist()), abs=1e-12)
    assert sum(mixture.weights) == pytest.approx(1) and mixture.second == mixture.weights[1]


@given(rows=st.lists(st.tuples(st.floats(-30, 0), LOGS, LOGS, st.integers(0, 2)), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_bounds_of_the_mixture_for_any_models(rows):
    """At every place: above the first model, above each other one, and above any way to switch."""
    mixture, n = FixedShareMixture(3), np.arange(1, len(rows) + 1)
    lost = -np.cumsum([mixture.add(*row[:3]) for row in rows])
    assert np.isfinite(lost).all()
    assert (lost <= -np.cumsum([row[0] for row in rows]) + math.log(2) + 1e-9).all()
    path = [row[3] for row in rows]
    switches = np.cumsum([0, *(one != other for one, other in itertools.pairwise(path))])
    for who, times in (([1] * len(n), 0), ([2] * len(n), 0), (path, switches)):
        values = [row[index] for row, index in zip(rows, who)]
        assert (lost <= -np.cumsum(values) + np.log(6 * n) + times * np.log(2 * n) + 1e-9).all()


@given(
    text=TEXTS.filter(lambda text: len(text) > 1),
    other=TEXTS,
    logs=st.lists(st.tuples(st.floats(-30, 0), LOGS), min_size=40, max_size=40),
    cut=st.integers(1, 39),
)
@settings(max_examples=60, deadline=None)
def test_never_more_than_a_bit_above_the_model(text, other, logs, cut):
    """For any text, any neighbours, and any probabilities of the model and of its copy; in two segments."""
    logs = np.array(logs[: len(text) - 1])
    neighbours = FixedCounts(np.array(other, np.int32), LENGTHS)
    mixture = SegmentMixture(ContextRetrieval(np.array(text, np.int32), 16, neighbours))
    parts = [logs[:cut], logs[cut:]]
    found = [mixture.add(1 + cut * number, *part.T) for number, part in enumerate(parts) if len(part)]
    static, dynamic, both, mixed, retrieved = np.concatenate(found, axis=1)
    np.testing.assert_array_equal(static, logs[:, 0])
    np.testing.assert_array_equal(dynamic, logs[:, 1])
    for one in (both, mixed):
        assert np.isfinite(one).all()
        assert (-np.cumsum(one) <= -np.cumsum(static) + math.log(2) + 1e-9).all()
    assert (-np.cumsum(mixed) <= -np.cumsum(retrieved) + np.log(6 * np.arange(1, len(text))) + 1e-9).all()


def test_the_model_itself_must_be_finite():
    mixture = SegmentMixture(None)
    # A copy that is not finite has probability 0 there.
    assert mixture.add(1, np.array([-1.0]), np.array([np.nan]))[1] == -np.inf
    with pytest.raises(NonFinite, match="after token 4 is not finite"):
        mixture.add(5, np.array([np.nan]), np.array([-1.0]))
