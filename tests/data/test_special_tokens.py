"""Texts and pairs of texts as BERT reads them, against plain Python."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.text import special_tokens, tokenizer
from zoo.data.text.special_tokens import SpecialTokens
from zoo.data.text.tokenizer import Encoded
from zoo.errors import BadInput

FRAME = SpecialTokens(2, 3)
TEXTS = st.lists(st.lists(st.integers(5, 30), max_size=12), min_size=1, max_size=6)


def encoded(texts) -> Encoded:
    return Encoded(np.array([*itertools.chain(*texts)], np.uint16), np.cumsum([0, *map(len, texts)]))


@given(TEXTS, st.integers(3, 16))
@settings(max_examples=60, deadline=None)
def test_framed(texts, most):
    found = special_tokens.add_special_tokens(encoded(texts), FRAME, most)
    rows = [[2, *text[: most - 2], 3] for text in texts]
    assert found["length"].tolist() == list(map(len, rows))
    assert found["tokens"].shape[1] >= max(map(len, rows)) and found["tokens"].dtype == np.int32
    for row, wanted in zip(found["tokens"].tolist(), rows, strict=True):
        assert row == wanted + [0] * (len(row) - len(wanted))


def cut(one, other, room):
    """The longer one loses a token at a time."""
    while len(one) + len(other) > room:
        if len(one) > len(other):
            one = one[:-1]
        else:
            other = other[:-1]
    return one, other


@given(
    st.lists(st.tuples(*[st.lists(st.integers(5, 30), max_size=12)] * 2), min_size=1, max_size=6), st.integers(5, 20)
)
@settings(max_examples=100, deadline=None)
def test_paired(pairs, most):
    found = special_tokens.add_special_tokens_to_pairs(
        *(encoded([list(pair[side]) for pair in pairs]) for side in (0, 1)), FRAME, most
    )
    for row, kinds, length, (one, other) in zip(*map(np.ndarray.tolist, found.values()), pairs, strict=True):
        one, other = cut(one, other, most - 3)
        wanted = [2, *one, 3, *other, 3]
        assert length == len(wanted) <= most
        assert row == wanted + [0] * (len(row) - length)
        assert kinds == [0] * (len(one) + 2) + [1] * (len(other) + 1) + [0] * (len(row) - length)
    assert list(found) == ["tokens", "segments", "length"]


def test_of_a_tokenizer():
    trained = tokenizer.train(["one two three one two three"], "word", 20)
    assert special_tokens.from_tokenizer(trained) == (2, 3)
    assert trained.id_of("[MASK]") == 4 and trained.id_of("[NONE]") is None
    bare = tokenizer.Tokenizer.from_json('{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}')
    with pytest.raises(BadInput, match=r"no \[CLS\] and \[SEP\]"):
        special_tokens.from_tokenizer(bare)


def test_pieces_inside_of_words():
    trained = tokenizer.train(["unable table able tables unables"] * 9, "wordpiece", 40)
    inside = trained.continues()
    assert inside.shape == (trained.vocabulary_size,) and inside.any() and not inside[:5].any()


def test_no_room():
    with pytest.raises(BadInput, match="longest row is 2 tokens: expected 3"):
        special_tokens.add_special_tokens(encoded([[7]]), FRAME, 2)
    with pytest.raises(BadInput, match="longest row is 4 tokens: expected 5"):
        special_tokens.add_special_tokens_to_pairs(encoded([[7]]), encoded([[7]]), FRAME, 4)
