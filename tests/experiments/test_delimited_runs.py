"""Runs on files with flags of their own: training, evaluation, prediction and export read them alike."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import zoo
from experiments import lstm_sentiment, mlp_classifier
from zoo.cli.main import main as command
from zoo.export import formats

RNG = np.random.default_rng(2)
ROWS = 200
TABLE = {"encoding": "latin-1", "delimiter": "space", "no_header": True, "columns": "stück,länge,label"}
TEXTS = {"encoding": "cp1252", "delimiter": "space", "no_header": True, "columns": "label,text"}


def flags(given):
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items()]


def last(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A table without a header, and the same as a plain .csv; a run on the former."""
    folder = tmp_path_factory.mktemp("table")
    frame = pd.DataFrame({"stück": RNG.normal(size=ROWS).round(3), "länge": RNG.choice(["groß", "klein"], ROWS)})
    frame["label"] = np.where(frame["stück"] + (frame["länge"] == "groß") > 0.5, "ja", "nö")
    frame.to_csv(folder / "plain.csv", index=False)
    lines = "\n".join(f"{a}   {b} {c}".replace(".", ",") for a, b, c in frame.itertuples(index=False))
    (folder / "t.txt").write_text(lines + "\n", encoding="latin-1")
    config = mlp_classifier.MlpConfig(
        dataset=str(folder / "t.txt"),
        decimal=",",
        epochs=0,
        steps=40,
        compile="none",
        baseline=False,
        members=2,
        **TABLE,
    )
    zoo.run(mlp_classifier.build, config, folder / "run")
    return folder


def test_the_run_is_that_of_a_plain_file(run):
    config = mlp_classifier.MlpConfig(
        dataset=str(run / "plain.csv"), epochs=0, steps=40, compile="none", baseline=False, members=2
    )
    zoo.run(mlp_classifier.build, config, run / "of_plain")
    one, other = (json.loads((run / name / "result.json").read_text()) for name in ("run", "of_plain"))
    assert one["test/loss"] == other["test/loss"]
    saved = json.loads((run / "run" / "model.json").read_text())["file_format"]
    assert saved == {
        "encoding": "iso8859-1", "delimiter": " ", "has_header": False, "columns": ["stück", "länge", "label"]
    }  # fmt: skip
    assert "file_format" not in json.loads((run / "of_plain" / "model.json").read_text())


def test_evaluation_and_prediction_read_as_the_training(run, capsys):
    assert command(["evaluate", str(run / "run")]) == 0
    own = last(capsys)
    assert command(["evaluate", str(run / "run"), f"--dataset={run / 't.txt'}"]) == 0
    assert last(capsys) == own
    predictor = zoo.load(run / "run")
    examples = predictor.read(run / "t.txt")
    assert examples.shape == (ROWS, 2) and not np.isnan(examples).any()
    assert command(["predict", str(run / "run"), str(run / "t.txt"), f"--out={run / 'answers.csv'}"]) == 0
    answers = pd.read_csv(run / "answers.csv")
    assert answers["label"].isin(["ja", "nö"]).all()
    np.testing.assert_allclose(answers["probability nö"], predictor.probabilities(examples)[:, 1], rtol=1e-6)


def test_another_file_has_flags_of_its_own(run, capsys):
    predictor = zoo.load(run / "run")
    expected = predictor.probabilities(predictor.read(run / "t.txt"))
    frame = pd.read_csv(run / "plain.csv").drop(columns="label")[["länge", "stück"]]
    frame.to_csv(run / "other.csv", index=False, header=False, sep=";", decimal=",", encoding="utf-16")
    other = ["--encoding=utf-16", "--delimiter=;", "--columns=länge,stück"]
    out = run / "of_other.csv"
    assert command(["predict", str(run / "run"), str(run / "other.csv"), *other, f"--out={out}"]) == 0
    np.testing.assert_allclose(pd.read_csv(out)["probability nö"], expected[:, 1], rtol=1e-6)
    # Its first line names the columns; a Parquet file needs no flags, and takes none.
    frame.to_csv(run / "named.txt", index=False, sep=" ", decimal=",", encoding="latin-1")
    frame.assign(stück=frame["stück"].astype(str).str.replace(".", ",")).to_parquet(run / "t.parquet")
    for name in ("named.txt", "t.parquet"):
        np.testing.assert_array_equal(predictor.probabilities(predictor.read(run / name)), expected)
    capsys.readouterr()
    for arguments, said in (
        (
            ["predict", str(run / "run"), str(run / "t.parquet"), "--encoding=utf-8"],
            "--encoding is for delimited files",
        ),
        (["predict", str(run / "run"), str(run / "t.parquet"), "--delimiter=;"], "--delimiter is for delimited files"),
        (["predict", str(run / "run"), "-", "--delimiter=;"], "is for delimited files"),
        (["evaluate", str(run / "run"), "--delimiter=;"], "the run's own data set is none"),
        (["evaluate", str(run / "run"), f"--dataset={run / 't.parquet'}", "--encoding=ascii"], "is none"),
        (["predict", str(run / "run"), str(run / "other.csv")], "NUL"),
    ):
        assert command(arguments) == 2
        assert said in capsys.readouterr().err


def test_an_export_reads_the_same_file(run):
    folder = formats.export(run / "run", "keras", run / "exported")
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": ""}
    example = [sys.executable, "-I", str(folder / "example.py"), str(run / "t.txt")]
    done = subprocess.run(example, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = [list(json.loads(line)["probabilities"].values()) for line in done.stdout.splitlines()]
    predictor = zoo.load(run / "run")
    np.testing.assert_allclose(found, predictor.probabilities(predictor.read(run / "t.txt")), atol=1e-5)


def test_an_inspection(run, capsys):
    command(["inspect", str(run / "plain.csv"), "--json"])
    plain = last(capsys)
    assert command(["inspect", str(run / "t.txt"), "--json", "--decimal=,", *flags(TABLE)]) == 0
    assert {**last(capsys), "path": "", "notes": []} == {**plain, "path": "", "notes": []}


def test_labels_before_texts(tmp_path, capsys):
    words = ["café", "naïve", "über", "gut", "bad", "dull"]
    rows = [" ".join(RNG.choice(words, 6)) + f" {number}" for number in range(120)]
    lines = [f"{'pos' if 'gut' in text else 'neg'} {text}" for text in rows]
    (tmp_path / "t.txt").write_text("\n".join(lines) + "\n", encoding="cp1252")
    config = lstm_sentiment.LstmConfig(
        train_file=str(tmp_path / "t.txt"),
        epochs=0,
        steps=10,
        recipe="plain",
        width=8,
        units=8,
        baseline=False,
        **TEXTS,
    )
    zoo.run(lstm_sentiment.build, config, tmp_path / "run")
    run = str(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "model.json").read_text())["classes"] == ["neg", "pos"]
    assert command(["evaluate", run]) == 0
    (tmp_path / "more.txt").write_text("pos gut und schön\nneg nicht gut – nie\n", encoding="cp1252")
    capsys.readouterr()
    assert command(["evaluate", run, f"--dataset={tmp_path / 'more.txt'}"]) == 0
    assert last(capsys)["examples"] == 2
    # A .txt has a text per line, in the run's encoding, unless flags say that it has columns.
    predictor = zoo.load(run)
    assert predictor.read(tmp_path / "more.txt") == ["pos gut und schön", "neg nicht gut – nie"]
    assert command(["predict", run, str(tmp_path / "more.txt"), *flags(TEXTS), f"--out={tmp_path / 'o.csv'}"]) == 0
    expected = predictor.probabilities(["gut und schön", "nicht gut – nie"])
    found = pd.read_csv(tmp_path / "o.csv")
    assert found["label"].tolist() == ["pos", "neg"]
    np.testing.assert_allclose(found[["probability neg", "probability pos"]], expected, rtol=1e-5)
    assert command(["predict", run, "--text=gut", "--encoding=latin-1"]) == 2
    assert "--encoding without FILE" in capsys.readouterr().err
