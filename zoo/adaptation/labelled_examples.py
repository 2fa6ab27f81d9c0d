"""Labelled examples that guard test-time adaptation (`zoo predict --refine --labelled=FILE`)."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo.data.datasets import tables, text_files
from zoo.data.splits import shortened
from zoo.errors import BadInput
from zoo.predict.evaluation import run_data, texts
from zoo.predict.predictors.predictor import Classifier
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.workdir import read_run


def read(path: str | Path, workdir: str | Path, predictor: Classifier) -> tuple[Any, np.ndarray]:
    """Reads examples and their classes for `zoo.adaptation.refiner.refine`.

    Args:
        path: a .npz with `x` `[examples, ...]` and `y`, class indices; for a run on texts a file with the columns
            of the run's own; see `text_files.read`.
        workdir: folder of the run.
        predictor: the run's classifier.

    Returns:
        The examples in the predictor's input format, and labels, int32 `[examples]`.

    Raises:
        BadInput: the file cannot be read, has no labels or no examples, or does not suit the model.
    """
    path = files.absolute(path)
    try:
        if predictor.reads_text:
            return _texts(path, workdir, predictor)
        return _arrays(path, predictor)
    except BadInput as error:
        raise BadInput(f"--labelled: {error}") from None


def _texts(path: Path, workdir: str | Path, predictor: TextClassifier) -> tuple[Any, np.ndarray]:
    if not text_files.is_supported(path):
        raise BadInput(f"{path} is not a file of labelled texts: expected {text_files.EXPECTED}")
    config = read_run(workdir, config_required=False).config
    columns = (predictor.text_column, config.get("label_column") or "label", predictor.pair_column)
    drop = bool(config.get("drop_unlabelled"))
    dataset = texts.of_file(path, columns, predictor.classes, drop, predictor.file_format)
    return run_data.as_examples(predictor, dataset), dataset.labels


def _arrays(path: Path, predictor: Classifier) -> tuple[Any, np.ndarray]:
    columns = tables.load_unsplit(path, may_lack=predictor.columns is not None)
    if not len(columns["y"]):
        raise BadInput(f"{path} has no examples; expected some with their classes")
    wrong = columns["y"][(columns["y"] < 0) | (columns["y"] >= len(predictor.classes))]
    if len(wrong):
        raise BadInput(
            f"{path}: label {wrong[0]}; expected 0 to {len(predictor.classes) - 1}, the indices of the classes "
            f"{shortened(predictor.classes)}"
        )
    try:
        # Predicted now, so that a wrong input is reported before the stream starts.
        predictor.logits(columns["x"][:1])
        return predictor.prepared(columns["x"]), columns["y"]
    except BadInput as error:
        raise BadInput(f"{path}: x has {error}") from None
