"""Extra training examples (`--more_file`), added to the training split only.

Validation and test stay the same, so runs with and without the extra examples are comparable. Their labels may be
pseudo-labels (`zoo feedback`), which are not fit for evaluation.
"""

import dataclasses
from collections.abc import Hashable, Iterable
from pathlib import Path

import numpy as np

from zoo import files
from zoo.data import splits
from zoo.data.datasets import tables, text_classification, text_files, text_splits
from zoo.data.datasets.text_splits import TextDataset, Texts
from zoo.data.splits import Columns, Splits
from zoo.errors import BadInput


def texts(
    dataset: TextDataset,
    path: str,
    text_column: str,
    label_column: str,
    pair_column: str = "",
    drop_unlabelled: bool = False,
) -> TextDataset:
    """Adds a file's texts to the training split, without those that are in any split already.

    Args:
        dataset: the split data set.
        path: a file that `text_files.read` reads.
        text_column: name of the file's text column.
        label_column: name of the file's label column, with classes of the data set.
        pair_column: name of the column of second texts; empty where texts are single.
        drop_unlabelled: whether to leave out examples whose label is missing; else they are refused.

    Raises:
        BadInput: the file is malformed, has a class that the data set lacks, or no new text.
    """
    file = files.absolute(path)
    columns, notes = (text_column, label_column, pair_column), list(dataset.notes)
    rows = text_files.read(file, *columns, drop_unlabelled=drop_unlabelled, notes=notes)
    more = text_classification.labelled(rows, dataset.classes, f"--more_file {file}", columns, "the data set")
    parts = (dataset.train, dataset.validation, dataset.test)
    keys = {text_splits.normalized_key(text) for part in parts for text in part.texts}
    new = _new(map(text_splits.normalized_key, more.texts), keys)
    note = _note(file, new)
    kept = text_splits.select(more, new)
    train = Texts([*dataset.train.texts, *kept.texts], np.concatenate([dataset.train.labels, kept.labels]))
    return dataclasses.replace(dataset, train=train, notes=(*notes, note))


def arrays(dataset: Splits, path: str) -> Splits:
    """Adds the examples of a .npz (`x`, `y`, perhaps `weight`) to the training split, without duplicates.

    Args:
        dataset: the split data set.
        path: the .npz; `y` are indices of the data set's classes. Examples without a weight have weight 1.

    Raises:
        BadInput: the file is malformed, its examples have another shape, or none of them is new.
    """
    file, train = files.absolute(path), dataset.train
    if isinstance(train["x"], np.memmap):
        raise BadInput(f"--more_file {file}: the data set is read from disk; add the examples to its files")
    more = tables.load_unsplit(file, may_lack=dataset.schema is not None)
    if (more["x"].dtype, more["x"].shape[1:]) != (train["x"].dtype, train["x"].shape[1:]):
        raise BadInput(
            f"--more_file {file}: x is {more['x'].dtype} of {more['x'].shape[1:]}; expected {train['x'].dtype} of "
            f"{train['x'].shape[1:]} as in the data set"
        )
    splits.check(dataclasses.replace(dataset, train=more), f"--more_file {file}")
    keys = {key for part in (train, dataset.validation, dataset.test) for key in splits.keys(part["x"])}
    new = _new(splits.keys(more["x"]), keys)
    note = _note(file, new)
    more = {name: column[new] for name, column in more.items()}
    if "weight" in more or "weight" in train:
        more, train = _with_weights(more), _with_weights(train)
    joined = {name: np.concatenate([column, more[name]]) for name, column in train.items()}
    return dataclasses.replace(dataset, train=joined, notes=(*dataset.notes, note))


def _new(keys: Iterable[Hashable], present: set) -> np.ndarray:
    """Whether each key is neither present nor a copy of an earlier one: bool `[keys]`."""
    new = []
    for key in keys:
        new.append(key not in present)
        present.add(key)
    return np.array(new, bool)


def _with_weights(columns: Columns) -> Columns:
    return {"weight": np.ones(len(columns["y"]), np.float32)} | columns


def _note(file: Path, new: np.ndarray) -> str:
    if not new.any():
        raise BadInput(f"--more_file {file}: none of its {len(new)} examples is new; expected some to learn from")
    duplicates = f"; left out {int((~new).sum()):,} duplicates" if not new.all() else ""
    return f"learning from {int(new.sum()):,} more examples of {file}{duplicates}"
