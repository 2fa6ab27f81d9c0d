"""Near duplicates: the pairs of an exact comparison of all with all, in time that grows with the number of texts."""

import itertools
import time

import numpy as np
import pytest

from zoo.data import near_duplicates

RNG = np.random.default_rng(0)
HOTEL = "这家酒店的房间非常干净,服务也很好,下次还会再来住的"
WORDS = np.array([f"word{number}" for number in range(800)])


def pieces(text):
    """The pieces of five characters, by Python's own sets."""
    plain = " ".join(text.casefold().split())
    plain = plain.ljust(5) if plain else ""
    return {plain[place : place + 5] for place in range(len(plain) - 4)}


def similarity(one, other):
    a, b = pieces(one), pieces(other)
    return len(a & b) / max(len(a | b), 1)


def changed(text, share):
    """The text with this share of its words replaced, in capitals."""
    words = text.split()
    for place in RNG.permutation(len(words))[: round(share * len(words))]:
        words[place] = RNG.choice(WORDS)
    return " ".join(words).upper()


def test_groups_are_those_of_all_pairs():
    base = [" ".join(RNG.choice(WORDS, RNG.integers(3, 60))) for _ in range(120)]
    texts = base + [changed(text, share) for text, share in zip(base, np.linspace(0, 0.3, 120))]
    groups = near_duplicates.groups(texts)
    near = {pair for pair in itertools.combinations(range(240), 2) if similarity(texts[pair[0]], texts[pair[1]]) >= 0.8}
    assert len(near) > 40
    found = {pair for pair in itertools.combinations(range(240), 2) if groups[pair[0]] == groups[pair[1]]}
    assert found == near


@pytest.mark.parametrize(
    "one, other, are_near",
    [
        ("", "", False),
        ("a", "A ", True),
        ("ab", "abc", False),
        (
            "这家酒店的房间非常干净,服务也很好,下次还会再来住的",
            "这家酒店的房间非常干净,服务也很好,下次还会再来住",
            True,
        ),
        (HOTEL, "这本书的内容没有意思", False),
        ("same words here\n\n and there", "Same Words  here and there", True),
        ("x" * 50_000, "x" * 40_000, True),
        ("\U0001f600" * 20, "\U0001f600" * 20 + "!", False),
    ],
)
def test_edges(one, other, are_near):
    groups = near_duplicates.groups([one, "something quite different", other])
    assert bool(groups[0] == groups[2]) == are_near and groups[1] not in (groups[0], groups[2])


def test_no_texts_and_one():
    assert near_duplicates.groups([]).tolist() == []
    assert near_duplicates.groups(["alone"]).tolist() == [0]


def test_thousands_that_are_alike_are_one_group_in_little_time():
    start = " ".join(WORDS[:80])
    texts = [f"{start} {number}" for number in range(5000)]
    began = time.process_time()
    assert len(set(near_duplicates.groups(texts).tolist())) == 1
    assert time.process_time() - began < 20


def test_pairs_are_at_most_two_for_each_row_and_band():
    values = RNG.integers(-1, 3, 500)
    pairs = near_duplicates.candidates([values, values])
    assert len(pairs) <= 2 * 500 and len(near_duplicates.candidates([np.zeros(9, int)], 9)) == 36
    assert (values[pairs[:, 0]] == values[pairs[:, 1]]).all()
    assert (pairs[:, 0] < pairs[:, 1]).all() and (values[pairs] >= 0).all()
    assert near_duplicates.agreement(np.eye(3), np.array([[0, 1], [0, 0]])).tolist() == [1 / 3, 1.0]
