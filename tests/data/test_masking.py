"""Which tokens are hidden: how many, which, by what; and that nothing but seed, step and place decides."""

import numpy as np
import pytest
import tensorflow as tf

from zoo import randomness
from zoo.data.text import masking
from zoo.data.text.masking import MaskingRules

RULES = MaskingRules(mask=4, special_ids=(2, 3), vocabulary=1000)


def rows(count=400, time=40, seed=0):
    """Framed texts of 5 to 38 tokens."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(5, 1000, (count, time))
    lengths = draw.integers(7, time + 1, count)
    tokens[:, 0] = 2
    tokens[np.arange(count), lengths - 1] = 3
    return (tokens * (np.arange(time) < lengths[:, None])).astype(np.int32)


def masked(tokens, rules=RULES, step=0, first_row=0, compile=False):
    @tf.function(jit_compile=compile, autograph=False)
    def run(tokens):
        with randomness.scope(1, tf.constant(step), tf.constant(first_row)):
            return masking.masked(tokens, rules)

    return masking.Masked(*(part.numpy() for part in run(tf.constant(tokens))))


def test_how_many_and_by_what():
    tokens = rows()
    found = masked(tokens)
    real = ((tokens != 0) & (tokens != 2) & (tokens != 3)).sum(axis=1)
    np.testing.assert_array_equal(found.weights.sum(axis=1), np.maximum(1, np.floor(0.15 * real + 0.5)))
    chosen = found.weights == 1
    np.testing.assert_array_equal(np.take_along_axis(tokens, found.positions, axis=1), found.labels)
    read = np.take_along_axis(found.tokens, found.positions, axis=1)[chosen]
    wanted, count = found.labels[chosen], chosen.sum()
    assert not np.isin(wanted, [0, 2, 3]).any() and read.min() > 0 and read.max() < 1000
    # 80 %, 10 % and 10 %, within four standard deviations.
    for share, expected in (((read == 4).mean(), 0.8), ((read == wanted).mean(), 0.1)):
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / count)
    # Nothing else has changed, and no place is chosen twice.
    untouched = np.ones_like(tokens, bool)
    np.put_along_axis(untouched, np.where(chosen, found.positions, 0), False, axis=1)
    np.testing.assert_array_equal(found.tokens[untouched], tokens[untouched])
    assert all(len(set(places[some])) == some.sum() for places, some in zip(found.positions, chosen, strict=True))


def test_every_token_has_the_same_chance():
    tokens = np.full((300, 20), 7, np.int32)
    tokens[:, 0], tokens[:, 19] = 2, 3
    found = masked(tokens)
    hits = np.bincount(found.positions[found.weights == 1], minlength=20)
    assert hits[0] == hits[19] == 0
    # 3 of 18 each time: 50 hits each, standard deviation 6.5.
    assert np.all(np.abs(hits[1:19] - 50) < 4 * 6.5)


def test_a_function_of_step_and_place():
    tokens = rows(16)
    whole = masked(tokens)
    for part in (slice(0, 5), slice(5, 16)):
        found = masked(tokens[part], first_row=part.start)
        assert all(np.array_equal(one, other[part]) for one, other in zip(found, whole, strict=True))
    assert all(map(np.array_equal, masked(tokens, compile=True), whole))
    assert not np.array_equal(masked(tokens, step=1).positions, whole.positions)


def test_padding_more_changes_nothing():
    tokens = rows(16, 32)
    wide = masked(np.pad(tokens, [(0, 0), (0, 8)]))
    narrow = masked(tokens)
    some = narrow.weights == 1
    np.testing.assert_array_equal(wide.positions[:, : some.shape[1]][some], narrow.positions[some])


def test_whole_words():
    """A word is hidden whole or not at all, and no more than fit."""
    continues = np.zeros(1000, bool)
    continues[500:] = True
    tokens = rows()
    found = masked(tokens, RULES._replace(continues=continues))
    free = (tokens != 0) & (tokens != 2) & (tokens != 3)
    chosen = np.zeros_like(tokens, bool)
    some = found.weights == 1
    for row in range(len(tokens)):
        chosen[row, found.positions[row][some[row]]] = True
    word = np.cumsum(~continues[tokens], axis=1)
    # A word that is longer than all that may be hidden is the exception.
    lengths = np.array([np.bincount(row[some], minlength=50) for row, some in zip(word, free)])
    short = np.take_along_axis(lengths, word, axis=1) <= RULES.most(tokens.shape[1])
    inside = (short & free)[:, 1:] & free[:, :-1] & (word[:, 1:] == word[:, :-1])
    np.testing.assert_array_equal(chosen[:, 1:][inside], chosen[:, :-1][inside])
    most = np.maximum(1, np.floor(0.15 * free.sum(axis=1) + 0.5))
    enough = (np.where(lengths > 0, lengths, 99).min(axis=1)) <= most
    assert (chosen.sum(axis=1) <= most)[enough].all() and enough.mean() > 0.9
    assert chosen.sum() > 0.6 * most.sum(), "words of two pieces mostly fit"


def test_whole_words_of_short_rows():
    """Each row hides something, be its words longer than its share."""
    continues = np.zeros(1000, bool)
    continues[200:] = True
    tokens = rows(200, 12)
    found = masked(tokens, RULES._replace(continues=continues))
    assert (found.weights.sum(axis=1) >= 1).all()
    one = np.array([[2, 7, 301, 302, 303, 304, 305, 3]], np.int32)
    assert masked(one, RULES._replace(continues=continues)).weights.sum() == RULES.most(8)


@pytest.mark.parametrize("tokens", [[[2, 3, 0, 0]], [[2, 9, 3, 0]]])
def test_nearly_empty_rows(tokens):
    found = masked(np.array(tokens, np.int32))
    assert found.weights.sum() == (1 if 9 in tokens[0] else 0)
    assert 0 not in found.tokens[0, : tokens[0].index(3) + 1]
