"""Sentences and phrases of SST-2, whose training examples include phrases cut out of sentences."""

from collections.abc import Sequence

import numpy as np


def sentences(texts: Sequence[str]) -> np.ndarray:
    """Whether each text is a sentence, not a run of words of another text: bool `[texts]`."""
    words = [text.split() for text in texts]
    phrases: set[str] = set()
    is_sentence = np.zeros(len(texts), bool)
    # Longest first: a sentence comes before its phrases.
    for number in sorted(range(len(texts)), key=lambda i: -len(words[i])):
        text = " ".join(words[number])
        if text not in phrases:
            is_sentence[number] = True
            phrases.update(runs(words[number]))
    return is_sentence


def only_in(texts: Sequence[str], held: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether each text is a run of words of held-out sentences and of no others: bool `[texts]`.

    Args:
        texts: sentences and phrases.
        held: bool `[texts]`, the held-out sentences.
        others: bool `[texts]`, the other sentences.
    """
    of_held, of_others = (
        {run for number in np.flatnonzero(mask) for run in runs(texts[number].split())} for mask in (held, others)
    )
    normalized = (" ".join(text.split()) for text in texts)
    return np.array([text in of_held and text not in of_others for text in normalized], bool)


def runs(words: Sequence[str]) -> set[str]:
    """All runs of neighbouring words."""
    return {" ".join(words[first:last]) for first in range(len(words)) for last in range(first + 1, len(words) + 1)}
