"""`zoo predict` and `zoo evaluate` for taggers: words of texts, entities, long texts, CoNLL files, and bad input."""

import io
import json
import shutil
import sys

import numpy as np
import pytest

import zoo
from experiments import bert_tag
from tests.experiments import test_bert_experiments as experiments
from zoo.cli import main
from zoo.data.datasets import tag_schemes, tagging
from zoo.metrics import entities
from zoo.predict.evaluation import evaluate
from zoo.predict.predictors.tagger import Tagger
from zoo.predict.predictors.tagger_inputs import Words

folder = experiments.folder
TEXT = "mister ann smith met3  rome"


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


def test_entities_stand_where_they_are(model):
    assert isinstance(model, Tagger) and model.words == "learned" and model.scheme == tag_schemes.IOB2
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


def _f1_of(out, true):
    """Entity F1 of printed CoNLL, whose last column is predicted, and its words."""
    rows = [[line.split("\t") for line in block.split("\n")] for block in "\n".join(out).strip().split("\n\n")]
    predicted = [[row[-1] for row in block] for block in rows]
    return entities.scores(true, predicted)["f1"], [[row[0] for row in block] for block in rows]


def test_predict_reads_what_evaluate_reads(workdir, folder, tmp_path, say):
    """CoNLL, words in JSON, and raw text: the same words, the same entity F1; a long sentence among them."""
    own = tagging.load("", train_file=str(folder / "tags.conll")).test
    words = [*own.words, ["mister", "stella", "smith", "."] * 6]
    true = [*own.tags, ["O", "B-PER", "I-PER", "O"] * 6]
    rows = [[f"{word} - {tag}" for word, tag in zip(*each)] for each in zip(words, true)]
    (tmp_path / "a.annotated").write_text("# a = comment\n" + "\n\n".join(map("\n".join, rows)))
    (tmp_path / "a.txt").write_text("\n\n".join(map("\n".join, rows)))
    (tmp_path / "words.conllu").write_text("\n\n".join(map("\n".join, words)))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"words": row}) for row in words))
    (tmp_path / "b.txt").write_text("\n".join(map(" ".join, words)))
    said = evaluate.evaluate(workdir, str(tmp_path / "a.annotated"))
    assert said["examples"] == len(words) and 0.3 < said["f1"] < 1
    for argv in (
        ["a.annotated"], ["a.txt", "--token_column=1"], ["words.conllu"], ["a.jsonl"], ["b.txt"]
    ):  # fmt: skip
        code, out, err = say("predict", workdir, tmp_path / argv[0], "--conll", *argv[1:])
        assert (code, err) == (0, [])
        f1, printed = _f1_of(out, true)
        assert f1 == pytest.approx(said["f1"], abs=1e-9) and printed == words
        assert len(out[0].split("\t")) == (4 if argv[0].startswith(("a.annotated", "a.txt")) else 2)


def test_words_are_not_split_again(workdir, model, tmp_path, say, monkeypatch):
    given_words = ["mister", "a.b/c d", "smith"]
    [found] = model.tag([Words(tuple(given_words))])
    assert found.words == given_words and found.text == "mister a.b/c d smith"
    stream = json.dumps({"words": given_words, "id": 7}) + '\nmister ann smith\n{"words": [""]}\n{"words": "a"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stream.encode())))
    code, out, err = say("predict", workdir, "-")
    first, second, *refused = map(json.loads, out)
    assert code == 2 and first["words"] == given_words and first["tags"] == found.tags and first["id"] == 7
    assert [TEXT[:6], second["words"][1], second["line"]] == ["mister", "ann", 2]
    assert all("expected a list of strings, none of them empty" in each["error"] for each in refused)
    (tmp_path / "a.jsonl").write_text('{"words": ["a"]}\n{"word": ["a"]}\n')
    (tmp_path / "a.conll").write_text("a O\nb\n")
    for argv, message in (
        (["a.jsonl"], "a.jsonl line 2 has 'word'; expected {\"words\""),
        (["a.conll"], "a.conll line 2 has 1 columns; expected 2"),
        (["a.conll", "--token_column=3"], "there is none for --token_column=3"),
        (["a.conll", "--conll", "--json"], "expected one of the two"),
    ):
        code, out, err = say("predict", workdir, tmp_path / argv[0], *argv[1:])
        assert (code, len(err)) == (2, 1) and message in err[0]


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
