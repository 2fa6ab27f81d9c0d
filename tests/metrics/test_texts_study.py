"""The study of texts: its samples do not overlap, and its table has the means and intervals of its runs."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.texts import __main__ as study
from benchmarks.texts import data


def texts():
    labels = ["rare" if number % 10 == 0 else "usual" for number in range(400)]
    return data.TextSet("made", [f"text {number}" for number in range(400)], labels, 300)


def test_samples_do_not_overlap():
    for seed in range(3):
        parts = data.split(texts(), seed)
        assert [len(some) for some, _ in parts] == [len(labels) for _, labels in parts] == [270, 30, 100]
        assert set().union(*(some for some, _ in parts)) == set(texts().texts)
    assert data.split(texts(), 0)[0] != data.split(texts(), 1)[0]


def test_a_class_without_training_examples_is_not_tested():
    labels = ["usual"] * 399 + ["once"]
    made = texts()._replace(labels=labels, train=10)
    for seed in range(5):
        parts = data.split(made, seed)
        for _, others in parts[1:]:
            assert set(others) <= set(parts.train[1])


def test_the_summary():
    leads, half = [0.01, 0.03, 0.02], 0.005
    runs = [
        {"test/accuracy": 0.8 + lead, "test/baseline_accuracy": 0.8, "seconds": 60.0}
        | dict(zip(data.LEAD, (lead, lead - half, lead + half)))
        for lead in leads
    ]
    row = study.summary(texts(), runs, [{"test/accuracy": 0.7, "seconds": 40.0}])
    assert (row["classes"], row["model"], row["baseline"]) == (2, pytest.approx(82.0), pytest.approx(80.0))
    low, high = stats.t.interval(0.95, 2, np.mean(leads), stats.sem(leads))
    assert row["half_over_seeds"] == pytest.approx(100 * (high - low) / 2)
    # The error of a mean of three independent differences.
    assert row["half_over_texts"] == pytest.approx(100 * half / np.sqrt(3))
    assert study._line(row) == "| made | 2 | 82.0 | 80.0 | +2.0 | 2.5 | 0.3 | 60 | 70.0 | 40 |"
    assert "above the baseline on 1 of 1 sets, more than a point below on 0" in study._verdict([row])
