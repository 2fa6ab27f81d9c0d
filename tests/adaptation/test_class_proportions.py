"""Shares of classes from correlations between channels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from zoo.adaptation.stages.class_proportions import CorrelationModel, _correlations

CLASSES, CHANNELS = 5, 40
_DRAW = np.random.default_rng(0)
_SHAPES = 0.5 * _DRAW.normal(size=(CLASSES, CHANNELS, CHANNELS))
_MEANS = 2 * _DRAW.normal(size=(CLASSES, CHANNELS))


def drawn(shares, examples, seed):
    draw = np.random.default_rng(seed)
    labels = draw.choice(CLASSES, examples, p=shares)
    return np.einsum("nij,nj->ni", _SHAPES[labels], draw.normal(size=(examples, CHANNELS))) + _MEANS[labels], labels


@pytest.fixture(scope="module")
def source():
    return CorrelationModel(*drawn(np.full(CLASSES, 1 / CLASSES), 5000, 1), CLASSES)


@given(st.integers(0, 2**32 - 1))
def test_shares_are_found_whatever_the_channels_units(source, seed):
    draw = np.random.default_rng(seed)
    shares = draw.dirichlet(np.full(CLASSES, 0.5))
    values, labels = drawn(shares, 1000, draw)
    seen = np.bincount(labels, minlength=CLASSES) / len(labels)
    found = source.shares(values * draw.uniform(0.1, 10, CHANNELS) + draw.normal(0, 100, CHANNELS))
    assert np.abs(found.shares - seen).sum() / 2 < 0.12
    assert found.similarity > 0.85 and found.shares.sum() == pytest.approx(1.0)


def test_one_class_is_told_from_all(source):
    for label in range(CLASSES):
        values, _ = drawn(np.eye(CLASSES)[label], 200, label)
        assert source.shares(values).shares[label] > 0.9


def test_what_no_shares_explain_is_not_similar(source):
    values, _ = drawn(np.full(CLASSES, 1 / CLASSES), 1000, 2)
    assert source.shares(values).similarity > 0.95
    # Other channels in their places, as where an image is moved.
    assert source.shares(np.roll(values, 7, axis=1)).similarity < 0.5


def test_the_gradient_is_that_of_differences(source):
    draw = np.random.default_rng(3)
    seen = _correlations(np.cov(drawn(np.full(CLASSES, 1 / CLASSES), 300, 4)[0][:, source._chosen].T))
    for _ in range(5):
        at = draw.normal(size=CLASSES)
        numeric = optimize.approx_fprime(at, lambda point: source._distance(point, seen)[0], 1e-6)
        np.testing.assert_allclose(source._distance(at, seen)[1], numeric, atol=1e-5)


def test_constant_channels_do_no_harm():
    values, labels = drawn(np.full(CLASSES, 1 / CLASSES), 500, 5)
    values[:, ::2] = 0
    found = CorrelationModel(values, labels, CLASSES).shares(values)
    assert np.isfinite(found.shares).all() and found.similarity > 0.95
