"""Evaluation of text classifiers and text regressions."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoo import errors, files
from zoo.data.datasets import text_classification, text_files
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.datasets.label_sets import LabelSets
from zoo.data.datasets.text_splits import Texts, normalized_key
from zoo.data.splits import shortened
from zoo.errors import BadInput
from zoo.metrics import evaluation_report
from zoo.metrics.logits import two_class_logits
from zoo.predict.evaluation.run_data import as_examples, run_label_sets, run_texts
from zoo.predict.predictors.multi_label import MultiLabel
from zoo.predict.predictors.predictor import Predictor
from zoo.predict.predictors.text_classifier import TextClassifier, TextRegressor
from zoo.predict.predictors.text_inputs import Example
from zoo.workdir import Run


def evaluate(
    predictor: Predictor,
    run: Run,
    dataset: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
    drop_unlabelled: bool = False,
    form: DelimitedFormat | None = None,
    set_measures: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None,
) -> dict[str, float]:
    """Evaluates a text classifier or a text regression.

    Args:
        predictor: predictor of the run.
        run: record of the run.
        dataset: None for the test split of the run's own texts. Else a name, whose test split is used, or a file of
            your own, without texts of the run's training and validation splits.
        text_column: text column of that file; None for the run's.
        label_column: label column of that file; None for the run's.
        pair_column: column of the second texts in that file, for a run on pairs; None for the run's.
        drop_unlabelled: whether to leave out examples of that file whose label is missing, as the run may have done.
        form: how that file is written; None: as the run's own.
        set_measures: for a classifier, what measures prediction sets, from logits and labels; or None.

    Returns:
        `examples`, `loss` (cross-entropy), and the metrics of a final `evaluation_report.classifier`: accuracy, F1 and
        so on, each with its interval `NAME_low` and `NAME_high` (95 %, bootstrap), the confusion matrix, and where the
        run has a decision rule `decisions.metrics`. For a regression, `loss` is half the squared error of standardised
        values, and the metrics are those of `evaluation_report.regression`. For another data set also `left_out`, the
        number of excluded texts; it is missing where the run's own texts can no longer be read.

    Raises:
        BadInput: the data set is not found or not understood, its classes differ, or no text is left.
    """
    config = run.config
    if pair_column and not predictor.pair_column:
        raise BadInput("--pair_column: the run is on single texts; expected --text_column alone")
    if dataset is None:
        own = run_texts(run)
        _check_classes("the run's data set", own.classes, predictor.classes)
        return _metrics(predictor, own.test, set_measures)
    columns = (
        text_column or config.get("text_column") or "text",
        label_column or config.get("label_column") or "label",
        (pair_column or predictor.pair_column) if predictor.pair_column else "",
    )
    drop = drop_unlabelled or bool(config.get("drop_unlabelled"))
    labels = run_label_sets(run, label_column)
    data = _other(dataset, columns, predictor.classes, drop, form or predictor.file_format, labels)
    try:
        own = run_texts(run)
    except BadInput:
        return _metrics(predictor, data, set_measures)
    own_keys = set(map(normalized_key, own.train.texts)) | set(map(normalized_key, own.validation.texts))
    new = np.array([normalized_key(text) not in own_keys for text in data.texts], bool)
    if not new.any():
        raise BadInput(f"--dataset {dataset}: the run was trained on all of its {len(new)} texts; expected others")
    left = Texts([text for text, keep in zip(data.texts, new) if keep], data.labels[new])
    return {**_metrics(predictor, left, set_measures), "left_out": int((~new).sum())}


def _other(
    dataset: str,
    columns: tuple[str, str, str],
    classes: tuple[str, ...],
    drop_unlabelled: bool,
    form: DelimitedFormat,
    labels: LabelSets | None,
) -> Texts:
    path = files.absolute_list(dataset)
    if dataset in text_classification.NAMES:
        if columns[2] or not classes or labels is not None:
            kind = "pairs" if columns[2] else "several labels" if classes else "values"
            raise BadInput(f"--dataset {dataset} is classes of texts, the run is on {kind}; expected a file of these")
        data = text_classification.load(dataset)
        _check_classes(f"--dataset {dataset}", data.classes, classes)
        return data.test
    if not path.exists() and not text_files.is_supported(path):
        raise BadInput(
            f"--dataset is {dataset!r}: "
            + errors.nearest(dataset, text_classification.NAMES, f"a file of your own: {text_files.EXPECTED}")
        )
    return of_file(path, columns, classes, drop_unlabelled, form, labels)


def of_file(
    path: Path,
    columns: tuple[str, str, str],
    classes: tuple[str, ...],
    drop_unlabelled: bool = False,
    form: DelimitedFormat = FOUND,
    labels: LabelSets | None = None,
) -> Texts:
    """Labelled texts of a file; what was assumed while reading it is printed on stderr.

    Args:
        path: a file that `text_files.read` reads.
        columns: names of the columns of texts, labels and second texts; the last is empty for single texts.
        classes: class names of the model; empty for a regression.
        drop_unlabelled: whether to leave out examples whose label is missing; else they are refused.
        form: how a delimited file is written, as far as it is known.
        labels: how the file says which of several labels a text has; None: one class or value.

    Raises:
        BadInput: the file is not understood, is empty, or has a class unknown to the model.
    """
    notes: list[str] = []
    if labels is not None:
        found, _ = text_classification.label_sets_of(path, columns, labels, classes, drop_unlabelled, notes, form)
        for note in notes:
            print(f"zoo: {note}", file=sys.stderr)
        return found
    rows = text_files.read(path, *columns, drop_unlabelled=drop_unlabelled, notes=notes, form=form)
    for note in notes:
        print(f"zoo: {note}", file=sys.stderr)
    if not rows:
        raise BadInput(f"{path} has no examples; expected some to test on")
    return text_classification.labelled(rows, classes, str(path), columns, "the model")


def _check_classes(source: str, classes: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if classes != expected:
        raise BadInput(
            f"{source} has the {len(classes)} classes {shortened(classes)}; expected the model's "
            f"{len(expected)}: {shortened(expected)}"
        )


def _metrics(predictor: Predictor, data: Texts, set_measures: Callable | None) -> dict[str, float]:
    more = {"set_measures": set_measures} if set_measures else {}
    losses, metrics = _MEASURES[predictor.task](predictor, as_examples(predictor, data), data.labels, **more)
    return {"examples": len(losses), "loss": float(losses.mean())} | metrics


def _regression(predictor: TextRegressor, texts: list[Example], values: np.ndarray) -> tuple[np.ndarray, dict]:
    """Loss per text, `[texts]`, and the metrics."""
    logits, labels = predictor.network.logits(texts), (values - predictor.centre) / predictor.scale
    compute = evaluation_report.regression(predictor.scale, predictor.centre)
    return (logits[:, 0] - labels) ** 2 / 2, compute({}, {"logits": logits}, {"y": labels}, True)


def _classification(
    predictor: TextClassifier, texts: list[Example], labels: np.ndarray, set_measures: Callable | None = None
) -> tuple[np.ndarray, dict]:
    """Loss per text, `[texts]`, and the metrics."""
    logits = predictor.logits(texts).astype(np.float64)
    both = two_class_logits(logits)  # [texts, classes]
    losses = np.logaddexp.reduce(both, axis=1) - both[np.arange(len(both)), labels]
    compute = evaluation_report.classifier(predictor.classes)
    metrics = compute({}, {"logits": logits}, {"y": labels}, True)
    if predictor.decision is not None:
        metrics |= evaluation_report.of_decisions(predictor.decision, logits, {"y": labels}, predictor.classes)
    if set_measures is not None:
        metrics |= set_measures(logits, labels)
    return losses, metrics


def _labels(predictor: MultiLabel, texts: list[Example], labels: np.ndarray) -> tuple[np.ndarray, dict]:
    """Loss per text, `[texts]`, and the metrics."""
    logits = predictor.logits(texts).astype(np.float64)
    metrics = evaluation_report.multi_label(predictor.classes)({}, {"logits": logits}, {"y": labels}, True)
    if predictor.decision is not None:
        metrics |= evaluation_report.of_decisions(predictor.decision, logits, {"y": labels}, predictor.classes)
    return (np.logaddexp(0.0, logits) - labels * logits).mean(axis=1), metrics


_MEASURES = {"regression": _regression, "classification": _classification, "multi_label": _labels}
