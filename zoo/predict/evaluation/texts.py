"""How good a classifier or a regression of texts is on texts that it was not trained on."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo import errors, files
from zoo.data.datasets import text_classification, text_files
from zoo.data.datasets.text_splits import Texts, normalized_key
from zoo.errors import BadInput
from zoo.metrics import evaluation_report
from zoo.metrics.logits import two_class_logits
from zoo.predict.evaluation.run_data import as_examples, run_texts
from zoo.predict.predictors.text_classifier import TextClassifier, TextRegressor


def evaluate(
    predictor: TextClassifier | TextRegressor,
    run: dict[str, Any],
    dataset: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
) -> dict[str, float]:
    """Judges a classifier or a regression of texts.

    Args:
        predictor: of the run.
        run: its run.json.
        dataset: None for the test split of the run's own texts. Else a name, whose test split is used, or a file of
            one's own. Of another data set those texts are left out that the run was trained on or chosen by.
        text_column: of that file; None for the run's.
        label_column: of that file; None for the run's.
        pair_column: of that file, for a run on pairs; None for the run's.

    Returns:
        `examples`, `loss` (cross-entropy), and the metrics of a final `evaluation_report.classifier`: accuracy, F1 and
        so on, `NAME_low` and `NAME_high` of each (95 %, bootstrap), and the confusion matrix. For a regression, `loss`
        is half the squared error of standardised values, and the metrics are those of `evaluation_report.regression`.
        For another data set also `left_out`, the number of texts left out; it is missing where the run's own texts
        cannot be read any more.

    Raises:
        BadInput: the data set is not found or not understood, its classes are others, or no text is left.
    """
    config = run["config"]
    if pair_column and not predictor.pair_column:
        raise BadInput("--pair_column: the run is on single texts; expected --text_column alone")
    if dataset is None:
        own = run_texts(run)
        _check_classes("the run's data set", own.classes, _classes(predictor))
        return _judged(predictor, own.test)
    columns = (
        text_column or config.get("text_column") or "text",
        label_column or config.get("label_column") or "label",
        (pair_column or predictor.pair_column) if predictor.pair_column else "",
    )
    found = _other(dataset, columns, _classes(predictor))
    try:
        own = run_texts(run)
    except BadInput:
        return _judged(predictor, found)
    known = set(map(normalized_key, own.train.texts)) | set(map(normalized_key, own.validation.texts))
    new = np.array([normalized_key(text) not in known for text in found.texts], bool)
    if not new.any():
        raise BadInput(f"--dataset {dataset}: the run was trained on all of its {len(new)} texts; expected others")
    left = Texts([text for text, keep in zip(found.texts, new) if keep], found.labels[new])
    return {**_judged(predictor, left), "left_out": int((~new).sum())}


def _classes(predictor: TextClassifier | TextRegressor) -> tuple[str, ...]:
    return predictor.classes if isinstance(predictor, TextClassifier) else ()


def _other(dataset: str, columns: tuple[str, str, str], classes: tuple[str, ...]) -> Texts:
    path = files.absolute(dataset)
    if dataset in text_classification.NAMES:
        if columns[2] or not classes:
            wanted = "pairs" if columns[2] else "values"
            raise BadInput(f"--dataset {dataset} is classes of texts, the run is on {wanted}; expected a file of these")
        found = text_classification.load(dataset)
        _check_classes(f"--dataset {dataset}", found.classes, classes)
        return found.test
    if path.suffix not in text_files.SUFFIXES and not path.exists():
        raise BadInput(
            f"--dataset is {dataset!r}: "
            + errors.nearest(dataset, text_classification.NAMES, "a .csv, .tsv or .jsonl of your own")
        )
    return of_file(path, columns, classes)


def of_file(path: Path, columns: tuple[str, str, str], classes: tuple[str, ...]) -> Texts:
    """Labelled texts of a file of one's own.

    Args:
        path: a .csv, .tsv or .jsonl.
        columns: of texts, labels and second texts; the last is empty where texts are single.
        classes: of the model; none of a regression.

    Raises:
        BadInput: the file is not understood, is empty, or has a class that the model does not know.
    """
    rows = text_files.read(path, *columns)
    if not rows:
        raise BadInput(f"{path} has no examples; expected some to test on")
    text_classification.check_classes(rows, classes, str(path), columns[1], "the model")
    return text_classification.labelled(rows, classes, path, columns)


def _check_classes(source: str, found: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if found != expected:
        raise BadInput(
            f"{source} has the {len(found)} classes {text_classification.shortened(found)}; expected the model's "
            f"{len(expected)}: {text_classification.shortened(expected)}"
        )


def _judged(predictor: TextClassifier | TextRegressor, examples: Texts) -> dict[str, float]:
    texts = as_examples(predictor, examples)
    if isinstance(predictor, TextRegressor):
        logits, labels = predictor.network.logits(texts), (examples.labels - predictor.centre) / predictor.scale
        losses, judged = (
            (logits[:, 0] - labels) ** 2 / 2,
            evaluation_report.regression(predictor.scale, predictor.centre),
        )
    else:
        logits, labels = predictor.logits(texts).astype(np.float64), examples.labels
        two = two_class_logits(logits)  # [examples, classes]
        losses = np.logaddexp.reduce(two, axis=1) - two[np.arange(len(two)), labels]
        judged = evaluation_report.classifier(predictor.classes)
    return {"examples": len(losses), "loss": float(losses.mean())} | judged({}, {"logits": logits}, {"y": labels}, True)
