"""A raw table from the file to the exported model: mixed columns, missing values, unseen categories."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import zoo
from experiments.mlp_classifier import MlpConfig, build
from zoo.cli.main import main as command
from zoo.export import formats
from zoo.predict.evaluation import held_out

RNG = np.random.default_rng(1)
ROWS = 300


@pytest.fixture(scope="module")
def frame():
    """Classes that follow from a number, a category and whether a value is missing."""
    table = pd.DataFrame(
        {
            "age": RNG.normal(40, 10, ROWS).round(2),
            "city": RNG.choice(["Paris", "Rome", "Oslo"], ROWS),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.integers(0, 300, ROWS), unit="D"),
            "member": RNG.random(ROWS) < 0.5,
        }
    )
    missing = RNG.random(ROWS) < 0.3
    score = (table["age"] - 40) / 10 + 2.0 * (table["city"] == "Rome") - 3.0 * missing
    table.loc[missing, "age"] = np.nan
    table.loc[RNG.random(ROWS) < 0.1, "city"] = None
    return table.assign(label=np.where(score > 0, "yes", "no"))


@pytest.fixture(scope="module")
def run(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_parquet(folder / "t.parquet")
    frame.to_excel(folder / "t.xlsx", index=False)
    frame.drop(columns="label").replace({"Oslo": "Lima"}).to_csv(folder / "new.csv", index=False)
    zoo.run(build, MlpConfig(dataset=str(folder / "t.csv"), epochs=0, steps=150, compile="none"), folder / "run")
    return folder


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def test_it_learns_from_every_kind_of_column(run):
    result = result_of(run / "run")
    assert result["test/accuracy"] > 0.8 and result["test/baseline_accuracy"] > 0.8
    lead = result["test/accuracy"] - result["test/boosting_accuracy"]
    assert result["test/accuracy_over_boosting"] == pytest.approx(lead) and result["test/boosting_accuracy"] > 0.7
    assert result["test/accuracy_over_boosting_low"] < lead < result["test/accuracy_over_boosting_high"]


def test_parquet_is_csv_in_every_prediction(run):
    predictor = zoo.load(run / "run")
    one, other = (predictor.probabilities(predictor.read(run / f"t.{kind}")) for kind in ("csv", "parquet"))
    np.testing.assert_array_equal(one, other)
    zoo.run(build, MlpConfig(dataset=str(run / "t.parquet"), epochs=0, steps=150, compile="none"), run / "of_parquet")
    other = zoo.load(run / "of_parquet")
    np.testing.assert_array_equal(one, other.probabilities(other.read(run / "t.csv")))


def test_excel_is_csv_in_every_prediction(run, capsys):
    config = MlpConfig(dataset=str(run / "t.xlsx"), epochs=0, steps=5, compile="none", baseline=False)
    zoo.run(build, config, run / "of_excel")
    one = zoo.load(run / "of_excel")
    expected = one.probabilities(one.read(run / "t.xlsx"))
    for name in ("t.csv", "t.parquet"):
        np.testing.assert_array_equal(expected, one.probabilities(one.read(run / name)))
    out = run / "of_excel.csv"
    assert command(["predict", str(run / "of_excel"), str(run / "t.xlsx"), f"--out={out}"]) == 0
    np.testing.assert_allclose(pd.read_csv(out)[["probability no", "probability yes"]], expected, rtol=1e-6)
    capsys.readouterr()
    assert command(["evaluate", str(run / "of_excel"), f"--dataset={run / 't.xlsx'}"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["examples"] == 30


def test_rows_as_json(run, frame):
    predictor = zoo.load(run / "run")
    rows = frame.drop(columns="label").assign(day=frame["day"].dt.strftime("%Y-%m-%d"))
    lines = [row.to_json().encode() for _, row in rows.head(5).iterrows()]
    read = np.concatenate([line.examples for line in predictor.lines(lines)])
    np.testing.assert_array_equal(read, predictor.read(run / "t.csv")[:5])
    wrong = next(predictor.lines([b'{"aeg": 1}']))
    assert wrong.error == "has 'aeg', expected the columns age, city, day, member"


def test_the_command_line(run, capsys):
    assert command(["evaluate", str(run / "run"), f"--dataset={run / 't.parquet'}"]) == 0
    # By content it is the run's own data set, so its test split is used.
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["examples"] == 30
    assert command(["predict", str(run / "run"), str(run / "new.csv")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == ROWS


def test_predictions_as_a_table(run, frame, capsys):
    """With the columns that the model does not read, such as an id."""
    frame.assign(id=[f"row, {i}" for i in range(ROWS)]).to_parquet(run / "with_id.parquet")
    out = run / "answers.csv"
    assert command(["predict", str(run / "run"), str(run / "with_id.parquet"), f"--out={out}"]) == 0
    assert capsys.readouterr().out == ""
    answers, predictor = pd.read_csv(out), zoo.load(run / "run")
    assert list(answers) == ["label", "id", "prediction", "probability no", "probability yes"]
    assert answers["id"].tolist() == [f"row, {i}" for i in range(ROWS)]
    probabilities = predictor.probabilities(predictor.read(run / "with_id.parquet"))
    np.testing.assert_allclose(answers[["probability no", "probability yes"]], probabilities, rtol=1e-6)
    assert answers["prediction"].tolist() == [predictor.classes[i] for i in probabilities.argmax(axis=1)]
    for flags, said in (
        (["--top=2"], "leave --top out"),
        (["--json"], "leave --json out"),
        ([str(run / "new.csv")], "expected one FILE"),
        ([f"--out={run / 'answers.txt'}"], "expected a .csv"),
    ):
        assert command(["predict", str(run / "run"), str(run / "new.csv"), f"--out={out}", *flags]) == 2
        assert said in capsys.readouterr().err


def test_adaptation_and_feedback(run, frame, capsys):
    """Stages that do not fit an ensemble say so; pseudo-labels keep missing values."""
    new = frame.drop(columns="label").assign(age=frame["age"] + 0.01)
    new.to_csv(run / "later.csv", index=False)
    assert command(["predict", str(run / "run"), str(run / "later.csv"), "--refine=auto"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == ROWS and "no batch normalisation or last dense layer of" in said.err
    assert command(["feedback", str(run / "run"), str(run / "later.csv"), f"--out={run / 'more.npz'}"]) == 0
    assert np.isnan(np.load(run / "more.npz")["x"]).any()
    config = MlpConfig(
        dataset=str(run / "t.csv"), epochs=0, steps=20, compile="none", more_file=str(run / "more.npz"), baseline=False
    )
    assert np.isfinite(zoo.run(build, config, run / "with_more")["test/loss"])


def test_the_validation_split_is_found_again(run):
    """Which `zoo predict --refine` and --abstain_risk read; with the columns that the run read."""
    config = MlpConfig(
        dataset=str(run / "t.csv"), epochs=0, steps=20, compile="none", ignore_columns="day", baseline=False
    )
    result = zoo.run(build, config, run / "ignoring")
    source = held_out.load(run / "ignoring", zoo.load(run / "ignoring"))
    assert source.examples.shape == (30, 3)
    assert np.mean(source.logits.argmax(axis=1) == source.labels) == pytest.approx(result["eval/accuracy"])


@pytest.mark.parametrize("recipe", ["plain", "table"])
def test_the_same_run_on_two_devices_and_in_parts(run, recipe):
    """Missing values do not make a run depend on its devices."""
    config = MlpConfig(
        dataset=str(run / "t.csv"), epochs=0, steps=20, compile="none", recipe=recipe, batch_size=64, baseline=False
    )
    one = zoo.run(build, config, run / f"{recipe}_one")
    parts = zoo.run(build, config.replace(accumulate=2), run / f"{recipe}_parts")
    assert np.isfinite(one["test/loss"]) and abs(one["test/loss"] - parts["test/loss"]) < 1e-4


@pytest.mark.parametrize("format", ["keras", "litert", "onnx"])
def test_exports_read_the_same_table(run, format):
    missing = [name for name in formats.FORMATS[format].made_by if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {missing}")
    folder = formats.export(run / "run", format, run / f"as_{format}")
    signature = json.loads((folder / "signature.json").read_text())
    assert [column["name"] for column in signature["table"]["columns"]] == ["age", "city", "day", "member"]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": ""}
    example = [sys.executable, "-I", str(folder / "example.py"), str(run / "new.csv")]
    done = subprocess.run(example, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = [list(json.loads(line)["probabilities"].values()) for line in done.stdout.splitlines()]
    predictor = zoo.load(run / "run")
    np.testing.assert_allclose(found, predictor.probabilities(predictor.read(run / "new.csv")), atol=1e-5)
