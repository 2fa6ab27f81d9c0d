"""Runs of earlier versions, recorded in tests/fixtures, are predicted, evaluated, resumed and exported as ever."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from absl import flags

import zoo
from experiments import bert_finetune, language_model, lstm_sentiment, mlp_classifier
from zoo import config_flags, workdir
from zoo.cli.main import main as command
from zoo.errors import BadInput
from zoo.predict.evaluation import run_data
from zoo.tensorboard import event_files

RECORDED = Path(__file__).parents[1] / "fixtures" / "run_0.1.0"
EXPERIMENTS = {
    "mlp": (mlp_classifier.build, mlp_classifier.MlpConfig),
    "lstm": (lstm_sentiment.build, lstm_sentiment.LstmConfig),
    "encoder": (bert_finetune.build, bert_finetune.FinetuneConfig),
    "language_model": (language_model.build, language_model.LanguageModelConfig),
}
CLASSIFIERS = ("mlp", "lstm", "encoder")
EXPECTED = json.loads((RECORDED / "expected.json").read_text())


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A folder like the one that the runs were trained in, with the runs."""
    folder = tmp_path / "recorded"
    shutil.copytree(RECORDED, folder)
    for path in folder.glob("*/run.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"folder": str(folder)}))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return folder


def own_config(name, workdir):
    """The config that the run's own flags.txt gives."""
    values = flags.FlagValues()
    config_flags.define_flags(EXPERIMENTS[name][1], str(workdir), values)
    values(["experiment", *(workdir / "flags.txt").read_text().split("\n")])
    return config_flags.from_flags(EXPERIMENTS[name][1], values)


def same(result, expected):
    """All metrics alike but those of the clock; other processors round otherwise."""
    timed = [name for name in expected if "per_second" in name]
    assert result.keys() >= expected.keys() - set(timed)
    for metric, value in expected.items():
        if metric not in timed:
            np.testing.assert_allclose(result[metric], value, rtol=1e-3, atol=1e-4, err_msg=metric)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_resumed(recorded, name):
    config = own_config(name, recorded / name)
    result = zoo.run(EXPERIMENTS[name][0], config.replace(steps=8), recorded / name)
    same(result, EXPECTED[name]["8"])
    steps = [event.step for event in event_files.read(recorded / name / "train") if event.summary.value]
    assert steps == sorted(steps) and {2, 4, 6, 8} <= set(steps)


def test_the_eval_file_of_then_is_the_test_file_of_now(recorded):
    """In runs on texts of 0.1.0, --eval_file was the test split."""
    folder = recorded / "lstm"
    saved = json.loads((folder / "run.json").read_text())
    saved["config"]["eval_file"] = "later.csv"
    (folder / "run.json").write_text(json.dumps(saved))
    run = workdir.read_run(folder)
    assert run_data.run_files(run) == {
        "train_file": str(recorded / "reviews.csv"),
        "test_file": str(recorded / "later.csv"),
    }
    config = own_config("lstm", folder).replace(eval_file="later.csv")
    same_run = workdir.as_recorded(folder, config)
    assert (same_run.eval_file, same_run.test_file) == ("", "later.csv")
    assert workdir.compare(folder, same_run, saved["identity"])
    with pytest.raises(BadInput, match=r"--eval_file was , is other\.csv; --test_file was later\.csv, is ;"):
        workdir.compare(folder, workdir.as_recorded(folder, config.replace(eval_file="other.csv")), saved["identity"])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_evaluated(recorded, capsys, name):
    assert command(["evaluate", name, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    same({"test/loss": result["loss"], "test/accuracy": result["accuracy"]}, {
        metric: EXPECTED[name]["4"][metric] for metric in ("test/loss", "test/accuracy")
    })  # fmt: skip


def test_predicted(recorded, capsys):
    given = {"mlp": ["table.csv"], "lstm": ["--text=a great film"], "encoder": ["--text=a dull plot"]}
    for name, arguments in given.items():
        assert command(["predict", name, *arguments, "--json"]) == 0
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(answers) == (80 if name == "mlp" else 1)
        assert all(answer["class"] in ("a", "b", "c", "good", "bad") for answer in answers)
    assert command(["score", "language_model", "text.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_exported_and_loaded(recorded, name):
    assert command(["export", name, "--format=keras", "--out=exported"]) == 0
    assert keras.models.load_model(recorded / name / "model.keras", compile=False).count_params()
