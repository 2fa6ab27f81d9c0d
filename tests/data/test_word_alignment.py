"""Words and tokens: tags on first pieces, cuts between words, and back again without a word missing."""

import itertools

import numpy as np
import pytest
import tokenizers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.text import tokenizer, word_alignment
from zoo.errors import BadInput

TEXTS = ["the film was not good", "playing players played", "这本书很好看 ， 酒店很好", "John lives in New York"] * 4
CHARACTERS = tokenizer.train(2 * ["rome met1 . 。 x"], "char", 60)
NAMES = ("O", "B-PER", "I-PER")


@pytest.fixture(scope="module")
def made():
    return {kind: tokenizer.train(TEXTS, kind, 90) for kind in tokenizer.KINDS}


def test_by_hand():
    model = hf.models.WordPiece({"[PAD]": 0, "[UNK]": 1, "un": 2, "##able": 3, "john": 4, "is": 5}, unk_token="[UNK]")
    library = hf.Tokenizer(model)
    library.pre_tokenizer = hf.pre_tokenizers.Whitespace()
    words = [["john", "is", "unable"], ["unable", "zzz", " ", "is"]]
    tags = [["B-PER", "O", "O"], ["I-PER", "O", "I-PER", "B-PER"]]
    pieces = tokenizer.Tokenizer(library.to_str())
    found = word_alignment.aligned(words, tags, NAMES, pieces, 8)
    assert found.columns["tokens"].tolist() == [[4, 5, 2, 3], [2, 3, 1, 5]]
    assert found.columns["tags"].tolist() == [[1, 0, 0, -1], [2, -1, 0, 1]]
    assert found.columns["length"].tolist() == [4, 4] and found.lost == 1
    # The word that does not fit is cut off whole.
    cut = word_alignment.aligned(words, tags, NAMES, pieces, 5, around=(6, 7))
    assert cut.columns["tokens"].tolist() == [[6, 4, 5, 7, 0], [6, 2, 3, 1, 7]]
    assert cut.columns["tags"].tolist() == [[-1, 1, 0, -1, -1], [-1, 2, -1, 0, -1]]
    assert [places.tolist() for places in cut.positions] == [[1, 2, -1], [1, 3, -1, -1]] and cut.lost == 3
    assert {column.dtype for column in cut.columns.values()} == {np.dtype(np.int32)}
    answers = word_alignment.by_word(np.maximum(cut.columns["tags"], 0), cut.positions, NAMES)
    assert answers == [["B-PER", "O", "O"], ["I-PER", "O", "O", "O"]]


SOME = ("the", "players", "这本书", "酒店", "New", "zzzz", "\t", "\xa0", "unplayed", "，")
WORDS = st.lists(st.lists(st.sampled_from(SOME), max_size=8), max_size=5)


def literally(words, tags, pieces, max_length, around):
    """Rows of tokens and tags, word by word."""
    for sentence, names in zip(words, tags):
        tokens, labels, full = [], [], False
        for word, name in zip(sentence, names):
            ids = pieces.encode([word]).ids.tolist()
            full = full or len(tokens) + len(ids) > max_length - len(around)
            if not full and ids:
                tokens += ids
                labels += [NAMES.index(name)] + [-1] * (len(ids) - 1)
        begin, end = (list(around[:1]), list(around[1:]))
        yield begin + tokens + end, [-1] * len(begin) + labels + [-1] * len(end)


@settings(max_examples=150, deadline=None)
@given(words=WORDS, kind=st.sampled_from(tokenizer.KINDS), max_length=st.integers(3, 12), data=st.data())
def test_rows_are_those_of_loops(made, words, kind, max_length, data):
    tags = [[data.draw(st.sampled_from(NAMES)) for _ in sentence] for sentence in words]
    around = data.draw(st.sampled_from([None, (2, 3)]))
    found = word_alignment.aligned(words, tags, NAMES, made[kind], max_length, around)
    expected = list(literally(words, tags, made[kind], max_length, around or ()))
    width = max([1, *(len(tokens) for tokens, _ in expected)])
    assert found.columns["tokens"].shape == found.columns["tags"].shape == (len(words), width)
    for row, (tokens, labels) in enumerate(expected):
        assert found.columns["tokens"][row].tolist() == tokens + [0] * (width - len(tokens))
        assert found.columns["tags"][row].tolist() == labels + [-1] * (width - len(labels))
        assert found.columns["length"][row] == max(1, len(tokens))
    # A model that is always right gives the tags back, but for the words that have no token.
    answers = word_alignment.by_word(np.maximum(found.columns["tags"], 0), found.positions, NAMES)
    assert list(map(len, answers)) == list(map(len, words))
    lost = 0
    for answer, sentence, places in zip(answers, tags, found.positions):
        assert answer == [tag if place >= 0 else "O" for tag, place in zip(sentence, places)]
        lost += sum(place < 0 for place in places.tolist())
    assert found.lost == lost
    untagged = word_alignment.aligned(words, None, NAMES, made[kind], max_length, around)
    assert (untagged.columns["tokens"] == found.columns["tokens"]).all() and (untagged.columns["tags"] == -1).all()


@pytest.mark.parametrize("kind", tokenizer.KINDS)
def test_pieces_are_those_of_the_library(made, kind):
    """A word is encoded as the library does it that is given words."""
    words = ["John", "lives", "in", "酒店", "zzzz", "unplayed", "，", "good!"]
    library = hf.Tokenizer.from_str(made[kind].to_json()).encode(words, is_pretokenized=True, add_special_tokens=False)
    found = word_alignment.aligned([words], None, NAMES, made[kind], 99)
    assert found.columns["tokens"][0].tolist() == library.ids
    assert found.positions[0].tolist() == [library.word_ids.index(number) for number in range(len(words))]


def test_no_room(made):
    for around, fewest in ((None, 1), ((2, 3), 3)):
        with pytest.raises(BadInput, match=f"max_length is {fewest - 1}: expected {fewest} or more tokens"):
            word_alignment.aligned([["the"]], None, NAMES, made["word"], fewest - 1, around)
        word_alignment.aligned([["the"]], None, NAMES, made["word"], fewest, around)


@given(st.lists(st.sampled_from(["rome", "met1", ".", "。", "x" * 40, "\x00"]), max_size=40), st.integers(3, 20))
def test_rows_hold_all_words_and_fit(words, longest):
    # Each character is a piece.
    room = longest - 2
    rows, [] = word_alignment.split_rows([words, []], CHARACTERS, room)
    assert [word for row in rows for word in row] == [word[:room] for word in words] and all(rows)
    pieces = [CHARACTERS.encode(row).starts[-1] for row in rows]
    assert max(pieces, default=0) <= room
    # Where a row ends, the next word would not have fitted, or a stop stands.
    for (row, after), used in zip(itertools.pairwise(rows), pieces):
        assert row[-1] in ".。" or used + len(after[0]) > room
