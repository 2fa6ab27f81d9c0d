"""Values to predict from a table: the run, its baselines, predictions, exports, mistakes."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

import zoo
from experiments import mlp_regressor
from experiments.mlp_regressor import RegressorConfig, build
from zoo.cli.main import main as command
from zoo.errors import BadInput
from zoo.export import formats
from zoo.metrics import value_baselines
from zoo.training import table_data

RNG = np.random.default_rng(3)
ROWS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prices of flats, with a category, missing values and a weight."""
    folder = tmp_path_factory.mktemp("values")
    table = pd.DataFrame(
        {
            "size": RNG.normal(80, 20, ROWS).round(1),
            "city": RNG.choice(["Paris", "Rome"], ROWS),
            "w": RNG.uniform(0, 2, ROWS),
        }
    )
    price = 3000.0 * table["size"] + 90_000 * (table["city"] == "Paris") + RNG.normal(0, 9000, ROWS)
    table["price"] = price.round(2)
    table.loc[RNG.random(ROWS) < 0.1, "size"] = None
    table.to_csv(folder / "flats.csv", index=False)
    table.to_parquet(folder / "flats.parquet")
    table.drop(columns=["price", "w"]).to_csv(folder / "new.csv", index=False)
    return folder


def config_of(folder, **options):
    options = {"dataset": str(folder / "flats.csv"), "label_column": "price", "ignore_columns": "w"} | options
    return RegressorConfig(**{"epochs": 0, "steps": 200, "compile": "none", "graph": False, **options})


@pytest.fixture(scope="module")
def run(folder):
    zoo.run(build, config_of(folder), folder / "run")
    return folder / "run"


def result_of(workdir):
    return json.loads((workdir / "result.json").read_text())


def test_scores_are_scikit_learns(run, folder):
    result, data = result_of(run), table_data.load(config_of(folder), values=True)
    predicted, true = zoo.load(run).values(data.test["x"]), data.test["y"]
    assert result["test/rmse"] == pytest.approx(root_mean_squared_error(true, predicted), rel=1e-4)
    assert result["test/mae"] == pytest.approx(mean_absolute_error(true, predicted), rel=1e-4)
    assert result["test/r2"] == pytest.approx(r2_score(true, predicted), rel=1e-4)
    assert result["test/r2"] > 0.7 and result["test/rmse_low"] < result["test/rmse"] < result["test/rmse_high"]


def test_baselines_are_scikit_learns(run, folder):
    result, data = result_of(run), table_data.load(config_of(folder), values=True)
    linear = table_data.linear(data)
    errors = [
        root_mean_squared_error(
            linear.validation["y"],
            Ridge(alpha=a).fit(linear.train["x"], linear.train["y"]).predict(linear.validation["x"]),
        )
        for a in value_baselines._STRENGTHS
    ]
    ridge = Ridge(alpha=value_baselines._STRENGTHS[int(np.argmin(errors))]).fit(linear.train["x"], linear.train["y"])
    expected = root_mean_squared_error(data.test["y"], ridge.predict(linear.test["x"]))
    assert result["test/baseline_rmse"] == pytest.approx(expected, rel=1e-5)
    boosting = HistGradientBoostingRegressor(categorical_features=[False, True], random_state=0)
    boosting.fit(*(np.concatenate([data.train[name], data.validation[name]]) for name in ("x", "y")))
    expected = root_mean_squared_error(data.test["y"], boosting.predict(data.test["x"]))
    assert result["test/boosting_rmse"] == pytest.approx(expected, rel=1e-5)
    lead = result["test/baseline_rmse"] - result["test/rmse"]
    assert result["test/rmse_below_baseline"] == pytest.approx(lead, rel=1e-3, abs=1.0)


def test_the_network_begins_at_ridge_regression(folder):
    """Its first evaluation is that of the linear model, so that a table with no more to give loses nothing."""
    data = table_data.load(config_of(folder), values=True)
    encoding = table_data.encoding(data, 8)
    unit = mlp_regressor.unit(data.train["y"])
    kernel, bias = value_baselines.ridge_weights(table_data.encoded(data, encoding), *unit)
    model, _ = mlp_regressor._network(config_of(folder), data, unit)
    units = np.asarray(encoding(data.test["x"]))[:, : encoding.linear_units]
    np.testing.assert_allclose(model.predict(data.test["x"], verbose=0), units @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize("loss", mlp_regressor.LOSSES)
def test_losses(loss):
    errors = np.array([-3.0, -0.5, 0.0, 0.25, 2.0], np.float32)
    expected = {
        "mse": errors**2 / 2,
        "mae": np.abs(errors),
        "huber": np.where(np.abs(errors) <= 1, errors**2 / 2, np.abs(errors) - 0.5),
    }
    np.testing.assert_allclose(mlp_regressor._losses(errors, loss), expected[loss])


@pytest.mark.parametrize("loss", mlp_regressor.LOSSES)
def test_the_same_run_in_parts(folder, loss):
    """With weights and dropout."""
    config = config_of(folder, steps=12, loss=loss, weight_column="w", ignore_columns="", batch_size=64, baseline=False)
    one = zoo.run(build, config, folder / f"{loss}_one")
    parts = zoo.run(build, config.replace(accumulate=4), folder / f"{loss}_parts")
    assert parts["test/loss"] == pytest.approx(one["test/loss"], rel=1e-4)


def test_the_command_line(run, folder, capsys):
    assert command(["evaluate", str(run), "--json"]) == 0
    found, result = json.loads(capsys.readouterr().out.splitlines()[-1]), result_of(run)
    assert found["examples"] == 40 and found["rmse"] == pytest.approx(result["test/rmse"], rel=1e-4)
    assert command(["evaluate", str(run), f"--dataset={folder / 'flats.parquet'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["examples"] == 40
    assert command(["predict", str(run), str(folder / "new.csv"), "--json"]) == 0
    values = [json.loads(line)["value"] for line in capsys.readouterr().out.splitlines()]
    predictor = zoo.load(run)
    np.testing.assert_allclose(values, predictor.values(predictor.read(folder / "new.csv")), rtol=1e-6)


def test_intervals_hold(run, folder, capsys):
    """On examples like the training file's."""
    draw = np.random.default_rng(9)
    size, city = draw.normal(80, 20, 2000).round(1), draw.choice(["Paris", "Rome"], 2000)
    true = 3000.0 * size + 90_000 * (city == "Paris") + draw.normal(0, 9000, 2000)
    pd.DataFrame({"size": size, "city": city}).to_csv(folder / "many.csv", index=False)
    assert command(["predict", str(run), str(folder / "many.csv"), "--json", "--interval=0.8"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    low, value, high = (np.array([each[name] for each in found]) for name in ("low", "value", "high"))
    np.testing.assert_allclose(high - value, value - low, rtol=1e-6)
    # Of 40 validation examples; missing sizes, which the new file has none of, make them wider.
    assert 0.7 < np.mean((low <= true) & (true <= high)) < 1.0
    out = folder / "values.csv"
    assert command(["predict", str(run), str(folder / "many.csv"), f"--out={out}", "--interval=0.8"]) == 0
    np.testing.assert_allclose(pd.read_csv(out)[["prediction", "low", "high"]], np.stack([value, low, high], axis=1))
    assert command(["predict", str(run), "--text=a"]) == 2 and "for runs on texts" in capsys.readouterr().err
    assert command(["predict", str(run), str(folder / "new.csv"), "--interval=0.99"]) == 2
    assert "needs 99 validation examples or more, and the run has" in capsys.readouterr().err
    assert command(["predict", str(run), str(folder / "new.csv"), "--interval=9"]) == 2


def test_an_export_predicts_the_value(run, folder):
    out = formats.export(run, "keras", folder / "as_keras")
    example = [sys.executable, "-I", str(out / "example.py"), str(folder / "new.csv")]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": ""}
    done = subprocess.run(example, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    predictor = zoo.load(run)
    expected = predictor.values(predictor.read(folder / "new.csv"))
    np.testing.assert_allclose([json.loads(line)["value"] for line in done.stdout.splitlines()], expected, rtol=1e-4)


def test_a_npz_has_values_too(tmp_path):
    x = RNG.normal(size=(80, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=x[:, 0] * 2)
    result = zoo.run(
        build, RegressorConfig(dataset=str(tmp_path / "d.npz"), steps=20, epochs=0, compile="none"), tmp_path / "run"
    )
    assert result["test/r2"] > 0.9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": "digits"}, "has classes: expected values to predict"),
        ({"label_column": "city"}, "flats.csv line 2, column 'city': '"),
        ({"label_column": "prize"}, "has no column 'prize'.*did you mean price"),
        ({"loss": "l1"}, "--loss is 'l1'"),
    ],
)
def test_mistakes(folder, options, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        zoo.run(build, config_of(folder, **options), tmp_path / "run")


def test_values_that_are_missing(folder, tmp_path):
    text = (folder / "flats.csv").read_text().splitlines()
    text[5] = text[5].rpartition(",")[0] + ","
    (tmp_path / "t.csv").write_text("\n".join(text))
    config = config_of(folder, dataset=str(tmp_path / "t.csv"))
    with pytest.raises(BadInput, match=re.escape("t.csv line 6: 'price' is empty")):
        table_data.load(config, values=True)
    data = table_data.load(config.replace(drop_unlabelled=True), values=True)
    assert any("left out 1 examples without a label" in note for note in data.notes)
