"""How good a classifier of texts is on texts that it was not trained on."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo import config as configs
from zoo.data import reviews, text_files
from zoo.data.reviews import Reviews, Texts
from zoo.data.text_splits import same
from zoo.errors import BadInput
from zoo.predict.texts import TextPredictor
from zoo.report import judge


def evaluate(
    predictor: TextPredictor,
    run: dict[str, Any],
    dataset: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
) -> dict[str, float]:
    """Judges a classifier of texts.

    Args:
        predictor: of the run.
        run: its run.json.
        dataset: None for the test split of the run's own texts. Else a name, whose test split is used, or a file of
            one's own. Of another data set those texts are left out that the run was trained on or chosen by.
        text_column: of that file; None for the run's.
        label_column: of that file; None for the run's.

    Returns:
        `examples`, `loss` (cross-entropy), and all that `judge.classifier` finds in a final evaluation: accuracy, F1
        and so on, `NAME_low` and `NAME_high` of each (95 %, bootstrap), and the confusion matrix. Of another data set
        also `left_out`, the number of texts; it is missing where the run's own texts cannot be read any more.

    Raises:
        BadInput: the data set is not found or not understood, its classes are others, or no text is left.
    """
    config = run["config"]
    if dataset is None:
        own = _own(run)
        _check_classes("the run's data set", own.classes, predictor.classes)
        return _judged(predictor, own.test)
    text_column = text_column or config.get("text_column") or "text"
    found = _other(dataset, text_column, label_column or config.get("label_column") or "label", predictor.classes)
    try:
        own = _own(run)
    except BadInput:
        return _judged(predictor, found)
    known = set(map(same, own.train.texts)) | set(map(same, own.validation.texts))
    new = np.array([same(text) not in known for text in found.texts], bool)
    if not new.any():
        raise BadInput(f"--dataset {dataset}: the run was trained on all of its {len(new)} texts; expected others")
    left = Texts([text for text, keep in zip(found.texts, new) if keep], found.labels[new])
    return {**_judged(predictor, left), "left_out": int((~new).sum())}


def _own(run: dict[str, Any]) -> Reviews:
    config = run["config"]
    names = ("train_file", "eval_file", "text_column", "label_column")
    given = {name: config[name] for name in names if config.get(name)}
    for name in ("train_file", "eval_file"):
        if name in given:
            # As it was typed, in the folder where it was typed.
            given[name] = str(Path(run.get("folder", "."), Path(given[name]).expanduser()))
    return reviews.load(config.get("dataset", ""), **given)


def _other(dataset: str, text_column: str, label_column: str, classes: tuple[str, ...]) -> Texts:
    path = configs.absolute(dataset)
    if dataset in reviews.NAMES:
        found = reviews.load(dataset)
        _check_classes(f"--dataset {dataset}", found.classes, classes)
        return found.test
    if path.suffix not in text_files.SUFFIXES and not path.exists():
        raise BadInput(
            f"--dataset is {dataset!r}: {configs.nearest(dataset, reviews.NAMES)} Or a .csv, .tsv or .jsonl of your own"
        )
    rows = text_files.read(path, text_column, label_column)
    if not rows:
        raise BadInput(f"{path} has no examples; expected some to test on")
    label_of = {name: label for label, name in enumerate(classes)}
    for row in rows:
        if row.label not in label_of:
            raise BadInput(
                f"{path} line {row.line}: the class is {row.label!r}; expected one of the model's: {_few(classes)}"
            )
    return Texts([row.text for row in rows], np.array([label_of[row.label] for row in rows], np.int32))


def _check_classes(source: str, found: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if found != expected:
        raise BadInput(
            f"{source} has the {len(found)} classes {_few(found)}; expected the model's {len(expected)}: "
            f"{_few(expected)}"
        )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _judged(predictor: TextPredictor, examples: Texts) -> dict[str, float]:
    logits = predictor.logits(examples.texts).astype(np.float64)
    two = np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits
    losses = np.logaddexp.reduce(two, axis=1) - two[np.arange(len(two)), examples.labels]
    found = judge.classifier(predictor.classes)({}, {"logits": logits}, {"y": examples.labels}, True)
    return {"examples": len(losses), "loss": float(losses.mean()), **found}
