"""Class labels as people write them: missing ones, numbers in several forms, names that are nearly equal."""

import collections
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import numpy as np

from zoo.data.splits import shortened
from zoo.errors import BadInput

DROP_UNLABELLED_HELP = "Leave out examples without a label, and say how many, instead of refusing the file."

# What pandas, spreadsheets, databases and JSON write for a missing value, in lower case. "none" and "na" are not among
# them: both are names of classes, too.
_MISSING = frozenset(("", "nan", "+nan", "-nan", "null", "<na>", "#n/a", "#na", "nat"))
_PERHAPS_MISSING = frozenset(("none", "na", "n/a", "?"))
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,6})?", re.ASCII | re.IGNORECASE)
_INFINITE = frozenset(f"{sign}{word}" for sign in ("", "+", "-") for word in ("inf", "infinity"))
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
# Classes of whole numbers from which on a few examples each are values: fewer are grades or counts.
_MANY, _FEW_EXAMPLES = 20, 10
# Classes of numbers with decimals from which on they are values.
_MANY_FRACTIONS = 10
# Characters of a label in a message.
_LONGEST = 60
# Between the names of several classes of one example; the last ones are common inside of names, too.
_SEPARATORS, _WEAK_SEPARATORS = "|;,/+&", ",/+&"
# Blanks anywhere, and hyphens and underscores between letters; not those of "-1", "A-" and "1-2".
_JOINTS = re.compile(r"\s+|(?<=[^\W\d_])[-_\s]+(?=[^\W\d_])")


def is_missing(label: str) -> bool:
    """Whether a label stands for a missing one: empty, NaN, null, <NA>, #N/A or NaT, in any case."""
    return label.strip().lower() in _MISSING


def number(label: str) -> Decimal | None:
    """The exact value of a finite decimal number, so that "1", "1.0" and "1e0" are equal; None for other labels."""
    label = label.strip()
    return Decimal(label) if _NUMBER.fullmatch(label) else None


def classes(labels: Iterable[str], source: str) -> tuple[tuple[str, ...], list[str]]:
    """The classes of training labels, none of which is missing.

    Numbers that are equal are one class, named by its shortest spelling. Other labels are compared without the blanks
    around them.

    Args:
        labels: labels of all training examples.
        source: name of the file, for messages.

    Returns:
        Class names, whole numbers by their value, else sorted by name; and notes on what may be an error of the file:
        equal numbers, names that are nearly equal, combinations of classes, names that may mean a missing label.

    Raises:
        BadInput: there are fewer than two classes, or an infinite number among numbers.
    """
    counts = collections.Counter(label.strip() for label in labels)
    spellings = collections.defaultdict(list)
    for label in counts:
        value = number(label)
        spellings[label if value is None else value].append(label)
    names = {
        min(alike, key=lambda label: (len(label), label)): sum(counts[label] for label in alike)
        for alike in spellings.values()
    }
    infinite = [name for name in names if name.lower() in _INFINITE]
    if infinite and all(number(name) is not None for name in names if name not in infinite):
        raise BadInput(f"{source}: the class {quoted(infinite[0])} among numbers; expected finite numbers")
    integers = all(_INTEGER.fullmatch(name) for name in names)
    ordered = tuple(sorted(names, key=lambda name: (number(name) if integers else 0, name)))
    if len(ordered) < 2:
        only = f"only the class {quoted(ordered[0])}" if ordered else "no labels"
        raise BadInput(f"{source}: {only}; expected two or more")
    notes = [
        f"{source}: {' and '.join(map(quoted, sorted(alike)))} are equal numbers: one class"
        for alike in spellings.values()
        if len(alike) > 1
    ]
    return ordered, notes + [f"WARNING: {source}: {note}" for note in _doubts(ordered, names)]


def like_values(labels: Sequence[str]) -> str:
    """What speaks for values to predict (regression) instead of classes; empty where nothing does."""
    different = {number(label) for label in labels}
    if not different or None in different:
        return ""
    has_fractions = any(value != value.to_integral_value() for value in different)
    # Identities of classes are often numbered without gaps, with a few examples each.
    gapless = not has_fractions and max(different) - min(different) == len(different) - 1
    few_each = len(labels) < _FEW_EXAMPLES * len(different)
    if gapless or not few_each or len(different) <= (_MANY_FRACTIONS if has_fractions else _MANY):
        return ""
    examples = shortened(sorted(map(str, different))[:3])
    return (
        f"{len(different):,} different numbers ({examples}, ...) in {len(labels):,} rows: this looks like regression, "
        "and each number would be a class"
    )


def indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The index of each label's class, int32 `[labels]`: by name, else by an equal number; -1 for none of them."""
    by_name = {name.strip(): index for index, name in reversed(list(enumerate(classes)))}
    values = [number(name) for name in classes]
    # A number that two classes share is ambiguous.
    shared = collections.Counter(values)
    by_number = {value: index for index, value in enumerate(values) if value is not None and shared[value] == 1}
    found = {}
    for label in set(labels):
        name = label.strip()
        value = None if name in by_name else number(name)
        found[label] = by_name.get(name, -1) if value is None else by_number.get(value, -1)
    return np.array([found[label] for label in labels], np.int32)


def quoted(label: str) -> str:
    """A label in quotes for a message, cut to 60 characters."""
    return repr(label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…")


def nearest(label: str, classes: Sequence[str]) -> str:
    """The class that differs from a label in case, blanks and marks alone; empty for none."""
    return next((name for name in classes if _letters(name) == _letters(label)), "")


def unknown(label: str, classes: Sequence[str], owner: str) -> str:
    """The end of an error message about a label that is none of the classes of `owner`."""
    near = nearest(label, classes)
    hint = f"; did you mean {quoted(near)}?" if near else ""
    return f"is {quoted(label)}; expected a class of {owner}: {shortened(list(map(str, classes)))}{hint}"


def missing_message(place: str, column: str, label: str) -> str:
    """The error message for an example without a label."""
    what = f"is {label.strip()!r}, a missing label" if label.strip() else "is empty"
    return f"{place}: {column!r} {what}; expected a class, or --drop_unlabelled to leave such rows out"


def dropped_note(source: str, count: int) -> str:
    """The note on examples that `--drop_unlabelled` left out."""
    return f"{source}: left out {count:,} examples without a label"


def _doubts(names: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """What looks like an error of the file, from class names in their order and each one's number of examples."""
    alike = collections.defaultdict(list)
    for name in names:
        alike[_letters(name)].append(name)
    doubts = [
        f"the classes {' and '.join(f'{quoted(name)} ({counts[name]:,})' for name in group)} differ in case, blanks or "
        "marks alone: give them one name if they are one class"
        for group in alike.values()
        if len(group) > 1
    ]
    doubts += [
        f"{quoted(name)} is read as a class of {counts[name]:,} examples: leave their labels empty if they have none"
        for name in names
        if name.lower() in _PERHAPS_MISSING
    ]
    return doubts + _combinations(names)


def _combinations(names: Sequence[str]) -> list[str]:
    """A note where classes are combinations of others, like comedy|drama: the examples have several labels each."""
    for separator in _SEPARATORS:
        parts = {name: [part.strip() for part in name.split(separator)] for name in names}
        users = collections.Counter(part for split in parts.values() for part in set(split))
        combined = [
            name
            for name, split in parts.items()
            if len(split) > 1
            and all(users[part] > 1 for part in split)
            and (separator not in _WEAK_SEPARATORS or any(part in parts for part in split))
        ]
        if combined and "" not in users:
            return [
                f"{len(combined):,} of {len(names):,} classes are combinations with {separator!r}, like "
                f"{quoted(combined[0])}: this looks like several labels per example (multi-label), for tables "
                f"experiments.mlp_multilabel --label_separator={separator!r}; each combination is trained as a class "
                "of its own"
            ]
    return []


def _letters(name: str) -> str:
    """A name without case, blanks, joints of words and characters that have no width."""
    if number(name) is not None:
        return name.strip()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = "".join(character for character in folded if unicodedata.category(character) not in ("Cf", "Cc"))
    return _JOINTS.sub("", visible.strip()) or folded
