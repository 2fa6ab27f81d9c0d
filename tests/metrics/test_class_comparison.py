"""A classifier beside logistic regression and gradient boosting: scikit-learn's own answers, leads, odd tables."""

import dataclasses

import numpy as np
import pytest
import threadpoolctl
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zoo.data.datasets.column_schema import CATEGORY, NUMBER, Column, TableSchema
from zoo.data.splits import Splits
from zoo.metrics import boosting, linear_baselines
from zoo.metrics.class_comparison import ClassComparison


@pytest.fixture(autouse=True)
def one_thread():
    """More threads spin where cores are shared."""
    with threadpoolctl.threadpool_limits(1):
        yield


def table(train=240, classes=3, weighted=False, seed=0, columns=4) -> Splits:
    """Classes by steps of the first two columns."""
    draw = np.random.default_rng(seed)
    parts = []
    for rows in (train, 60, 90):
        x = draw.normal(size=(rows, columns)).astype(np.float32)
        y = (x[:, 0] > 0).astype(np.int32) + (x[:, 1] > 0.4) * (classes > 2)
        part = {"x": x, "y": y.astype(np.int32)}
        parts.append(part | ({"weight": draw.uniform(0.1, 3, rows).astype(np.float32)} if weighted else {}))
    return Splits(*parts, tuple("abc"[:classes]))


def boosted(data, x_of=lambda part: part["x"], **options):
    """What scikit-learn answers, fitted to the training and the validation split."""
    parts = data.train, data.validation
    weights = [part.get("weight", np.ones(len(part["y"]))) for part in parts]
    model = HistGradientBoostingClassifier(random_state=0, **options)
    x, y = (np.concatenate(each) for each in ([x_of(part) for part in parts], [part["y"] for part in parts]))
    return model.fit(x, y, sample_weight=np.concatenate(weights)).predict(x_of(data.test))


def compared(data, logits):
    comparison = ClassComparison(data, lambda *arguments: {}, data)
    comparison.compute_metrics({}, {"logits": logits}, {}, True)
    return comparison, comparison.metrics()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_both_are_scikit_learns(classes, weighted):
    data = table(classes=classes, weighted=weighted)
    weights, true = data.test.get("weight"), data.test["y"]
    own = np.random.default_rng(1).normal(size=(90, classes))
    _, result = compared(data, own)
    answers = {"boosting": boosted(data), "baseline": linear(data)}
    for name, predicted in answers.items():
        expected = accuracy_score(true, predicted, sample_weight=weights)
        assert result[f"test/{name}_accuracy"] == pytest.approx(expected)
        lead = accuracy_score(true, own.argmax(axis=1), sample_weight=weights) - expected
        assert result[f"test/accuracy_over_{name}"] == pytest.approx(lead)
        assert result[f"test/accuracy_over_{name}_low"] < lead < result[f"test/accuracy_over_{name}_high"]
    assert result["test/boosting_accuracy"] > 0.9


def linear(data):
    """Logistic regression of the better strength on the validation split, with the examples' weights."""
    models = []
    for strength in linear_baselines._STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
        options = {"logisticregression__sample_weight": data.train.get("weight")}
        models.append(model.fit(data.train["x"], data.train["y"], **options))
    validation = data.validation
    scores = [model.score(validation["x"], validation["y"], validation.get("weight")) for model in models]
    return models[int(np.argmax(scores))].predict(data.test["x"])


def test_an_interval_of_weights_is_that_of_resamples():
    data = table(weighted=True)
    own = np.eye(3)[np.random.default_rng(1).integers(0, 3, 90)]
    _, result = compared(data, own)
    draw, weights, true = np.random.default_rng(5), data.test["weight"].astype(np.float64), data.test["y"]
    gain = (own.argmax(axis=1) == true).astype(float) - (boosted(data) == true)
    rows = draw.integers(0, 90, size=(4000, 90))
    leads = (gain * weights)[rows].sum(axis=1) / weights[rows].sum(axis=1)
    ends = [result[f"test/accuracy_over_boosting_{end}"] for end in ("low", "high")]
    np.testing.assert_allclose(ends, np.quantile(leads, (0.025, 0.975)), atol=0.03)


def test_lines_say_both():
    data = table()
    comparison, result = compared(data, np.eye(3)[data.test["y"]])
    lines = comparison.conclusion(result | {"test/accuracy": 1.0})
    assert (
        lines[0].startswith("test accuracy: 100.0 %; logistic regression: ") and "points (95 % interval +" in lines[0]
    )
    assert f"gradient boosting: {100 * result['test/boosting_accuracy']:.1f} %; lead +" in lines[1]


def test_categories_and_missing_values():
    """Codes of a category, -1 where it was not seen in training, and NaN."""
    data, draw = table(), np.random.default_rng(3)
    for part in (data.train, data.validation, data.test):
        codes = draw.integers(0, 5, len(part["y"])).astype(np.float32)
        part["x"][:, 2], part["y"][:] = codes, np.isin(codes, (1, 4))
        part["x"][::7, 0] = np.nan
    data.test["x"][:5, 2] = -1.0
    levels = {"c": tuple("uvwxy")}
    columns = [Column(name, CATEGORY if name in levels else NUMBER, levels.get(name, ())) for name in "abcd"]
    schema = TableSchema(tuple(columns))
    data = dataclasses.replace(data, schema=schema, classes=("no", "yes"))
    unseen_is_missing = lambda part: np.where((np.arange(4) == 2) & (part["x"] == -1), np.nan, part["x"])  # noqa: E731
    expected = boosted(data, unseen_is_missing, categorical_features=[False, False, True, False])
    np.testing.assert_array_equal(boosting.classes(data), expected)
    assert np.mean(expected[5:] == data.test["y"][5:]) == 1.0


def test_one_class_in_training_is_the_answer():
    data = table()
    for part in (data.train, data.validation):
        part["y"][:] = 2
    assert boosting.classes(data).tolist() == linear_baselines.linear_predictions(data).tolist() == [2] * 90


def test_a_class_of_one_example_in_a_large_table():
    """Early stopping, which is on from 10,001 examples, cannot split it."""
    data = table(10_200, classes=2)
    data.train["y"][0] = 2
    data = dataclasses.replace(data, classes=("a", "b", "c"))
    assert np.mean(boosting.classes(data) == data.test["y"]) > 0.95


def test_a_fit_that_would_take_long_is_left_out():
    data = table(columns=4)
    assert boosting.too_long(data, 3) == ""
    data = dataclasses.replace(data, classes=tuple("abcdefghij"))
    wide = dataclasses.replace(data, train={"x": np.zeros((1000, 1000), np.float32)})
    said = boosting.too_long(wide, 10)
    assert "gradient boosting is left out: about 87 seconds for 1,000,000 numbers and 10 classes" in said
    comparison = ClassComparison(data, lambda *arguments: {}, wide)
    result = comparison.metrics()
    assert "test/boosting_accuracy" not in result and "test/baseline_accuracy" in result
    assert comparison.conclusion(result) == [said]
