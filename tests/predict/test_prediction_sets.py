"""Prediction sets: the definition, and the coverage that they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from zoo.errors import BadInput
from zoo.predict.calibration import prediction_sets


def simulated(draw, examples, classes=4, shares=None, sharpness=2.0):
    """Probabilities of a model that is often wrong, and labels."""
    labels = draw.choice(classes, examples, p=shares)
    logits = draw.standard_normal((examples, classes)) * 1.5
    logits[np.arange(examples), labels] += sharpness
    return special.softmax(logits, axis=1), labels


def rule(probabilities, labels, alpha, **more):
    return prediction_sets.calibrate(probabilities, labels, probabilities.argmax(axis=1), alpha, **more)


def sets(made, probabilities):
    return made.sets(probabilities, probabilities.argmax(axis=1))


def test_the_quantile_by_hand():
    """Nine scores of the true class: the ceil(10 * 0.8) = 8th smallest, where plain counting would take the 7.2nd."""
    true = np.array([0.9, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1])
    # The true class is never the most probable one but in the first example, whose score is 0 and not 0.1.
    probabilities = np.stack([true, np.where(true > 0.5, 0.1, 1 - true - 0.01), np.full(9, 0.01)], axis=1)
    made = rule(probabilities, np.zeros(9, int), 0.2)
    # Scores 0, 0.55, 0.6, ..., 0.9.
    assert made.quantiles == pytest.approx((0.85,) * 3, abs=1e-7) and made.counts == (9, 0, 0)
    assert sets(made, np.array([[0.151, 0.8, 0.049], [0.149, 0.8, 0.051]])).tolist() == [
        [True, True, False],
        [False, True, False],
    ]


@pytest.mark.parametrize(("examples", "alpha"), [(9, 0.1), (40, 0.2), (199, 0.05)])
def test_coverage_over_validation_sets(examples, alpha):
    """Without ties: mean rank / (n + 1), and the distribution Beta(rank, n + 1 - rank).

    A score without mass at 0 needs a predicted class that is never the true one: here one more class.
    """
    draw, rank = np.random.default_rng(0), math.ceil(round((examples + 1) * (1 - alpha), 9))
    coverages = []
    for _ in range(2000):
        made = prediction_sets.calibrate(*_never_right(draw, examples), alpha)
        # The score 1 - p of the true class is uniform: its distribution function at the quantile is the coverage.
        coverages.append(made.quantiles[0])
    assert abs(np.mean(coverages) - rank / (examples + 1)) < 0.004
    assert stats.kstest(coverages, stats.beta(rank, examples + 1 - rank).cdf).pvalue > 1e-3
    low, high = prediction_sets.coverage_interval(examples, alpha)
    assert abs(np.mean((coverages >= np.float64(low)) & (coverages <= np.float64(high))) - 0.95) < 0.02


def _never_right(draw, examples):
    true = draw.uniform(size=examples)
    probabilities = np.stack([true, 1 - true, np.zeros(examples)], axis=1)
    return probabilities, np.zeros(examples, int), np.full(examples, 2)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_new_examples_are_covered(alpha):
    """At least 1 - alpha on average, and hardly more where the model errs more often than that."""
    draw, covered = np.random.default_rng(1), []
    for _ in range(400):
        made = rule(*simulated(draw, 99, sharpness=1.0), alpha)
        probabilities, labels = simulated(draw, 200, sharpness=1.0)
        covered.append(prediction_sets.measures(sets(made, probabilities), labels)["set_coverage"])
    error = np.std(covered) / math.sqrt(len(covered))
    assert 1 - alpha - 3 * error < np.mean(covered) < 1 - alpha + 0.02


def test_each_class_is_covered_where_classes_are_rare():
    """The marginal promise is kept at the cost of a rare class; the class-conditional one is kept in each."""
    draw, shares, covered = np.random.default_rng(2), [0.7, 0.2, 0.07, 0.03], {False: [], True: []}
    for _ in range(150):
        validation, test = simulated(draw, 1000, shares=shares), simulated(draw, 1000, shares=shares)
        # The model believes in the shares, so it seldom predicts the rare classes.
        validation, test = [(special.softmax(np.log(p) + np.log(shares), axis=1), y) for p, y in (validation, test)]
        for conditional, values in covered.items():
            inside = sets(rule(*validation, 0.1, class_conditional=conditional), test[0])
            values.append([inside[test[1] == label, label].mean() for label in range(4)])
    means = {conditional: np.mean(values, axis=0) for conditional, values in covered.items()}
    assert means[False].min() < 0.8 and means[True].min() > 0.89
    assert means[True].max() < 0.98


def test_ties_are_covered():
    """Equal scores are all within the quantile: coverage can only be larger."""
    probabilities = np.tile([0.5, 0.3, 0.2], (30, 1))
    made = rule(probabilities, np.array([0] * 20 + [1] * 9 + [2]), 0.1)
    assert made.quantiles == pytest.approx((0.7,) * 3, abs=1e-7)
    assert sets(made, probabilities[:1]).tolist() == [[True, True, False]]
    made = rule(probabilities, np.array([0] * 29 + [1]), 0.1)
    assert made.quantiles == (0.0,) * 3 and sets(made, probabilities[:1]).tolist() == [[True, False, False]]


@given(st.integers(0, 10**6), st.integers(25, 60), st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.booleans())
def test_sets_grow_as_alpha_falls_and_are_never_empty(seed, examples, one, other, conditional):
    draw = np.random.default_rng(seed)
    probabilities, labels = simulated(draw, 4 * examples, classes=3, sharpness=0.5)
    predicted = draw.integers(3, size=len(labels))
    small, large = sorted((one, other))
    made = [prediction_sets.calibrate(probabilities, labels, predicted, each, conditional) for each in (small, large)]
    wide, narrow = (each.sets(probabilities, predicted) for each in made)
    assert (narrow <= wide).all() and narrow[np.arange(len(labels)), predicted].all()


def test_what_is_not_finite_is_in_the_set():
    made = rule(np.tile([0.9, 0.05, 0.05], (30, 1)), np.zeros(30, int), 0.1)
    assert made.sets(np.array([[np.nan, 0.2, np.nan]]), np.array([1])).tolist() == [[True, True, True]]


def test_rare_classes_are_in_every_set():
    probabilities, labels = simulated(np.random.default_rng(3), 100, classes=3)
    labels = np.where(labels == 2, 1, labels)
    labels[:5] = 2
    made = rule(probabilities, labels, 0.1, class_conditional=True)
    assert made.rare == (2,) and sets(made, probabilities)[:, 2].all()
    assert made.line(("cat", "dog", "emu")).endswith("too few validation examples (expected 9): emu (5)")
    assert "a probability of at least 0.9 for each class" in made.line(("cat", "dog", "emu"))


def test_too_few_examples_and_no_level():
    probabilities, labels = simulated(np.random.default_rng(4), 8)
    with pytest.raises(BadInput, match="need 9 validation examples or more and there are 8"):
        rule(probabilities, labels, 0.1)
    probabilities, labels = simulated(np.random.default_rng(4), 12)
    with pytest.raises(BadInput, match="or more of a class, and the largest has"):
        rule(probabilities, labels, 0.1, class_conditional=True)
    for alpha in (0.0, 1.0, 90.0):
        with pytest.raises(BadInput, match="expected above 0 and below 1"):
            rule(probabilities, labels, alpha)


def test_measures():
    inside = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], bool)
    assert prediction_sets.measures(inside, np.array([0, 0, 0, 2])) == {
        "set_coverage": 0.75,
        "set_coverage_worst_class": pytest.approx(2 / 3),
        "set_size": 1.5,
        "set_single": 0.5,
    }
