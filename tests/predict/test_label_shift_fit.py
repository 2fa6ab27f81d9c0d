"""The test of label shift on Gaussian classes: its level, its power against other shifts, and its standard errors."""

import numpy as np
import pytest

from zoo.predict.calibration.label_shift_fit import LabelShiftFit

MEANS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
SOURCE = np.array([0.4, 0.4, 0.2])
TARGET = np.array([0.7, 0.1, 0.2])


def gaussians(draw, examples, shares):
    """Features `[examples, 5]`: both coordinates and three probabilities; the probabilities; the labels."""
    labels = draw.choice(3, examples, p=shares)
    return *seen(MEANS[labels] + draw.normal(size=(examples, 2))), labels


def seen(x):
    joint = SOURCE * np.exp(-((x[:, None] - MEANS) ** 2).sum(axis=2) / 2)
    probabilities = joint / joint.sum(axis=1, keepdims=True)
    return np.concatenate([x, probabilities[:, :2], probabilities.max(axis=1)[:, None]], axis=1), probabilities


def fitted(seed, change=lambda x: x, validation=400, examples=400, shares=TARGET):
    draw = np.random.default_rng(seed)
    features, probabilities, labels = gaussians(draw, validation, SOURCE)
    fit = LabelShiftFit(features, labels, probabilities)
    stream = seen(change(gaussians(draw, examples, shares)[0][:, :2]))[0]
    return fit.fit(fit.standardized(stream).mean(axis=0), examples)


def test_under_label_shift_shares_are_found_and_p_values_are_even():
    fits = [fitted(seed) for seed in range(100)]
    np.testing.assert_allclose(np.mean([fit.shares for fit in fits], axis=0), TARGET, atol=0.02)
    p_values = np.array([fit.p_value for fit in fits])
    # 100 draws of a test at its level: at most 13 below 0.05 and 34 below 0.2 with probability 0.999.
    assert (p_values < 0.05).sum() <= 13 and (p_values < 0.2).sum() <= 34 and (p_values < 0.5).sum() >= 30
    assert np.quantile([fit.explained for fit in fits], 0.05) > 0.9
    # Standard errors are those of the draws.
    spread = np.std([fit.shares for fit in fits], axis=0)
    np.testing.assert_allclose(np.mean([fit.errors for fit in fits], axis=0), spread, rtol=0.25)


@pytest.mark.parametrize(
    "change", [lambda x: 0.6 * x, lambda x: x + 1.0, lambda x: x * [1.0, 0.0]], ids=["shrunk", "moved", "lost"]
)
def test_other_shifts_are_not_explained(change):
    fits = [fitted(seed, change, shares=SOURCE) for seed in range(10)]
    assert max(fit.p_value for fit in fits) < 0.01
    assert max(fit.explained for fit in fits) < 0.9


def test_a_class_of_few_examples_is_less_certain():
    """The same stream and model; the third class has 2 or 200 validation examples."""
    draw = np.random.default_rng(0)
    features, probabilities, labels = gaussians(draw, 2000, SOURCE)
    errors = []
    for kept in (2, 200):
        rows = np.sort(np.concatenate([np.flatnonzero(labels != 2)[:800], np.flatnonzero(labels == 2)[:kept]]))
        fit = LabelShiftFit(features[rows], labels[rows], probabilities[rows])
        errors.append(fit.fit(fit.standardized(features).mean(axis=0), len(features)).errors[2])
    assert errors[0] > 2 * errors[1]


def test_constant_features_and_classes_without_examples_do_no_harm():
    draw = np.random.default_rng(1)
    features, probabilities, labels = gaussians(draw, 200, SOURCE)
    features, rows = np.concatenate([features, np.full((200, 1), 3.0)], axis=1), labels != 2
    fit = LabelShiftFit(features[rows], labels[rows], probabilities[rows])
    found = fit.fit(fit.standardized(features).mean(axis=0), 200)
    assert np.isfinite([*found.shares, *found.errors, found.p_value]).all() and found.shares.sum() == pytest.approx(1)
