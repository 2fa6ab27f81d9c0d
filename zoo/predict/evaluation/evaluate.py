"""Evaluation of a finished run on examples that it was not trained on, for every task."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from zoo import files
from zoo import workdir as folders
from zoo.data.datasets import delimited, delimited_format
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.predict.calibration import prediction_sets
from zoo.predict.evaluation import arrays, held_out, tags, texts
from zoo.predict.predictors.loading import load
from zoo.predict.predictors.predictor import Predictor


class _Evaluation(NamedTuple):
    """How the runs of a task are evaluated, and which flags on files apply; None for tasks without evaluation."""

    evaluate: Callable[..., dict[str, float]] | None
    columns: tuple[str, ...] = ()


_TEXTS = _Evaluation(texts.evaluate, ("text_column", "label_column", "pair_column", "drop_unlabelled"))
# By task, and whether the run reads texts.
_EVALUATIONS = {
    ("classification", False): _Evaluation(arrays.evaluate, ("label_column", "weight_column")),
    ("classification", True): _TEXTS,
    ("regression", True): _TEXTS,
    ("regression", False): _Evaluation(arrays.evaluate_values, ("label_column", "weight_column")),
    ("multi_label", False): _Evaluation(arrays.evaluate_labels, ("label_column", "weight_column", "drop_unlabelled")),
    ("multi_label", True): _TEXTS,
    ("tagging", True): _Evaluation(tags.evaluate, ("fix_tags",)),
    ("pretraining", True): _Evaluation(None),
}


def evaluate(
    workdir: str | Path,
    dataset: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
    weight_column: str | None = None,
    fix_tags: bool = False,
    drop_unlabelled: bool = False,
    file_flags: Mapping[str, Any] = MappingProxyType({}),
    sets: tuple[float, bool] | None = None,
) -> dict[str, float]:
    """Evaluates a run's model.

    Args:
        workdir: folder of the run.
        dataset: None for the test split of the run's own data set. Else a name, whose test split is used, or a file of
            your own; see `evaluate` of `arrays`, `texts` and `tags`.
        text_column: text column of such a file, for a run on texts; None for the run's.
        label_column: label column of such a file; None for the run's.
        pair_column: column of the second texts, for a run on pairs of texts; None for the run's.
        weight_column: weight column of a table; None for the run's where the table has it, empty for no weights.
        fix_tags: whether to accept entity tags of a CoNLL file that break their scheme, for a run on tags.
        drop_unlabelled: whether to leave out examples of such a file whose label is missing; else they are refused.
        file_flags: how such a file is written, arguments of `delimited_format.of_flags`; else as the run's own.
        sets: error level of prediction sets of a classifier, calibrated on its validation split, and whether
            it holds in each class; None: no sets.

    Returns:
        Metrics by name, those of `arrays.evaluate`, `texts.evaluate` or `tags.evaluate`; for prediction sets also
        `prediction_sets.measures`.

    Raises:
        ZooError: the folder or the data set cannot be read, or the two do not fit.
    """
    predictor, run = load(workdir), folders.read_run(workdir)
    kind = _EVALUATIONS[predictor.task, predictor.reads_text]
    if weight_column is not None and "weight_column" not in kind.columns:
        raise BadInput(f"{workdir} holds no model for tables: expected no --weight_column")
    columns = {"text_column": text_column, "label_column": label_column, "pair_column": pair_column}
    refused = [name for name in columns if name not in kind.columns]
    if any(columns[name] for name in refused):
        expected = " and ".join(f"no --{name}" for name in refused)
        raise BadInput(f"{workdir} holds no model for texts with labels: expected {expected}")
    if drop_unlabelled and "drop_unlabelled" not in kind.columns:
        raise BadInput(f"{workdir} holds no model for files of examples with labels: expected no --drop_unlabelled")
    if kind.evaluate is None:
        raise BadInput(
            f"{workdir} holds a pretrained encoder, whose test stands in {folders.RESULT}; fine-tune it first"
        )
    if not predictor.reads_text:
        dataset = dataset or run.config.get("dataset")
        if not dataset:
            raise BadInput(f"{files.absolute(workdir) / folders.RUN} names no data set; expected one with --dataset")
    if fix_tags and "fix_tags" not in kind.columns:
        raise BadInput(f"{workdir} holds no tagger: expected no --fix_tags")
    form = _form(predictor, dataset if dataset != run.config.get("dataset") else None, file_flags)
    flags = columns | {"weight_column": weight_column, "fix_tags": fix_tags, "drop_unlabelled": drop_unlabelled}
    columns = {name: flags[name] for name in kind.columns}
    if sets:
        columns["set_measures"] = _set_measures(workdir, predictor, *sets)
    return kind.evaluate(predictor, run, dataset, **columns, **({"form": form} if form else {}))


def _set_measures(
    workdir: str | Path, predictor: Predictor, alpha: float, class_conditional: bool
) -> Callable[[np.ndarray, np.ndarray], dict[str, float]]:
    """What measures the sets of a classifier, from logits and labels; the rule is of the validation split."""
    if predictor.task != "classification":
        raise BadInput(f"--prediction_sets is for classifiers; {workdir} holds another model: leave the flag out")

    def arguments(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities = class_probabilities(logits).astype(np.float32)
        return probabilities, predictor.decide(probabilities)

    source = held_out.load(workdir, predictor)
    probabilities, decided = arguments(source.logits)
    rule = prediction_sets.calibrate(probabilities, source.labels, decided, alpha, class_conditional)
    return lambda logits, labels: prediction_sets.measures(rule.sets(*arguments(logits)), labels)


def _form(predictor: Predictor, dataset: str | None, flags: Mapping[str, Any]) -> DelimitedFormat | None:
    """How the file of another data set is written, where flags say so."""
    if not flags:
        return None
    form = delimited_format.of_flags(**flags, base=getattr(predictor, "file_format", FOUND))
    is_delimited = (
        dataset is not None and predictor.task != "tagging" and delimited.is_supported(files.absolute_list(dataset))
    )
    delimited_format.check(f"--dataset={dataset}" if dataset else "the run's own data set", [*flags], is_delimited)
    return form
