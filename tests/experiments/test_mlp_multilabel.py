"""Several labels per row of a table: the run, its baselines, predictions, exports, devices, mistakes."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import threadpoolctl
from sklearn import metrics as sklearn_metrics
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import zoo
from experiments import mlp_multilabel
from experiments.mlp_multilabel import MultilabelConfig, build
from zoo.cli.main import main as command
from zoo.data.datasets import label_sets
from zoo.errors import BadInput
from zoo.export import formats
from zoo.metrics import label_comparison
from zoo.predict.evaluation import held_out
from zoo.training import table_data

# Tests of one process share its devices, which cannot be made later.
tf.config.list_logical_devices()
RNG = np.random.default_rng(5)
ROWS = 300
NAMES = ("family", "late/night", "cheap")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Restaurants, with a category, missing values and a weight; tags in a column for each, and in one."""
    folder = tmp_path_factory.mktemp("labels")
    table = pd.DataFrame(
        {
            "price": RNG.normal(30, 10, ROWS).round(1),
            "town": RNG.choice(["Bern", "Köln", "Linz"], ROWS),
            "closes": RNG.normal(22, 2, ROWS).round(1),
            "w": RNG.uniform(0.1, 2, ROWS).round(2),
        }
    )
    noise = RNG.normal(0, 0.5, (ROWS, 3))
    has = np.stack(
        [
            (table["price"] - 35) / 10 + (table["town"] == "Köln") + noise[:, 0] < 0,
            (table["closes"] - 23) / 2 + noise[:, 1] > 0,
            (table["price"] - 25) / 10 + noise[:, 2] < 0,
        ],
        axis=1,
    )
    table.loc[RNG.random(ROWS) < 0.1, "price"] = None
    for label, name in enumerate(NAMES):
        table[name] = has[:, label].astype(int)
    table.to_csv(folder / "columns.csv", index=False)
    tags = table.drop(columns=list(NAMES)).assign(tags=["; ".join(np.array(NAMES)[row]) for row in has])
    tags.to_csv(folder / "tags.csv", index=False)
    tags.drop(columns=["tags", "w"]).assign(id=np.arange(ROWS)).to_csv(folder / "new.csv", index=False)
    return folder


def config_of(folder, **options):
    options = {"dataset": str(folder / "columns.csv"), "label_column": ",".join(NAMES)} | options
    return MultilabelConfig(
        **{
            "epochs": 0,
            "steps": 60,
            "ignore_columns": "w",
            "show": "none",
            "hidden": (16,),
            "graph": False,
            "compile": "none",
        }
        | options
    )


def of_tags(folder, **options):
    own = {"dataset": str(folder / "tags.csv"), "label_column": "tags", "label_separator": ";", "empty_is_none": True}
    return config_of(folder, **(own | options))


@pytest.fixture(scope="module")
def run(folder):
    zoo.run(build, config_of(folder, show="end"), folder / "run")
    return folder / "run"


def result_of(workdir):
    return json.loads((workdir / "result.json").read_text())


def data_of(config):
    labels = label_sets.from_flags(config.label_column, config.label_separator, config.empty_is_none)
    return table_data.load(config, labels=labels)


def test_scores_are_scikit_learns(run, folder):
    result, data = result_of(run), data_of(config_of(folder))
    predictor, y = zoo.load(run), data.test["y"]
    probabilities = predictor.probabilities(data.test["x"])
    predicted = predictor.decide(probabilities)
    assert predictor.classes == NAMES and predicted.dtype == bool
    expected = {
        "f1_micro": sklearn_metrics.f1_score(y, predicted, average="micro"),
        "subset_accuracy": sklearn_metrics.accuracy_score(y, predicted),
        "hamming_loss": sklearn_metrics.hamming_loss(y, predicted),
        "average_precision": sklearn_metrics.average_precision_score(y, probabilities, average="macro"),
        "f1/late|night": sklearn_metrics.f1_score(y[:, 1], predicted[:, 1]),
    }
    for name, value in expected.items():
        assert result[f"test/{name}"] == pytest.approx(value, abs=1e-5), name
        assert result[f"test/{name}_low"] <= value <= result[f"test/{name}_high"]
    assert result["test/f1_micro"] > result["test/trivial_f1_micro"] + 0.1
    assert result["test/hamming_loss"] < result["test/trivial_hamming_loss"] - 0.1


def test_baselines_are_scikit_learns(run, folder):
    result, data = result_of(run), data_of(config_of(folder))
    linear, probabilities = table_data.linear(data), {"baseline": [], "boosting": []}
    with threadpoolctl.threadpool_limits(1):
        for label in range(3):
            models = [
                LogisticRegression(C=strength, max_iter=200).fit(linear.train["x"], linear.train["y"][:, label])
                for strength in label_comparison._STRENGTHS
            ]
            true = linear.validation["y"][:, label]
            losses = [sklearn_metrics.log_loss(true, each.predict_proba(linear.validation["x"])) for each in models]
            best = models[int(np.argmin(losses))]
            probabilities["baseline"].append(best.predict_proba(linear.test["x"])[:, 1])
            boosting = HistGradientBoostingClassifier(categorical_features=[False, True, False], random_state=0)
            parts = data.train, data.validation
            boosting.fit(np.concatenate([p["x"] for p in parts]), np.concatenate([p["y"] for p in parts])[:, label])
            probabilities["boosting"].append(boosting.predict_proba(data.test["x"])[:, 1])
    y = data.test["y"]
    for name, columns in probabilities.items():
        scores = np.stack(columns, axis=1)
        precision = sklearn_metrics.average_precision_score(y, scores, average="macro")
        assert result[f"test/{name}_average_precision"] == pytest.approx(precision, abs=1e-5)
        f1 = sklearn_metrics.f1_score(y, scores >= 0.5, average="micro")
        assert result[f"test/{name}_f1_micro"] == pytest.approx(f1, abs=1e-5)
        lead = result["test/f1_micro"] - f1
        assert result[f"test/f1_micro_over_{name}"] == pytest.approx(lead, abs=1e-5)
        assert result[f"test/f1_micro_over_{name}_low"] <= lead <= result[f"test/f1_micro_over_{name}_high"]


def test_the_network_begins_at_logistic_regression(folder):
    data = data_of(config_of(folder))
    encoding = table_data.encoding(data, 8)
    encoded = table_data.encoded(data, encoding)
    kernel, bias = label_comparison.logistic_weights(encoded.train, encoded.validation)
    model, _ = mlp_multilabel._network(config_of(folder), data)
    np.testing.assert_allclose(model.predict(data.test["x"], verbose=0), encoded.test["x"] @ kernel + bias, atol=1e-5)


def test_the_loss_is_the_mean_cross_entropy_of_the_labels():
    logits, y = RNG.normal(size=(6, 2, 3)).astype(np.float32), (RNG.random((6, 1, 3)) < 0.5).astype(np.float32)
    expected = np.mean(np.log1p(np.exp(logits)) - y * logits, axis=-1)
    np.testing.assert_allclose(mlp_multilabel._losses(logits, y), expected, rtol=1e-5)


def test_tags_are_the_same_data_as_columns(folder):
    one, other = data_of(config_of(folder)), data_of(of_tags(folder))
    order = [one.classes.index(name) for name in other.classes]
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(one, part)["x"], getattr(other, part)["x"])
        np.testing.assert_array_equal(getattr(one, part)["y"][:, order], getattr(other, part)["y"])


def test_the_command_line(run, folder, capsys):
    assert command(["evaluate", str(run), "--json"]) == 0
    found, result = json.loads(capsys.readouterr().out.splitlines()[-1]), result_of(run)
    assert found["examples"] == 30 and found["f1_micro"] == pytest.approx(result["test/f1_micro"], abs=1e-5)
    assert command(["predict", str(run), str(folder / "new.csv"), "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predictor = zoo.load(run)
    probabilities = predictor.probabilities(predictor.read(folder / "new.csv"))
    for answer, row in zip(answers, probabilities, strict=True):
        expected = sorted(((p, name) for p, name in zip(row.tolist(), NAMES) if p >= 0.5), reverse=True)
        assert [(each["probability"], each["label"]) for each in answer["labels"]] == expected
    assert command(["predict", str(run), str(folder / "new.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[int(np.argmax((probabilities < 0.5).all(axis=1)))].endswith("\tno label")
    out = folder / "answers.csv"
    assert command(["predict", str(run), str(folder / "new.csv"), f"--out={out}"]) == 0
    table = pd.read_csv(out)
    assert list(table.columns[:2]) == ["id", "predicted family"]
    np.testing.assert_array_equal(table[[f"predicted {name}" for name in NAMES]], probabilities >= 0.5)
    np.testing.assert_allclose(table[[f"probability {name}" for name in NAMES]], probabilities)


def test_flags_of_other_tasks(run, folder, capsys):
    for flag, said in (("--top=2", "--top is for classes"), ("--refine=auto", "--refine is for classifiers")):
        assert command(["predict", str(run), str(folder / "new.csv"), flag]) == 2
        assert said in capsys.readouterr().err
    assert command(["predict", str(run), str(folder / "new.csv"), "--interval=0.5"]) == 2
    assert "--interval is for regressions" in capsys.readouterr().err
    with pytest.raises(BadInput, match="--interval is for regressions"):
        held_out.value_errors(run, zoo.load(run))


def test_evaluation_of_another_file(folder, capsys):
    """Its own rows; labels that the model does not know, missing ones, other columns."""
    zoo.run(build, of_tags(folder, threshold_for="f1", weight_column="w", ignore_columns=""), folder / "tags")
    arguments = ["evaluate", str(folder / "tags"), f"--dataset={folder / 'other.csv'}", "--json"]
    header = "tags,closes,town,price\n"
    (folder / "other.csv").write_text(f"{header}cheap,20,Bern,10\ncheap;family,20,Bern,10\n,25,Wien,\n")
    assert command(arguments) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    predictor = zoo.load(folder / "tags")
    assert found["examples"] == 3 and 0 <= found["f1_macro_decided"] <= 1
    probabilities = predictor.probabilities(predictor.read(folder / "other.csv"))
    y = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])  # cheap, family, late/night
    f1 = sklearn_metrics.f1_score(y, probabilities >= np.array(predictor.decision.values), average="micro")
    assert found["f1_micro_decided"] == pytest.approx(f1) and predictor.classes == ("cheap", "family", "late/night")
    (folder / "other.csv").write_text(f"{header}cheap,20,Bern,10\nfamily;chaep,20,Bern,10\n")
    assert command(arguments) == 2
    assert "line 3: 'tags' is 'chaep'; expected a class of the model: cheap, family" in capsys.readouterr().err
    (folder / "other.csv").write_text("closes,town,price\n1,Bern,3\n")
    assert command(arguments) == 2 and "has no column 'tags'" in capsys.readouterr().err
    result = result_of(folder / "tags")
    assert "test/f1_macro_decided" in result and "test/f1_micro_over_boosting" in result


def test_evaluation_of_columns(run, folder, capsys):
    frame = pd.read_csv(folder / "columns.csv").head(50)
    frame.loc[4, "cheap"] = np.nan
    frame.to_csv(folder / "lacks.csv", index=False)
    arguments = ["evaluate", str(run), f"--dataset={folder / 'lacks.csv'}", "--json"]
    assert command(arguments) == 2
    assert "lacks.csv line 6: 'cheap' is empty; expected 1 or 0" in capsys.readouterr().err
    assert command([*arguments, "--drop_unlabelled"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["examples"] == 49
    frame.rename(columns={"cheap": "billig"}).to_csv(folder / "lacks.csv", index=False)
    names = "--label_column=family,late/night,billig"
    assert command([*arguments, names, "--drop_unlabelled"]) == 0
    assert command([*arguments, "--label_column=family,billig", "--drop_unlabelled"]) == 2
    assert "--label_column has 2 columns; expected one for each label of the model" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["keras", "litert", "onnx"])
def test_exports_answer_alike(folder, run, format):
    missing = [name for name in formats.FORMATS[format].made_by if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {missing}")
    out = formats.export(run, format, folder / f"as_{format}")
    example = [sys.executable, "-I", str(out / "example.py"), str(folder / "new.csv")]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": ""}
    done = subprocess.run(example, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "python example.py table.csv" in (out / "README.md").read_text()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    predictor = zoo.load(run)
    probabilities = predictor.probabilities(predictor.read(folder / "new.csv"))
    np.testing.assert_allclose([list(each["probabilities"].values()) for each in found], probabilities, atol=1e-5)
    clear = np.abs(probabilities - 0.5).min(axis=1) > 1e-4
    has = [[name in each["labels"] for name in NAMES] for each in found]
    np.testing.assert_array_equal(np.array(has)[clear], predictor.decide(probabilities)[clear])


def test_cross_validation(folder):
    """Every row is tested once, by a run that has not seen it."""
    config = config_of(
        folder, folds=3, steps=5, baseline=False, members=1, compile="none", weight_column="w", ignore_columns=""
    )
    result = zoo.run(build, config, folder / "folds")
    table = pd.read_csv(folder / "folds" / "predictions.csv")
    given = pd.read_csv(folder / "columns.csv")
    keys = ("family", "late|night", "cheap")
    y, probabilities = (table[[f"{what} {name}" for name in keys]].to_numpy() for what in ("true", "probability"))
    np.testing.assert_array_equal(y, given[list(NAMES)])
    assert table["label"].fillna("")[0] == "|".join(np.array(NAMES)[y[0] > 0])
    options = {"average": "micro", "sample_weight": given["w"]}
    assert result["pooled/f1_micro"] == pytest.approx(sklearn_metrics.f1_score(y, probabilities >= 0.5, **options))
    assert sorted(table["fold"].value_counts()) == [100, 100, 100]
    rates = [y[table["fold"] == fold].mean(axis=0) for fold in (1, 2, 3)]
    np.testing.assert_allclose(rates, np.tile(y.mean(axis=0), (3, 1)), atol=0.08)


def weights_of(workdir):
    return [value.tobytes() for value in zoo.load(workdir).model.get_weights()]


def test_the_same_bits_on_two_devices_and_after_a_stop(folder):
    """With dropout, members and weights."""
    config = config_of(
        folder, steps=12, eval_every=4, schedule="constant", warmup_fraction=0.0, weight_column="w", ignore_columns=""
    ).replace(exact=True, baseline=False, members=2)
    zoo.run(build, config, folder / "one")
    zoo.run(build, config.replace(cpu_devices=2), folder / "two")
    zoo.run(build, config.replace(steps=5), folder / "resumed")
    zoo.run(build, config, folder / "resumed")
    assert weights_of(folder / "one") == weights_of(folder / "two") == weights_of(folder / "resumed")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": ""}, "--dataset is empty"),
        ({"dataset": "digits"}, "has one class for each example"),
        ({"label_column": "family"}, "one column; expected several"),
        ({"threshold_for": "f2"}, "--threshold_for is 'f2'"),
        ({"label_column": "family,closes"}, "'closes' is '.*'; expected 1 or 0"),
        ({"weight_column": "closes2"}, "has no column 'closes2'"),
        ({"label_column": "family,w", "weight_column": "w", "ignore_columns": ""}, "'w' is"),
    ],
)
def test_mistakes(folder, options, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        zoo.run(build, config_of(folder, **options), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
