"""Tokens that are left out or trade places: which, how often, where they end, and by what they are decided."""

import functools
from collections import Counter

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import randomness
from zoo.data.text import token_augmentation
from zoo.data.text.token_augmentation import TokenAugmentation

FIRST, LAST, WIDTH = 2, 3, 24
SPECIAL = (FIRST, LAST)


def framed(lengths, width=WIDTH):
    """`[CLS] text [SEP]`: each token of a text another id, so that its way can be followed."""
    tokens = np.zeros((len(lengths), width), np.int32)
    for row, length in zip(tokens, lengths, strict=True):
        row[0], row[length + 1] = FIRST, LAST
        row[1 : length + 1] = 10 + np.arange(length)
    return tokens


def pairs(lengths, width=WIDTH):
    """`[CLS] first [SEP] second [SEP]` and the segments; ids of the second texts begin at 50."""
    tokens, segments = np.zeros((2, len(lengths), width), np.int32)
    for row, segment, (one, other) in zip(tokens, segments, lengths, strict=True):
        texts = [FIRST, *range(10, 10 + one), LAST, *range(50, 50 + other), LAST]
        row[: len(texts)] = texts
        segment[one + 2 : len(texts)] = 1
    return tokens, segments


@functools.cache
def program(drop, swap, compiled=False):
    @tf.function(autograph=False, jit_compile=compiled)
    def run(batch, step, first_row):
        with randomness.scope(1, step, first_row):
            return token_augmentation.changed(batch, TokenAugmentation(drop, swap, SPECIAL))

    return run


def changed(drop, swap, step=0, first_row=0, compiled=False, **batch):
    batch = {name: tf.constant(column) for name, column in batch.items()}
    found = program(drop, swap, compiled)(batch, tf.constant(step), tf.constant(first_row))
    return {name: column.numpy() for name, column in found.items()}


LENGTHS = st.lists(st.integers(0, WIDTH - 2), min_size=4, max_size=4)
RATES = st.sampled_from([0.0, 0.3, 0.99])
STEPS = st.integers(0, 1000)


@given(LENGTHS, RATES, STEPS)
@settings(max_examples=60)
def test_a_swap_keeps_all_tokens_and_moves_two_at_a_time(lengths, rate, step):
    tokens = framed(lengths)
    found = changed(0.0, rate, step, tokens=tokens)["tokens"]
    for before, after in zip(tokens, found, strict=True):
        assert Counter(before.tolist()) == Counter(after.tolist())
        special = before < 10
        np.testing.assert_array_equal(after[special], before[special])
        # Ids are places: a pair that has traded places leads back in two steps.
        places = np.arange(WIDTH)
        sources = np.where(special, places, after - 9)
        np.testing.assert_array_equal(sources[sources], places)


@given(LENGTHS, RATES, STEPS)
@settings(max_examples=60)
def test_what_is_left_keeps_its_order_and_is_one_token_at_least(lengths, rate, step):
    tokens = framed(lengths)
    found = changed(rate, 0.0, step, tokens=tokens)["tokens"]
    for length, after in zip(lengths, found, strict=True):
        count = np.count_nonzero(after)
        assert (after[:count] > 0).all() and not after[count:].any(), "padding at the end"
        assert after[0] == FIRST and after[count - 1] == LAST
        kept = after[1 : count - 1]
        assert (np.diff(kept) > 0).all() and set(kept) <= set(range(10, 10 + length))
        assert len(kept) >= min(length, 1)


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 11)), min_size=4, max_size=4), RATES, RATES, STEPS)
@settings(max_examples=60)
def test_texts_of_a_pair_stay_apart(lengths, drop, swap, step):
    tokens, segments = pairs(lengths)
    found = changed(drop, swap, step, tokens=tokens, segments=segments)
    for before, after, segment, (one, other) in zip(tokens, found["tokens"], found["segments"], lengths, strict=True):
        inside = after > 0
        first, second = (after[inside & (segment == side)] for side in (0, 1))
        assert first[0] == FIRST and first[-1] == second[-1] == LAST
        assert set(first[1:-1]) <= set(range(10, 10 + one)) and set(second[:-1]) <= set(range(50, 50 + other))
        assert len(first) > 2 and len(second) > 1 and not segment[~inside].any()
        assert len(set(after[after >= 10])) == np.count_nonzero(after >= 10), "none twice"
        if not drop:
            assert Counter(before.tolist()) == Counter(after.tolist())


def test_how_often():
    tokens = framed([20] * 1000)
    for rate in (0.1, 0.5):
        lost = 20 - np.count_nonzero(changed(rate, 0.0, 0, tokens=tokens)["tokens"] >= 10, axis=1)
        # 20,000 draws, within four standard deviations.
        assert abs(lost.mean() / 20 - rate) < 4 * np.sqrt(rate * (1 - rate) / 20_000)
        places = (changed(rate, 0.0, 1, tokens=tokens)["tokens"][:, :, None] == np.arange(10, 30)).any(axis=1).mean(0)
        assert np.all(np.abs(places - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / 1000)), "wherever it stands"
    # Of n chosen tokens an odd one stays.
    count = np.random.default_rng(0).binomial(20, 0.3, 100_000)
    moved = (changed(0.0, 0.3, 0, tokens=tokens)["tokens"] != tokens).sum(axis=1)
    assert abs(moved.mean() - (count - count % 2).mean()) < 4 * moved.std() / np.sqrt(1000)
    # Near and far alike: the mean distance of two of 20 places is 7.
    far = changed(0.0, 0.3, 0, tokens=tokens)["tokens"][:, 1:21] - 10 - np.arange(20)
    assert abs(np.abs(far[far != 0]).mean() - 7) < 0.3


def test_a_text_that_would_be_empty_keeps_any_of_its_tokens():
    tokens = framed([4] * 400)
    kept = changed(0.9999, 0.0, 0, tokens=tokens)["tokens"][:, 1]
    counts = np.bincount(kept, minlength=14)[10:14]
    assert counts.sum() == 400 and np.all(np.abs(counts - 100) < 4 * np.sqrt(400 * 0.25 * 0.75))


def test_a_function_of_seed_step_and_place():
    tokens = framed([20, 3, 9, 1, 0, 14, 7])
    whole = changed(0.3, 0.4, tokens=tokens)["tokens"]
    for part in (slice(0, 3), slice(3, 7)):
        np.testing.assert_array_equal(
            changed(0.3, 0.4, first_row=part.start, tokens=tokens[part])["tokens"], whole[part]
        )
    assert not np.array_equal(changed(0.3, 0.4, 1, tokens=tokens)["tokens"], whole)
    # More padding, and XLA.
    wide = changed(0.3, 0.4, tokens=np.pad(tokens, [(0, 0), (0, 8)]))["tokens"]
    np.testing.assert_array_equal(wide, np.pad(whole, [(0, 0), (0, 8)]))
    np.testing.assert_array_equal(changed(0.3, 0.4, compiled=True, tokens=tokens)["tokens"], whole)


def test_only_in_training_and_not_for_nothing():
    tokens = framed([20] * 8)

    def forward(model, batch, training):
        return batch

    assert token_augmentation.before(forward, TokenAugmentation(special_ids=SPECIAL)) is forward
    augmented = token_augmentation.before(forward, TokenAugmentation(0.5, 0.5, SPECIAL))
    with randomness.scope(1, tf.constant(0), tf.constant(0)) as scope:
        batch = {"tokens": tf.constant(tokens), "y": tf.zeros(8)}
        assert augmented(None, batch, False) is batch and scope.streams == 0
        found = augmented(None, batch, True)
        assert found["y"] is batch["y"] and not np.array_equal(found["tokens"], tokens)
        np.testing.assert_array_equal(batch["tokens"], tokens)
