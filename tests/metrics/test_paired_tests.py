"""Paired tests against SciPy, scikit-learn, R's p.adjust and sums of binomial probabilities."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from zoo.metrics import classification, paired_tests


@pytest.mark.parametrize("wins, losses", [(0, 0), (0, 1), (3, 9), (10, 4), (25, 25)])
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(wins, losses):
    one = np.array([True] * wins + [False] * losses + [True] * 5 + [False] * 3)
    other = np.array([False] * wins + [True] * losses + [True] * 5 + [False] * 3)
    count, least = wins + losses, min(wins, losses)
    tail = sum(math.comb(count, k) for k in range(least + 1)) / 2**count
    assert paired_tests.mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))
    assert paired_tests.mcnemar(other, one) == paired_tests.mcnemar(one, other)
    found = paired_tests.accuracy(one, other)
    assert found.value == pytest.approx((wins - losses) / len(one)) and found.low < found.value < found.high


def test_the_difference_by_seeds_is_students_paired_t():
    one, other = [0.91, 0.93, 0.90, 0.95], [0.90, 0.90, 0.91, 0.92]
    found, expected = paired_tests.by_seeds(one, other), stats.ttest_rel(one, other)
    low, high = expected.confidence_interval(0.95)
    assert np.allclose(found, [np.mean(one) - np.mean(other), low, high, expected.pvalue])
    assert paired_tests.by_seeds([0.5, 0.7], [0.5, 0.7]) == (0.0, 0.0, 0.0, 1.0)
    assert paired_tests.by_seeds([0.5, 0.75], [0.25, 0.5]) == (0.25, 0.25, 0.25, 0.0)


def test_holm_is_that_of_r():
    # p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.9), "holm") of R 4.
    assert np.allclose(paired_tests.holm([0.01, 0.04, 0.03, 0.005, 0.9]), [0.04, 0.09, 0.09, 0.025, 0.9])
    assert paired_tests.holm([0.3]) == [0.3] and paired_tests.holm([]) == []
    assert paired_tests.holm([0.6, 0.7]) == [1.0, 1.0]


def answers(seed, strength):
    draw = np.random.default_rng(seed)
    labels = np.random.default_rng(3).integers(0, 2, 60)
    positive = 1 / (1 + np.exp(-(strength * (2 * labels - 1) + draw.normal(size=60))))
    return np.stack([1 - positive, positive], axis=1), labels


def test_the_bootstrap_measures_both_models_on_the_same_resamples():
    (one, labels), (other, _) = answers(1, 1.2), answers(2, 0.4)
    resamples = 150
    both = [
        paired_tests.measure(classification.of_counts(each, labels, ["no", "yes"]), 60, resamples)
        for each in (one, other)
    ]
    found = paired_tests.bootstrap(*both)
    rows = np.random.default_rng(0).integers(0, 60, (resamples, 60))

    def of_rows(rows, name):
        if name == "log_loss":
            losses = [metrics.log_loss(labels[rows], each[rows], labels=[0, 1]) for each in (one, other)]
            return losses[0] - losses[1]
        areas = [metrics.roc_auc_score(labels[rows], each[rows, 1]) for each in (one, other)]
        return areas[0] - areas[1]

    for name in ("log_loss", "auc"):
        drawn = np.array([of_rows(row, name) for row in rows])
        tail = min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1
        expected = [of_rows(np.arange(60), name), *np.quantile(drawn, (0.025, 0.975)), 2 * tail / (resamples + 1)]
        assert np.allclose(found[name], expected), name
    assert found["log_loss"].high < 0 < found["auc"].low
    # The interval of one model is that of `classification.intervals`.
    expected = classification.intervals(one, labels, ["no", "yes"], resamples=resamples)["auc"]
    assert both[0].interval("auc") == pytest.approx(expected)


def test_a_model_does_not_differ_from_itself():
    one, labels = answers(1, 1.0)
    measured = paired_tests.measure(classification.of_counts(one, labels, ["no", "yes"]), 60, 50)
    found = paired_tests.bootstrap(measured, measured)
    assert set(found.values()) == {(0.0, 0.0, 0.0, 1.0)} and "accuracy" in found
