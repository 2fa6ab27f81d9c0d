"""What a finished run knows of the data that it was trained for: its model's answers to the validation split."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.predict.evaluation import run_data
from zoo.predict.evaluation.run_data import run_arrays
from zoo.predict.predictors.cloning import Classifier
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.workdir import Run, read_run


class HeldOut(NamedTuple):
    """The validation split, as the stages and guards of `zoo.adaptation.refiner` use it.

    Attributes:
        examples: what the predictor takes: an array, or a list of texts or pairs.
        labels: int32 `[examples]`.
        logits: float32 `[examples, classes]`, of the model as it was trained.
    """

    examples: Any
    labels: np.ndarray
    logits: np.ndarray


def load(workdir: str | Path, predictor: Classifier) -> HeldOut:
    """Reads the run's validation split and lets its model answer.

    Args:
        workdir: of the run.
        predictor: `predictor.load(workdir)`, of classes.

    Raises:
        BadInput: the run's data set cannot be read any more.
    """
    run = read_run(workdir)
    try:
        examples, labels = _validation(predictor, run)
    except BadInput as error:
        raise BadInput(f"what is refined is judged by the run's validation split: {error}") from None
    return HeldOut(examples, labels, two_class_logits(predictor.logits(examples)))


def halves(source: HeldOut) -> tuple[HeldOut, HeldOut]:
    """Two parts by chance, always the same: what is fitted to one may be judged by the other."""
    order = np.random.default_rng(0).permutation(len(source.labels))
    parts = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    return tuple(HeldOut(_chosen(source.examples, part), source.labels[part], source.logits[part]) for part in parts)


def _chosen(examples: Any, part: np.ndarray) -> Any:
    return examples[part] if isinstance(examples, np.ndarray) else [examples[index] for index in part.tolist()]


def _validation(predictor: Classifier, run: Run) -> tuple[Any, np.ndarray]:
    if isinstance(predictor, TextClassifier):
        found = run_data.run_texts(run).validation
        return run_data.as_examples(predictor, found), found.labels
    columns = run_arrays(run).validation
    return columns["x"], columns["y"]
