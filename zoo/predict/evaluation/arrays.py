"""Evaluation of classifiers of arrays."""

import dataclasses
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoo import files
from zoo.data import class_balance, splits
from zoo.data.batches import Batches
from zoo.data.datasets import (
    corruption_benchmarks,
    extra_examples,
    image_folders,
    images,
    label_sets,
    tables,
    text_columns,
)
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.datasets.image_folders import ImageOptions
from zoo.data.splits import Columns, Splits
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, regression
from zoo.metrics.logits import cross_entropies
from zoo.predict.evaluation import run_data
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.array_regressor import ArrayRegressor
from zoo.predict.predictors.multi_label import MultiLabel
from zoo.workdir import Run


def evaluate(
    predictor: ArrayClassifier,
    run: Run,
    dataset: str,
    label_column: str | None = None,
    weight_column: str | None = None,
    form: DelimitedFormat | None = None,
    set_measures: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None,
) -> dict[str, float]:
    """Evaluates a classifier of arrays.

    Args:
        predictor: predictor of the run.
        run: record of the run.
        dataset: name, whose test split is used, or a file, all of whose examples are used; of the run's own data set
            the test split is used under any path. A table's columns are found by name; ignored ones are reported on
            stderr. It may lack classes of the model.
        label_column: label column of a table; None for the run's.
        weight_column: weight column of a table; None for the run's where the table has it, empty for no weights.
        form: how a delimited file is written; None: as the run's own.
        set_measures: what measures prediction sets, from logits and labels; or None.

    Returns:
        `examples`, `loss` (cross-entropy) and the metrics of a final `evaluation_report.classifier`, weighted where the
        data has weights, each with its interval `NAME_low` and `NAME_high` (95 %, bootstrap; of `accuracy` without
        weights that of Wilson, 1927), the confusion matrix, where the run has a decision rule `decisions.metrics`, and
        the measures of prediction sets, in which each example counts once.

    Raises:
        BadInput: the data set is not found, not understood, or does not fit the model.
    """
    parts = _examples(dataset, run, predictor, label_column, weight_column, form)
    try:
        outcomes = [_outcomes(predictor, columns) for columns in parts]
    except BadInput as error:
        raise BadInput(f"--dataset {dataset}: {error}") from None
    logits, labels, weights = (np.concatenate(column) for column in zip(*outcomes))
    if not weights.sum() > 0:
        raise BadInput(f"--dataset {dataset}: there is no example, or all weights are 0; expected one that counts")
    columns = {"y": labels}
    if any("weight" in part for part in parts):
        columns["weight"] = weights
    result = _summary(predictor, logits, columns)
    return result if set_measures is None else result | set_measures(logits, labels)


def evaluate_values(
    predictor: ArrayRegressor,
    run: Run,
    dataset: str,
    label_column: str | None = None,
    weight_column: str | None = None,
    form: DelimitedFormat | None = None,
) -> dict[str, float]:
    """Evaluates a regression of arrays; arguments and errors as in `evaluate`.

    Returns:
        `examples`, and the metrics of `zoo.metrics.regression` with their 95 % intervals; each example counts once.
    """
    parts = _examples(dataset, run, predictor, label_column, weight_column, form)
    true = np.concatenate([columns["y"] for columns in parts])
    try:
        predicted = np.concatenate([predictor.values(columns["x"]) for columns in parts])
    except BadInput as error:
        raise BadInput(f"--dataset {dataset}: {error}") from None
    return {"examples": len(true), **regression.evaluate(predicted, true, final=True)}


def evaluate_labels(
    predictor: MultiLabel,
    run: Run,
    dataset: str,
    label_column: str | None = None,
    weight_column: str | None = None,
    drop_unlabelled: bool = False,
    form: DelimitedFormat | None = None,
) -> dict[str, float]:
    """Evaluates a multi-label classifier of arrays; errors as in `evaluate`.

    Args:
        predictor: predictor of the run.
        run: record of the run.
        dataset: a file, as in `evaluate`.
        label_column: as in the training: a column for each label, in the model's order, or the one with names.
        weight_column: weight column of a table, as in `evaluate`.
        drop_unlabelled: whether rows of a table without labels are left out instead of refused.
        form: how a delimited file is written; None: as the run's own.

    Returns:
        `examples`, `loss` (mean cross-entropy) and the metrics of `zoo.metrics.multi_label` with their 95 % intervals;
        where thresholds were tuned also those of their decisions, as `NAME_decided`.
    """
    parts = _examples(dataset, run, predictor, label_column, weight_column, form, drop_unlabelled)
    try:
        logits = np.concatenate([predictor.logits(columns["x"]) for columns in parts])
    except BadInput as error:
        raise BadInput(f"--dataset {dataset}: {error}") from None
    columns = {name: np.concatenate([part[name] for part in parts]) for name in ("y", "weight") if name in parts[0]}
    if not len(logits) or not columns.get("weight", np.ones(1)).any():
        raise BadInput(f"--dataset {dataset}: there is no example, or all weights are 0; expected one that counts")
    metrics = evaluation_report.multi_label(predictor.classes)({}, {"logits": logits}, columns, True)
    if predictor.decision is not None:
        metrics |= evaluation_report.of_decisions(predictor.decision, logits, columns, predictor.classes)
    return {"examples": len(logits), "loss": metrics["log_loss"], **metrics}


def own_test(predictor: ArrayClassifier | ArrayRegressor | MultiLabel, run: Run) -> Columns:
    """The test split of the run's own data set, labels as in `evaluate`, `evaluate_values` or `evaluate_labels`.

    Raises:
        BadInput: the run names no data set, or it can no longer be read.
    """
    if not run.config.get("dataset"):
        raise BadInput("the run names no data set; its test split is unknown")
    (columns,) = _examples(run.config["dataset"], run, predictor, None, None, None)
    return columns


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % confidence interval of the success rate in independent trials (Wilson, 1927)."""
    share, extra = successes / trials, _Z**2 / trials
    center = (share + extra / 2) / (1 + extra)
    half = math.sqrt(extra * (share * (1 - share) + extra / 4)) / (1 + extra)
    return max(0.0, center - half), min(1.0, center + half)


# Quantile of the normal distribution for a two-sided interval of 95 %.
_Z = statistics.NormalDist().inv_cdf(0.975)


def _examples(
    dataset: str,
    run: Run,
    predictor: ArrayClassifier | ArrayRegressor | MultiLabel,
    label_column: str | None,
    weight_column: str | None,
    form: DelimitedFormat | None,
    drop_unlabelled: bool = False,
) -> list[Columns]:
    """The parts of a data set to evaluate on, their labels as indices of the model's classes, sets, or values."""
    config, values = run.config, predictor.task == "regression"
    own = dataset == config.get("dataset")
    path = run.path("dataset") if own else files.absolute_list(dataset)
    labels = _label_sets(run, label_column) if predictor.task == "multi_label" else None
    # What has several labels has no name.
    named = (images.DIABETES,) if values else images.NAMES if labels is None else ()
    if dataset in named or not text_columns.is_table(path):
        for name, column in (("label_column", label_column), ("weight_column", weight_column)):
            if column is not None:
                raise BadInput(f"--{name} is for tables, --dataset {dataset} is none: leave the flag out")
    if dataset in named:
        loaded = images.load(dataset, values=values)
        if values:
            return [loaded.test]
        labels = tables.class_indices(f"--dataset {dataset}", loaded.classes, predictor.classes)
        return [loaded.test | {"y": labels[loaded.test["y"]]}]
    if predictor.task == "classification" and dataset.lower().endswith(".npy"):
        columns = corruption_benchmarks.labelled_file(files.absolute(dataset))
        return [columns | {"x": corruption_benchmarks.for_shape(columns["x"], predictor.shape, dataset)}]
    run_weights = config.get("weight_column", "") if weight_column is None else ""
    schema = tables.ModelSchema(predictor.classes, predictor.features, run_weights, columns=predictor.columns)
    columns = label_column or config.get("label_column", "label"), weight_column or ""
    if own or not all(each.exists() for each in files.listed(path)):
        options = run_data.own_options(run) if own else {"form": form or FOUND}
        if drop_unlabelled:
            options["drop_unlabelled"] = True
        source = str(path) if own else dataset
        parts = [images.load(source, *columns, schema, values=values, labels=labels, **options).test]
    else:
        form = form or predictor.file_format
        split = run.config.get("split", "random") if text_columns.is_table(path) else "random"
        options = tables.TableOptions(
            *columns, drop_unlabelled=drop_unlabelled, values=values, split=split, form=form, labels=labels
        )
        parts = _of_file(path, options, schema, run, predictor)
    for note in schema.notes:
        print(f"zoo: {note}", file=sys.stderr)
    return parts


def _label_sets(run: Run, label_column: str | None) -> label_sets.LabelSets:
    """How a table says which labels an example has: as in the run's training."""
    config = run.config
    column = label_column or config.get("label_column", "label")
    return label_sets.from_flags(column, config.get("label_separator", ""), bool(config.get("empty_is_none")))


def _of_file(
    path: Path,
    options: tables.TableOptions,
    schema: tables.ModelSchema,
    run: Run,
    predictor: ArrayClassifier | ArrayRegressor | MultiLabel,
) -> list[Columns]:
    try:
        if image_folders.is_image_folder(path):
            loaded = image_folders.load(path, _options_of_model(run, predictor), schema.classes)
            schema.notes.extend(loaded.notes)
        else:
            loaded = tables.load(tables.Files(path), options, schema)
    except BadInput as error:
        if "--split" not in str(error):
            raise
        # Another file need not have the column that split the run's.
        loaded = tables.load(tables.Files(path), dataclasses.replace(options, split="random"), schema)
    folded = _folded(path, options, schema, run)
    if folded is not None and _was_trained_on(folded, run, predictor):
        return [folded.test]
    distinct = loaded if isinstance(loaded.train["x"], np.memmap) else splits.without_overlap(loaded)
    if _was_trained_on(distinct, run, predictor):
        return [distinct.test]
    return [loaded.train, loaded.validation, loaded.test]


def _folded(path: Path, options: tables.TableOptions, schema: tables.ModelSchema, run: Run) -> Splits | None:
    """The file cut as the run's own data were, where it is a run of a cross-validation; else None."""
    fold = run_data.run_fold(run)
    if fold is None:
        return None
    names = options.label_column, options.weight_column, dataclasses.replace(schema, notes=[])
    own = {name: value for name, value in run_data.own_options(run).items() if name not in ("eval_file", "test_file")}
    try:
        return images.load(
            str(path), *names, values=options.values, labels=options.labels, **own | {"form": options.form}
        )
    except BadInput:
        # It has too few examples for the folds, or no column of groups: it is another file.
        return None


def _options_of_model(run: Run, predictor: ArrayClassifier | ArrayRegressor | MultiLabel) -> ImageOptions:
    """How a folder of images is read for a model: in the shape of its input."""
    if predictor.task != "classification" or not predictor.takes_images:
        raise BadInput(f"the model takes examples of {predictor.shape}, not images; expected a file of such examples")
    channels = 3 if predictor.shape[2:] == (3,) else 1
    own = ImageOptions.of_run(run.config)
    return own._replace(size=predictor.shape[:2], channels=channels, resize=predictor.resize or own.resize)


def _was_trained_on(loaded: Splits, run: Run, predictor: ArrayClassifier | ArrayRegressor | MultiLabel) -> bool:
    """Whether this is the run's data set by content, under whatever path or name."""
    if run.config.get("more_file"):
        try:
            loaded = extra_examples.arrays(loaded, str(run.path("more_file")))
        except BadInput:
            # Its shapes or classes differ from those of the training data.
            return False
    if not len(loaded.train["y"]):
        return False
    columns, balance = loaded.train, None
    if predictor.task == "regression":
        columns = columns | {"y": (columns["y"] - predictor.centre) / predictor.scale}
    elif predictor.task == "classification":
        balance = class_balance.sampled(run.config.get("imbalance", "none"), columns["y"])
    batches = Batches(columns, run.config.get("batch_size", 1), run.config.get("seed"), balance=balance)
    return batches.fingerprint() == run.identity.get("training data")


def _outcomes(predictor: ArrayClassifier, columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels and weights, `[examples, ...]` each."""
    labels = columns["y"]
    wrong = np.flatnonzero((labels < 0) | (labels >= len(predictor.classes)))
    if len(wrong):
        raise BadInput(f"label {labels[wrong[0]]}, expected 0 to {len(predictor.classes) - 1}")
    logits = predictor.logits(columns["x"])
    return logits, labels, columns.get("weight", np.ones(len(labels), np.float32))


def _summary(predictor: ArrayClassifier, logits: np.ndarray, columns: Columns) -> dict:
    losses = cross_entropies(logits, columns["y"])
    result = {"examples": len(losses), "loss": float(np.average(losses, weights=columns.get("weight")))}
    result |= evaluation_report.classifier(predictor.classes)({}, {"logits": logits}, columns, True)
    if predictor.decision is not None:
        result |= evaluation_report.of_decisions(predictor.decision, logits, columns, predictor.classes)
    if "weight" not in columns:
        correct = logits.argmax(axis=1) == columns["y"]
        result["accuracy_low"], result["accuracy_high"] = wilson(int(correct.sum()), len(correct))
    return result
