"""A classifier's answers as labels that it learns from in a further round of training: pseudo-labels (Lee, 2013).

    found = feedback.collect("runs/reviews", texts, share=0.5)
    feedback.write(Path("pseudo.csv"), found)
    print(feedback.command("runs/reviews", Path("pseudo.csv")))

Of each class that is predicted the same share is taken, the surest (class-balanced self-training; Zou et al., 2018,
section 4). One threshold for all classes, as FixMatch has it (Sohn et al., 2020), is the wrong idea where classes come
in other numbers, or are harder than others: what passes is mostly the class that the model is surest of, each round
makes it surer of this one, and in the end nothing else is left. A share of each class keeps the predicted proportions.

Confidences are calibrated on the run's validation split, by a temperature, which changes no answer. Examples that stand
in the run's validation or test split never become training data.
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
from zoo.data.datasets import images, text_classification, text_files
from zoo.data.datasets.text_splits import normalized_key
from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.predict.calibration import temperature_scaling
from zoo.predict.evaluation import run_data
from zoo.predict.predictors.loading import load
from zoo.predict.predictors.predictor import Classifier

# By a field of the run's config that no other has.
_EXPERIMENTS = {
    "hidden": "experiments.mlp_classifier",
    "lstm": "experiments.lstm_sentiment",
    "pair_column": "experiments.bert_finetune",
}


class LeftOut(NamedTuple):
    """How many examples were passed over: of the validation or test split, of the training split, and copies."""

    judged: int
    trained: int
    copies: int


class Feedback(NamedTuple):
    """Examples with pseudo-labels.

    Attributes:
        examples: as the predictor takes them.
        labels: int32 `[examples]`.
        confidences: float64 `[examples]`, the calibrated probability of each label.
        classes: names in the order of the labels.
        predicted: int64 `[classes]`, how many were predicted as each, those that were left out not counted.
        left_out: what was never asked.
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
    """Which examples are the surest of their predicted class.

    Args:
        probabilities: `[examples, classes]`.
        share: of those predicted as each class, rounded up, that are taken.
        min_confidence: a lower limit besides; it takes from some classes more than from others.

    Returns:
        Places in ascending order, int64; of equally sure ones the first are taken.

    Raises:
        BadInput: the share is not above 0 and 1 at most, or the limit not from 0 to below 1.
    """
    check(share, min_confidence)
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    taken = []
    for label in range(probabilities.shape[1]):
        members = np.flatnonzero(predicted == label)
        surest = members[np.argsort(-sure[members], kind="stable")]
        # A third of 3 is 1, whatever the last bit of the product says.
        taken.append(surest[: math.ceil(share * len(members) - 1e-9)])
    found = np.sort(np.concatenate(taken))
    return found[sure[found] >= min_confidence]


def check(share: float, min_confidence: float) -> None:
    """Refuses bad values of `quota`'s."""
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
    """Predicts examples without labels and takes the surest of each class.

    Args:
        workdir: of a run on classes; its data set must still be there, as it tells what must not be learned from.
        examples: an array, a list of texts, or of pairs of them; or what gives them of the run's predictor.
        share: as of `quota`; half is what Zou et al. end with, a fifth what they begin with.
        min_confidence: as of `quota`.

    Raises:
        BadInput: the run is of another kind or its data set cannot be read, nothing is left, or one class alone is.
        NonFinite: the model's output is.
    """
    check(share, min_confidence)
    workdir = files.absolute(workdir)
    predictor, run = load(workdir), folders.read_run(workdir)
    if predictor.task != "classification":
        raise BadInput(f"{workdir} holds no classifier: expected a run on classes of texts, images or tables")
    examples = examples(predictor) if callable(examples) else examples
    own = _own(predictor, run, workdir)
    new, left_out = _new(predictor, examples, own)
    if not new.any():
        raise BadInput(f"none of the {len(new)} examples is new to the run; expected others ({said(left_out)})")
    examples = (
        examples[new] if isinstance(examples, np.ndarray) else [each for each, keep in zip(examples, new) if keep]
    )
    fitted = temperature_scaling.temperature(two_class_logits(predictor.logits(own.examples)), own.labels)
    probabilities = fitted.apply(two_class_logits(predictor.logits(examples)))
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=len(predictor.classes))
    taken = quota(probabilities, share, min_confidence)
    labels = probabilities[taken].argmax(axis=1).astype(np.int32)
    if len(set(labels.tolist())) < 2:
        only = f"{predictor.classes[labels[0]]!r} alone" if len(labels) else "no class"
        raise BadInput(
            f"of {len(examples):,} examples {only} is left to learn from: expected two classes or more, as every "
            "answer would become the one; give more examples, or a lower --min_confidence"
        )
    chosen = examples[taken] if isinstance(examples, np.ndarray) else [examples[place] for place in taken.tolist()]
    sure = probabilities[taken].max(axis=1)
    return Feedback(chosen, labels, sure, predictor.classes, predicted, left_out, _columns(predictor, run))


def write(path: Path, found: Feedback) -> None:
    """Writes what --more_file reads, in one stroke: a .npz for arrays, a .csv, .tsv or .jsonl for texts.

    A .npz has `x`, `y` and as `weight` the confidence, as a guess should count less than what is known. A file of texts
    has the run's columns and `confidence`, which the experiments do not read.

    Raises:
        BadInput: the file's kind is another, or it cannot be written; an old file stays.
    """
    check_path(path, found.columns is not None)
    if found.columns is None:
        files.write(path, _npz(found))
    elif path.suffix == ".jsonl":
        files.write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(found)))
    else:
        files.write(path, _csv(found, "\t" if path.suffix == ".tsv" else ","))


def check_path(path: Path, texts: bool) -> None:
    """Refuses a kind of file that no experiment of this task would read."""
    expected = text_files.SUFFIXES if texts else (".npz",)
    if path.suffix not in expected:
        raise BadInput(f"--out is {path}: expected a file that ends in {' or '.join(expected)}")
    if not path.parent.is_dir():
        raise BadInput(f"--out is {path}: {path.parent} is no folder")


def command(workdir: str | Path, path: Path) -> str:
    """The command line of a further round: from the run's weights, on its own data and the file's, into a new folder.

    Raises:
        BadInput: the run is of no experiment that has --more_file.
    """
    workdir = files.absolute(workdir)
    run = folders.read_run(workdir)
    config = run.config
    name = next((module for field, module in _EXPERIMENTS.items() if field in config), None)
    if name is None:
        raise BadInput(f"{workdir} is of no experiment with --more_file: add {path} to its training data yourself")
    given = {"flagfile": workdir / folders.FLAGS, "more_file": files.absolute(path), "init_from": workdir}
    for field in ("dataset", "train_file", "eval_file"):
        if config.get(field) and config[field] not in (*images.NAMES, *text_classification.NAMES):
            given[field] = run.path(field)
    if name.endswith("bert_finetune"):
        # The network is that of --init_from, all of it.
        given |= {"preset": "mini", "fresh_layers": 0}
    if config.get("warmup_steps"):
        # As many may be more than this round has.
        given["warmup_steps"] = 0
    # One pass, as the weights are trained already.
    given |= {"steps": 0, "epochs": 1, "workdir": _next(workdir)}
    return shlex.join(["python", "-m", name, *(f"--{field}={value}" for field, value in given.items())])


class _Own(NamedTuple):
    """Of a run's data: validation examples and labels, and keys of what it was judged by and what it learned from."""

    examples: Any
    labels: np.ndarray
    judged: set[Any]
    trained: set[Any]


def _own(predictor: Classifier, run: folders.Run, workdir: Path) -> _Own:
    try:
        if not predictor.reads_text:
            found = run_data.run_arrays(run)
            judged = [*splits.keys(found.validation["x"]), *splits.keys(found.test["x"])]
            validation = found.validation["x"], found.validation["y"]
            return _Own(*validation, set(judged), set(splits.keys(found.train["x"])))
        # Pseudo-labels of an earlier round are no knowledge: they are made anew.
        found, config = run_data.run_texts(run, more=False), run.config
        if config.get("share", 1.0) != 1.0:
            found = text_classification.subsample(found, config["share"], config["seed"])
    except BadInput as error:
        raise BadInput(f"{workdir}: what must not be learned from cannot be told without its data: {error}") from None
    judged = {normalized_key(text) for part in (found.validation, found.test) for text in part.texts}
    validation = run_data.as_examples(predictor, found.validation), found.validation.labels
    return _Own(*validation, judged, set(map(normalized_key, found.train.texts)))


def _new(predictor: Classifier, examples: Any, own: _Own) -> tuple[np.ndarray, LeftOut]:
    """Which examples, bool, are none that the run knows, and come for the first time."""
    if not predictor.reads_text:
        keys = splits.keys(predictor.prepared(examples))
    else:
        keys = [normalized_key(each if isinstance(each, str) else PAIR_SEPARATOR.join(each)) for each in examples]
    new, seen, counts = np.zeros(len(keys), bool), set(), [0, 0, 0]
    for place, key in enumerate(keys):
        kinds = (key in own.judged, key in own.trained, key in seen)
        if any(kinds):
            counts[kinds.index(True)] += 1
        else:
            new[place] = True
            seen.add(key)
    return new, LeftOut(*counts)


def said(left_out: LeftOut) -> str:
    """What was left out, in words."""
    return (
        f"{left_out.judged:,} stand in its validation or test split, {left_out.trained:,} in its training split, "
        f"{left_out.copies:,} are copies"
    )


def _columns(predictor: Classifier, run: folders.Run) -> tuple[str, str, str] | None:
    if not predictor.reads_text:
        return None
    return predictor.text_column, run.config.get("label_column") or "label", predictor.pair_column


def _rows(found: Feedback) -> list[dict[str, Any]]:
    text, label, pair = found.columns
    rows = []
    for example, number, sure in zip(found.examples, found.labels.tolist(), found.confidences.tolist()):
        parts = {text: example} if isinstance(example, str) else {text: example[0], pair: example[1]}
        # The run's own columns win where one of them has this name.
        rows.append({"confidence": round(sure, 6)} | parts | {label: found.classes[number]})
    return rows


def _csv(found: Feedback, separator: str) -> str:
    rows, file = _rows(found), io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _npz(found: Feedback) -> bytes:
    file = io.BytesIO()
    np.savez(file, x=found.examples, y=found.labels, weight=found.confidences.astype(np.float32))
    return file.getvalue()


def _next(workdir: Path) -> Path:
    """A folder beside the run's that is not there yet: NAME-round2, NAME-round3 and so on."""
    stem, number = re.fullmatch(r"(.*?)(?:-round(\d+))?", workdir.name).groups()
    number = int(number or 1) + 1
    while (workdir.parent / f"{stem}-round{number}").exists():
        number += 1
    return workdir.parent / f"{stem}-round{number}"
