"""Decisions: by expected cost as in Elkan's paper, by thresholds against a search of all of them; files of costs."""

import json

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import BadInput
from zoo.metrics import cost_matrix, decisions, temperature_scaling
from zoo.metrics.decisions import Decision, Goal
from zoo.metrics.logits import class_probabilities


def drawn(seed, examples, levels=None):
    """Scores, which positives, and weights; with `levels` scores tie."""
    draw = np.random.default_rng(seed)
    positives = draw.random(examples) < 0.3
    scores = 1 / (1 + np.exp(-draw.normal(size=examples) - positives))
    scores = np.round(scores * levels) / levels if levels else scores
    return scores, positives, draw.exponential(size=examples)


def value_at(metric, threshold, scores, positives, weights):
    """The metric by scikit-learn; minus one where a constraint is broken."""
    answers, weigh = scores >= threshold, {"sample_weight": weights, "zero_division": 0.0}
    if metric == "f1":
        return sklearn.metrics.f1_score(positives, answers, **weigh)
    recall = sklearn.metrics.recall_score(positives, answers, **weigh)
    if metric == "balanced_accuracy":
        return (recall + sklearn.metrics.recall_score(~positives, ~answers, **weigh)) / 2
    precision, bound = sklearn.metrics.precision_score(positives, answers, **weigh), float(metric.rpartition("=")[2])
    value, limited = (recall, precision) if metric.startswith("recall") else (precision, recall)
    return value if limited >= bound else -1.0


METRICS = ("f1", "balanced_accuracy", "recall@precision=0.6", "precision@recall=.5")


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    examples=st.integers(2, 40),
    levels=st.sampled_from([None, 2, 5]),
    metric=st.sampled_from(METRICS),
)
def test_no_threshold_is_better(seed, examples, levels, metric):
    scores, positives, weights = drawn(seed, examples, levels)
    positives[:2] = True, False
    threshold, value, note = decisions.best_threshold(metric, scores, positives, weights)
    every = [value_at(metric, each, scores, positives, weights) for each in np.unique(scores)]
    if max(every) < 0:
        assert "none reaches 0.6, so it is the nearest" in note
        return
    assert value == pytest.approx(max(every), abs=1e-9) and not note
    assert value_at(metric, threshold, scores, positives, weights) == pytest.approx(value, abs=1e-9)


def test_a_threshold_is_in_the_middle():
    scores, positives = np.array([0.1, 0.3, 0.5, 0.9]), np.array([False, False, True, True])
    assert decisions.best_threshold("f1", scores, positives)[:2] == (0.4, 1.0)
    assert decisions.best_threshold("precision@recall=1", scores, positives)[0] == 0.4


def test_two_costs_make_elkans_threshold():
    """Equation 2: with c10 = 1 and c01 = 9 the positive class is decided from a probability of 0.1 on."""
    rule = Decision(costs=((0.0, 1.0), (9.0, 0.0)), calibration=temperature_scaling.identity(2))
    p = np.array([0.0, 0.05, 0.099, 0.101, 0.5, 1.0])
    assert rule.decide(np.stack([1 - p, p], axis=1)).tolist() == [0, 0, 0, 1, 1, 1]


def test_expected_costs_of_three_classes():
    draw = np.random.default_rng(0)
    costs, probabilities = draw.uniform(0, 5, (3, 3)), draw.dirichlet(np.ones(3), 50)
    expected = [min(range(3), key=lambda d: sum(p[t] * costs[t, d] for t in range(3))) for p in probabilities]
    rule = Decision(tuple(map(tuple, costs)), temperature_scaling.identity(3))
    assert rule.decide(probabilities).tolist() == expected


def test_costs_are_weighed_with_calibrated_probabilities():
    """A model that believes in equal classes learns from the examples that one is rare, and decides by that."""
    draw = np.random.default_rng(0)
    labels = (draw.random(4000) < 0.05).astype(int)
    x = draw.normal(size=4000) + 2.0 * labels
    balanced = np.stack([np.zeros(4000), 2.0 * x - 2.0], axis=1)
    true = 2.0 * x - 2.0 + np.log(0.05 / 0.95)
    rule, text = decisions.tune(Goal(np.array([[0.0, 1.0], [4.0, 0.0]])), balanced, labels)
    should = true > np.log(1 / 4)
    assert np.mean(rule.decide(class_probabilities(balanced)) == should) > 0.98
    assert np.mean((balanced[:, 1] > np.log(1 / 4)) == should) < 0.9
    assert "bias per class" in text


def test_a_threshold_of_either_class():
    logits, labels = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 0, 1])
    for positive in (0, 1):
        rule, text = decisions.tune(Goal(metric="f1", positive=positive), logits, labels)
        assert rule.decide(class_probabilities(logits)).tolist() == labels.tolist()
        assert "f1 is 1.0000" in text


@pytest.mark.parametrize(
    "rule",
    [
        Decision(threshold=0.3, positive=0, metric="f1"),
        Decision(((0.0, 1.0), (3.0, 0.5)), temperature_scaling.Calibration(1.5, (0.1, -0.1))),
    ],
)
def test_json(rule):
    assert Decision.from_json(json.loads(json.dumps(rule.as_json())), 2) == rule
    for wrong in (rule.as_json() | {"positive": 2, "costs": [[1]]}, [], {"threshold": "x"}, {"costs": 1}):
        with pytest.raises(BadInput, match="does not fit 2 classes"):
            Decision.from_json(wrong, 2)
    with pytest.raises(BadInput, match="does not fit 3 classes"):
        Decision.from_json(rule.as_json(), 3)


def test_without_a_rule_the_most_probable_class():
    assert decisions.decide(None, np.array([[0.2, 0.5, 0.3]])).tolist() == [1]


def test_metrics_of_decisions():
    draw = np.random.default_rng(0)
    labels, weights = draw.integers(0, 2, 80), draw.exponential(size=80)
    logits = draw.normal(size=(80, 1)) + labels[:, None]
    decided = (class_probabilities(logits)[:, 1] >= 0.3).astype(int)
    rule = Decision(threshold=0.3, metric="f1")
    found = decisions.metrics(rule, logits, labels, ("a", "b"), weights, resamples=200)
    weigh = {"sample_weight": weights}
    assert found["f1_decided"] == pytest.approx(sklearn.metrics.f1_score(labels, decided, **weigh))
    assert found["f1_macro_decided"] == pytest.approx(
        sklearn.metrics.f1_score(labels, decided, average="macro", **weigh)
    )
    assert found["accuracy_decided"] == pytest.approx(np.average(decided == labels, weights=weights))
    for name in ("precision", "recall", "f1", "balanced_accuracy"):
        ends = [found[f"{name}_decided_{end}"] for end in ("low", "high")]
        assert ends[0] < found[f"{name}_decided"] < ends[1]
    costs = np.array([[0.0, 1.0], [5.0, 0.0]])
    rule = Decision(tuple(map(tuple, costs)), temperature_scaling.identity(2))
    found = decisions.metrics(rule, logits, labels, ("a", "b"), resamples=200)
    likely = (logits[:, 0] > 0).astype(int)
    assert found["cost"] == pytest.approx(costs[labels, likely].mean())
    by_cost = (class_probabilities(logits)[:, 1] > 1 / 6).astype(int)
    assert found["cost_decided"] == pytest.approx(costs[labels, by_cost].mean())
    assert found["cost_decided"] < found["cost"]


def test_costs_from_a_file(tmp_path):
    path = tmp_path / "cost.csv"
    path.write_text("\ufefftrue,yes, no\nno,1,0\n\nyes,-2.5,20\n", encoding="utf8")
    np.testing.assert_array_equal(cost_matrix.read(path, ("no", "yes")), [[0.0, 1.0], [20.0, -2.5]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has 0 rows: expected a header and a row for each class"),
        ("x,no,yes\nno,0,1\n", "the first column lacks yes; expected each class once: no, yes"),
        ("x,no,maybe,yes\nno,0,1,1\nyes,1,1,0\n", "the header has maybe; expected each class once"),
        ("x,no,yes\nno,0,1\nyes,1,0\nyes,1,0\n", "the first column repeats a class"),
        ("x,no,yes\nno,0,1\nyes,1\n", "row 3 has 2 cells, the header has 3"),
        ("x,no,yes\nno,0,1\nyes,much,0\n", "the cost of deciding 'no' for 'yes' is 'much'; expected a number"),
        ("x,no,yes\nno,0,1\nyes,nan,0\n", "is 'nan'; expected a number"),
        ("x,no,yes\nno,1,1\nyes,2,2\n", "all decisions cost the same in each row"),
        ('x,no,yes\n"no,0,1\n', "cannot be read as a .csv"),
    ],
)
def test_files_that_are_refused(tmp_path, text, said):
    path = tmp_path / "cost.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=said.replace(".", r"\.")) as error:
        cost_matrix.read(path, ("no", "yes"))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(BadInput, match=r"no such file; expected a \.csv with class names"):
        cost_matrix.read(tmp_path / "none.csv", ("no", "yes"))


@pytest.mark.parametrize("metric", ["f2", "recall", "recall@precision=0", "recall@precision=1.5", "f1@recall=0.5", ""])
def test_metrics_that_are_refused(metric):
    with pytest.raises(BadInput, match=r"--threshold_for is .* expected f1, balanced_accuracy"):
        decisions.check_metric(metric)
