"""How good a run's model is on examples that it was not trained on."""

import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo import workdir as folders
from zoo.data import splits
from zoo.data.batches import Batches
from zoo.data.datasets import csv_tables, extra_examples, images, tables
from zoo.data.splits import Columns, Splits
from zoo.errors import BadInput
from zoo.metrics.logits import log_softmax
from zoo.predict.evaluation import tags
from zoo.predict.evaluation import texts as text_evaluation
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.fill_mask import FillMask
from zoo.predict.predictors.loading import load
from zoo.predict.predictors.tagger import Tagger
from zoo.predict.predictors.text_classifier import TextClassifier, TextRegressor


def evaluate(
    workdir: str | Path,
    dataset: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
    weight_column: str | None = None,
) -> dict[str, float]:
    """Judges a run's model on examples that it was not trained on.

    Args:
        workdir: of the run.
        dataset: None for the test split of the run's own data set. Else a name, whose test split is used, or a file of
            one's own, all of whose examples are used (unless the run was trained on it: then its test split). A
            table's columns are found by name; what is passed over is said on stderr. It may lack classes of the model.
        text_column: of such a file, for a run on texts; None for the run's own.
        label_column: likewise, and of a table.
        pair_column: likewise, for a run on pairs of texts.
        weight_column: of a table; None for the run's own where the table has it, empty for no weights.

    Returns:
        `examples`, `loss` (cross-entropy) and `accuracy`, both weighted where the data has weights; without weights
        `accuracy_low` and `accuracy_high` besides, the 95 % interval of Wilson (1927). Of a run on texts more, see
        `texts.evaluate` and `tags.evaluate`.

    Raises:
        ZooError: the folder, the data set, or the two do not fit each other.
    """
    predictor = load(workdir)
    run = folders.read_json(files.absolute(workdir), folders.RUN)
    if not isinstance(run, dict) or not isinstance(run.get("config"), dict):
        raise BadInput(f"{files.absolute(workdir) / folders.RUN} holds no config; restore it or train again")
    columns = {"text_column": text_column, "label_column": label_column, "pair_column": pair_column}
    if weight_column is not None and not isinstance(predictor, ArrayClassifier):
        raise BadInput(f"{workdir} holds no model for tables: expected no --weight_column")
    if isinstance(predictor, (TextClassifier, TextRegressor)):
        return text_evaluation.evaluate(predictor, run, dataset, **columns)
    if isinstance(predictor, ArrayClassifier):
        columns.pop("label_column")
    if any(columns.values()):
        given = " and ".join(f"no --{name}" for name in columns)
        raise BadInput(f"{workdir} holds no model for texts with labels: expected {given}")
    if isinstance(predictor, Tagger):
        return tags.evaluate(predictor, run, dataset)
    if isinstance(predictor, FillMask):
        raise BadInput(
            f"{workdir} holds a pretrained encoder, whose test stands in {folders.RESULT}; fine-tune it first"
        )
    dataset = dataset or run["config"].get("dataset")
    if not dataset:
        raise BadInput(f"{files.absolute(workdir) / folders.RUN} names no data set; expected one with --dataset")
    parts = _examples(dataset, run, predictor, label_column, weight_column)
    try:
        judged = [_judged(predictor, columns) for columns in parts]
    except BadInput as error:
        raise BadInput(f"--dataset {dataset}: {error}") from None
    losses, correct, weights = (np.concatenate(column) for column in zip(*judged))
    weighted = any("weight" in columns for columns in parts)
    return _summary(losses, correct, weights, weighted, dataset)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share of `trials` independent yes-or-no outcomes (Wilson, 1927)."""
    share, extra = successes / trials, _Z**2 / trials
    center = (share + extra / 2) / (1 + extra)
    half = math.sqrt(extra * (share * (1 - share) + extra / 4)) / (1 + extra)
    return max(0.0, center - half), min(1.0, center + half)


# Of the normal distribution, for a two-sided interval of 95 %.
_Z = statistics.NormalDist().inv_cdf(0.975)


def _examples(
    dataset: str, run: dict[str, Any], predictor: ArrayClassifier, label_column: str | None, weight_column: str | None
) -> list[Columns]:
    """The parts of a data set to judge by, their labels as places among the model's classes."""
    config = run["config"]
    own = dataset == config.get("dataset")
    # The run's own as it was typed, in the folder where it was typed.
    path = Path(run.get("folder", "."), Path(dataset).expanduser()) if own else files.absolute(dataset)
    if dataset in images.NAMES or path.suffix not in csv_tables.SUFFIXES:
        for name, given in (("label_column", label_column), ("weight_column", weight_column)):
            if given is not None:
                raise BadInput(f"--{name} is for tables, --dataset {dataset} is none: leave the flag out")
    if dataset in images.NAMES:
        loaded = images.load(dataset)
        places = tables.class_indices(f"--dataset {dataset}", loaded.classes, predictor.classes)
        return [loaded.test | {"y": places[loaded.test["y"]]}]
    run_weights = config.get("weight_column", "") if weight_column is None else ""
    known = tables.ModelSchema(predictor.classes, predictor.features, run_weights)
    columns = label_column or config.get("label_column", "label"), weight_column or ""
    if own or not path.exists():
        parts = [images.load(str(path) if own else dataset, *columns, known).test]
    else:
        parts = _of_file(path, columns, known, run)
    for note in known.notes:
        print(f"zoo: {note}", file=sys.stderr)
    return parts


def _of_file(path: Path, columns: tuple[str, str], known: tables.ModelSchema, run: dict[str, Any]) -> list[Columns]:
    loaded = tables.load(path, *columns, known)
    distinct = loaded if isinstance(loaded.train["x"], np.memmap) else splits.without_overlap(loaded)
    if _was_trained_on(distinct, run):
        return [distinct.test]
    return [loaded.train, loaded.validation, loaded.test]


def _was_trained_on(loaded: Splits, run: dict[str, Any]) -> bool:
    """Whether this is the run's data set by its contents: under another path or name it is still the same."""
    more = run["config"].get("more_file")
    if more:
        try:
            loaded = extra_examples.arrays(loaded, str(Path(run.get("folder", "."), Path(more).expanduser())))
        except BadInput:
            # Of other shapes or classes than what the run has learned from.
            return False
    if not len(loaded.train["y"]):
        return False
    batches = Batches(loaded.train, run["config"].get("batch_size", 1), seed=run["config"].get("seed"))
    return batches.fingerprint() == run.get("identity", {}).get("training data")


def _judged(predictor: ArrayClassifier, columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cross-entropy, whether correct, and weight, each `[examples]`."""
    labels = columns["y"]
    wrong = np.flatnonzero((labels < 0) | (labels >= len(predictor.classes)))
    if len(wrong):
        raise BadInput(f"label {labels[wrong[0]]}, expected 0 to {len(predictor.classes) - 1}")
    logits = predictor.logits(columns["x"])
    losses = -np.take_along_axis(log_softmax(logits), labels[:, None], axis=1)[:, 0]
    return losses, logits.argmax(axis=1) == labels, columns.get("weight", np.ones(len(labels), np.float32))


def _summary(losses: np.ndarray, correct: np.ndarray, weights: np.ndarray, weighted: bool, dataset: str) -> dict:
    if not weights.sum() > 0:
        raise BadInput(f"--dataset {dataset}: there is no example, or all weights are 0; expected one that counts")
    result = {
        "examples": len(losses),
        "loss": float(np.average(losses, weights=weights)),
        "accuracy": float(np.average(correct, weights=weights)),
    }
    if not weighted:
        result["accuracy_low"], result["accuracy_high"] = wilson(int(correct.sum()), len(correct))
    return result
