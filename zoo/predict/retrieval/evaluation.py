"""How well texts are found by meaning and by words, measured on one's own texts without any label.

The inverse cloze task (Lee, Chang and Toutanova, 2019, section 4, arXiv:1906.00300): a part of a text asks for the
rest of it among the rests of all texts. Here the first half asks for the second.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import BadInput
from zoo.metrics import classification
from zoo.predict.retrieval.bm25 import Bm25

METRICS = ("recall@1", "recall@10", "mrr")
_RESAMPLES, _LEVEL = 1000, 0.95


class Halves(NamedTuple):
    """Texts cut in two.

    Attributes:
        first: halves that ask.
        second: halves that are asked for, in the same order.
        left_out: how many texts could not be cut, or stood there before.
    """

    first: list[str]
    second: list[str]
    left_out: int


def halves(texts: Sequence[str]) -> Halves:
    """Cuts each text where a word begins, nearest to its middle; where nothing is spaced, in the middle."""
    found = [cut(text) for text in dict.fromkeys(texts)]
    pairs = [pair for pair in found if pair is not None]
    return Halves([first for first, _ in pairs], [second for _, second in pairs], len(texts) - len(pairs))


def cut(text: str) -> tuple[str, str] | None:
    """The halves of one text; None of a text of less than two words or, without spaces, two characters."""
    text = text.strip()
    middle = len(text) / 2
    places = [space.end() for space in re.finditer(r"\s+", text)]
    place = min(places, key=lambda place: abs(place - middle), default=0)
    # In Chinese a space may stand anywhere: far from the middle it is none between words.
    if not len(text) / 4 <= place <= 3 * len(text) / 4:
        place = int(middle)
    first, second = text[:place].strip(), text[place:].strip()
    return (first, second) if first and second else None


def evaluate(embed: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Lets the first halves of texts ask for the second halves, by vectors and by words.

    Args:
        embed: gives vectors of length 1, float32 `[texts, width]`.
        texts: two or more that can be cut; of equal ones the first counts.
        seed: of the bootstrap.

    Returns:
        `texts` and `left_out`, both numbers of texts; and `embeddings`, `bm25` and `difference` (the first less the
        second), each with `METRICS` by name and `NAME_low` and `NAME_high`, percentile bootstrap intervals (95 %,
        resampled over texts; both are judged on the same resamples).

    Raises:
        BadInput: there are less than two texts that can be cut.
    """
    found = halves(texts)
    if len(found.first) < 2:
        raise BadInput(f"{len(found.first)} of {len(texts)} texts can be cut in two; expected 2 or more different ones")
    by_words = Bm25(found.second)
    asking, asked = embed(found.first), embed(found.second)
    by = {
        "embeddings": ranks(lambda place: asked @ asking[place], len(asked)),
        "bm25": ranks(lambda place: by_words.scores(found.first[place]), len(asked)),
    }
    return {"texts": len(asked), "left_out": found.left_out, **_judged(by, seed)}


def ranks(scores: Callable[[int], np.ndarray], texts: int) -> np.ndarray:
    """The place, from 1, at which each query finds its own text; a tie counts against it.

    Args:
        scores: from the number of a query to its scores `[texts]`; its own text has the same number.
        texts: how many.
    """
    found = np.zeros(texts, np.int64)
    for place in range(texts):
        row = scores(place)
        found[place] = (row >= row[place]).sum()
    return found


def measured(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Of each query `[queries]` what `METRICS` are the means of: whether it is found at 1 or to 10, and 1 / rank."""
    return {"recall@1": ranks <= 1, "recall@10": ranks <= 10, "mrr": 1.0 / ranks}


def _judged(ranks_by: dict[str, np.ndarray], seed: int) -> dict[str, dict[str, float]]:
    by = {name: measured(found) for name, found in ranks_by.items()}
    by["difference"] = {name: by["embeddings"][name] * 1.0 - by["bm25"][name] for name in METRICS}
    columns = {(one, name): by[one][name].astype(np.float64) for one in by for name in METRICS}

    def means(counts: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        # einsum, not @: it sums in one order whatever the machine does besides.
        return {key: np.einsum("re,e->r", counts, column) / counts.sum(axis=1) for key, column in columns.items()}

    intervals = classification.bootstrap(means, len(ranks_by["bm25"]), _RESAMPLES, seed, _LEVEL)
    result: dict[str, dict[str, float]] = {one: {} for one in by}
    for (one, name), column in columns.items():
        low, high = intervals[one, name]
        result[one] |= {
            name: float(column.mean()),
            f"{name}{classification.LOW}": low,
            f"{name}{classification.HIGH}": high,
        }
    return result
