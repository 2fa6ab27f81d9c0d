"""The network for tables: its encoding, its members, and what the recipe fills in."""

import contextlib
import itertools

import keras
import numpy as np
import pytest

import zoo
from experiments import mlp_classifier
from experiments.mlp_classifier import MlpConfig
from zoo.errors import BadInput
from zoo.metrics import linear_baselines
from zoo.models import keras_only, tabular

RNG = np.random.default_rng(0)
X = np.c_[RNG.lognormal(0, 2, 300), RNG.integers(0, 3, 300), RNG.integers(0, 2, 300), np.ones(300)].astype(np.float32)


def test_an_encoding_is_piecewise_linear_between_quantiles():
    layer = tabular.quantile_encoding(X, 4)
    # Four pieces of the first column, two of the one with three values, none of the binary and the constant one.
    assert layer.columns == [0, 0, 0, 0, 1, 1]
    encoded = layer(X).numpy()
    np.testing.assert_allclose(encoded[:, 4:].mean(axis=0), 0, atol=1e-6)
    quartiles = np.quantile(X[:, 0], [0, 0.25, 0.5, 0.75, 1])
    expected = [np.interp(X[:, 0], pair, [0, 1]) for pair in itertools.pairwise(quartiles)]
    np.testing.assert_allclose(encoded[:, 4:8] + np.array(layer.arrays["mean"][:4]), np.stack(expected, 1), atol=1e-5)


def test_values_far_away_are_squeezed_and_stay_finite():
    layer = tabular.quantile_encoding(X, 4)
    far = np.array([[1e38, -1e38, 3e38, 0.0]], np.float32)
    encoded = layer(far).numpy()
    assert np.isfinite(encoded).all() and np.abs(encoded).max() <= 3.0001
    with policy("mixed_bfloat16"):
        years = np.arange(1990, 2021, dtype=np.float32)[:, None]
        found = tabular.quantile_encoding(years, 0)(years).numpy()
        assert found.dtype == np.float32 and len(np.unique(found)) == 31


@contextlib.contextmanager
def policy(name):
    """A Keras policy for a while."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def test_the_answer_is_the_mean_of_the_members(tmp_path):
    keras.utils.set_random_seed(0)
    model = tabular.ensemble(
        tabular.quantile_encoding(X, 4), X.shape[1], 3, (5, 4), members=6, dropout=0.2, norm="layer"
    )
    for weight in model.trainable_weights:
        weight.assign(RNG.normal(size=weight.shape))
    members, logits = tabular.member_logits(model)(X).numpy(), model(X).numpy()
    assert members.shape == (300, 6, 3) and members.std(axis=1).min() > 0
    np.testing.assert_allclose(members.mean(axis=1), logits, atol=1e-5)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(X).numpy(), logits)
    np.testing.assert_allclose(keras_only.plain(model)(X).numpy(), logits, rtol=1e-5, atol=1e-4)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    x = RNG.normal(size=(60, 2)).round(4)
    rows = [f"{a},{b},{'yes' if a > 0 else 'no'}" for a, b in x]
    path.write_text("\n".join(["a,b,label", *rows]) + "\n")
    return path


def test_what_is_set_stays_and_the_recipe_fills_the_rest(table):
    chosen = mlp_classifier.build(MlpConfig(dataset=str(table), dropout=0.5, steps=7)).config
    assert (chosen.recipe, chosen.dropout, chosen.steps, chosen.epochs) == ("table", 0.5, 7, 0.0)
    assert None not in {chosen.optimizer, chosen.learning_rate, chosen.batch_size, chosen.hidden, chosen.baseline}
    plain = mlp_classifier.build(MlpConfig(dataset=str(table), recipe="plain"))
    assert [tuple(weight.shape) for weight in plain.model.weights] == [(2, 64), (64,), (64, 64), (64,), (64, 2), (2,)]
    assert (plain.config.epochs, plain.config.optimizer, plain.config.learning_rate) == (30.0, "adam", 1e-3)
    images = mlp_classifier.build(MlpConfig(dataset="digits"))
    assert images.config.recipe == "plain" and not images.config.baseline and images.baseline is None
    with pytest.raises(BadInput, match="--recipe=table is for float columns"):
        mlp_classifier.build(MlpConfig(dataset="digits", recipe="table"))
    with pytest.raises(BadInput, match="--bins is 4: it is for tables"):
        mlp_classifier.build(MlpConfig(dataset="digits", bins=4))


def test_a_table_is_trained_and_compared(table, tmp_path):
    small = {"members": 2, "hidden": (4,), "eval_every": 20, "graph": False, "show": "none", "compile": "loop"}
    # A schedule with an end may not become longer.
    config = MlpConfig(dataset=str(table), steps=40, schedule="constant", warmup_fraction=0.0, **small)
    result = zoo.run(mlp_classifier.build, config, tmp_path / "run")
    assert result["test/accuracy_over_baseline"] == pytest.approx(
        result["test/accuracy"] - result["test/baseline_accuracy"]
    )
    low, high = (result[f"test/accuracy_over_baseline_{end}"] for end in ("low", "high"))
    assert low < result["test/accuracy_over_baseline"] < high
    again = zoo.run(mlp_classifier.build, config.replace(steps=41), tmp_path / "run")
    assert again["step"] == 41


def test_the_lead_over_a_baseline_has_an_interval():
    one, other = np.array([True] * 90 + [False] * 10), np.array([True] * 80 + [False] * 15 + [True] * 5)
    lead, low, high = linear_baselines.accuracy_lead(one, other)
    assert (
        lead == pytest.approx(0.05)
        and low == pytest.approx(-0.0273, abs=1e-3)
        and high == pytest.approx(0.1253, abs=1e-3)
    )
    assert linear_baselines.accuracy_lead(one, one)[1:] == pytest.approx((-0.0192, 0.0192), abs=1e-3)
