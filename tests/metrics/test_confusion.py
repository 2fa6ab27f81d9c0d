"""What is shown of a confusion matrix, few classes or many, and of classes whose names are no words."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import names
from zoo.metrics import confusion, evaluation_report
from zoo.tensorboard import task_views


def test_few_classes_are_shown_whole():
    assert confusion.text(np.array([[10, 2], [0, 1234567]]), ("cat", "dog")) == (
        "true \\ predicted  cat      dog\n"
        "cat                10        2\n"
        "dog                 0  1234567"
    )  # fmt: skip
    assert "0.25" in confusion.text(np.array([[0.25, 2], [0, 1]]), ("cat", "dog"))


@pytest.mark.parametrize("classes", [[f"c{i}" for i in range(150)], ["a" * 3000, "b" * 3000], ["\n" * 99, "y" * 99]])
def test_a_matrix_that_is_too_wide_is_its_worst_pairs(classes):
    size = len(classes)
    matrix = np.diag(np.full(size, 10))
    matrix[1, 0], matrix[0, 1] = 7, 5
    lines = confusion.text(matrix, classes).splitlines()
    assert lines[0] == f"{size} classes, 12 of {10 * size + 12} predictions are wrong; pairs confused:"
    assert [line.split()[2:] for line in lines[2:]] == [["7", "41.2%"], ["5", "33.3%"]]
    assert max(map(len, lines)) <= 110
    assert confusion.text(np.eye(size), classes).count("\n") == (size <= 12 and len(classes[0]) < 50) * size


def test_twenty_pairs_the_most_frequent_first():
    draw = np.random.default_rng(0).integers(0, 100, (40, 40))
    lines = confusion.text(draw, [str(i) for i in range(40)]).splitlines()
    assert "; 20 most frequent of " in lines[0] and len(lines) == 22
    off = sorted((int(draw[i, j]) for i in range(40) for j in range(40) if i != j), reverse=True)
    assert [int(line.split()[2]) for line in lines[2:]] == off[:20]
    assert all(int(draw[int(a), int(b)]) == int(n) for a, b, n, _ in map(str.split, lines[2:]))


CHARACTERS = st.characters(codec="utf-8") | st.sampled_from("/|,\r\n\u200b")


@settings(max_examples=40)
@given(st.lists(st.text(CHARACTERS, max_size=5), unique=True, min_size=2, max_size=5))
def test_keys_and_tables_of_any_names(classes):
    keys = names.keys(classes)
    assert len(set(keys)) == len(classes) and not any("/" in key or "\n" in key for key in keys)
    assert all(names.escaped(name).isprintable() for name in classes)
    rows = list(csv.reader(io.StringIO(confusion.as_csv(np.eye(len(classes)), keys), newline="")))
    assert rows[0][1:] == keys and [row[0] for row in rows[1:]] == keys


def evaluated(count, examples=200):
    """A final evaluation of a classifier that is often wrong, and its labels and predictions."""
    draw = np.random.default_rng(1)
    labels = draw.integers(0, count, examples)
    logits = draw.normal(size=(examples, count)) + 3 * np.eye(count)[labels]
    classes = [f"c/{i}" for i in range(count)]
    metrics = evaluation_report.classifier(classes)({}, {"logits": logits}, {"y": labels}, True)
    return metrics, labels, logits.argmax(axis=1), classes


@pytest.mark.parametrize("count", [3, 12, 30])
def test_the_matrix_comes_back_from_the_metrics(count):
    metrics, labels, predicted, classes = evaluated(count)
    matrix, found = evaluation_report.confusion_matrix(metrics)
    expected = np.zeros((count, count))
    np.add.at(expected, (labels, predicted), 1)
    assert found == names.keys(classes) and (matrix == expected).all()
    cells = [name for name in metrics if name.startswith("confusion/")]
    assert len(cells) == (count**2 if count <= 12 else (expected > 0).sum())


def test_the_report_of_many_classes_fits_a_page():
    metrics, *_ = evaluated(30)
    lines = evaluation_report.report(metrics).splitlines()
    assert len(lines) < 110 and max(map(len, lines)) <= 100
    assert "of 30 classes the 20 with the lowest F1 are listed; the others are in result.json and TensorBoard" in lines
    listed = [line.split()[0].removeprefix("f1/") for line in lines if line.startswith("f1/")]
    scores = {name: metrics[f"f1/{name}"] for name in names.keys([f"c/{i}" for i in range(30)])}
    assert len(listed) == 20 and max(scores[n] for n in listed) <= min(scores[n] for n in scores.keys() - set(listed))


@pytest.mark.parametrize("classes", [["a/b", "a|b"], ["a\nb", "a b"], ["x", "x\u200b"], ["low", "low_low"]])
def test_names_are_data(classes):
    """Names that would be equal, or break a line, once they are shown."""
    logits, labels = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 1, 1])
    metrics = evaluation_report.classifier(classes)({}, {"logits": logits}, {"y": labels}, True)
    matrix, _ = evaluation_report.confusion_matrix(metrics)
    assert matrix.tolist() == [[1, 0], [1, 1]]
    report = evaluation_report.report(metrics)
    assert all(line.isprintable() for line in report.splitlines())
    view = task_views.classifier(classes, texts=lambda columns, rows: ["t"] * len(rows))(
        {"logits": logits}, {"y": labels}
    )
    assert "\u200b" not in view.texts["worst_errors"] and view.texts["confused_pairs"].count("\n") == 2
