"""Train, validation and test splits of arrays, without overlap."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.data import duplicates, shuffling
from zoo.errors import BadInput
from zoo.names import escaped

# Characters of a class name in a message.
_LONGEST = 60
# Names of columns that are there until the examples are split: by what they are split, and where each comes from.
SPLIT, ORIGIN = "split", "origin"

Columns = dict[str, np.ndarray]


class Origins(NamedTuple):
    """Where examples come from.

    Attributes:
        kind: "line" of a file; "row" of a file without lines, from 1; "index" of an array, from 0; "file" of a folder.
        values: one for each example, int or text `[examples]`.
    """

    kind: str
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Splits:
    """Train, validation and test split of a data set with classes, or with values to predict.

    Attributes:
        train: columns `x` `[examples, ...]`, `y` int32 (classes) or float32 (values) `[examples]`, or of several labels
            float32 0 or 1 `[examples, labels]`, and perhaps `weight` float32 `[examples]`.
        validation: columns for monitoring and model selection.
        test: columns to be evaluated once, at the end.
        classes: class names in the order of the labels, or names of the labels; empty where there are values.
        scale: largest value of `x` where it is an intensity from 0; 0 for features of any scale.
        notes: changes made to the data, to be reported.
        features: column names of a table, in the order of `x`; empty where the columns have no names.
        schema: what the columns of a table are, where some are no complete numbers; NaN in `x` is a missing value then.
        origins: where the test examples come from, in a run of a cross-validation; else None.
    """

    train: Columns
    validation: Columns
    test: Columns
    classes: tuple[str, ...]
    scale: float = 0.0
    notes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    schema: Any = None
    origins: Origins | None = None


def cut(columns: Mapping[str, np.ndarray], *shares: float) -> list[Columns]:
    """Splits examples at random with a fixed seed: the same parts on every machine and in every run.

    Args:
        columns: `[examples, ...]` each.
        shares: fraction of each part but the last, which gets the rest.
    """
    examples = len(columns["y"])
    shuffled = shuffling.shuffled(np.arange(examples), examples, seed=0, epoch=0)
    edges = np.cumsum([round(share * examples) for share in shares])
    return [{name: column[part] for name, column in columns.items()} for part in np.split(shuffled, edges)]


def cut_by_group(columns: Mapping[str, np.ndarray], groups: Sequence[str], *shares: float) -> list[Columns]:
    """Splits examples so that those of a group stay together, in parts of about these shares of the examples.

    Args:
        columns: `[examples, ...]` each.
        groups: name of each example's group.
        shares: fraction of each part but the last, which gets the rest.

    Raises:
        BadInput: there are fewer groups than parts.
    """
    names, codes, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(names) <= len(shares):
        raise BadInput(f"--split: {len(names)} groups cannot be split in {len(shares) + 1} parts; expected more groups")
    order = shuffling.shuffled(np.arange(len(names)), len(names), seed=0, epoch=0)
    part_of, start = np.full(len(names), len(shares)), 0
    for part, share in enumerate(shares):
        # One group at least, and one for each part that follows.
        most = len(names) - (len(shares) - part)
        stop = (
            int(np.searchsorted(np.cumsum(counts[order[start:]]), share * len(codes) * (1 + 1e-9), side="right"))
            + start
        )
        stop = min(max(stop, start + 1), most)
        part_of[order[start:stop]] = part
        start = stop
    return [
        {name: column[part_of[codes] == part] for name, column in columns.items()} for part in range(len(shares) + 1)
    ]


def cut_by_time(columns: Mapping[str, np.ndarray], times: np.ndarray, *shares: float) -> list[Columns]:
    """Splits examples by time: the last ones are the last part; those of one moment stay together.

    Args:
        columns: `[examples, ...]` each.
        times: a number for each example that grows with time.
        shares: fraction of each part but the first, from the second on.

    Raises:
        BadInput: a part would be empty, as too many examples have one time.
    """
    order = np.argsort(times, kind="stable")
    ordered, size = np.asarray(times)[order], len(order)
    edges = [size - round(size * sum(shares[place:])) for place in range(len(shares))]
    # All examples of the moment at an edge belong to what follows.
    edges = [int(np.searchsorted(ordered, ordered[min(edge, size - 1)], side="left")) for edge in edges]
    parts = np.split(order, edges)
    if not all(len(part) for part in parts):
        raise BadInput("--split: too many examples have the same time for parts before and after; expected other times")
    return [{name: column[part] for name, column in columns.items()} for part in parts]


def without_overlap(splits: Splits) -> Splits:
    """Removes copies of validation or test examples from `train`, and of test examples from validation.

    Examples are equal if all bytes of `x` are, whatever their labels. Where chance alone repeats an example, as in a
    table of a few yes/no columns, it is no copy and stays; see `zoo.data.duplicates`. No split is emptied.
    """
    parts = (splits.train, splits.validation, splits.test)
    if not _may_overlap(*(part["x"] for part in parts)):
        return splits
    train, validation, test = hashes = [keys(part["x"]) for part in parts]
    copies = set()
    if set(train) & {*validation, *test} or set(validation) & set(test):
        x = np.concatenate([np.asarray(part["x"]) for part in parts])
        copies = duplicates.copies(x, [key for part in hashes for key in part])
    kept_validation = _kept(validation, copies & set(test))
    kept_train = _kept(train, copies & (set(test) | {key for key, kept in zip(validation, kept_validation) if kept}))
    notes = [*splits.notes, *_overlap_notes(train, test, kept_train, kept_validation, copies)]
    train, validation = _select(splits.train, kept_train), _select(splits.validation, kept_validation)
    return dataclasses.replace(splits, train=train, validation=validation, notes=tuple(notes))


def _may_overlap(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> bool:
    """Whether an example may be in two splits: False is certain, and takes a twentieth of the keys' memory."""
    first, second, third = (np.unique(_row_hashes(x)) for x in (train, validation, test))
    later = np.concatenate([second, third])
    return bool(len(np.intersect1d(first, later)) or len(np.intersect1d(second, third)))


def _row_hashes(x: np.ndarray) -> np.ndarray:
    """A number for each example of `[examples, ...]`, uint64; equal for equal bytes, and rarely for others."""
    if not len(x):
        return np.zeros(0, np.uint64)
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    words = rows.view(np.uint32) if rows.itemsize % 4 == 0 else rows.view(np.uint8)
    hashes = np.zeros(len(words), np.uint64)
    for column in range(words.shape[1]):
        hashes = (hashes ^ words[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(32)
    return hashes


def _kept(hashes: Sequence[bytes], excluded: set[bytes]) -> np.ndarray:
    """Which examples stay, bool `[examples]`; all of them where none would."""
    kept = np.array([digest not in excluded for digest in hashes], bool)
    return kept if kept.any() else np.ones(len(kept), bool)


def _select(columns: Columns, kept: np.ndarray) -> Columns:
    return columns if kept.all() else {name: column[kept] for name, column in columns.items()}


def _overlap_notes(
    train: list[bytes], test: list[bytes], kept_train: np.ndarray, kept_validation: np.ndarray, copies: set[bytes]
) -> list[str]:
    """What was removed, and how many equal examples stay."""
    removed = int((~kept_train).sum()), int((~kept_validation).sum())
    notes = []
    if any(removed):
        notes.append(f"removed {removed[0]} training and {removed[1]} validation examples that are in a later split")
    trained = {key for key, kept in zip(train, kept_train) if kept}
    shared = sum(key in trained for key in test)
    if trained & copies & set(test):
        notes.append("WARNING: all training examples are in the test split, so test/ says nothing about new data")
    elif shared:
        notes.append(
            f"{shared:,} of {len(test):,} test examples ({shared / len(test):.0%}) equal a training example: kept, as "
            "chance alone gives such examples with these columns"
        )
    return notes


def keys(x: np.ndarray) -> list[bytes]:
    """A hash of the bytes of each example of `[examples, ...]`; equal for equal examples."""
    return [hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest() for row in x]


def check(splits: Splits, source: str) -> Splits:
    """Refuses splits that a classifier cannot learn from.

    Raises:
        BadInput: empty split, label out of range, non-finite value or a single class; names source and place.
    """
    for name in ("train", "validation", "test"):
        columns = getattr(splits, name)
        x, y = columns["x"], columns["y"]
        if not len(y):
            raise BadInput(
                f"{source}: no examples for {name}; expected enough for training, validation and test (10 or more)"
            )
        is_class = y.dtype.kind in "iu"
        wrong = np.flatnonzero((y < 0) | (y >= len(splits.classes))) if is_class else ()
        if len(wrong):
            raise BadInput(
                f"{source}: {name} label {y[wrong[0]]} at example {wrong[0]}; expected 0 to {len(splits.classes) - 1}"
            )
        may_lack = splits.schema is not None
        if not may_lack and x.dtype.kind == "f" and not isinstance(x, np.memmap) and not np.isfinite(x).all():
            place = np.argwhere(~np.isfinite(x))[0]
            raise BadInput(f"{source}: {name} x{list(map(int, place))} is {x[tuple(place)]}; expected finite numbers")
    if is_class and len(splits.classes) < 2:
        raise BadInput(f"{source}: only the class {splits.classes[0]!r}; expected two or more")
    return splits


def missing_classes(splits: Splits) -> tuple[str, ...]:
    """Warnings about classes that a split lacks, or that have a single example; none where there are values."""
    if not splits.classes:
        return ()
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    word = "label" if splits.train["y"].ndim == 2 else "class"
    counts = {name: _counts(part["y"], len(splits.classes)) for name, part in parts.items()}
    warnings = []
    for name, count in counts.items():
        missing = [repr(splits.classes[label]) for label in np.flatnonzero(count == 0)]
        if missing:
            warnings.append(f"WARNING: no {name} examples of the {_plural(word, missing)} {shortened(missing)}")
    single = [repr(splits.classes[label]) for label in np.flatnonzero(sum(counts.values()) == 1)]
    if single:
        warnings.append(f"WARNING: one example only of the {_plural(word, single)} {shortened(single)}")
    return tuple(warnings)


def _counts(y: np.ndarray, classes: int) -> np.ndarray:
    """Number of examples of each class or label."""
    return y.sum(axis=0).astype(np.int64) if y.ndim == 2 else np.bincount(y, minlength=classes)


def _plural(word: str, names: Sequence[str]) -> str:
    return word if len(names) == 1 else f"{word}es" if word.endswith("s") else f"{word}s"


def shortened(names: Sequence[str]) -> str:
    """The first ten names, each in one line and cut to 60 characters, for a message."""
    shown = (escaped(name) if len(name) <= _LONGEST else f"{escaped(name[: _LONGEST - 1])}…" for name in names[:10])
    return ", ".join(shown) + (", ..." if len(names) > 10 else "")
