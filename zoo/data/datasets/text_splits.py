"""Training, validation and test texts of one data set, with no text on two sides."""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np

from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.errors import BadInput


class Texts(NamedTuple):
    """Texts, and labels `[examples]`: int32 of classes, float32 of values."""

    texts: list[str]
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class TextDataset:
    """What a classifier of texts learns from, is chosen by and is judged by.

    Attributes:
        train: to learn from.
        validation: to watch a run and to choose by.
        test: to be read once, at the end.
        classes: names in the order of the labels; none where the labels are values.
        unlabelled: for a language model: texts of which none stands in validation or test.
        notes: what was done to the data, to be said aloud.
    """

    train: Texts
    validation: Texts
    test: Texts
    classes: tuple[str, ...]
    unlabelled: list[str]
    notes: tuple[str, ...] = ()


def normalized_key(text: str) -> str:
    """What is equal for two texts that differ in case and white space only."""
    return " ".join(text.casefold().split())


def cut(whole: Texts, *shares: float) -> list[Texts]:
    """Cuts texts by a hash of each: the same text is on the same side on every machine, whatever else there is.

    Args:
        whole: the texts.
        shares: of each part but the last, about; a part gets at least one text if there are as many.

    Returns:
        The parts, then the rest.
    """
    places = np.array([place(text) for text in whole.texts])
    part = np.searchsorted(np.cumsum(shares), places, side="right")
    for wanted in range(len(shares)):
        # Of a dozen texts none may have fallen here. Then the one next to the part goes to it, with its copies.
        rest = part == len(shares)
        if rest.any() and not (part == wanted).any():
            part[rest & (places == places[rest].min())] = wanted
    return [chosen(whole, part == wanted) for wanted in range(len(shares) + 1)]


def place(text: str) -> float:
    """Sends a text, or a pair of them by its first one, to a place in [0, 1), the same on every machine."""
    text = text.split(PAIR_SEPARATOR)[0]
    return int.from_bytes(hashlib.blake2b(normalized_key(text).encode(), digest_size=6).digest(), "little") / 2**48


def chosen(whole: Texts, stays: np.ndarray) -> Texts:
    """Those of the texts where bool `[examples]` is true."""
    return Texts([text for text, keep in zip(whole.texts, stays) if keep], whole.labels[stays])


def without_overlap(found: TextDataset) -> TextDataset:
    """Removes from train what stands in validation or test, and from validation what stands in test."""
    test = set(map(normalized_key, found.test.texts))
    validation, dropped_validation = _without(found.validation, test)
    train, dropped_train = _without(found.train, test | set(map(normalized_key, validation.texts)))
    notes = found.notes
    if dropped_train or dropped_validation:
        notes += (
            f"removed {dropped_train} training and {dropped_validation} validation texts that stand in a later split",
        )
    return dataclasses.replace(found, train=train, validation=validation, notes=notes)


def _without(whole: Texts, forbidden: set[str]) -> tuple[Texts, int]:
    stays = np.array([normalized_key(text) not in forbidden for text in whole.texts], bool)
    return chosen(whole, stays), int((~stays).sum())


def without_heldout(found: TextDataset) -> list[str]:
    """Texts to learn a language from: those of train and the unlabelled ones, without any of validation and test."""
    judged = set(map(normalized_key, [*found.validation.texts, *found.test.texts]))
    return [text for text in [*found.train.texts, *found.unlabelled] if normalized_key(text) not in judged]


def check(found: TextDataset, source: str) -> TextDataset:
    """Refuses what a classifier cannot learn from or be judged by.

    Raises:
        BadInput: names the source and the split or class that has no text.
    """
    for name in ("train", "validation", "test"):
        if not getattr(found, name).texts:
            raise BadInput(f"{source}: no texts left for {name}; expected more texts, and different ones")
    if not found.classes:
        return found
    counts = np.bincount(found.train.labels, minlength=len(found.classes))
    if not counts.all():
        name = found.classes[int(np.argmin(counts))]
        raise BadInput(f"{source}: no training text of class {name!r} after the split; expected more of each class")
    return found
