"""Calibration: against scikit-learn's logistic regression, searches of the plain formula, and finite differences."""

import json

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from zoo.errors import BadInput
from zoo.metrics import temperature_scaling
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.metrics.temperature_scaling import Calibration

FITS = [temperature_scaling.temperature, temperature_scaling.bias_corrected]


def drawn(seed, examples, classes, biases=0.0, spread=3.0):
    """Logits, and labels that softmax(logits + biases) gives."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(examples, classes)) * spread
    probabilities = scipy.special.softmax(logits + biases, axis=1)
    return logits, (probabilities.cumsum(axis=1) > draw.random((examples, 1))).argmax(axis=1)


def anything(seed, examples, classes, spread):
    """Logits and labels that have nothing to do with each other."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(examples, classes)) * spread, draw.integers(0, classes, examples)


def penalised(logits, labels, inverse, biases):
    """What is minimised, written from the text."""
    chosen = scipy.special.log_softmax(inverse * logits + biases, axis=1)[np.arange(len(labels)), labels]
    return -chosen.mean() + (inverse - 1 - np.log(inverse) + np.sum(np.square(biases)) / 2) / len(labels)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("factor", [0.2, 1.0, 2.5, 30.0])
def test_a_known_temperature_is_found(fit, factor):
    logits, labels = drawn(0, 5000, 5)
    found = fit(logits * factor, labels)
    assert found.temperature == pytest.approx(factor, rel=0.05)
    np.testing.assert_allclose(
        found.apply(logits * factor), scipy.special.softmax(logits, axis=1), atol=0.02 if fit is FITS[0] else 0.04
    )


def test_known_biases_are_found():
    biases = np.array([-1.0, 0.5, 0.0, 0.5])
    logits, labels = drawn(1, 20_000, 4, biases)
    found = temperature_scaling.bias_corrected(2 * logits, labels)
    assert found.temperature == pytest.approx(2, rel=0.03)
    np.testing.assert_allclose(found.biases, biases, atol=0.1)
    assert sum(found.biases) == pytest.approx(0, abs=1e-6)
    # Its mean prediction is the labels' shares, which a temperature alone does not reach.
    shares = np.bincount(labels) / len(labels)
    np.testing.assert_allclose(found.apply(2 * logits).mean(axis=0), shares, atol=1e-4)
    plain = temperature_scaling.temperature(2 * logits, labels)
    assert np.abs(plain.apply(2 * logits).mean(axis=0) - shares).max() > 0.02


@pytest.mark.parametrize(("examples", "spread"), [(1, 1.0), (7, 5.0), (50, 0.5), (300, 40.0)])
def test_the_temperature_is_that_of_a_search(examples, spread):
    logits, labels = anything(2, examples, 3, spread)
    logits[np.arange(examples), labels] += spread
    found = temperature_scaling.temperature(logits, labels)
    objective = lambda log: penalised(logits, labels, np.exp(log), 0.0)  # noqa: E731
    search = scipy.optimize.minimize_scalar(objective, bounds=(-6, 6), method="bounded", options={"xatol": 1e-10})
    assert -np.log(found.temperature) == pytest.approx(search.x, abs=1e-5)
    assert found.biases == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("examples", "spread"), [(5, 1.0), (60, 20.0)])
def test_biases_are_those_of_a_search(examples, spread):
    """By Nelder and Mead, who use no gradient."""
    logits, labels = anything(3, examples, 3, spread)
    found = temperature_scaling.bias_corrected(logits, labels)
    objective = lambda x: penalised(logits, labels, np.exp(x[0]), x[1:])  # noqa: E731
    start = np.array([-np.log(found.temperature) + 0.3, 0.1, -0.1, 0.2])
    options = {"xatol": 1e-8, "fatol": 1e-14, "maxiter": 5000, "maxfev": 5000}
    search = scipy.optimize.minimize(objective, start, method="Nelder-Mead", options=options)
    np.testing.assert_allclose([-np.log(found.temperature), *found.biases], search.x, atol=1e-4)


def test_two_classes_are_a_logistic_regression():
    """Of the difference of the logits (Platt scaling), whose slope is 1 / T and intercept the difference of biases."""
    logits, labels = drawn(4, 5000, 2, np.array([0.4, -0.4]))
    logits *= 3
    found = temperature_scaling.bias_corrected(logits, labels)
    difference = logits[:, 1:] - logits[:, :1]
    theirs = LogisticRegression(C=1e9, tol=1e-8).fit(difference, labels)
    np.testing.assert_allclose(found.apply(logits), theirs.predict_proba(difference), atol=2e-3)
    assert 1 / found.temperature == pytest.approx(theirs.coef_[0, 0], rel=2e-2)


@pytest.mark.parametrize("unit", [1.0, 7.0])
def test_gradient_is_that_of_finite_differences(unit):
    logits, labels = anything(5, 40, 4, 2.0)
    at = np.array([0.7 * unit, 0.3, -0.5, 0.1, 0.4])
    value, gradient = temperature_scaling._objective(at, logits / unit, labels, unit)
    assert value == pytest.approx(penalised(logits, labels, 0.7, at[1:]), rel=1e-12)
    objective = lambda x: temperature_scaling._objective(x, logits / unit, labels, unit)[0]  # noqa: E731
    np.testing.assert_allclose(gradient, scipy.optimize.approx_fprime(at, objective, 1e-7), atol=1e-6)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    examples=st.integers(1, 40),
    classes=st.integers(2, 5),
    spread=st.sampled_from([0.0, 1e-4, 1.0, 30.0, 1e4]),
    sharp=st.sampled_from([-1.0, 0.0, 1.0]),
)
def test_it_never_hurts(seed, examples, classes, spread, sharp):
    """To the last bit; also where every example is right, or every one wrong."""
    logits, labels = anything(seed, examples, classes, spread)
    logits[np.arange(examples), labels] += 10 * sharp * spread
    plain, corrected = (fit(logits, labels) for fit in FITS)
    losses = [
        temperature_scaling.log_loss(each.logits(logits), labels)
        for each in (temperature_scaling.identity(classes), plain, corrected)
    ]
    assert losses[0] >= losses[1] >= losses[2]
    assert 1e-3 <= plain.temperature <= 1e3
    assert np.isfinite([corrected.temperature, *corrected.biases]).all()
    for each in (plain, corrected):
        np.testing.assert_allclose(each.apply(logits).sum(axis=1), 1, rtol=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(4)))
def test_classes_have_no_order_and_logits_no_origin(seed, order):
    logits, labels = anything(seed, 30, 4, 2.0)
    place = np.argsort(order)
    moved = logits[:, order] + np.random.default_rng(seed).normal(size=(30, 1))
    for fit in FITS:
        one, other = fit(logits, labels), fit(moved, place[labels])
        assert other.temperature == pytest.approx(one.temperature, rel=1e-4)
        np.testing.assert_allclose(other.apply(moved), one.apply(logits)[:, order], atol=1e-5)


@pytest.mark.parametrize("fit", FITS)
def test_without_an_error_it_grows_surer_with_examples_and_never_certain(fit):
    surest = []
    for examples in (10, 100, 1000):
        labels = np.arange(examples) % 5
        surest.append(fit(4.0 * np.eye(5)[labels], labels).apply(4.0 * np.eye(5))[0, 0])
    plain = temperature_scaling.identity(5).apply(4.0 * np.eye(5))[0, 0]
    assert plain < surest[0] < surest[1] < surest[2]
    # As sure as so many examples permit: of the order of one error among them.
    for examples, sure in zip((10, 100, 1000), surest):
        assert 0.05 < examples * (1 - sure) < 2


def test_a_class_without_an_example_keeps_a_finite_bias():
    logits, labels = drawn(6, 2000, 4)
    found = temperature_scaling.bias_corrected(logits[labels != 2], labels[labels != 2])
    assert -15 < found.biases[2] < -2
    assert found.apply(logits).min() > 0


def test_the_identity_is_the_plain_softmax():
    logits = np.random.default_rng(7).normal(size=(100, 3)).astype(np.float32) * 10
    found = temperature_scaling.identity(3).apply(logits)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, class_probabilities(logits))
    assert temperature_scaling.identity(3).apply(logits[:0]).shape == (0, 3)
    # By hand: half the logits, and a bias that makes the first class three times as likely.
    by_hand = Calibration(2.0, (np.log(3), 0.0)).apply(np.array([[2.0, 2.0], [0.0, 2 * np.log(3)]]))
    np.testing.assert_allclose(by_hand, [[0.75, 0.25], [0.5, 0.5]])


def test_a_search_that_goes_astray_does_no_harm(monkeypatch):
    logits, labels = drawn(9, 200, 3, np.array([1.0, 0.0, -1.0]))
    good = temperature_scaling.temperature(logits, labels)
    astray = scipy.optimize.OptimizeResult(x=np.array([9.0, 5.0, 0.0, -5.0]))
    monkeypatch.setattr(scipy.optimize, "minimize", lambda *arguments, **options: astray)
    assert temperature_scaling.bias_corrected(logits, labels) == good != temperature_scaling.identity(3)
    monkeypatch.setattr(scipy.optimize, "brentq", lambda *arguments, **options: 50.0)
    assert temperature_scaling.temperature(logits, labels) == temperature_scaling.identity(3)


def test_one_logit_becomes_two():
    logits = np.array([[0.5], [-3.0]], np.float32)
    both = two_class_logits(logits)
    np.testing.assert_array_equal(both, np.array([[0, 0.5], [0, -3]], np.float32))
    np.testing.assert_array_equal(temperature_scaling.identity(2).apply(both), class_probabilities(logits))
    assert two_class_logits(both) is both


@pytest.mark.parametrize("fit", FITS)
def test_json(fit):
    found = fit(*drawn(8, 100, 3))
    again = Calibration.from_json(json.loads(json.dumps(found.as_json())))
    assert again == found


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {},
        {"temperature": 1.0},
        {"temperature": 0.0, "biases": [0.0, 0.0]},
        {"temperature": -1.0, "biases": [0.0, 0.0]},
        {"temperature": float("nan"), "biases": [0.0, 0.0]},
        {"temperature": True, "biases": [0.0, 0.0]},
        {"temperature": "1", "biases": [0.0, 0.0]},
        {"temperature": 1.0, "biases": [0.0]},
        {"temperature": 1.0, "biases": [0.0, float("inf")]},
        {"temperature": 1.0, "biases": 0.0},
    ],
)
def test_damaged_json_is_refused(damaged):
    with pytest.raises(BadInput, match=r"calibration: expected .*; calibrate again") as error:
        Calibration.from_json(damaged)
    assert "\n" not in str(error.value)


GOOD = {"logits": np.array([[0.2, 0.8], [0.6, 0.4]]), "labels": np.array([1, 0])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros(2)}, r"float64 \[2\]: expected numbers \[examples, classes\]"),
        ({"logits": np.zeros((2, 1))}, r"float64 \[2, 1\].*two_class_logits makes two logits of one"),
        ({"logits": np.array([["a", "b"]] * 2)}, "expected numbers"),
        ({"logits": np.array([[0.0, 1.0], [np.nan, 0.0]])}, "logits of example 1 are not finite"),
        ({"logits": np.array([[np.inf, 1.0], [0.0, 0.0]])}, "logits of example 0 are not finite"),
        ({"labels": np.array([0])}, r"int64 \[1\]: expected integers \[2\]"),
        ({"labels": np.array([0.0, 1.0])}, "float64.*expected integers"),
        ({"labels": np.array([0, 2])}, "labels from 0 to 2: expected 0 to 1"),
        ({"labels": np.array([-1, 0])}, "labels from -1 to 0: expected 0 to 1"),
        ({"logits": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "one or more"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    for function in (*FITS, temperature_scaling.log_loss):
        with pytest.raises(ValueError, match=message) as error:
            function(**GOOD | change)
        assert "\n" not in str(error.value)
        function(**GOOD)


def test_logits_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="logits of 3 classes: expected 2"):
        temperature_scaling.identity(2).apply(np.zeros((1, 3)))


def test_standard_error_is_the_spread_of_fits_and_a_curvature():
    draw = np.random.default_rng(0)
    fits, errors = [], []
    for _ in range(100):
        labels = draw.integers(0, 3, 150)
        logits = (2.5 * np.eye(3)[labels] + draw.normal(size=(150, 3)) * 1.2).astype(np.float64)
        fits.append(temperature_scaling.temperature(logits, labels).temperature)
        errors.append(temperature_scaling.standard_error(logits, fits[-1]))
    assert np.mean(errors) == pytest.approx(np.std(np.log(fits)), rel=0.25)

    at, step = -np.log(fits[-1]), 1e-3
    around = [len(labels) * penalised(logits, labels, np.exp(at + each), np.zeros(3)) for each in (step, 0, -step)]
    curvature = (around[0] - 2 * around[1] + around[2]) / step**2
    assert errors[-1] == pytest.approx(1 / np.sqrt(curvature), rel=1e-3)
