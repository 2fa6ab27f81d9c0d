"""Single runs compared by their answers on the test examples.

A run does not keep these, so the exported model answers its own test split once more. Accuracy is tested by McNemar's
exact test, all other metrics and weighted examples by a paired bootstrap.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.metrics import classification, entities, evaluation_report, multi_label, paired_tests, regression
from zoo.metrics.classification import OfCounts
from zoo.metrics.logits import class_probabilities
from zoo.metrics.paired_tests import Difference, Measured
from zoo.names import keys
from zoo.predict.evaluation import arrays, run_data
from zoo.predict.predictors.loading import load
from zoo.studies import pairs
from zoo.studies.pairs import Comparison, Value
from zoo.workdir import Run


class _Answers(NamedTuple):
    """What a run answers on its test split.

    Attributes:
        task: what the model does, and for which classes.
        labels: true labels, values, label sets or tags, in the order of the examples.
        examples: the examples as the model reads them: texts, sentences, or an array `[examples, ...]`.
        weights: `[examples]`, or None.
        compute: the metrics as a function of how often each example counts.
        correct: whether each example is answered correctly, bool `[examples]`; None where no answer is simply right.
    """

    task: tuple
    labels: Sequence[Any]
    examples: Any
    weights: np.ndarray | None
    compute: OfCounts
    correct: np.ndarray | None = None


class _Kept(NamedTuple):
    """What is kept of a run's answers once its metrics are measured."""

    answers: _Answers
    measured: Measured


def compare(runs: Mapping[str, Path], metrics: Sequence[str]) -> Comparison:
    """Compares single runs; arguments and errors as in `comparison.compare`."""
    kept: dict[str, _Kept] = {}
    for name, path in runs.items():
        answers = _answers(name, path)
        for other, before in kept.items():
            _require_same_data(other, before.answers, name, answers)
        count = evaluation_report.resamples(len(answers.labels), len(answers.task[1]) or 1)
        kept[name] = _Kept(answers, paired_tests.measure(answers.compute, len(answers.labels), count))
    values, first = {run: each.measured.values for run, each in kept.items()}, kept[next(iter(runs))]
    available = [name for name in first.measured.values if all(name in each for each in values.values())]
    names = pairs.chosen(available, metrics)

    @functools.cache
    def bootstrap(run: str, other: str) -> dict[str, Difference]:
        return paired_tests.bootstrap(kept[run].measured, kept[other].measured)

    def difference(run: str, other: str, metric: str) -> Difference | None:
        one, two = kept[run].answers.correct, kept[other].answers.correct
        if metric == "accuracy" and one is not None and two is not None:
            return paired_tests.accuracy(one, two)
        return bootstrap(run, other).get(metric)

    table = {
        metric: {run: Value(values[run][metric], *each.measured.interval(metric)) for run, each in kept.items()}
        for metric in names
    }
    notes = ["p: paired bootstrap over the examples"]
    if "accuracy" in names and first.answers.correct is not None:
        notes = ["p of accuracy: McNemar's exact test; of other metrics: paired bootstrap over the examples"]
    unit = f"{len(first.answers.labels):,} test {'sentences' if first.answers.task[0] == 'tagging' else 'examples'}"
    return Comparison(unit, table, pairs.of_runs(list(runs), names, difference), notes)


def _answers(name: str, path: Path) -> _Answers:
    predictor, run = load(path), folders.read_run(path)
    kind = (predictor.task, predictor.reads_text)
    if kind not in _TASKS:
        raise BadInput(
            f"{name} is a run for {predictor.task}, which has no answers to compare; compare --seeds folders"
        )
    try:
        return _TASKS[kind](predictor, run)
    except BadInput as error:
        raise BadInput(f"the test split of {name}: {error}") from None


def _array_classes(predictor, run: Run) -> _Answers:
    columns = arrays.own_test(predictor, run)
    return _of_classes(predictor, columns["x"], columns["x"], columns["y"], columns.get("weight"))


def _text_classes(predictor, run: Run) -> _Answers:
    data = run_data.run_texts(run, more=False)
    if data.classes != predictor.classes:
        raise BadInput("the classes of the data are no longer those of the model; put the data back")
    return _of_classes(predictor, run_data.as_examples(predictor, data.test), data.test.texts, data.test.labels, None)


def _of_classes(predictor, examples, shown, labels: np.ndarray, weights: np.ndarray | None) -> _Answers:
    probabilities = class_probabilities(predictor.logits(examples))
    correct = probabilities.argmax(axis=1) == labels if weights is None else None
    compute = classification.of_counts(probabilities, labels, keys(predictor.classes), weights)
    return _Answers(("classification", predictor.classes), labels.tolist(), shown, weights, compute, correct)


def _array_labels(predictor, run: Run) -> _Answers:
    columns = arrays.own_test(predictor, run)
    return _of_labels(predictor, columns["x"], columns["x"], columns["y"], columns.get("weight"))


def _text_labels(predictor, run: Run) -> _Answers:
    test = run_data.run_texts(run, more=False).test
    return _of_labels(predictor, run_data.as_examples(predictor, test), test.texts, test.labels, None)


def _of_labels(predictor, examples, shown, labels: np.ndarray, weights: np.ndarray | None) -> _Answers:
    compute = multi_label.of_counts(predictor.logits(examples), labels, weights)
    return _Answers(("multi_label", predictor.classes), labels.tolist(), shown, weights, compute)


def _array_values(predictor, run: Run) -> _Answers:
    columns = arrays.own_test(predictor, run)
    return _of_values(predictor, columns["x"], columns["x"], columns["y"])


def _text_values(predictor, run: Run) -> _Answers:
    test = run_data.run_texts(run, more=False).test
    return _of_values(predictor, run_data.as_examples(predictor, test), test.texts, test.labels)


def _of_values(predictor, examples, shown, values: np.ndarray) -> _Answers:
    compute = regression.of_counts(predictor.values(examples), values)
    return _Answers(("regression", ()), np.asarray(values).tolist(), shown, None, compute)


def _tags(predictor, run: Run) -> _Answers:
    test = run_data.run_sentences(run).test
    compute = entities.of_counts(test.tags, predictor.tags_of(test.words), predictor.scheme)
    return _Answers(("tagging", (), predictor.scheme), test.tags, test.words, None, compute)


# By task, and whether the run reads texts.
_TASKS: dict[tuple[str, bool], Callable[[Any, Run], _Answers]] = {
    ("classification", False): _array_classes,
    ("classification", True): _text_classes,
    ("multi_label", False): _array_labels,
    ("multi_label", True): _text_labels,
    ("regression", False): _array_values,
    ("regression", True): _text_values,
    ("tagging", True): _tags,
}


def _require_same_data(name: str, answers: _Answers, other: str, others: _Answers) -> None:
    """Refuses runs whose test splits differ in an example, a label or a weight.

    Arrays of different shapes are not compared, as runs may read other columns or image sizes of the same examples.
    """
    if answers.task != others.task:
        raise BadInput(f"{name} and {other} have other tasks or classes: expected runs that answer the same question")
    weights = [None if each is None else np.asarray(each).tolist() for each in (answers.weights, others.weights)]
    same = list(answers.labels) == list(others.labels) and weights[0] == weights[1]
    arrays_fit = all(isinstance(each, np.ndarray) for each in (answers.examples, others.examples))
    if arrays_fit and answers.examples.shape == others.examples.shape:
        same = same and np.array_equal(answers.examples, others.examples, equal_nan=answers.examples.dtype.kind == "f")
    elif not arrays_fit:
        same = same and list(answers.examples) == list(others.examples)
    if not same:
        sizes = f"{len(answers.labels):,} and {len(others.labels):,} examples"
        raise BadInput(f"{name} and {other} have other test splits ({sizes}): expected runs on the same data and split")
