"""Metrics of classifiers: against scikit-learn, loops written here, and bootstraps that repeat rows."""

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.metrics import classification

NAMES = ("cat", "dog", "owl")
CLASS_METRICS = ("precision", "recall", "f1")


def predictions(seed, examples, classes, levels=None, every_class=True):
    """Probabilities, labels and weights at random; with `levels` most scores tie, and rows still sum to 1."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, examples)
    if every_class:
        labels[:classes] = range(classes)
    logits = draw.normal(size=(examples, classes)) + np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if levels:
        probabilities = np.array([draw.multinomial(levels, row) for row in probabilities]) / levels
    return probabilities, labels, draw.exponential(size=examples)


def by_sklearn(probabilities, labels, weights, auc=True):
    count = probabilities.shape[1]
    predicted, every = probabilities.argmax(axis=1), list(range(count))
    weigh = {"sample_weight": weights}

    def scores(average):
        found = sklearn.metrics.precision_recall_fscore_support(
            labels, predicted, labels=every, average=average, zero_division=0, **weigh
        )
        return dict(zip(CLASS_METRICS, found))

    macro, by_class = scores("macro"), scores(None)
    result = {"accuracy": sklearn.metrics.accuracy_score(labels, predicted, **weigh)}
    shares = np.bincount(labels, weights, count)
    result["majority_share"] = shares.max() / shares.sum()
    # Its own function for this warns of classes that are predicted and absent.
    result["balanced_accuracy"] = by_class["recall"][shares > 0].mean()
    result |= {name: by_class[name][1] for name in CLASS_METRICS} if count == 2 else macro
    result |= {"f1_macro": macro["f1"], "f1_weighted": scores("weighted")["f1"]}
    result |= {"precision_macro": macro["precision"], "recall_macro": macro["recall"]}
    for k in every:
        result |= {f"{name}/{NAMES[k]}": by_class[name][k] for name in CLASS_METRICS}
    if auc:
        score = probabilities[:, 1] if count == 2 else probabilities
        one_hot = labels if count == 2 else np.eye(count)[labels]
        result["auc"] = sklearn.metrics.roc_auc_score(labels, score, multi_class="ovr", **weigh)
        result["average_precision"] = sklearn.metrics.average_precision_score(one_hot, score, **weigh)
    result["ece"] = loop_ece(probabilities, labels, np.ones(len(labels)) if weights is None else weights)
    result["log_loss"] = sklearn.metrics.log_loss(labels, probabilities, labels=every, **weigh)
    return result


def loop_ece(probabilities, labels, weights, bins=15):
    """As in the text of Guo et al. (2017): bin m holds confidences in ((m - 1) / M, m / M]."""
    total, result = sum(weights), 0.0
    for m in range(1, bins + 1):
        weight = correct = confidence = 0.0
        for row, label, w in zip(probabilities.tolist(), labels.tolist(), weights.tolist()):
            if (m - 1) / bins < max(row) <= m / bins:
                weight += w
                correct += w * (row.index(max(row)) == label)
                confidence += w * max(row)
        if weight:
            result += weight / total * abs(correct / weight - confidence / weight)
    return result


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    examples=st.integers(3, 60),
    classes=st.sampled_from([2, 3]),
    levels=st.sampled_from([None, 1, 3, 10]),
    weighted=st.booleans(),
)
def test_equal_to_sklearn(seed, examples, classes, levels, weighted):
    probabilities, labels, weights = predictions(seed, examples, classes, levels)
    weights = weights if weighted else None
    found = classification.classification(probabilities, labels, NAMES[:classes], weights)
    expected = by_sklearn(probabilities, labels, weights)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-9, rel=1e-9)
    assert {type(value) for value in found.values()} == {float}

    matrix = classification.confusion(probabilities, labels, NAMES[:classes], weights)
    every = list(range(classes))
    theirs = sklearn.metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=every, sample_weight=weights)
    np.testing.assert_allclose(matrix, theirs, atol=1e-9)
    assert matrix.dtype == (np.float64 if weighted else np.int64)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), examples=st.integers(1, 12), classes=st.sampled_from([2, 3]))
def test_few_examples_and_missing_classes(seed, examples, classes):
    """Never NaN; what is defined is scikit-learn's, and the curves' means are over the classes that have one."""
    probabilities, labels, weights = predictions(seed, examples, classes, 5, every_class=False)
    found = classification.classification(probabilities, labels, NAMES[:classes], weights)
    expected = by_sklearn(probabilities, labels, weights, auc=False)
    defined = [k for k in ([1] if classes == 2 else range(3)) if 0 < np.sum(labels == k) < examples]
    for name, function in (
        ("auc", sklearn.metrics.roc_auc_score),
        ("average_precision", sklearn.metrics.average_precision_score),
    ):
        if defined:
            each = [function(labels == k, probabilities[:, k], sample_weight=weights) for k in defined]
            expected[name] = np.mean(each)
    assert found == pytest.approx(expected, abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
def test_weights_are_repetitions(classes):
    """Weight 0 is no example, weight 2 is two; a common factor is nothing."""
    probabilities, labels, _ = predictions(0, 200, classes, 10)
    counts = np.random.default_rng(1).integers(0, 4, 200)
    repeated = classification.classification(
        np.repeat(probabilities, counts, axis=0), np.repeat(labels, counts), NAMES[:classes]
    )
    for factor in (1, 0.37):
        weighted = classification.classification(probabilities, labels, NAMES[:classes], counts * factor)
        assert weighted == pytest.approx(repeated, rel=1e-12)


def test_ece_by_hand():
    # Bins end at n / 15: 0.55 and 0.6 = 9 / 15 share one (one of two is right), 0.9 has its own (right).
    first = np.array([0.55, 0.6, 0.9])
    found = classification.classification(np.stack([first, 1 - first], axis=1), np.array([0, 1, 0]), NAMES[:2])
    assert found["ece"] == pytest.approx(2 / 3 * abs(0.5 - 0.575) + 1 / 3 * abs(1 - 0.9), abs=1e-12)


def test_log_loss_of_a_certain_error_is_finite():
    for dtype in (np.float32, np.float64):
        probabilities = np.array([[1, 0], [0, 1]], dtype)
        found = classification.classification(probabilities, np.array([1, 1]), NAMES[:2])
        expected = sklearn.metrics.log_loss([1, 1], probabilities, labels=[0, 1])
        assert found["log_loss"] == pytest.approx(expected, rel=1e-6)


def test_one_class_present():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3]])
    for label in (0, 1):
        labels = np.array([label, label])
        found = classification.classification(probabilities, labels, NAMES[:2])
        assert (found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0)
        bounds = classification.intervals(probabilities, labels, NAMES[:2], resamples=10)
        assert list(bounds) == list(found)
        assert "auc" not in found and "average_precision" not in found


def test_undefined_resamples_are_left_out():
    """One positive example: a third of the resamples miss it and have no curve."""
    first = np.linspace(0.05, 0.95, 30)
    labels = (np.arange(30) == 12).astype(int)
    probabilities = np.stack([first, 1 - first], axis=1)
    low, high = classification.intervals(probabilities, labels, NAMES[:2])["auc"]
    assert 0 < low < classification.classification(probabilities, labels, NAMES[:2])["auc"] < high < 1
    # And where a draw may have no weight at all.
    weights = (np.arange(30) == 12).astype(float)
    bounds = classification.intervals(probabilities, labels, NAMES[:2], weights)
    assert bounds["accuracy"] == (1.0, 1.0) and "auc" not in bounds


def literal_intervals(probabilities, labels, classes, weights, resamples, seed, level):
    """The bootstrap as it is told: rows are drawn, copied and judged."""
    draw, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        rows = draw.integers(0, len(labels), len(labels))
        found.append(classification.classification(probabilities[rows], labels[rows], classes, weights[rows]))
    tails = (1 - level) / 2, (1 + level) / 2
    names = {name: None for one in found for name in one}
    return {name: tuple(np.quantile([one[name] for one in found if name in one], tails)) for name in names}


@pytest.mark.parametrize(("examples", "classes"), [(6, 2), (6, 3), (150, 2), (150, 3)])
@pytest.mark.parametrize("chunk", [1, 400, 1 << 14])
def test_intervals_are_those_of_the_literal_bootstrap(examples, classes, chunk, monkeypatch):
    monkeypatch.setattr(classification, "_CHUNK", chunk)
    probabilities, labels, weights = predictions(5, examples, classes, 20)
    found = classification.intervals(probabilities, labels, NAMES[:classes], weights, resamples=25, seed=3, level=0.8)
    expected = literal_intervals(probabilities, labels, NAMES[:classes], weights, 25, 3, 0.8)
    assert set(found) == set(classification.classification(probabilities, labels, NAMES[:classes], weights))
    assert found.keys() == expected.keys()
    for name, bounds in expected.items():
        assert found[name] == pytest.approx(bounds, rel=1e-9, abs=1e-9), name


def test_interval_of_accuracy_is_the_normal_approximation():
    probabilities, labels, _ = predictions(1, 20_000, 2)
    accuracy = classification.classification(probabilities, labels, NAMES[:2])["accuracy"]
    half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / 20_000)
    # The end of an interval from 400 resamples has a standard error of about 0.12 standard deviations, 0.06 halves.
    low, high = classification.intervals(probabilities, labels, NAMES[:2], resamples=400)["accuracy"]
    assert (accuracy - low, high - accuracy) == pytest.approx((half, half), rel=0.25)
    narrow = classification.intervals(probabilities, labels, NAMES[:2], resamples=400, level=0.5)["accuracy"]
    assert narrow[1] - narrow[0] == pytest.approx(2 * half * 0.6745 / 1.96, rel=0.25)


def test_coverage():
    """Two normal scores one standard deviation to either side of 0: accuracy and area are known."""
    truth = {"accuracy": scipy.stats.norm.cdf(1), "auc": scipy.stats.norm.cdf(math.sqrt(2))}
    draw, inside = np.random.default_rng(0), dict.fromkeys(truth, 0)
    for seed in range(200):
        labels = draw.integers(0, 2, 200)
        positive = 1 / (1 + np.exp(-2 * (draw.normal(size=200) + 2 * labels - 1)))
        probabilities = np.stack([1 - positive, positive], axis=1)
        bounds = classification.intervals(probabilities, labels, NAMES[:2], resamples=200, seed=seed)
        for name, value in truth.items():
            inside[name] += bounds[name][0] <= value <= bounds[name][1]
    for name, count in inside.items():
        assert 0.88 <= count / 200 <= 0.99, name


def test_deterministic():
    arguments = (*predictions(2, 300, 3)[:2], NAMES)
    first, again, other = (classification.intervals(*arguments, resamples=50, seed=seed) for seed in (4, 4, 5))
    assert first == again != other


GOOD = {"probabilities": [[0.2, 0.8], [0.6, 0.4]], "labels": [1, 0], "classes": ("cat", "dog"), "weights": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": [0.2, 0.8]}, r"shape \[2\]: expected \[2, 2\]"),
        ({"probabilities": [[0.2, 0.3, 0.5]] * 2}, r"shape \[2, 3\]: expected \[2, 2\]"),
        ({"probabilities": [[np.nan, 0.8], [0.6, 0.4]]}, "not all finite"),
        ({"probabilities": [[np.inf, 0.8], [0.6, 0.4]]}, "not all finite"),
        ({"probabilities": [[3.0, -2.0], [0.6, 0.4]]}, "expected a softmax"),
        ({"probabilities": [[3.0, 2.0], [0.6, 0.4]]}, "expected a softmax"),
        ({"labels": [1, 2]}, "labels from 1 to 2: expected 0 to 1"),
        ({"labels": [-1, 0]}, "labels from -1 to 0: expected 0 to 1"),
        ({"labels": [0.0, 1.0]}, "float64.*expected integers"),
        ({"labels": 1}, r"expected integers, one or more: \[examples\]"),
        ({"labels": [], "probabilities": np.zeros((0, 2))}, "one or more"),
        ({"classes": ("cat",), "probabilities": [[1.0]] * 2}, "expected two or more"),
        ({"classes": ("cat", "cat")}, "expected two or more, distinct"),
        ({"weights": [1.0]}, r"weights have the shape \[1\]: expected \[2\]"),
        ({"weights": [1.0, -1.0]}, "weights are negative"),
        ({"weights": [1.0, np.nan]}, "not finite"),
        ({"weights": [0.0, 0.0]}, "all 0"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    for function in (classification.classification, classification.confusion, classification.intervals):
        with pytest.raises(ValueError, match=message) as error:
            function(**GOOD | change)
        assert "\n" not in str(error.value)
        function(**GOOD)


@pytest.mark.parametrize("options", [{"resamples": 0}, {"level": 0.0}, {"level": 1.0}])
def test_intervals_refuse(options):
    with pytest.raises(ValueError, match="expected 1 or more, and 0 < level < 1"):
        classification.intervals(**GOOD, **options)


def test_table():
    text = classification.table({"accuracy": 0.91234, "f1/cat": 0.5}, {"accuracy": (0.9, 0.92)})
    assert text == (
        "metric     value     95 % interval\n"
        "accuracy  0.9123  0.9000 .. 0.9200\n"
        "f1/cat    0.5000"
    )  # fmt: skip
