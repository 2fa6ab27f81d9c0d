"""Tokenizers: trained ones are a function of the texts, foreign ones keep their meaning and give 0 to padding."""

import functools
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tokenizers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.text import tokenizer, tokenizer_training
from zoo.errors import BadInput

ENGLISH = ["The film was good, good fun!", "The film was not good.", "A good plot (not fun)", "the plot was FUN"] * 3
CHINESE = ["这本书很好看。", "这本书不好看！", "酒店很好，服务也很好", "酒店不好，ＯＫ"] * 3
TEXTS = ENGLISH + CHINESE


@pytest.fixture(scope="module")
def trained():
    return {kind: tokenizer.train(TEXTS, kind, 120) for kind in tokenizer.KINDS}


@pytest.mark.parametrize(
    ("kind", "english", "chinese"),
    [
        ("wordpiece", ["the", "good", "film", "!"], ["这", "本", "书", "很", "好"]),
        ("bpe", ["▁the", "▁good", "▁film", "!"], ["▁这本书", "很好"]),
        ("word", ["the", "good", "film", "!"], ["这", "本", "书", "很", "好"]),
        ("char", list("the good film!"), list("这本书很好")),
    ],
)
def test_kinds(trained, kind, english, chinese):
    assert [piece.token for piece in trained[kind].pieces("The GOOD film!")] == english
    assert [piece.token for piece in trained[kind].pieces("这本书很好")] == chinese


@pytest.mark.parametrize("kind", tokenizer.KINDS)
def test_the_same_texts_give_the_same_bytes(trained, kind):
    for _ in range(5):
        assert tokenizer.train(TEXTS, kind, 120).to_json() == trained[kind].to_json()


@pytest.mark.parametrize("kind", tokenizer.KINDS)
def test_ids_never_change(trained, kind):
    ids, starts = trained[kind].encode(["The film was not good!", "", "酒店很好看", "zzz"])
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(starts)] == IDS[kind]


# Recorded; those of wordpiece differ from process to process where the library is left to number them.
IDS = {
    "wordpiece": [[65, 70, 66, 71, 60, 22], [], [56, 50, 51, 49, 54], [1]],
    "bpe": [[52, 68, 53, 72, 46, 5], [], [67, 76], [27, 1, 1, 1]],
    "word": [[9, 13, 10, 14, 6, 12], [], [22, 18, 11, 5, 20], [1]],
    "char": [
        [7, 17, 16, 5, 8, 23, 14, 24, 5, 20, 11, 18, 5, 9, 6, 7, 5, 13, 6, 6, 12, 22],
        [],
        [32, 28, 21, 10, 30],
        [1, 1, 1],
    ],
}


@pytest.mark.parametrize("kind", tokenizer.KINDS)
def test_special_tokens_come_first(trained, kind):
    library = hf.Tokenizer.from_str(trained[kind].to_json())
    assert [library.id_to_token(id) for id in range(5)] == list(tokenizer_training.SPECIAL)
    assert trained[kind].vocabulary_size == library.get_vocab_size() <= 120
    assert set(library.get_added_tokens_decoder()) == set(range(5))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("thefilm gd,这本书好[PAD]ßé́ﬁ\n\0\U0001f600"), max_size=30), max_size=6))
def test_bulk_ids_are_those_of_the_pieces(texts):
    for kind in tokenizer.KINDS:
        made = _SHARED.setdefault(kind, tokenizer.train(TEXTS, kind, 120))
        ids, starts = made.encode(texts)
        assert ids.dtype == np.uint16 and starts.dtype == np.int64 and len(starts) == len(texts) + 1
        for text, (first, stop) in zip(texts, itertools.pairwise(starts)):
            pieces = made.pieces(text)
            assert [piece.id for piece in pieces] == ids[first:stop].tolist()
            assert all(0 < piece.id < made.vocabulary_size for piece in pieces)
            assert all(0 <= piece.start <= piece.end <= len(text) for piece in pieces)


_SHARED = {}


def test_pieces_stand_where_they_say(trained):
    text = "A GOOD film: 这本书好看 😀 ok"
    for kind in tokenizer.KINDS:
        known = [piece for piece in trained[kind].pieces(text) if piece.token != "[UNK]"]
        assert len(known) >= 5
        for piece in known:
            bare = piece.token.removeprefix("##").replace("▁", "").strip()
            assert bare in text[piece.start : piece.end].lower()


def test_many_texts_are_the_texts_one_by_one(trained):
    texts = [TEXTS[i % len(TEXTS)] * (i % 4) for i in range(2 * tokenizer._CHUNK + 3)]
    ids, starts = trained["bpe"].encode(texts)
    alone = {text: [piece.id for piece in trained["bpe"].pieces(text)] for text in set(texts)}
    assert ids.tolist() == [id for text in texts for id in alone[text]]
    assert np.diff(starts).tolist() == [len(alone[text]) for text in texts]


def test_save_and_load(trained, tmp_path):
    path = tmp_path / "tokenizer.json"
    trained["bpe"].save(path)
    again = tokenizer.load(path)
    assert again.to_json() == trained["bpe"].to_json() == path.read_text(encoding="utf8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["tokenizer.json"]
    with pytest.raises(BadInput, match="cannot be written"):
        again.save(tmp_path / "tokenizer.json" / "x")


def foreign(words, **settings):
    """A user's own file: words for ids, with [CLS] around every text, cut and padded."""
    made = hf.Tokenizer(hf.models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = hf.pre_tokenizers.Whitespace()
    if "[CLS]" in words:
        made.post_processor = hf.processors.BertProcessing(("[CLS]", 2), ("[CLS]", 2))
    made.enable_truncation(2)
    if settings:
        made.enable_padding(length=9, **settings)
    return made


@pytest.mark.parametrize(
    ("words", "padding", "shift"),
    [
        (["[PAD]", "[UNK]", "[CLS]", "a", "b"], {}, 0),
        (["[PAD]", "[UNK]", "[CLS]", "a", "b"], {"pad_id": 0, "pad_token": "[PAD]"}, 0),
        (["<pad>", "[UNK]", "[CLS]", "a", "b"], {}, 0),
        (["nothing", "[UNK]", "[CLS]", "a", "b"], {"pad_id": 0, "pad_token": "nothing"}, 0),
        (["b", "[UNK]", "[CLS]", "a"], {}, 1),
        (["b", "[UNK]", "[CLS]", "a", "[PAD]"], {"pad_id": 4, "pad_token": "[PAD]"}, 1),
        (["b", "[UNK]", "[CLS]", "a"], {"pad_id": 0, "pad_token": "[PAD]"}, 1),
    ],
)
def test_a_file_of_ones_own(tmp_path, words, padding, shift):
    path = tmp_path / "tokenizer.json"
    foreign(words, **padding).save(str(path))
    made = tokenizer.load(path)
    assert made.vocabulary_size == len(words) + shift
    wanted = [words.index(word) + shift for word in ("a", "b", "a", "[UNK]")]
    assert made.encode(["a b a z", ""]).ids.tolist() == wanted
    assert [piece.id for piece in made.pieces("a b a z")] == wanted
    again = tokenizer.Tokenizer.from_json(made.to_json())
    assert again.encode(["a b a z"]).ids.tolist() == wanted


@pytest.mark.parametrize(("size", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.int32)])
def test_large_vocabularies(size, dtype):
    made = tokenizer.Tokenizer.from_json(foreign(["[PAD]", "[UNK]", *map(str, range(2, size))]).to_str())
    assert made.vocabulary_size == size
    ids = made.encode([str(size - 1)]).ids
    assert ids.dtype == dtype and ids.tolist() == [size - 1]


def test_a_text_may_look_like_a_special_token(trained):
    for kind in tokenizer.KINDS:
        assert min(trained[kind].encode(["[PAD] [MASK]"]).ids) > 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory; expected a tokenizer.json"),
        (b"", "is not a tokenizer.json"),
        (b"{}", "is not a tokenizer.json"),
        (b'{"model": {"type": "WordPiece"}}', "is not a tokenizer.json"),
        (b"[1, 2", "is not a tokenizer.json"),
        (b"\xff\xfe{}", "is not text in UTF-8"),
    ],
)
def test_bad_files(tmp_path, content, said):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=said) as error:
        tokenizer.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((TEXTS, "wordpeice", 100), "tokenizer kind is 'wordpeice': did you mean wordpiece"),
        ((TEXTS, "bpe", 5), "vocabulary size is 5: expected more than the 5 special tokens"),
        (([" ", ""], "bpe", 100), "no words in 2 texts"),
        (([], "word", 100), "no words in 0 texts"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(BadInput, match=said):
        tokenizer.train(*arguments)


def test_half_a_surrogate_pair_is_named(trained):
    said = r"half a surrogate pair, '\\ud83d' at character 2"
    for call in (lambda: trained["word"].encode(["good", "a \ud83d"]), lambda: trained["word"].pieces("a \ud83d")):
        with pytest.raises(BadInput, match=said):
            call()
    with pytest.raises(BadInput, match="half a surrogate pair"):
        tokenizer.train(["a \ud83d"], "word", 100)


@pytest.mark.parametrize("kind", tokenizer.KINDS)
@pytest.mark.parametrize("size", [6, 20, 40])
def test_small_vocabularies_are_kept_to(kind, size):
    assert tokenizer.train(TEXTS, kind, size).vocabulary_size <= size


_FORK = """
import os
from zoo.data.text import tokenizer
made = tokenizer.train(["a good film"] * 9, "bpe", 50)
wanted = made.encode(["a film"] * 50).ids.tolist()
child = os.fork()
if child == 0:
    os._exit(0 if made.encode(["a film"] * 50).ids.tolist() == wanted else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_encodes_without_a_word():
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    found = subprocess.run(
        [sys.executable, "-c", _FORK], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0 and "fork" not in found.stdout + found.stderr, found.stderr


@pytest.mark.parametrize("kind", ["byte", "byte_bpe", "character"])
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=60, deadline=None)
def test_exact_tokenizers_give_the_text_back(kind, text):
    made = exact(kind)
    ids = made.encode([text]).ids
    assert made.decode(ids) == text and made.byte_counts()[ids].sum() == len(text.encode())


def test_rare_and_unseen_characters_are_spelled_in_bytes():
    """Of "aab§" a is frequent; b occurs once, as the tokens of an unknown character must be learned from something."""
    made = tokenizer.train(["aab§", "aa"], "character", 300)
    pieces = made.bytes_of_ids()
    assert [pieces[id] for id in made.encode(["aab好"]).ids] == [b"a", b"a", b"b", *(bytes([b]) for b in "好".encode())]
    assert made.unknown() is None and made.vocabulary_size == 5 + 256 + 1
    few = tokenizer.train(["aaa bb"], "character", 6)
    assert few.decode(few.encode(["ab"]).ids) == "ab" and few.vocabulary_size == 5 + 256 + 1


def test_characters_come_back_if_they_were_seen():
    made = exact("known_character")
    ids = made.encode([EXACT_TEXT, "ä"]).ids
    assert made.decode(ids[:-1]) == EXACT_TEXT and made.decode(ids[-1:]) == "[UNK]"
    assert made.byte_counts()[ids[:-1]].sum() == len(EXACT_TEXT.encode())


EXACT_TEXT = "ﬁ A\n\n  Wide　and 你好, [PAD]\t"


@functools.cache
def exact(kind):
    return tokenizer.train([EXACT_TEXT], kind, 300)
