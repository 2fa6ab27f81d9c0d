"""Running text: blocks in order, windows that cover it, ids that are kept and mapped."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.batches import Batches
from zoo.data.datasets import running_text
from zoo.data.text import tokenizer
from zoo.errors import BadInput

TEXT = "Second Citizen:\nOne word, good citizens.\n\n" * 40


@pytest.fixture(scope="module")
def words():
    return tokenizer.train([TEXT], "character", 100)


def test_blocks_are_the_text(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(TEXT, encoding="utf8")
    found = running_text.load("", str(path))
    assert "".join(found) == TEXT
    assert [len(block) / len(TEXT) for block in found] == pytest.approx([0.9, 0.05, 0.05], abs=0.01)


def test_files_of_validation_and_test(tmp_path):
    """What is given is whole; what is not is the end of the training text."""
    names = [str(tmp_path / name) for name in ("train.txt", "dev.txt", "test.txt")]
    texts = [
        TEXT,
        "Validation text. " * 9,
        "Test text.\n" + "a line that is long enough not to be in two texts by chance " * 2,
    ]
    for name, text in zip(names, texts):
        Path(name).write_text(text, encoding="utf8")
    edge, notes = len(TEXT) - len(TEXT) // 20, []
    assert running_text.load("", *names, notes) == tuple(texts) and not notes
    assert running_text.load("", names[0], names[1]) == (TEXT[:edge], texts[1], TEXT[edge:])
    assert running_text.load("", names[0], "", names[2]) == (TEXT[:edge], TEXT[edge:], texts[2])
    running_text.load("", names[2], names[1], names[2], notes)
    assert len(notes) == 1 and "1 of 1 lines of" in notes[0] and "its loss is too low" in notes[0]


def test_people_daily():
    found = running_text.load("people_daily")
    assert found.train.startswith("迈向充满希望的新世纪") and "/" not in found.train[:1000]
    assert len("".join(found)) == 1_861_140


def test_windows_cover_every_run(words, tmp_path):
    ids = running_text.stored(TEXT, words, tmp_path)
    assert isinstance(ids, np.memmap) and words.decode(ids) == TEXT
    rows = running_text.windows(ids, 7)
    assert rows.shape == (len(TEXT) - 7, 8) and isinstance(rows, np.memmap)
    assert all(words.decode(rows[start]) == TEXT[start : start + 8] for start in (0, 5, len(rows) - 1))


def test_training_reads_from_disk(words, tmp_path):
    """A batch of windows is read row by row, and is what the same rows in memory are."""
    rows = running_text.windows(running_text.stored(TEXT, words, tmp_path), 7)
    batches = Batches({"tokens": rows}, 4, seed=1)
    assert batches.on_disk
    memory = Batches({"tokens": np.array(rows)}, 4, seed=1)
    np.testing.assert_array_equal(batches.at(9)[0]["tokens"], memory.at(9)[0]["tokens"])


@given(st.integers(2, 60), st.integers(1, 20))
def test_judged_once(length, width):
    """Each token but the first is predicted in one place, by up to `width` tokens before it."""
    ids = np.arange(1, length + 1, dtype=np.int32)
    rows = running_text.evaluation_windows(ids, width)
    assert rows.shape[1] == width + 1
    targets = rows[:, 1:].ravel()
    assert targets[targets > 0].tolist() == list(range(2, length + 1))
    pairs = np.stack([rows[:, :-1].ravel(), targets], axis=1)
    assert all(before + 1 == after for before, after in pairs if after)


def test_kept_ids_are_found_again(words, tmp_path, monkeypatch):
    first = np.array(running_text.stored(TEXT, words, tmp_path))
    monkeypatch.setattr(running_text, "_ids", lambda *given: pytest.fail("encoded twice"))
    np.testing.assert_array_equal(running_text.stored(TEXT, words, tmp_path), first)


def test_damaged_ids_are_made_again_aloud(words, tmp_path):
    """A byte of the ids that another id replaced: the network would learn another text, or read beyond its table."""
    whole, notes = np.array(running_text.stored(TEXT, words, tmp_path)), []
    (path,) = tmp_path.glob("*.ids")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(running_text.stored(TEXT, words, tmp_path, notes), whole)
    assert len(notes) == 1 and "damaged" in notes[0] and "computing again" in notes[0]


def test_a_folder_that_cannot_be_written(words, tmp_path):
    (tmp_path / "file").write_text("")
    assert words.decode(running_text.stored(TEXT, words, tmp_path / "file" / "cache")) == TEXT


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: running_text.load("tiny_shakespear"), "did you mean tiny_shakespeare"),
        (lambda: running_text.load("", "/no/such.txt"), "/no/such.txt cannot be read"),
        (lambda: running_text.load("people_daily", "", "a.txt"), "--eval_file is 'a.txt' without --train_file"),
        (lambda: running_text.load("people_daily", "", "", "a.txt"), "--test_file is 'a.txt' without --train_file"),
        (lambda: running_text.windows(np.arange(5), 5), "has 5 tokens; expected more than the context, 5"),
    ],
)
def test_what_is_refused(call, said):
    with pytest.raises(BadInput, match=said):
        call()


def test_too_short_a_text(tmp_path):
    (tmp_path / "short.txt").write_text("abc")
    with pytest.raises(BadInput, match="has 3 characters; expected a text long enough"):
        running_text.load("", str(tmp_path / "short.txt"))
