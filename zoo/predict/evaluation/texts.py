"""How good a classifier or a regression of texts is on texts that it was not trained on."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo import config as configs
from zoo.data.datasets import extra_examples, text_classification, text_files
from zoo.data.datasets.text_classification import Reviews, Texts
from zoo.data.datasets.text_splits import same
from zoo.data.text.special_tokens import PAIR
from zoo.errors import BadInput
from zoo.metrics import evaluation_report
from zoo.predict.predictors.text_classifier import TextPredictor, ValuePredictor
from zoo.predict.predictors.text_inputs import Example


def evaluate(
    predictor: TextPredictor | ValuePredictor,
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
        `examples`, `loss` (cross-entropy), and all that `judge.classifier` finds in a final evaluation: accuracy, F1
        and so on, `NAME_low` and `NAME_high` of each (95 %, bootstrap), and the confusion matrix; of a regression
        half the squared error of standardised values as `loss`, and all of `judge.regression`. Of another data set
        also `left_out`, the number of texts; it is missing where the run's own texts cannot be read any more.

    Raises:
        BadInput: the data set is not found or not understood, its classes are others, or no text is left.
    """
    config = run["config"]
    if pair_column and not predictor.pair_column:
        raise BadInput("--pair_column: the run is on single texts; expected --text_column alone")
    if dataset is None:
        own = own_texts(run)
        _check_classes("the run's data set", own.classes, _classes(predictor))
        return _judged(predictor, own.test)
    columns = (
        text_column or config.get("text_column") or "text",
        label_column or config.get("label_column") or "label",
        (pair_column or predictor.pair_column) if predictor.pair_column else "",
    )
    found = _other(dataset, columns, _classes(predictor))
    try:
        own = own_texts(run)
    except BadInput:
        return _judged(predictor, found)
    known = set(map(same, own.train.texts)) | set(map(same, own.validation.texts))
    new = np.array([same(text) not in known for text in found.texts], bool)
    if not new.any():
        raise BadInput(f"--dataset {dataset}: the run was trained on all of its {len(new)} texts; expected others")
    left = Texts([text for text, keep in zip(found.texts, new) if keep], found.labels[new])
    return {**_judged(predictor, left), "left_out": int((~new).sum())}


def own_texts(run: dict[str, Any], more: bool = True) -> Reviews:
    """The texts of a run, split as they were for it; `more`: with those of its --more_file."""
    config, folder = run["config"], run.get("folder", ".")
    names = ("train_file", "eval_file", "text_column", "label_column", "pair_column")
    given = {name: config[name] for name in names if config.get(name)}
    for name in ("train_file", "eval_file"):
        if name in given:
            # As it was typed, in the folder where it was typed.
            given[name] = str(Path(folder, Path(given[name]).expanduser()))
    found = text_classification.load(config.get("dataset", ""), values=config.get("task") == "regression", **given)
    if not more or not config.get("more_file"):
        return found
    added = str(Path(folder, Path(config["more_file"]).expanduser()))
    return extra_examples.texts(found, added, *(config.get(f"{name}_column", "") for name in ("text", "label", "pair")))


def given(predictor: TextPredictor | ValuePredictor, found: Texts) -> list[Example]:
    """Texts, or pairs of them, as the predictor takes them."""
    return [tuple(text.split(PAIR)) for text in found.texts] if predictor.pair_column else found.texts


def _classes(predictor: TextPredictor | ValuePredictor) -> tuple[str, ...]:
    return predictor.classes if isinstance(predictor, TextPredictor) else ()


def _other(dataset: str, columns: tuple[str, str, str], classes: tuple[str, ...]) -> Texts:
    path = configs.absolute(dataset)
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
            + configs.nearest(dataset, text_classification.NAMES, "a .csv, .tsv or .jsonl of your own")
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
            f"{source} has the {len(found)} classes {text_classification.few(found)}; expected the model's "
            f"{len(expected)}: {text_classification.few(expected)}"
        )


def _judged(predictor: TextPredictor | ValuePredictor, examples: Texts) -> dict[str, float]:
    texts = given(predictor, examples)
    if isinstance(predictor, ValuePredictor):
        logits, labels = predictor.network.logits(texts), (examples.labels - predictor.centre) / predictor.scale
        losses, judged = (
            (logits[:, 0] - labels) ** 2 / 2,
            evaluation_report.regression(predictor.scale, predictor.centre),
        )
    else:
        logits, labels = predictor.logits(texts).astype(np.float64), examples.labels
        two = np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits
        losses = np.logaddexp.reduce(two, axis=1) - two[np.arange(len(two)), labels]
        judged = evaluation_report.classifier(predictor.classes)
    return {"examples": len(losses), "loss": float(losses.mean())} | judged({}, {"logits": logits}, {"y": labels}, True)
