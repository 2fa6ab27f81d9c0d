"""Splits of a data set whose examples are sentences and phrases cut out of them (SST-2)."""

from collections.abc import Sequence

import numpy as np


def sentences(texts: Sequence[str]) -> np.ndarray:
    """Which texts are whole: bool `[texts]`, no run of words inside of another text."""
    words = [text.split() for text in texts]
    seen: set[str] = set()
    whole = np.zeros(len(texts), bool)
    # Longest first: what a phrase was cut from comes before it.
    for number in sorted(range(len(texts)), key=lambda i: -len(words[i])):
        name = " ".join(words[number])
        if name not in seen:
            whole[number] = True
            seen.update(runs(words[number]))
    return whole


def only_in(texts: Sequence[str], held: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which texts are runs of words of held texts and of no others: bool `[texts]`.

    Args:
        texts: sentences and phrases.
        held: bool `[texts]`, the sentences held out.
        others: bool `[texts]`, the sentences that are not.
    """
    of_held, of_others = (
        {run for number in np.flatnonzero(which) for run in runs(texts[number].split())} for which in (held, others)
    )
    names = (" ".join(text.split()) for text in texts)
    return np.array([name in of_held and name not in of_others for name in names], bool)


def runs(words: Sequence[str]) -> set[str]:
    """All runs of neighbouring words."""
    return {" ".join(words[first:last]) for first in range(len(words)) for last in range(first + 1, len(words) + 1)}
