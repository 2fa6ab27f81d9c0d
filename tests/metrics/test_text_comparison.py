"""A text classifier beside its linear baseline: the lead, its interval, and the last lines of a run."""

import numpy as np
import pytest

from zoo.data.datasets.text_splits import TextDataset, Texts
from zoo.metrics.text_comparison import TextComparison


def dataset(words=("good", "bad"), count=60):
    """Texts whose word tells the class; in the test split a fifth of the labels is wrong."""
    labels = np.arange(count, dtype=np.int32) % 2
    texts = Texts([f"{words[label]} film" if words[0] else "? !" for label in labels], labels)
    test = Texts(texts.texts, np.where(np.arange(count) % 5 == 0, 1 - labels, labels).astype(np.int32))
    return TextDataset(texts, texts, test, ("no", "yes"), [])


def compared(data, right):
    """A comparison that has seen a classifier with these right answers."""
    comparison = TextComparison(data, "the moon")
    labels = data.test.labels
    logits = np.where(right, labels, 1 - labels)[:, None] * 2.0 - 1.0
    metrics = comparison.compute_metrics({}, {"logits": logits.astype(np.float32)}, {"y": labels}, True)
    assert metrics["precision"] <= 1
    return comparison, {"test/accuracy": float(right.mean()), **comparison.metrics()}


def test_a_model_that_is_better():
    comparison, result = compared(dataset(), np.ones(60, bool))
    assert result["test/baseline_accuracy"] == pytest.approx(0.8)
    assert result["test/accuracy_over_baseline"] == pytest.approx(0.2)
    assert 0 < result["test/accuracy_over_baseline_low"] < 0.2 < result["test/accuracy_over_baseline_high"]
    [line] = comparison.conclusion(result)
    assert line.startswith("test accuracy: 100.0 %; TF-IDF with logistic regression: 80.0 %; lead +20.0 points (95 %")


def test_a_model_that_is_not_better_says_what_may_help():
    comparison, result = compared(dataset(), np.arange(60) % 2 == 0)
    lines = comparison.conclusion(result)
    assert "lead -30.0 points" in lines[0] and lines[1].endswith("what may help: more of them, the moon")
    assert "60 training texts" in lines[1]


def test_texts_without_words_have_no_baseline_and_lose_nothing():
    comparison, result = compared(dataset(words=("", "")), np.ones(60, bool))
    assert result == {"test/accuracy": 1.0}
    assert comparison.conclusion(result)[0].startswith("no baseline: the 60 training texts have no word in common")
