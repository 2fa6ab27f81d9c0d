"""Metrics of several labels per example, and thresholds: scikit-learn's values, with weights, ties and odd labels."""

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sklearn_metrics

from zoo.errors import BadInput
from zoo.metrics import multi_label
from zoo.metrics.label_thresholds import LabelGoal, LabelThresholds, tune

NAMES = ("a", "b", "c")


def draws(examples=200, seed=0, labels=3):
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(examples, labels)).round(1)  # with ties
    y = (draw.random((examples, labels)) < special.expit(logits - [0.0, 1.0, 2.5][:labels])).astype(np.float32)
    return logits, y, draw.uniform(0.0, 3.0, examples)


@pytest.mark.parametrize("weighted", [False, True])
def test_scikit_learns_values(weighted):
    logits, y, weights = draws()
    options = {"sample_weight": weights} if weighted else {}
    found = multi_label.metrics(logits, y, NAMES, weights if weighted else None)
    probabilities = special.expit(logits)
    predicted = (probabilities >= 0.5).astype(int)
    f1 = sklearn_metrics.f1_score
    expected = {
        "f1_micro": f1(y, predicted, average="micro", **options),
        "f1_macro": f1(y, predicted, average="macro", **options),
        "precision_micro": sklearn_metrics.precision_score(y, predicted, average="micro", **options),
        "recall_micro": sklearn_metrics.recall_score(y, predicted, average="micro", **options),
        "subset_accuracy": sklearn_metrics.accuracy_score(y, predicted, **options),
        "hamming_loss": sklearn_metrics.hamming_loss(y, predicted, **options),
        "average_precision": sklearn_metrics.average_precision_score(y, probabilities, average="macro", **options),
        "auc": sklearn_metrics.roc_auc_score(y, probabilities, average="macro", **options),
        "log_loss": np.mean(
            [sklearn_metrics.log_loss(y[:, k], probabilities[:, k], labels=[0, 1], **options) for k in range(3)]
        ),
        "f1/b": f1(y[:, 1], predicted[:, 1], **options),
        "average_precision/c": sklearn_metrics.average_precision_score(y[:, 2], probabilities[:, 2], **options),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("weighted", [False, True])
def test_what_needs_no_model(weighted):
    logits, y, weights = draws()
    options = {"sample_weight": weights} if weighted else {}
    found = multi_label.metrics(logits, y, NAMES, weights if weighted else None)
    shares = np.average(y, axis=0, weights=weights if weighted else None)
    usual = np.tile(shares > 0.5, (len(y), 1)).astype(int)
    every = np.ones_like(usual)
    assert found["trivial_hamming_loss"] == pytest.approx(sklearn_metrics.hamming_loss(y, usual, **options))
    assert found["trivial_subset_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(y, usual, **options))
    for average in ("micro", "macro"):
        expected = sklearn_metrics.f1_score(y, every, average=average, **options)
        assert found[f"trivial_f1_{average}"] == pytest.approx(expected)
    constant = sklearn_metrics.average_precision_score(y, np.zeros_like(y), average="macro", **options)
    assert found["trivial_average_precision"] == pytest.approx(constant)


def test_labels_that_none_or_all_have_are_left_out_of_means_of_curves():
    logits, y, _ = draws()
    y[:, 0], y[:, 1] = 0.0, 1.0
    found = multi_label.metrics(logits, y, NAMES)
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(y[:, 2], logits[:, 2]))
    assert "average_precision/a" not in found and "average_precision/b" not in found
    assert found["f1/a"] == 0.0 and np.isfinite(list(found.values())).all()
    y[:, 2] = 0.0
    found = multi_label.metrics(logits, y, NAMES)
    assert "auc" not in found and "average_precision" not in found


def test_intervals_are_those_of_resampled_examples():
    logits, y, weights = draws(120)
    found = multi_label.metrics(logits, y, NAMES, weights, resamples=1000)
    draw, predicted, leads = np.random.default_rng(4), (logits >= 0).astype(int), []
    for _ in range(1000):
        rows = draw.integers(0, 120, 120)
        score = sklearn_metrics.f1_score(y[rows], predicted[rows], average="micro", sample_weight=weights[rows])
        leads.append(score)
    ends = [found["f1_micro_low"], found["f1_micro_high"]]
    np.testing.assert_allclose(ends, np.quantile(leads, (0.025, 0.975)), atol=0.01)
    assert all(found[f"{name}_low"] <= found[name] <= found[f"{name}_high"] for name in ("auc", "hamming_loss", "f1/a"))


def test_a_lead_is_a_difference_with_a_paired_interval():
    logits, y, weights = draws(150)
    other = logits + np.random.default_rng(2).normal(size=logits.shape)
    found = multi_label.leads(logits, other, y, weights, 500)
    for name, (lead, low, high) in found.items():
        each = [multi_label.metrics(values, y, (), weights)[name] for values in (logits, other)]
        assert lead == pytest.approx(each[0] - each[1]) and low < lead < high
    assert multi_label.leads(logits, logits, y, weights, 50)["f1_micro"] == (0.0, 0.0, 0.0)


def test_thresholds_are_the_best_of_each_label():
    logits, y, _ = draws(300, seed=3)
    rule, text = tune(LabelGoal("f1"), logits, y)
    probabilities = special.expit(logits)
    for label, threshold in enumerate(rule.values):
        scores = [
            sklearn_metrics.f1_score(y[:, label], probabilities[:, label] >= other)
            for other in np.unique(probabilities[:, label])
        ]
        own = sklearn_metrics.f1_score(y[:, label], probabilities[:, label] >= threshold)
        assert own == pytest.approx(max(scores))
    assert "thresholds for f1 on the validation examples" in text
    decided = multi_label.decided(logits, y, NAMES, np.array(rule.values), resamples=50)
    expected = sklearn_metrics.f1_score(y, probabilities >= np.array(rule.values), average="macro")
    assert decided["f1_macro_decided"] == pytest.approx(expected)
    assert decided["f1_macro_decided"] > multi_label.metrics(logits, y, NAMES)["f1_macro"]


def test_a_label_without_validation_examples_keeps_one_half():
    logits, y, _ = draws()
    y[:, 1] = 0.0
    rule, text = tune(LabelGoal("f1"), logits, y)
    assert rule.values[1] == 0.5 != rule.values[0] and text.endswith("0.5 for 1 label that none or all of them have")


def test_thresholds_come_back_from_json():
    rule = LabelThresholds((0.25, 0.5), "f1")
    assert LabelThresholds.from_json(rule.as_json(), 2) == rule
    for value, labels in ((rule.as_json(), 3), ({}, 2), ({"thresholds": ["x"], "metric": "f1"}, 1), (None, 2)):
        with pytest.raises(BadInput, match=f"do not fit {labels} labels"):
            LabelThresholds.from_json(value, labels)
