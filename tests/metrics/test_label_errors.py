"""Confident learning: the same answers as its authors' software, and its edges."""

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.metrics import label_errors

RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "cleanlab.json").read_text(encoding="utf8"))


@pytest.mark.parametrize("case", RECORDED["cases"], ids=["3 classes", "2 classes", "6 classes"])
def test_the_answers_are_those_of_cleanlab(case):
    labels, probabilities = np.array(case["labels"]), np.array(case["probabilities"])
    found = label_errors.find(labels, probabilities)
    assert np.array_equal(found.joint, case["joint"])
    assert found.rows.tolist() == case["ranked"]
    assert np.allclose(found.self_confidence, case["self_confidence"])
    # cleanlab moves the margin to 0 .. 1.
    assert np.allclose((found.margin + 1) / 2, case["margin"])


def test_an_example_by_hand():
    labels = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.55, 0.45]])
    # Thresholds: 0.6 for class 0, 0.575 for class 1; the last example reaches neither.
    found = label_errors.find(labels, probabilities)
    assert label_errors.probable_classes(labels, probabilities).tolist() == [0, 0, 1, 1, -1]
    assert found.joint.tolist() == [[2, 1], [0, 1]]
    assert found.rows.tolist() == [2] and found.suggested.tolist() == [1]
    assert np.allclose(found.margin, [0.8, 0.6, -0.8, 0.4, -0.1])


def test_a_label_that_is_the_models_own_answer_is_not_doubtful():
    # Class 1 is hardly ever believed in, so its threshold is low, and the first example reaches that one only.
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.7, 0.3], [0.99, 0.01], [0.99, 0.01], [0.75, 0.25]])
    assert label_errors.probable_classes(labels, probabilities)[0] == 1
    assert label_errors.find(labels, probabilities).rows.tolist() == []


def test_a_class_without_labels_and_one_example_alone():
    found = label_errors.find(np.array([0, 2, 2]), np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    assert found.rows.tolist() == [] and found.joint[:, 1].tolist() == [0, 0, 0]
    alone = label_errors.find(np.array([1]), np.array([[0.6, 0.4]]))
    assert alone.joint.tolist() == [[0, 0], [0, 1]] and alone.rows.tolist() == []
