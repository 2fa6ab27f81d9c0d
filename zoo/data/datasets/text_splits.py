"""Train, validation and test splits of texts, by a hash of the text and without overlap."""

import dataclasses
import hashlib
import math
from typing import NamedTuple

import numpy as np

from zoo.data import folds
from zoo.data.datasets import class_labels
from zoo.data.folds import Fold
from zoo.data.splits import Origins
from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.errors import BadInput


class Texts(NamedTuple):
    """Texts and their labels.

    Attributes:
        texts: one for each example.
        labels: int32 for classes, float32 for values, `[examples]`; of several labels float32 `[examples, labels]`.
        lines: where the examples come from, int `[examples]`; None where it does not matter.
    """

    texts: list[str]
    labels: np.ndarray
    lines: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class TextDataset:
    """Train, validation and test split of a text classification or regression data set.

    Attributes:
        train: training texts.
        validation: texts for monitoring and model selection.
        test: texts to be evaluated once, at the end.
        classes: class names in the order of the labels; empty where the labels are values.
        unlabelled: texts for a language model, none of which is in validation or test.
        notes: changes made to the data, to be reported.
        origins: where the test texts come from, in a run of a cross-validation; else None.
    """

    train: Texts
    validation: Texts
    test: Texts
    classes: tuple[str, ...]
    unlabelled: list[str]
    notes: tuple[str, ...] = ()
    origins: Origins | None = None


def normalized_key(text: str) -> str:
    """A key that ignores case and white space, to compare texts."""
    return " ".join(text.casefold().split())


def cut(texts: Texts, *shares: float) -> list[Texts]:
    """Splits texts by a hash of each: a text is in the same part on every machine, whatever the other texts are.

    Args:
        texts: texts with labels.
        shares: approximate fraction of each part but the last; each part gets a text if there are enough.

    Returns:
        The parts, then the rest.
    """
    fractions = np.array([hash_fraction(text) for text in texts.texts])
    part = np.searchsorted(np.cumsum(shares), fractions, side="right")
    for number in range(len(shares)):
        # Of a dozen texts none may be in this part. Then it gets the text with the nearest hash, and its copies.
        rest = part == len(shares)
        if rest.any() and not (part == number).any():
            part[rest & (fractions == fractions[rest].min())] = number
    return [select(texts, part == number) for number in range(len(shares) + 1)]


def hash_fraction(text: str) -> float:
    """A hash of a text, or of the first text of a pair, as a number in [0, 1), the same on every machine."""
    text = text.split(PAIR_SEPARATOR)[0]
    return int.from_bytes(hashlib.blake2b(normalized_key(text).encode(), digest_size=6).digest(), "little") / 2**48


def select(texts: Texts, mask: np.ndarray) -> Texts:
    """The texts where bool `[examples]` is true."""
    lines = None if texts.lines is None else texts.lines[mask]
    return Texts([text for text, keep in zip(texts.texts, mask) if keep], texts.labels[mask], lines)


def cut_fold(texts: Texts, fold: Fold, classes: tuple[str, ...], source: str, kind: str) -> TextDataset:
    """The parts of the run of a cross-validation that tests on a fold.

    Texts that are equal but for case and blanks are in one part, and so are pairs with the same first text.

    Args:
        texts: all examples, with their `lines`.
        fold: the fold to test on.
        classes: class names; empty where the labels are values.
        source: the data set, for messages.
        kind: what `lines` are; see `Origins`.

    Raises:
        BadInput: there are too few texts, or too few of a class.
    """
    groups = folds.numbered([normalized_key(text.split(PAIR_SEPARATOR)[0]) for text in texts.texts])
    # A label that a fold's run would not learn from is a warning of that run.
    named = classes if texts.labels.ndim == 1 else ()
    part = folds.parts(groups, folds.strata(texts.labels, classes), fold, named, source)
    train, validation, test = (select(texts, part == each) for each in (folds.TRAIN, folds.VALIDATION, folds.TEST))
    note = folds.described(fold, len(train.texts), len(validation.texts), len(test.texts))
    return TextDataset(train, validation, test, classes, [], (note,), Origins(kind, test.lines))


def without_overlap(dataset: TextDataset) -> TextDataset:
    """Removes texts of validation or test from train, and texts of test from validation."""
    test = set(map(normalized_key, dataset.test.texts))
    validation, dropped_validation = _without(dataset.validation, test)
    train, dropped_train = _without(dataset.train, test | set(map(normalized_key, validation.texts)))
    notes = dataset.notes
    if dropped_train or dropped_validation:
        notes += (
            f"removed {dropped_train} training and {dropped_validation} validation texts that are in a later split",
        )
    return dataclasses.replace(dataset, train=train, validation=validation, notes=notes)


def _without(texts: Texts, excluded: set[str]) -> tuple[Texts, int]:
    kept = np.array([normalized_key(text) not in excluded for text in texts.texts], bool)
    return select(texts, kept), int((~kept).sum())


def without_heldout(dataset: TextDataset) -> list[str]:
    """Texts for language modelling: train and unlabelled texts that are not in validation or test."""
    heldout = set(map(normalized_key, [*dataset.validation.texts, *dataset.test.texts]))
    return [text for text in [*dataset.train.texts, *dataset.unlabelled] if normalized_key(text) not in heldout]


def check(dataset: TextDataset, source: str) -> TextDataset:
    """Refuses splits that a classifier cannot be trained or evaluated on.

    Raises:
        BadInput: a split or a class has no text; the message names it and the source.
    """
    for name in ("train", "validation", "test"):
        if not getattr(dataset, name).texts:
            raise BadInput(f"{source}: no texts left for {name}; expected more texts, and different ones")
    if not dataset.classes:
        return dataset
    if dataset.train.labels.ndim == 2:
        counts = dataset.train.labels.sum(axis=0)
        missing = [class_labels.quoted(name) for name, count in zip(dataset.classes, counts) if not count]
        note = f"WARNING: no training text has the label {', '.join(missing[:10])}"
        return dataclasses.replace(dataset, notes=(*dataset.notes, note)) if missing else dataset
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    if not counts.all():
        name = class_labels.quoted(dataset.classes[int(np.argmin(counts))])
        raise BadInput(f"{source}: no training text of class {name} after the split; expected more of each class")
    return dataset


def subsample(dataset: TextDataset, share: float, seed: int) -> TextDataset:
    """A fraction of the training texts, at least one of each class; a smaller fraction is a subset of a larger one.

    Raises:
        BadInput: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise BadInput(f"--share is {share:g}: expected more than 0, and 1 at most")
    labels = dataset.train.labels
    order = np.random.default_rng(seed).permutation(len(labels))
    firsts = [
        order[labels[order, label] > 0 if labels.ndim == 2 else labels[order] == label][:1]
        for label in range(len(dataset.classes))
    ]
    kept = np.zeros(len(labels), bool)
    kept[np.concatenate([order[: math.ceil(share * len(labels))], *firsts])] = True
    note = f"learning from {int(kept.sum()):,} of {len(kept):,} training texts"
    return dataclasses.replace(dataset, train=select(dataset.train, kept), notes=(*dataset.notes, note))
