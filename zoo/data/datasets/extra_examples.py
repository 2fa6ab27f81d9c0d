"""More training examples for a data set that is split already: they join the training split, and no other.

What a run is chosen by and judged by stays as it was, so a run with them compares with one without. Their labels may be
guesses of a model (`zoo feedback`), which nothing should be judged by.
"""

import dataclasses
from pathlib import Path

import numpy as np

from zoo import files
from zoo.data import splits
from zoo.data.datasets import tables, text_classification, text_files, text_splits
from zoo.data.datasets.text_splits import TextDataset, Texts
from zoo.data.splits import Columns, Splits
from zoo.errors import BadInput


def texts(found: TextDataset, path: str, text_column: str, label_column: str, pair_column: str = "") -> TextDataset:
    """Adds a file's texts to the training split, without those that stand in any split already.

    Args:
        found: the data set.
        path: a .csv, .tsv or .jsonl.
        text_column: of the file.
        label_column: of the file: classes of the data set.
        pair_column: of the file's second texts; empty where texts are single.

    Raises:
        BadInput: the file is not understood, has a class that the data set does not, or nothing new.
    """
    place = files.absolute(path)
    rows = text_files.read(place, text_column, label_column, pair_column)
    text_classification.check_classes(rows, found.classes, f"--more_file {place}", label_column, "the data set")
    more = text_classification.labelled(rows, found.classes, place, (text_column, label_column, pair_column))
    known = {
        text_splits.normalized_key(text) for part in (found.train, found.validation, found.test) for text in part.texts
    }
    new = []
    for text in more.texts:
        key = text_splits.normalized_key(text)
        new.append(key not in known)
        known.add(key)
    new = np.array(new, bool)
    note = _note(place, new)
    kept = text_splits.chosen(more, new)
    train = Texts([*found.train.texts, *kept.texts], np.concatenate([found.train.labels, kept.labels]))
    return dataclasses.replace(found, train=train, notes=(*found.notes, note))


def arrays(found: Splits, path: str) -> Splits:
    """Adds the examples of a .npz (`x`, `y`, perhaps `weight`) to the training split, without those that are known.

    Args:
        found: the data set.
        path: of the .npz; `y` are places among the data set's classes. Examples without a weight weigh 1.

    Raises:
        BadInput: the file is not understood, its examples are of another shape, or nothing is new.
    """
    place, train = files.absolute(path), found.train
    if isinstance(train["x"], np.memmap):
        raise BadInput(f"--more_file {place}: the data set is read from disk; add the examples to its files")
    more = tables.more(place)
    if (more["x"].dtype, more["x"].shape[1:]) != (train["x"].dtype, train["x"].shape[1:]):
        raise BadInput(
            f"--more_file {place}: x is {more['x'].dtype} of {more['x'].shape[1:]}; expected {train['x'].dtype} of "
            f"{train['x'].shape[1:]} as in the data set"
        )
    splits.check(dataclasses.replace(found, train=more), f"--more_file {place}")
    known = {key for part in (train, found.validation, found.test) for key in splits.keys(part["x"])}
    new = []
    for key in splits.keys(more["x"]):
        new.append(key not in known)
        known.add(key)
    new = np.array(new, bool)
    note = _note(place, new)
    more = {name: column[new] for name, column in more.items()}
    if "weight" in more or "weight" in train:
        more, train = _weighed(more), _weighed(train)
    joined = {name: np.concatenate([column, more[name]]) for name, column in train.items()}
    return dataclasses.replace(found, train=joined, notes=(*found.notes, note))


def _weighed(columns: Columns) -> Columns:
    return {"weight": np.ones(len(columns["y"]), np.float32)} | columns


def _note(place: Path, new: np.ndarray) -> str:
    if not new.any():
        raise BadInput(f"--more_file {place}: none of its {len(new)} examples is new; expected some to learn from")
    left = f"; left out {int((~new).sum()):,} that are known or come twice" if not new.all() else ""
    return f"learning from {int(new.sum()):,} more examples of {place}{left}"
