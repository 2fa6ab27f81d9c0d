"""Columns of a table in other units: found beside label shift, scaled back, and left alone where nothing drifted."""

import types

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

import zoo
from experiments.mlp_classifier import MlpConfig, build
from zoo.adaptation import plans
from zoo.adaptation.refiner import refine
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages import columns
from zoo.adaptation.stages.columns import Columns
from zoo.adaptation.stages.output import Prior
from zoo.data.datasets.column_schema import UNSEEN
from zoo.errors import BadInput
from zoo.predict.evaluation import held_out
from zoo.predict.evaluation.held_out import HeldOut

CLASSES, WIDTH = 3, 8
MEANS = np.random.default_rng(1).normal(size=(CLASSES, WIDTH)) * 1.5
SHARES = np.array([0.3, 0.3, 0.4])
# Column, what it is multiplied by and what is added.
DRIFT = ((2, 2.0, 3.0), (5, 0.5, -1.0))


def drawn(seed, shares, size):
    draw = np.random.default_rng(seed)
    labels = draw.choice(CLASSES, size, p=shares).astype(np.int32)
    return (MEANS[labels] + draw.normal(size=(size, WIDTH))).astype(np.float32), labels


def drifted(x):
    x = x.copy()
    for column, scale, offset in DRIFT:
        x[:, column] = scale * x[:, column] + offset
    return x


def likelihood(x):
    """Logits of the classes by the densities that the examples are drawn from."""
    return -(((x[:, None] - MEANS) ** 2).sum(axis=2)) / 2


def begun(examples, labels, categories=(0,) * WIDTH):
    table = types.SimpleNamespace(categories=categories)
    predictor = types.SimpleNamespace(
        reads_text=False, shape=(WIDTH,), dtype=np.dtype("float32"), classes=tuple("abc"), columns=table
    )
    stage = Columns()
    stage.begin(predictor, HeldOut(examples, labels, likelihood(examples)))
    return stage


def proposed(stage, x):
    return stage.propose(StreamContext(x, x, likelihood(x), likelihood, False))


@pytest.fixture(scope="module")
def stage():
    return begun(*drawn(0, SHARES, 400))


@pytest.fixture(autouse=True)
def fresh(stage):
    stage.load(None)


@pytest.mark.parametrize("shares", [SHARES, (0.8, 0.1, 0.1), (1.0, 0.0, 0.0)])
def test_units_are_undone_under_label_shift(stage, shares):
    x, labels = drawn(3, shares, 300)
    assert proposed(stage, drifted(x)) == ""
    scale, offset = map(np.array, stage.state())
    changed = [column for column, *_ in DRIFT]
    others = np.setdiff1d(np.arange(WIDTH), changed)
    np.testing.assert_array_equal(scale[others], 1)
    np.testing.assert_array_equal(offset[others], 0)
    np.testing.assert_allclose(scale[changed], [each[1] for each in DRIFT], rtol=0.2)
    np.testing.assert_allclose(offset[changed], [each[2] for each in DRIFT], atol=0.45)
    restored = stage.logits(drifted(x), likelihood)
    far, near = (np.abs(logits - likelihood(x)).mean() for logits in (likelihood(drifted(x)), restored))
    assert near < far / 4
    assert abs(np.mean(restored.argmax(axis=1) == labels) - np.mean(likelihood(x).argmax(axis=1) == labels)) < 0.03
    # What the stage computes: its inverse, applied before the model.
    np.testing.assert_allclose(restored, likelihood(((drifted(x) - offset) / scale).astype(np.float32)), rtol=1e-5)


def test_class_proportions_alone_are_no_drift(stage):
    draw = np.random.default_rng(5)
    reasons = {proposed(stage, drawn(seed, draw.dirichlet([0.3] * 3), 200)[0]) for seed in range(100, 140)}
    assert reasons == {"no column has drifted"}
    x = drawn(7, SHARES, 20)[0]
    assert proposed(stage, np.repeat(x, 20, axis=0)).startswith("20 different examples are too few")
    # Before a drift, the very examples are answered.
    assert stage.logits(x, lambda examples: examples is x)


def test_a_drift_that_has_ended_is_not_undone(stage):
    x, _ = drawn(3, SHARES, 400)
    recent = np.concatenate([drifted(x[:300]), x[300:]])
    context = StreamContext(recent[300:], recent, likelihood(recent), likelihood, False)
    assert stage.propose(context) == "the last examples have not drifted" and stage.drifted
    assert stage.state() is None
    # In the other order it has just begun.
    recent = np.concatenate([x[:100], drifted(x[100:])])
    assert stage.propose(context._replace(batch=recent[300:], recent=recent)) == ""


def test_a_stuck_sensor_is_moved_to_the_mean(stage):
    x, labels = drawn(4, SHARES, 300)
    stuck = x.copy()
    stuck[:, 2] = 40.0
    assert proposed(stage, stuck) == "" and stage.drifted
    seen = stage.logits(stuck, np.asarray)
    # Of validation, mixed by the class proportions of the stream.
    np.testing.assert_allclose(seen[:, 2], MEANS[:, 2] @ SHARES, atol=0.2)
    np.testing.assert_array_equal(np.delete(seen, 2, axis=1), np.delete(x, 2, axis=1))
    right = [np.mean(likelihood(each).argmax(axis=1) == labels) for each in (x, stuck, seen)]
    assert right[1] < 0.6 and right[2] > right[0] - 0.1


def test_missing_values_and_unknown_categories_are_said_and_left():
    x, labels = drawn(0, SHARES, 600)
    x[:, 7] = np.arange(600) % 12
    stage = begun(x, labels, categories=(0,) * 7 + (12,))
    stream = drawn(9, SHARES, 300)[0]
    stream[:, 7] = 3.0
    assert proposed(stage, stream) == "no column has drifted" and not stage.drifted
    # As unknown as one example in three hundred may be by chance.
    stream[0, 7], stream[1, 2] = UNSEEN, np.nan
    assert proposed(stage, stream) == "no column has drifted" and not stage.drifted
    for column, unknown in ((7, UNSEEN), (2, np.nan)):
        other = stream.copy()
        other[::2, column] = unknown
        assert proposed(stage, other) == "values or categories are missing" and stage.drifted
        np.testing.assert_array_equal(stage.logits(other, np.asarray), other)
    stream[:] = np.nan
    assert "too few, expected 32 with values" in proposed(stage, stream)


def test_drifted_columns_are_not_taken_for_label_shift(stage):
    """A unit that makes one class likely: the correction for label shift would make it certain."""
    examples, labels = drawn(0, SHARES, 400)
    prior, columns_of = Prior(), begun(examples, labels)
    # Logits are given as examples here: the columns are seen by the other stage alone.
    prior.begin(None, HeldOut(examples, labels, likelihood(examples)))
    x, _ = drawn(3, (0.05, 0.05, 0.9), 300)

    def corrected(inputs):
        context = StreamContext(inputs, inputs, likelihood(inputs), likelihood, False)
        columns_of.propose(context)
        return prior.propose(context._replace(drifted=columns_of.drifted))

    assert corrected(x) == "" and prior.proved is not None
    moved = x.copy()
    moved[:, 5] += 1.5
    assert corrected(moved).startswith("columns have drifted") and prior.proved is None
    np.testing.assert_array_equal(prior.logits(moved, likelihood), likelihood(moved))


def test_missing_values_and_categories_stay(stage):
    x, labels = drawn(0, SHARES, 2000)
    x[:, 7] = np.arange(2000) % 12
    x[::10, 1] = np.nan
    with_codes = begun(x, labels, categories=(0,) * 7 + (12,))
    stream = drifted(drawn(9, SHARES, 900)[0])
    stream[:, 7], stream[::7, 2], stream[:, 1] = 3.0, np.nan, np.nan
    assert proposed(with_codes, stream) == ""
    scale, offset = map(np.array, with_codes.state())
    assert scale[7] == scale[1] == 1 and offset[7] == offset[1] == 0 and scale[2] == pytest.approx(2, rel=0.2)
    seen = with_codes.logits(stream, np.asarray)
    np.testing.assert_array_equal(np.isnan(seen), np.isnan(stream))
    np.testing.assert_array_equal(seen[:, 7], stream[:, 7])


def test_weighted_quantiles_are_those_of_repeated_values():
    values = np.random.default_rng(0).normal(size=200)
    counts = np.random.default_rng(1).integers(1, 4, 200)
    expected = np.quantile(np.repeat(values, counts), columns._QUANTILES)
    np.testing.assert_allclose(columns._weighted_quantiles(values, counts / 7.0), expected, atol=0.05)
    missing = columns._weighted_quantiles(np.r_[values, np.nan], np.r_[counts / 7.0, 9.0])
    np.testing.assert_allclose(missing, expected, atol=0.05)


def test_what_it_cannot_be_fitted_to(stage):
    x, labels = drawn(0, SHARES, 400)
    with pytest.raises(BadInput, match="the validation split has 0 examples of 'c'"):
        begun(x[labels < 2], labels[labels < 2])
    predictor = types.SimpleNamespace(reads_text=True)
    other = Columns(optional=True)
    other.begin(predictor, HeldOut(["text"], labels[:1], np.zeros((1, 3))))
    assert "no numbers of a table" in other.propose(StreamContext(["text"], ["text"], None, str, False))
    assert other.logits("text", str) == "text" and other.state() is None


def test_a_run_on_a_table(tmp_path):
    data = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = data.data.astype(np.float32)[order], data.target[order]
    np.savez(tmp_path / "table.npz", x=x[:350], y=y[:350], x_test=x[350:], y_test=y[350:])
    config = MlpConfig(dataset=str(tmp_path / "table.npz"), recipe="plain", epochs=15, baseline=False, graph=False)
    zoo.run(build, config, tmp_path / "run")
    predictor = zoo.load(tmp_path / "run")
    validation = held_out.load(tmp_path / "run", predictor)
    # Millimetres instead of centimetres, and a sensor that reads too much.
    moved = x[350:].copy()
    moved[:, [0, 20]] *= 2
    moved[:, 7] += 2 * x[:, 7].std()

    def answered(examples):
        stages = plans.stages(["input", "output"], predictor, tmp_path / "run")
        assert [stage.name for stage in stages if stage.target == "input"] == ["columns"]
        refined = refine(predictor, np.array_split(examples, 3), stages, validation)
        kept = [line.accepted for line in refined.trace if line.stage == "columns"]
        return np.mean(refined.probabilities.argmax(axis=1) == y[350:]), kept

    plain, on_moved = (np.mean(predictor.logits(each).argmax(axis=1) == y[350:]) for each in (x[350:], moved))
    assert answered(x[350:]) == (pytest.approx(plain, abs=0.01), [False] * 3)
    accuracy, kept = answered(moved)
    assert any(kept) and accuracy > on_moved + 0.02
