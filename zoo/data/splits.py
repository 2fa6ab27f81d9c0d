"""Train, validation and test splits of arrays, without overlap."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from zoo.data import shuffling
from zoo.errors import BadInput

Columns = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Splits:
    """Train, validation and test split of a classification data set.

    Attributes:
        train: columns `x` `[examples, ...]`, `y` int32 `[examples]` and perhaps `weight` float32 `[examples]`.
        validation: columns for monitoring and model selection.
        test: columns to be evaluated once, at the end.
        classes: class names in the order of the labels.
        scale: largest value of `x` where it is an intensity from 0; 0 for features of any scale.
        notes: changes made to the data, to be reported.
        features: column names of a table, in the order of `x`; empty where the columns have no names.
    """

    train: Columns
    validation: Columns
    test: Columns
    classes: tuple[str, ...]
    scale: float = 0.0
    notes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


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


def without_overlap(splits: Splits) -> Splits:
    """Removes examples of validation or test from `train`, and examples of test from validation.

    Examples are equal if all bytes of `x` are, whatever their labels.
    """
    test = _hashes(splits.test)
    validation, dropped_validation = _without(splits.validation, set(test))
    train, dropped_train = _without(splits.train, set(test) | set(_hashes(validation)))
    notes = list(splits.notes)
    if dropped_train or dropped_validation:
        notes.append(
            f"removed {dropped_train} training and {dropped_validation} validation examples that are in a later split"
        )
    return dataclasses.replace(splits, train=train, validation=validation, notes=tuple(notes))


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
        wrong = np.flatnonzero((y < 0) | (y >= len(splits.classes)))
        if len(wrong):
            raise BadInput(
                f"{source}: {name} label {y[wrong[0]]} at example {wrong[0]}; expected 0 to {len(splits.classes) - 1}"
            )
        if x.dtype.kind == "f" and not isinstance(x, np.memmap) and not np.isfinite(x).all():
            place = np.argwhere(~np.isfinite(x))[0]
            raise BadInput(f"{source}: {name} x{list(map(int, place))} is {x[tuple(place)]}; expected finite numbers")
    if len(splits.classes) < 2:
        raise BadInput(f"{source}: only the class {splits.classes[0]!r}; expected two or more")
    return splits


def missing_classes(splits: Splits) -> tuple[str, ...]:
    """Warnings about classes that a split lacks, or that have a single example."""
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    counts = {name: np.bincount(part["y"], minlength=len(splits.classes)) for name, part in parts.items()}
    warnings = []
    for name, count in counts.items():
        missing = [repr(splits.classes[label]) for label in np.flatnonzero(count == 0)]
        if missing:
            warnings.append(f"WARNING: no {name} examples of the {_plural('class', missing)} {shortened(missing)}")
    single = [repr(splits.classes[label]) for label in np.flatnonzero(sum(counts.values()) == 1)]
    if single:
        warnings.append(f"WARNING: one example only of the {_plural('class', single)} {shortened(single)}")
    return tuple(warnings)


def _plural(word: str, names: Sequence[str]) -> str:
    return f"{word}es" if len(names) > 1 else word


def shortened(names: Sequence[str]) -> str:
    """The first ten names, for a message."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _hashes(columns: Columns) -> list[bytes]:
    return keys(columns["x"])


def _without(columns: Columns, excluded: set[bytes]) -> tuple[Columns, int]:
    kept = np.array([digest not in excluded for digest in _hashes(columns)], bool)
    if kept.all():
        return columns, 0
    return {name: column[kept] for name, column in columns.items()}, int((~kept).sum())
