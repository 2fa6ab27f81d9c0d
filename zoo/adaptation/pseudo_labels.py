"""Pseudo-labels: a classifier's confident predictions as training data of a further round (Lee, 2013; self-training).

    feedback = pseudo_labels.collect("runs/reviews", texts, share=0.5)
    pseudo_labels.write(Path("pseudo.csv"), feedback)
    print(pseudo_labels.command("runs/reviews", Path("pseudo.csv")))

The same share of each predicted class is taken, the most confident first (class-balanced self-training; Zou et al.,
2018, section 4). One threshold for all classes, as in FixMatch (Sohn et al., 2020), fails where classes differ in
frequency or difficulty: it passes mostly the class that the model is most confident of, each round makes the model more
confident of it, and in the end no other class is left. A share of each class keeps the predicted proportions.

Confidences are calibrated on the run's validation split by temperature scaling, which changes no prediction. Examples
of the run's validation or test split never become training data.
"""

import csv
import io
import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo import files
from zoo import workdir as folders
from zoo.data import splits
from zoo.data.datasets import images, text_classification, text_files, text_splits
from zoo.data.datasets.text_splits import normalized_key
from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.errors import BadInput
from zoo.metrics import temperature_scaling
from zoo.metrics.logits import two_class_logits
from zoo.predict.evaluation import run_data
from zoo.predict.predictors.loading import load
from zoo.predict.predictors.predictor import Classifier

# The experiment of a run, by a field that only its config has.
_EXPERIMENTS = {
    "hidden": "experiments.mlp_classifier",
    "cutmix": "experiments.cnn_classifier",
    "lstm": "experiments.lstm_sentiment",
    "pair_column": "experiments.bert_finetune",
}


class LeftOut(NamedTuple):
    """Numbers of examples left out.

    Attributes:
        judged: examples in the run's validation or test split.
        trained: examples in its training split.
        copies: repeated examples.
    """

    judged: int
    trained: int
    copies: int


class Feedback(NamedTuple):
    """Examples with pseudo-labels.

    Attributes:
        examples: examples in the predictor's input format.
        labels: int32 `[examples]`.
        confidences: calibrated probability of each label, float64 `[examples]`.
        classes: names in the order of the labels.
        predicted: number of predictions of each class, int64 `[classes]`, without the examples left out.
        left_out: numbers of examples that were not predicted.
        columns: names of the columns of texts, labels and second texts; None where the examples are arrays.
    """

    examples: Any
    labels: np.ndarray
    confidences: np.ndarray
    classes: tuple[str, ...]
    predicted: np.ndarray
    left_out: LeftOut
    columns: tuple[str, str, str] | None


def quota(probabilities: np.ndarray, share: float, min_confidence: float = 0.0) -> np.ndarray:
    """Selects the most confident examples of each predicted class.

    Args:
        probabilities: `[examples, classes]`.
        share: share of each predicted class to take, rounded up.
        min_confidence: lower limit in addition; it removes more of some classes than of others.

    Returns:
        Indices in ascending order, int64; among equal confidences the first are taken.

    Raises:
        BadInput: an argument is out of range.
    """
    check(share, min_confidence)
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    taken = []
    for label in range(probabilities.shape[1]):
        members = np.flatnonzero(predicted == label)
        ranked = members[np.argsort(-confidences[members], kind="stable")]
        # A third of 3 is 1, whatever the last bit of the product.
        taken.append(ranked[: math.ceil(share * len(members) - 1e-9)])
    indices = np.sort(np.concatenate(taken))
    return indices[confidences[indices] >= min_confidence]


def check(share: float, min_confidence: float) -> None:
    """Raises BadInput where an argument of `quota` is out of range."""
    if not 0 < share <= 1:
        raise BadInput(f"--share is {share:g}: expected more than 0, and 1 at most")
    if not 0 <= min_confidence < 1:
        raise BadInput(f"--min_confidence is {min_confidence:g}: expected 0 or more, and less than 1")


def collect(
    workdir: str | Path,
    examples: Any | Callable[[Classifier], Any],
    share: float = 0.5,
    min_confidence: float = 0.0,
) -> Feedback:
    """Predicts unlabelled examples and takes the most confident of each class.

    Args:
        workdir: folder of a classifier's run; its data set must still be there, to leave out its own examples.
        examples: an array, a list of texts or of pairs of texts; or a function that returns them, given the predictor.
        share: share of each predicted class (see `quota`); Zou et al. start with a fifth and end with half.
        min_confidence: lower limit of the confidence (see `quota`).

    Raises:
        BadInput: the run has no classifier, its data set cannot be read, or fewer than two classes are left.
        NonFinite: the model's output is not finite.
    """
    check(share, min_confidence)
    workdir = files.absolute(workdir)
    predictor, run = load(workdir), folders.read_run(workdir)
    if predictor.task != "classification":
        raise BadInput(f"{workdir} holds no classifier: expected a run on classes of texts, images or tables")
    examples = examples(predictor) if callable(examples) else examples
    own = _run_data(predictor, run, workdir)
    new, left_out = _new(predictor, examples, own)
    if not new.any():
        raise BadInput(f"none of the {len(new)} examples is new to the run; expected others ({describe(left_out)})")
    examples = (
        examples[new] if isinstance(examples, np.ndarray) else [each for each, keep in zip(examples, new) if keep]
    )
    calibration = temperature_scaling.temperature(two_class_logits(predictor.logits(own.examples)), own.labels)
    probabilities = calibration.apply(two_class_logits(predictor.logits(examples)))
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=len(predictor.classes))
    taken = quota(probabilities, share, min_confidence)
    labels = probabilities[taken].argmax(axis=1).astype(np.int32)
    if len(set(labels.tolist())) < 2:
        only = f"{predictor.classes[labels[0]]!r} alone" if len(labels) else "no class"
        raise BadInput(
            f"of {len(examples):,} examples {only} is left to learn from: expected two classes or more, as a model "
            "that learns one class alone predicts it always; give more examples, or a lower --min_confidence"
        )
    chosen = examples[taken] if isinstance(examples, np.ndarray) else [examples[index] for index in taken.tolist()]
    confidences = probabilities[taken].max(axis=1)
    return Feedback(chosen, labels, confidences, predictor.classes, predicted, left_out, _columns(predictor, run))


def write(path: Path, feedback: Feedback) -> None:
    """Writes a file for --more_file, in one step: a .npz for arrays, a .csv, .tsv or .jsonl for texts.

    A .npz has `x`, `y` and as `weight` the confidence, as a pseudo-label should count less than a true one. A file of
    texts has the run's columns and `confidence`, which the experiments do not read.

    Raises:
        BadInput: the path has another suffix, or the file cannot be written; an old file stays.
    """
    check_path(path, feedback.columns is not None)
    if feedback.columns is None:
        files.write(path, _npz(feedback))
    elif path.suffix == ".jsonl":
        files.write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(feedback)))
    else:
        files.write(path, _csv(feedback, "\t" if path.suffix == ".tsv" else ","))


def check_path(path: Path, texts: bool) -> None:
    """Raises BadInput where the experiments cannot read a file with this suffix, or its folder is missing."""
    expected = text_files.SUFFIXES if texts else (".npz",)
    if path.suffix not in expected:
        raise BadInput(f"--out is {path}: expected a file that ends in {' or '.join(expected)}")
    if not path.parent.is_dir():
        raise BadInput(f"--out is {path}: {path.parent} is not a folder")


def command(workdir: str | Path, path: Path) -> str:
    """The command line of a further round: it starts from the run's weights and adds the file to the run's data.

    Raises:
        BadInput: the run's experiment has no --more_file.
    """
    workdir = files.absolute(workdir)
    run = folders.read_run(workdir)
    config = run.config
    name = next((module for field, module in _EXPERIMENTS.items() if field in config), None)
    if name is None:
        raise BadInput(f"{workdir}: its experiment has no --more_file; add {path} to its training data yourself")
    flags = {"flagfile": workdir / folders.FLAGS, "more_file": files.absolute(path), "init_from": workdir}
    for field in ("dataset", "train_file", "eval_file", "test_file"):
        if config.get(field) and config[field] not in (*images.NAMES, *text_classification.NAMES):
            flags[field] = run.path(field)
        elif field == "eval_file" and config.get("test_file"):
            # The flagfile of an old run has its test file as --eval_file.
            flags[field] = ""
    if name.endswith("bert_finetune"):
        # The whole network comes from --init_from.
        flags |= {"preset": "mini", "fresh_layers": 0}
    if config.get("warmup_steps"):
        # The run's number may exceed the steps of this round.
        flags["warmup_steps"] = 0
    # One epoch, as the weights are trained already.
    flags |= {"steps": 0, "epochs": 1, "workdir": _next(workdir)}
    return shlex.join(["python", "-m", name, *(f"--{field}={value}" for field, value in flags.items())])


class _RunData(NamedTuple):
    """A run's validation split, and keys of its examples.

    Attributes:
        examples: validation examples.
        labels: validation labels.
        judged: keys of the validation and test split.
        trained: keys of the training split.
    """

    examples: Any
    labels: np.ndarray
    judged: set[Any]
    trained: set[Any]


def _run_data(predictor: Classifier, run: folders.Run, workdir: Path) -> _RunData:
    try:
        if not predictor.reads_text:
            dataset = run_data.run_arrays(run)
            judged = [*splits.keys(dataset.validation["x"]), *splits.keys(dataset.test["x"])]
            validation = dataset.validation["x"], dataset.validation["y"]
            return _RunData(*validation, set(judged), set(splits.keys(dataset.train["x"])))
        # Pseudo-labels of an earlier round are not part of it: their texts may be labelled again.
        dataset, config = run_data.run_texts(run, more=False), run.config
        if config.get("share", 1.0) != 1.0:
            dataset = text_splits.subsample(dataset, config["share"], config["seed"])
    except BadInput as error:
        raise BadInput(f"{workdir}: the run's own examples must be left out, but cannot be read: {error}") from None
    judged = {normalized_key(text) for part in (dataset.validation, dataset.test) for text in part.texts}
    validation = run_data.as_examples(predictor, dataset.validation), dataset.validation.labels
    return _RunData(*validation, judged, set(map(normalized_key, dataset.train.texts)))


def _new(predictor: Classifier, examples: Any, own: _RunData) -> tuple[np.ndarray, LeftOut]:
    """Which examples, bool `[examples]`, are not in the run's data and not repeated; and numbers of the others."""
    if not predictor.reads_text:
        keys = splits.keys(predictor.prepared(examples))
    else:
        keys = [normalized_key(each if isinstance(each, str) else PAIR_SEPARATOR.join(each)) for each in examples]
    new, earlier, counts = np.zeros(len(keys), bool), set(), [0, 0, 0]
    for index, key in enumerate(keys):
        kinds = (key in own.judged, key in own.trained, key in earlier)
        if any(kinds):
            counts[kinds.index(True)] += 1
        else:
            new[index] = True
            earlier.add(key)
    return new, LeftOut(*counts)


def describe(left_out: LeftOut) -> str:
    """The numbers of examples left out, in words."""
    return (
        f"{left_out.judged:,} are in the run's validation or test split, {left_out.trained:,} in its training split, "
        f"{left_out.copies:,} are copies"
    )


def _columns(predictor: Classifier, run: folders.Run) -> tuple[str, str, str] | None:
    if not predictor.reads_text:
        return None
    return predictor.text_column, run.config.get("label_column") or "label", predictor.pair_column


def _rows(feedback: Feedback) -> list[dict[str, Any]]:
    text, label, pair = feedback.columns
    rows = []
    for example, number, confidence in zip(feedback.examples, feedback.labels.tolist(), feedback.confidences.tolist()):
        parts = {text: example} if isinstance(example, str) else {text: example[0], pair: example[1]}
        # A column of the run that is named "confidence" wins.
        rows.append({"confidence": round(confidence, 6)} | parts | {label: feedback.classes[number]})
    return rows


def _csv(feedback: Feedback, separator: str) -> str:
    rows, file = _rows(feedback), io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _npz(feedback: Feedback) -> bytes:
    file = io.BytesIO()
    np.savez(file, x=feedback.examples, y=feedback.labels, weight=feedback.confidences.astype(np.float32))
    return file.getvalue()


def _next(workdir: Path) -> Path:
    """A new folder next to the run's: NAME-round2, NAME-round3 and so on."""
    stem, number = re.fullmatch(r"(.*?)(?:-round(\d+))?", workdir.name).groups()
    number = int(number or 1) + 1
    while (workdir.parent / f"{stem}-round{number}").exists():
        number += 1
    return workdir.parent / f"{stem}-round{number}"
