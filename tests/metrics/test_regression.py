"""Metrics of a regression against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as theirs

from zoo.metrics import evaluation_report, regression


def some(count=200):
    draw = np.random.default_rng(0)
    true = draw.normal(3.0, 2.0, count).round(1)
    return true + draw.normal(0, 1.0, count), true


def test_scores():
    predicted, true = some()
    assert regression.scores(predicted, true) == pytest.approx({
        "mse": theirs.mean_squared_error(true, predicted),
        "rmse": theirs.root_mean_squared_error(true, predicted),
        "mae": theirs.mean_absolute_error(true, predicted),
        "r2": theirs.r2_score(true, predicted),
        "pearson": stats.pearsonr(predicted, true)[0],
        "spearman": stats.spearmanr(predicted, true)[0],
    })  # fmt: skip


def test_what_does_not_vary():
    assert set(regression.scores(np.ones(5), np.arange(5.0))) == {"mse", "rmse", "mae", "r2"}
    assert set(regression.scores(np.arange(5.0), np.ones(5))) == {"mse", "rmse", "mae"}


def test_intervals_cover():
    """The truth is known: errors of variance 1, and 95 % of 10 intervals should hold it."""
    held = 0
    for seed in range(10):
        draw = np.random.default_rng(seed)
        true = draw.normal(0, 2.0, 80)
        found = regression.evaluate(true + draw.normal(0, 1.0, 80), true, final=True)
        held += found["mse_low"] <= 1.0 <= found["mse_high"]
        assert found["spearman_low"] <= found["spearman"] <= found["spearman_high"]
    assert held >= 7


def test_in_the_values_own_units():
    predicted, true = some()
    outputs, columns = {"logits": ((predicted - 3) / 2)[:, None]}, {"y": (true - 3) / 2}
    found = evaluation_report.regression(2.0, 3.0)({}, outputs, columns, False)
    assert found == pytest.approx(regression.scores(predicted, true))


def test_equal_values_have_no_correlation_however_their_variance_rounds():
    constant, others = np.full(7, -5 / 3), np.arange(7.0)
    assert np.var(constant) > 0
    for predicted, true in ((constant, others), (others, constant), (constant, constant)):
        metrics = regression.scores(predicted, true)
        assert "pearson" not in metrics and "spearman" not in metrics
        assert ("r2" in metrics) == (true is others)
