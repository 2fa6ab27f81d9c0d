"""The validation split of a finished run, with its model's logits."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.predict.evaluation import run_data
from zoo.predict.predictors.predictor import Classifier
from zoo.workdir import Run, read_run


class HeldOut(NamedTuple):
    """The validation split, as the stages and guards of `zoo.adaptation.refiner` use it.

    Attributes:
        examples: an array, or a list of texts or pairs of texts, as the predictor takes them.
        labels: int32 `[examples]`.
        logits: logits of the trained model, float32 `[examples, classes]`.
    """

    examples: Any
    labels: np.ndarray
    logits: np.ndarray


def load(workdir: str | Path, predictor: Classifier) -> HeldOut:
    """Reads the run's validation split and computes its model's logits.

    Args:
        workdir: folder of the run.
        predictor: the run's classifier, from `loading.load(workdir)`.

    Raises:
        BadInput: the run's data set can no longer be read.
    """
    run = read_run(workdir)
    try:
        examples, labels = _validation(predictor, run)
    except BadInput as error:
        raise BadInput(f"what is refined is judged by the run's validation split: {error}") from None
    return HeldOut(examples, labels, two_class_logits(predictor.logits(examples)))


def value_errors(workdir: str | Path, predictor: Any) -> np.ndarray:
    """Differences between a regression's predictions and the values of the run's validation split, `[examples]`.

    The split had a part in the choice of the weights (early stopping), so they are a little too small.

    Args:
        workdir: folder of the run.
        predictor: the run's regression, from `loading.load(workdir)`.

    Raises:
        BadInput: it is no regression, or its data set can no longer be read.
    """
    if predictor.task != "regression":
        raise BadInput(f"--interval is for regressions; {workdir} holds a model for {predictor.task}")
    run = read_run(workdir)
    try:
        if predictor.reads_text:
            validation = run_data.run_texts(run).validation
            examples, values = run_data.as_examples(predictor, validation), validation.labels
        else:
            columns = run_data.run_arrays(run, values=True).validation
            examples, values = columns["x"], columns["y"]
    except BadInput as error:
        raise BadInput(f"--interval is found with the run's validation split: {error}") from None
    return predictor.values(examples) - np.asarray(values, np.float64)


def halves(source: HeldOut) -> tuple[HeldOut, HeldOut]:
    """Two random halves, always the same, one to fit on and one to evaluate on."""
    order = np.random.default_rng(0).permutation(len(source.labels))
    parts = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    return tuple(HeldOut(_chosen(source.examples, part), source.labels[part], source.logits[part]) for part in parts)


def _chosen(examples: Any, part: np.ndarray) -> Any:
    return examples[part] if isinstance(examples, np.ndarray) else [examples[index] for index in part.tolist()]


def _validation(predictor: Classifier, run: Run) -> tuple[Any, np.ndarray]:
    if predictor.reads_text:
        validation = run_data.run_texts(run).validation
        return run_data.as_examples(predictor, validation), validation.labels
    columns = run_data.run_arrays(run).validation
    return columns["x"], columns["y"]
