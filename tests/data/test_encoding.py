"""Texts as arrays: every kept token in its place, and a cache that is right or not used."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import cache
from zoo.data.text import encoding, tokenizer
from zoo.data.text.encoding import Encoded
from zoo.errors import BadInput

TEXTS = ["a good film", "", "not a good film at all", "这本书很好看", "good"] * 4


@pytest.fixture(scope="module")
def words():
    return tokenizer.train(TEXTS, "word", 50)


def encoded(lengths, dtype=np.uint16):
    ids = np.arange(1, sum(lengths) + 1).astype(dtype)
    return Encoded(ids, np.cumsum([0, *lengths], dtype=np.int64))


def rows_of(found):
    return [found.ids[first:stop].tolist() for first, stop in itertools.pairwise(found.starts)]


def cut_plainly(ids, most, cut):
    if len(ids) <= most:
        return ids
    if cut == "head":
        return ids[:most]
    if cut == "tail":
        return ids[-most:]
    return ids[: most // 4] + ids[len(ids) - (most - most // 4) :]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 12), max_size=8),
    st.integers(1, 14),
    st.sampled_from(encoding.CUTS),
    st.sampled_from([np.uint16, np.int32]),
)
def test_padded_is_what_plain_python_says(lengths, most, cut, dtype):
    texts = encoded(lengths, dtype)
    found = encoding.padded(texts, most, cut)
    kept = [cut_plainly(row, most, cut) for row in rows_of(texts)]
    width = max([1, *map(len, kept)])
    assert found["tokens"].dtype == found["length"].dtype == np.int32
    assert found["tokens"].shape == (len(lengths), width)
    assert found["tokens"].tolist() == [row + [0] * (width - len(row)) for row in kept]
    assert found["length"].tolist() == [max(len(row), 1) for row in kept]


@pytest.mark.parametrize(
    ("cut", "kept"), [("head", [1, 2, 3, 4]), ("tail", [7, 8, 9, 10]), ("head_tail", [1, 8, 9, 10])]
)
def test_cuts(cut, kept):
    assert encoding.padded(encoded([10]), 4, cut)["tokens"].tolist() == [kept]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((0,), "max_length is 0: expected 1 or more"), ((4, "tial"), "cut is 'tial': did you mean tail")],
)
def test_padded_refuses(arguments, said):
    with pytest.raises(BadInput, match=said):
        encoding.padded(encoded([3]), *arguments)


def equal(one, other):
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one, other))


def test_the_second_start_encodes_nothing(words, tmp_path, monkeypatch):
    first = encoding.encoded(TEXTS, words, tmp_path / "new" / "cache")
    assert equal(first, words.encode(TEXTS))
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer.Tokenizer, "encode", None)
        assert equal(encoding.encoded(TEXTS, words, tmp_path / "new" / "cache"), first)
    assert equal(encoding.encoded(TEXTS, words, None), first)
    assert len(list((tmp_path / "new" / "cache").iterdir())) == 1


def test_the_second_start_trains_nothing(tmp_path, monkeypatch):
    first = encoding.trained(TEXTS, "bpe", 60, tmp_path)
    assert first.to_json() == tokenizer.train(TEXTS, "bpe", 60).to_json()
    other = encoding.trained(TEXTS, "bpe", 30, tmp_path)
    assert other.to_json() != first.to_json()
    monkeypatch.setattr(tokenizer, "train", None)
    assert encoding.trained(TEXTS, "bpe", 60, tmp_path).to_json() == first.to_json()
    assert encoding.trained(TEXTS, "bpe", 30, tmp_path).to_json() == other.to_json()


def test_what_is_kept_belongs_to_texts_and_tokenizer(words, tmp_path):
    """The same characters cut elsewhere, other texts, another tokenizer: each a file of its own."""
    for texts in (TEXTS, ["ab", "c"], ["a", "bc"], ["abc", ""]):
        for made in (words, tokenizer.train(TEXTS, "char", 50)):
            for _ in range(2):
                assert equal(encoding.encoded(texts, made, tmp_path), made.encode(texts))
    assert len(list(tmp_path.iterdir())) == 8


@pytest.fixture(scope="module")
def kept_file(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    found = encoding.encoded(TEXTS, words, folder)
    (path,) = folder.iterdir()
    return path, path.read_bytes(), found


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_made_anew(kept_file, words, data):
    path, whole, wanted = kept_file
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
    else:
        changed = whole[place] ^ data.draw(st.integers(1, 255))
        path.write_bytes(whole[:place] + bytes([changed]) + whole[place + 1 :])
    notes = []
    assert equal(encoding.encoded(TEXTS, words, path.parent, notes), wanted)
    if path.read_bytes() != whole:
        # What was changed means nothing: spaces of the header.
        assert not notes
    else:
        assert len(notes) == 1 and str(path) in notes[0] and notes[0].endswith("computing again")
    assert equal(encoding.encoded(TEXTS, words, path.parent, None), wanted)


def test_a_file_of_another_name_is_made_anew(words, tmp_path):
    encoding.encoded(TEXTS, words, tmp_path)
    encoding.encoded(TEXTS[1:], words, tmp_path)
    one, other = tmp_path.iterdir()
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    notes = []
    assert equal(encoding.encoded(TEXTS, words, tmp_path, notes), words.encode(TEXTS))
    assert len(notes) == 1 and "is damaged: computing again" in notes[0]


def test_a_cache_that_cannot_be_written_stops_nothing(words, tmp_path):
    (tmp_path / "file").write_text("")
    notes = []
    assert equal(encoding.encoded(TEXTS, words, tmp_path / "file" / "cache", notes), words.encode(TEXTS))
    assert len(notes) == 1 and "cannot be written" in notes[0] and "$ZOO_CACHE" in notes[0]
    assert encoding.trained(TEXTS, "word", 50, tmp_path / "file", notes).to_json() == words.to_json()
    assert len(notes) == 2


def test_a_torn_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    cache.replace(path, b"old")
    monkeypatch.setattr(cache.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        cache.replace(path, b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "here"))
    assert encoding.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert encoding.cache_folder() == tmp_path / ".cache" / "zoo"
