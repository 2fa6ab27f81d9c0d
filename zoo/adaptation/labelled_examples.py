"""The few labelled examples that a refined prediction may be held to: of `zoo predict --refine --labelled=FILE`."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo import workdir as folders
from zoo.data.datasets import tables, text_classification, text_files
from zoo.errors import BadInput
from zoo.predict.evaluation import run_data, texts
from zoo.predict.predictors.cloning import Classifier
from zoo.predict.predictors.text_classifier import TextClassifier


def read(path: str | Path, workdir: str | Path, predictor: Classifier) -> tuple[Any, np.ndarray]:
    """Reads examples and their classes, as `zoo.adaptation.refiner.refine` takes them.

    Args:
        path: a .npz with `x` `[examples, ...]` and `y`, places among the classes; for a run on texts a .csv, .tsv or
            .jsonl with the columns of the run's own files.
        workdir: of the run.
        predictor: of the run.

    Returns:
        The examples as the predictor takes them, and int32 `[examples]`.

    Raises:
        BadInput: the file is not understood, has no labels or no example, or they do not suit the model.
    """
    place = files.absolute(path)
    try:
        if isinstance(predictor, TextClassifier):
            return _texts(place, workdir, predictor)
        return _arrays(place, predictor)
    except BadInput as error:
        raise BadInput(f"--labelled: {error}") from None


def _texts(place: Path, workdir: str | Path, predictor: TextClassifier) -> tuple[Any, np.ndarray]:
    if place.suffix not in text_files.SUFFIXES:
        raise BadInput(f"{place} is no file of labelled texts: expected {', '.join(text_files.SUFFIXES)}")
    config = (folders.read_json(files.absolute(workdir), folders.RUN) or {}).get("config") or {}
    label_column = config.get("label_column") or "label"
    columns = (predictor.text_column, label_column, predictor.pair_column)
    found = texts.of_file(place, columns, predictor.classes)
    return run_data.as_examples(predictor, found), found.labels


def _arrays(place: Path, predictor: Classifier) -> tuple[Any, np.ndarray]:
    columns = tables.load_unsplit(place)
    if not len(columns["y"]):
        raise BadInput(f"{place} has no examples; expected some with their classes")
    wrong = columns["y"][(columns["y"] < 0) | (columns["y"] >= len(predictor.classes))]
    if len(wrong):
        raise BadInput(
            f"{place}: label {wrong[0]}; expected 0 to {len(predictor.classes) - 1}, the places of the classes "
            f"{text_classification.shortened(predictor.classes)}"
        )
    try:
        # What the model would not take is found before the stream, not in its middle.
        predictor.logits(columns["x"][:1])
        return predictor.prepared(columns["x"]), columns["y"]
    except BadInput as error:
        raise BadInput(f"{place}: x has {error}") from None
