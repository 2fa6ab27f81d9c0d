"""Training, validation and test examples of one data set, with no example on two sides."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from zoo.data import shuffling
from zoo.errors import BadInput

Columns = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Splits:
    """What a classifier learns from, is chosen by and is judged by.

    Attributes:
        train: columns `x` `[examples, ...]`, `y` int32 `[examples]` and perhaps `weight` float32 `[examples]`.
        validation: to watch a run and to choose by.
        test: to be read once, at the end.
        classes: names in the order of the labels.
        scale: the largest value of `x` where it is an intensity from 0; 0 for features of any scale.
        notes: what was done to the data, to be said aloud.
        features: names of the columns of a table, in the order of `x`; empty where they have none.
    """

    train: Columns
    validation: Columns
    test: Columns
    classes: tuple[str, ...]
    scale: float = 0.0
    notes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


def cut(columns: Mapping[str, np.ndarray], *shares: float) -> list[Columns]:
    """Cuts examples into parts at random, by a fixed seed: the same parts on every machine and in every run.

    Args:
        columns: `[examples, ...]` each.
        shares: of each part but the last, which gets the rest.
    """
    examples = len(columns["y"])
    shuffled = shuffling.shuffled(np.arange(examples), examples, seed=0, epoch=0)
    edges = np.cumsum([round(share * examples) for share in shares])
    return [{name: column[part] for name, column in columns.items()} for part in np.split(shuffled, edges)]


def without_overlap(splits: Splits) -> Splits:
    """Removes from `train` what stands in validation or test, and from validation what stands in test.

    Examples are the same where all bytes of `x` are, whatever their label.
    """
    test = _hashes(splits.test)
    validation, dropped_validation = _without(splits.validation, set(test))
    train, dropped_train = _without(splits.train, set(test) | set(_hashes(validation)))
    notes = list(splits.notes)
    if dropped_train or dropped_validation:
        notes.append(
            f"removed {dropped_train} training and {dropped_validation} validation examples that stand in a later split"
        )
    return dataclasses.replace(splits, train=train, validation=validation, notes=tuple(notes))


def keys(x: np.ndarray) -> list[bytes]:
    """What is equal for two examples of `[examples, ...]` that are the same: a hash of all bytes."""
    return [hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest() for row in x]


def check(splits: Splits, source: str) -> Splits:
    """Refuses what a classifier cannot learn from.

    Raises:
        BadInput: names the source, what is wrong, where, and what was expected.
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


def gaps(splits: Splits) -> tuple[str, ...]:
    """What is to be said of classes that a split lacks, or that occur once only."""
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    counts = {name: np.bincount(part["y"], minlength=len(splits.classes)) for name, part in parts.items()}
    found = []
    for name, count in counts.items():
        lacking = [repr(splits.classes[place]) for place in np.flatnonzero(count == 0)]
        if lacking:
            found.append(f"WARNING: no {name} examples of the {_plural('class', lacking)} {few(lacking)}")
    once = [repr(splits.classes[place]) for place in np.flatnonzero(sum(counts.values()) == 1)]
    if once:
        found.append(f"WARNING: one example only of the {_plural('class', once)} {few(once)}")
    return tuple(found)


def _plural(word: str, names: Sequence[str]) -> str:
    return f"{word}es" if len(names) > 1 else word


def few(names: Sequence[str]) -> str:
    """The first ten names, for an error."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _hashes(columns: Columns) -> list[bytes]:
    return keys(columns["x"])


def _without(columns: Columns, forbidden: set[bytes]) -> tuple[Columns, int]:
    stays = np.array([digest not in forbidden for digest in _hashes(columns)], bool)
    if stays.all():
        return columns, 0
    return {name: column[stays] for name, column in columns.items()}, int((~stays).sum())
