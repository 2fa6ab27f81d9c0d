"""Cross-validation: each fold is the run that it is alone, a killed one goes on, and the summary is right."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

import zoo
from experiments import lstm_sentiment, mlp_classifier, mlp_regressor
from experiments.mlp_classifier import MlpConfig
from experiments.mlp_regressor import RegressorConfig
from zoo.engine.engine import Engine
from zoo.errors import BadInput, Stopped
from zoo.predict.evaluation.evaluate import evaluate
from zoo.training import several_runs
from zoo.training.lstm_config import LstmConfig

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(5)
ROWS, FOLDS = 90, 3


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "table.csv"
    a, b = RNG.normal(size=(2, ROWS))
    label = np.where(a + 0.5 * RNG.normal(size=ROWS) > 0, "yes", "no")
    lines = [f"{a[i]:.6f},{b[i]:.6f},{10 * a[i] + b[i]:.4f},{label[i]},{i % 30}" for i in range(ROWS)]
    path.write_text("a,b,value,label,patient\n" + "\n".join(lines) + "\n")
    return path


def config(table, **changes):
    options = {"recipe": "plain", "epochs": 0, "steps": 20, "batch_size": 16, "ignore_columns": "value"}
    options |= {"dropout": 0.2, "checkpoint_every": 5, "steps_per_loop": 5, "folds": FOLDS, "baseline": True}
    options |= {"graph": False, "show": "none"}
    return MlpConfig(dataset=str(table), **{**options, "split": "group:patient", **changes})


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, zoo.run(mlp_classifier.build, config(table), folder)


def rows_of(path):
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def test_every_row_is_predicted_once_by_a_run_that_has_not_seen_its_patient(whole, table):
    rows = rows_of(whole[0] / "predictions.csv")
    assert [int(row["line"]) for row in rows] == list(range(2, ROWS + 2))
    source = rows_of(table)
    assert [row["label"] for row in rows] == [row["label"] for row in source]
    folds = {}
    for row, origin in zip(rows, source):
        folds.setdefault(origin["patient"], set()).add(row["fold"])
    assert all(len(each) == 1 for each in folds.values())
    assert {row["fold"] for row in rows} == {"1", "2", "3"}
    assert all(abs(float(row["probability no"]) + float(row["probability yes"]) - 1) < 1e-9 for row in rows)


def test_the_summary_is_the_mean_of_the_folds_with_students_interval(whole):
    folder, result = whole
    runs = [json.loads((folder / f"fold_{k}" / "result.json").read_text()) for k in (1, 2, 3)]
    summary = json.loads((folder / "folds.json").read_text())
    for name in ("test/accuracy", "test/log_loss", "test/baseline_accuracy", "test/accuracy_over_baseline"):
        values = np.array([run[name] for run in runs])
        low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        one = summary["metrics"][name]
        assert np.allclose([one["mean"], one["low"], one["high"]], [values.mean(), low, high], equal_nan=True)
        assert one["values"] == values.tolist()
        assert np.allclose([result[name], result[f"{name}_low"], result[f"{name}_high"]], [values.mean(), low, high])
    lead = summary["metrics"]["test/accuracy_over_baseline"]
    both = (summary["metrics"][name]["values"] for name in ("test/accuracy", "test/baseline_accuracy"))
    assert np.allclose(lead["values"], np.subtract(*both))
    assert not any("confusion" in name for name in summary["metrics"])


def test_pooled_metrics_are_those_of_all_predictions(whole):
    folder, result = whole
    rows = rows_of(folder / "predictions.csv")
    labels, answers = ([row[name] for row in rows] for name in ("label", "prediction"))
    chances = np.array([[float(row[f"probability {name}"]) for name in ("no", "yes")] for row in rows])
    assert np.isclose(result["pooled/accuracy"], metrics.accuracy_score(labels, answers))
    assert np.isclose(result["pooled/log_loss"], metrics.log_loss(labels, chances))
    assert np.isclose(result["pooled/auc"], metrics.roc_auc_score(np.array(labels) == "yes", chances[:, 1]))
    assert result["pooled/accuracy_low"] < result["pooled/accuracy"] < result["pooled/accuracy_high"]


def test_a_run_of_a_fold_is_evaluated_on_its_fold_alone(whole, table, tmp_path):
    folder = whole[0] / "fold_2"
    expected = json.loads((folder / "result.json").read_text())
    count = sum(row["fold"] == "2" for row in rows_of(whole[0] / "predictions.csv"))
    found = evaluate(folder)
    assert found["examples"] == count and np.isclose(found["accuracy"], expected["test/accuracy"])
    # Under another name it is still the run's own file.
    other = tmp_path / "copy.csv"
    other.write_bytes(table.read_bytes())
    assert evaluate(folder, str(other))["examples"] == count


def test_the_flagfile_of_a_fold_repeats_that_fold_alone_in_another_process(whole, tmp_path):
    flags = whole[0] / "fold_2" / "flags.txt"
    command = [sys.executable, "-m", "experiments.mlp_classifier", f"--flagfile={flags}", f"--workdir={tmp_path}"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    same = Path("test", "predictions.csv")
    assert (tmp_path / same).read_bytes() == (whole[0] / "fold_2" / same).read_bytes()


def test_killed_and_stopped_it_goes_on_and_finished_folds_are_not_trained_again(whole, table, tmp_path, monkeypatch):
    code = (
        "import os, signal, zoo\n"
        "from experiments import mlp_classifier\n"
        "from tests.training.test_cross_validation import config\n"
        "from zoo.engine.engine import Engine\n"
        "real, starts = Engine.train, []\n"
        "def train(engine, batches, step, count):\n"
        "    if step == 0: starts.append(1)\n"
        "    if len(starts) == 2 and step >= 10: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(engine, batches, step, count)\n"
        "Engine.train = train\n"
        f"zoo.run(mlp_classifier.build, config({str(table)!r}), {str(tmp_path)!r})\n"
    )
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL
    first = (tmp_path / "fold_1" / "result.json").stat().st_mtime_ns
    real, steps = Engine.train, []

    def train(engine, batches, step, count):
        steps.append(step)
        if 0 in steps and step >= 5 and len(stops) == 0:
            stops.append(step + count)
            os.kill(os.getpid(), signal.SIGTERM)
        return real(engine, batches, step, count)

    stops = []
    monkeypatch.setattr(Engine, "train", train)
    with pytest.raises(Stopped) as stopped:
        zoo.run(mlp_classifier.build, config(table), tmp_path)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert f"saved at step {stops[0]};" in str(stopped.value)
    assert "that was fold 3 of 3; 2 finished before it" in stopped.value.__notes__[0]
    assert not (tmp_path / "folds.json").exists()
    before = len(steps)
    assert zoo.run(mlp_classifier.build, config(table), tmp_path) == whole[1]
    # Fold 2 from where it was killed, fold 3 until it was stopped, and from there.
    assert steps[0] == 10 and steps.count(0) == 1 and steps[before] == stops[0]
    assert (tmp_path / "fold_1" / "result.json").stat().st_mtime_ns == first
    assert (tmp_path / "predictions.csv").read_bytes() == (whole[0] / "predictions.csv").read_bytes()


def test_a_folder_of_folds_takes_no_other_run(whole, table, tmp_path):
    folder = whole[0]
    before = (folder / "runs.json").read_bytes()
    with pytest.raises(BadInput, match="--seed was 0, is 1"):
        zoo.run(mlp_classifier.build, config(table, seed=1), folder)
    with pytest.raises(BadInput, match="belongs to several runs"):
        zoo.run(mlp_classifier.build, config(table, folds=0), folder)
    with pytest.raises(BadInput, match="belongs to a single run"):
        zoo.run(mlp_classifier.build, config(table), folder / "fold_1")
    assert (folder / "runs.json").read_bytes() == before
    (tmp_path / "runs.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        zoo.run(mlp_classifier.build, config(table), tmp_path)


def test_data_that_changed_between_the_folds_are_refused(whole, table, tmp_path):
    import shutil

    shutil.copytree(whole[0], tmp_path / "run")
    path = tmp_path / "run" / "fold_2" / "test" / "predictions.csv"
    path.write_bytes((tmp_path / "run" / "fold_1" / "test" / "predictions.csv").read_bytes())
    with pytest.raises(BadInput, match="the data changed"):
        zoo.run(mlp_classifier.build, config(table), tmp_path / "run")


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"folds": 1}, "--folds is 1"),
        ({"folds": 0, "fold": 1}, "--folds as well"),
        ({"fold": 4}, "expected 1 to 3"),
        ({"test_file": "other.csv"}, "--test_file with --folds"),
        ({"eval_file": "other.csv"}, "--eval_file with --folds"),
        ({"split": "time:a"}, "what came before"),
        ({"strategy": "multiworker"}, "several workers"),
    ],
)
def test_flags_that_contradict_folds_are_refused_before_anything_is_written(table, tmp_path, changes, said):
    with pytest.raises(BadInput, match=said):
        zoo.run(mlp_classifier.build, config(table, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "runs.json").exists() and not (tmp_path / "run" / "run.json").exists()


def test_values_are_pooled_in_their_own_units(table, tmp_path):
    settings = RegressorConfig(
        dataset=str(table),
        label_column="value",
        ignore_columns="label,patient",
        folds=2,
        epochs=0,
        steps=30,
        members=2,
        compile="none",
    )
    result = zoo.run(mlp_regressor.build, settings, tmp_path)
    rows = rows_of(tmp_path / "predictions.csv")
    true, predicted = (np.array([float(row[name]) for row in rows]) for name in ("label", "prediction"))
    assert np.allclose(true, [float(row["value"]) for row in rows_of(table)], rtol=1e-6)
    assert np.isclose(result["pooled/rmse"], metrics.mean_squared_error(true, predicted) ** 0.5)
    assert np.isclose(result["pooled/r2"], metrics.r2_score(true, predicted)) and result["pooled/r2"] > 0.5
    assert "test/rmse_below_baseline_low" in result


def test_texts_stand_beside_their_predictions(tmp_path):
    path = tmp_path / "texts.csv"
    texts = [f'{"good" if place % 2 else "bad"} film {place}, "{"很好" * (place % 3)}"' for place in range(40)]
    with path.open("w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows([("text", "label"), *((text, text.split()[0]) for text in texts)])
    small = {"epochs": 0, "steps": 4, "width": 4, "units": 4, "vocabulary": 80, "compile": "none"}
    settings = LstmConfig(train_file=str(path), recipe="plain", folds=2, fold=1, baseline=False, **small)
    zoo.run(lstm_sentiment.build, settings, tmp_path / "run")
    rows = rows_of(tmp_path / "run" / "test" / "predictions.csv")
    assert len(rows) == 20 and all(row["text"] == texts[int(row["line"]) - 2] for row in rows)
    with pytest.raises(BadInput, match="language_model"):
        zoo.run(lstm_sentiment.build, settings.replace(objective="language_model"), tmp_path / "words")


def test_an_interval_takes_two_runs():
    with pytest.raises(ValueError, match="two runs"):
        several_runs.summary([1.0])
    assert several_runs.summary([2.0, 2.0])[:3] == (2.0, 2.0, 2.0)
