"""`zoo predict` and `zoo evaluate` for taggers: words of texts, entities, long texts, CoNLL files, and bad input."""

import io
import itertools
import json
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from experiments import bert_tag
from tests.experiments import test_bert_experiments as experiments
from zoo.cli import main
from zoo.data.datasets import tag_schemes, tagging
from zoo.data.text import tokenizer, word_alignment
from zoo.predict.evaluation import evaluate
from zoo.predict.predictors import tagger as taggers
from zoo.predict.predictors.tagger import Tagger, words_of

folder = experiments.folder
TEXT = "mister ann smith met3  rome"
CHARACTERS = tokenizer.train(2 * ["rome met1 . 。 x"], "char", 60)
MIXED = "In 2024, 邓小平's\u00a0naïve cafe\u0301 (U.S.)!\n第１页 हिन्दी"


@pytest.fixture(scope="module")
def workdir(folder):
    zoo.run(bert_tag.build, experiments.tags(folder, steps=100), folder / "tagger")
    return folder / "tagger"


@pytest.fixture(scope="module")
def model(workdir):
    return zoo.load(workdir)


@pytest.fixture
def say(capsys):
    """Runs a command in this process: exit code, lines on stdout, lines on stderr."""

    def run(*argv):
        code = main.main([str(argument) for argument in argv])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


@given(
    st.text(st.one_of(st.characters(), st.sampled_from(" \n\tab1.,-'好差１\u0301")), max_size=30),
    st.sampled_from(taggers.WORDS),
)
def test_words_give_back_the_text(text, how):
    spans, done, between = words_of(text, how), 0, ""
    for start, end in spans:
        assert done <= start < end
        between += text[done:start]
        done = end
    # All but white space is in one word, and no white space is in any.
    assert not (between + text[done:]).strip()
    assert not any(character.isspace() for start, end in spans for character in text[start:end])


def test_words_of_each_kind():
    found = {how: [MIXED[start:end] for start, end in words_of(MIXED, how)] for how in taggers.WORDS}
    assert found["characters"] == [character for character in MIXED if not character.isspace()]
    assert found["spaces"] == MIXED.split()
    assert found["signs"] == [
        "In", "2024", ",", "邓", "小", "平", "'", "s", "naïve", "cafe\u0301", "(", "U", ".", "S", ".", ")", "!",
        "第", "１", "页", "हिन्दी",
    ]  # fmt: skip


def test_entities_stand_where_they_are(model):
    assert isinstance(model, Tagger) and model.words == "signs" and model.scheme == tag_schemes.IOB2
    [found, empty] = model.tag([TEXT, "  "])
    assert found.words == TEXT.split() and empty.words == empty.entities == []
    assert found.tags == ["O", "B-PER", "I-PER", "O", "B-LOC"]
    assert [(each.type, each.text) for each in found.entities] == [("PER", "ann smith"), ("LOC", "rome")]
    for entity in found.entities:
        assert TEXT[entity.start : entity.end] == entity.text
    assert [TEXT[start:end] for start, end in found.spans] == found.words


def test_no_word_of_a_long_text_is_lost(model):
    sentence = "mister bob smith met7 oslo ."
    [alone] = model.tag([sentence])
    # Twelve of fourteen tokens are two sentences: a row ends with one, so all are read as pairs but the last.
    [two, many] = model.tag([" ".join(2 * [sentence]), " ".join(9 * [sentence])])
    assert len(many.words) == 54 and many.tags == 4 * two.tags + alone.tags
    assert [many.text[e.start : e.end] for e in many.entities] == [e.text for e in many.entities]
    # Without a stop a row is as long as can be; of a word of any length there is a tag.
    [unstopped] = model.tag(["rome " * 100 + "ab" * 500 + " rome"])
    [row], [rest] = (model.tags_of([words]) for words in (14 * ["rome"], ["rome", "rome", "ab" * 500, "rome"]))
    assert unstopped.tags == 7 * row + rest and set(row) != {"O"}
    order = model.tag([sentence, "rome " * 100, "", sentence])
    assert order[0].tags == order[3].tags == alone.tags and order[2].tags == []


@given(st.lists(st.sampled_from(["rome", "met1", ".", "。", "x" * 40, "\x00"]), max_size=40), st.integers(3, 20))
def test_rows_hold_all_words_and_fit(words, longest):
    # Each character is a piece.
    tagger, room = Tagger.__new__(Tagger), longest - 2
    tagger.max_length, tagger._tokenizer = longest, CHARACTERS
    rows = tagger._rows(words)
    assert [word for row in rows for word in row] == [word[:room] for word in words] and all(rows)
    pieces = [CHARACTERS.encode(row).starts[-1] for row in rows]
    assert max(pieces, default=0) <= room
    # Where a row ends, the next word would not have fitted, or a stop stands.
    for (row, after), used in zip(itertools.pairwise(rows), pieces):
        assert row[-1] in ".。" or used + len(after[0]) > room


def test_the_command(workdir, model, tmp_path, say, monkeypatch):
    code, out, err = say("predict", workdir, f"--text={TEXT}")
    assert (code, err) == (0, []) and out == ["mister ann smith met3 rome\tmister [PER ann smith] met3  [LOC rome]"]
    (tmp_path / "a.txt").write_text(f"{TEXT}\n\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": TEXT}))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    answers = []
    for argv in ([f"--text={TEXT}"], [tmp_path / "a.txt"], [tmp_path / "a.jsonl", "--text_column=body"], ["-"]):
        code, out, err = say("predict", workdir, "--json", *argv)
        assert (code, err) == (0, [])
        answers.append(json.loads(out[0]))
    for answer in answers:
        assert answer["words"] == TEXT.split() and answer["tags"] == model.tag([TEXT])[0].tags
        assert answer["entities"][0] == {"type": "PER", "text": "ann smith", "start": 7, "end": 16}
        assert answer["spans"][0] == [0, 6]
    for flag in ("--explain", "--top=3", "--pair=x"):
        code, out, err = say("predict", workdir, "--text=a", flag)
        assert (code, out, len(err)) == (2, [], 1) and flag.split("=")[0] in err[0]


def test_plain_tags_are_shown_word_by_word(workdir, tmp_path, say):
    copy = tmp_path / "plain"
    shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("checkpoints", "events*"))
    about = json.loads((copy / "model.json").read_text()) | {"scheme": tag_schemes.PLAIN, "words": "spaces"}
    (copy / "model.json").write_text(json.dumps(about))
    _, out, _ = say("predict", copy, "--text=mister ann smith met3 rome")
    assert out[0].split("\t")[1] == "mister/O ann/B-PER smith/I-PER met3/O rome/B-LOC"
    _, out, _ = say("predict", copy, "--text=a,", "--json")
    assert json.loads(out[0])["words"] == ["a,"] and "entities" not in json.loads(out[0])


def test_evaluate_repeats_the_test_of_the_run(workdir, say, monkeypatch):
    monkeypatch.chdir(workdir)
    code, out, err = say("evaluate", workdir)
    result, trained = json.loads(out[-1]), json.loads((workdir / "result.json").read_text())
    expected = {name.removeprefix("test/"): value for name, value in trained.items() if name.startswith("test/")}
    assert (code, err, result["examples"]) == (0, [], 12)
    assert set(expected) - set(result) == {"loss", "piece_accuracy"} and result["f1"] > 0.8
    for name in set(result) - {"examples"}:
        assert result[name] == pytest.approx(expected[name], abs=1e-6), name
    assert out[0] == "examples  12" and not any(line.startswith("loss") for line in out)
    assert any(line.startswith("f1") for line in out)


def test_what_training_cut_off_counts_as_wrong(model):
    words = [["rome", "."] * 20]
    [cut], [whole], [row], [rest] = (
        model.tags_of([some], whole=whole)
        for some, whole in ((words[0], False), (words[0], True), (words[0][:14], True), (words[0][:12], True))
    )
    assert cut == row + 26 * ["O"] and whole == 2 * row + rest and set(rest) != {"O"}
    columns, places = word_alignment.aligned(words, None, model.names, model._tokenizer, 16, (2, 3))
    assert (places[0] >= 0).sum() == 14 and columns["tokens"].shape == (1, 16)


def _sentences(path):
    return [[line.split()[0] for line in block.splitlines()] for block in path.read_text().strip().split("\n\n")]


def test_evaluate_on_a_file_of_ones_own(workdir, model, folder, tmp_path, say):
    own = tagging.load("", train_file=str(folder / "tags.conll"))
    new = [["mister", "eve", "smith", "new", "rome"], own.train.words[0]]
    true = [["O", "B-PER", "I-PER", "O", "B-MISC"], own.train.tags[0]]
    lines = "\n\n".join("\n".join(f"{word} {tag}" for word, tag in zip(*each)) for each in zip(new, true))
    (tmp_path / "mine.conll").write_text(lines)
    code, out, err = say("evaluate", workdir, "--dataset", tmp_path / "mine.conll")
    result = json.loads(out[-1])
    assert (code, err, result["examples"], result["left_out"]) == (0, [], 1, 1)
    right = np.equal(model.tags_of(new[:1])[0], true[0])
    assert result["accuracy"] == pytest.approx(right.mean()) and result["f1/MISC"] == 0
    assert any("left out  1" in line for line in out)
    again = evaluate.evaluate(workdir, str(folder / "tags.conll"))
    # Of its 120 sentences some are copies of those of the test split.
    seen = {" ".join(words) for part in (own.train, own.validation) for words in part.words}
    read = [" ".join(words) for words in _sentences(folder / "tags.conll")]
    assert again["left_out"] == sum(each in seen for each in read) > 50
    assert again["examples"] == 120 - again["left_out"]
    (tmp_path / "other.conll").write_text("a B-X\nb O\n")
    (tmp_path / "seen.conll").write_text("\n".join(map(" ".join, zip(new[1], true[1]))))
    cases = {
        tmp_path / "other.conll": "has the tags B-X, O; expected those of the model: O, B-LOC",
        tmp_path / "seen.conll": "was trained on all of its 1 sentences",
        "people_dail/names": "did you mean people_daily/names",
    }
    for dataset, says in cases.items():
        code, out, err = say("evaluate", workdir, "--dataset", dataset)
        assert (code, out, len(err)) == (2, [], 1) and says in err[0] and str(dataset) in err[0]
    code, out, err = say("evaluate", workdir, "--text_column=a")
    assert (code, out, len(err)) == (2, [], 1) and "expected no --text_column" in err[0]
