"""Texts and names on a terminal: nothing in them acts on it, and names that differ look different."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import names
from zoo.predict.predictors import printable

HIDDEN = "\x00\x1b\x07\x9b\n\r\t\u200b\u202e\u2066\u2069\ufeff\u00ad\u2028\ud800"
KEPT = "👩\u200d💻 نامه\u200cها 你好 café e\u0301"


@given(st.text(st.characters() | st.sampled_from(HIDDEN)))
def test_what_is_shown_of_any_text(text):
    shown = printable.visible(text)
    assert len(shown) == len(text) and not set(shown) & set(HIDDEN)
    assert all(one == other or other == " " for one, other in zip(text, shown))
    assert len(printable.one_line(text)) <= 100 and len(printable.short(text)) <= 60
    assert names.escaped(text).isprintable()


def test_scripts_stay_whole():
    assert printable.visible(KEPT) == KEPT


def test_every_hidden_character_is_known():
    kinds = ("Cc", "Cs", "Zl", "Zp")
    # The planes above hold no such character.
    every = "".join(map(chr, range(0x12000)))
    for character, shown in zip(every, printable.visible(every)):
        if unicodedata.category(character) in kinds or unicodedata.bidirectional(character) in BIDIRECTIONAL:
            assert shown == " ", hex(ord(character))


# Embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX 9).
BIDIRECTIONAL = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@pytest.mark.parametrize(("one", "other"), [("a\nb", "a b"), ("x", "x\u200b"), ("a", "a\u202e"), ("é", "e\u0301 ")])
def test_names_that_differ_look_different(one, other):
    assert names.escaped(one) != names.escaped(other)
