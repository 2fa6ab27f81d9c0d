"""Evaluation of search by embeddings and by BM25 on your own texts, without labels.

The inverse cloze task (Lee, Chang and Toutanova, 2019, section 4, arXiv:1906.00300): a part of a text is the query for
the rest of it among the rests of all texts. Here the first half is the query for the second half.
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
        first: first halves, the queries.
        second: second halves, in the same order.
        left_out: number of texts that could not be cut, or were duplicates.
    """

    first: list[str]
    second: list[str]
    left_out: int


def halves(texts: Sequence[str]) -> Halves:
    """Cuts each text at the start of the word nearest to its middle; without spaces, in the middle."""
    pairs = [pair for text in dict.fromkeys(texts) if (pair := cut(text)) is not None]
    return Halves([first for first, _ in pairs], [second for _, second in pairs], len(texts) - len(pairs))


def cut(text: str) -> tuple[str, str] | None:
    """The halves of one text; None for a text of less than two words or, without spaces, two characters."""
    text = text.strip()
    middle = len(text) / 2
    starts = [space.end() for space in re.finditer(r"\s+", text)]
    start = min(starts, key=lambda start: abs(start - middle), default=0)
    # In Chinese a space does not separate words, so one far from the middle is ignored.
    if not len(text) / 4 <= start <= 3 * len(text) / 4:
        start = int(middle)
    first, second = text[:start].strip(), text[start:].strip()
    return (first, second) if first and second else None


def evaluate(embed: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Searches the second halves of texts with the first halves as queries, by embeddings and by BM25.

    Args:
        embed: maps texts to embeddings of length 1, float32 `[texts, width]`.
        texts: texts, of which two or more can be cut; duplicates count once.
        seed: seed of the bootstrap.

    Returns:
        `texts` and `left_out`, both numbers of texts; and `embeddings`, `bm25` and `difference` (the first less the
        second), each with `METRICS` by name and `NAME_low` and `NAME_high`, percentile bootstrap intervals (95 %,
        resampled over texts; both use the same resamples).

    Raises:
        BadInput: there are less than two texts that can be cut.
    """
    queries, documents, left_out = halves(texts)
    if len(queries) < 2:
        raise BadInput(f"{len(queries)} of {len(texts)} texts can be cut in two; expected 2 or more different ones")
    bm25 = Bm25(documents)
    query_vectors, document_vectors = embed(queries), embed(documents)
    ranks_by = {
        "embeddings": ranks(lambda number: document_vectors @ query_vectors[number], len(queries)),
        "bm25": ranks(lambda number: bm25.scores(queries[number]), len(queries)),
    }
    return {"texts": len(queries), "left_out": left_out, **_metrics(ranks_by, seed)}


def ranks(scores: Callable[[int], np.ndarray], texts: int) -> np.ndarray:
    """Rank of each query's own text, from 1; ties count against it.

    Args:
        scores: maps a query's number to its scores `[texts]`; its own text has the same number.
        texts: number of texts and queries.
    """
    own = np.zeros(texts, np.int64)
    for number in range(texts):
        row = scores(number)
        own[number] = (row >= row[number]).sum()
    return own


def query_metrics(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of each query, `[queries]`, whose means are `METRICS`: hit at 1, hit at 10, and reciprocal rank."""
    return {"recall@1": ranks <= 1, "recall@10": ranks <= 10, "mrr": 1.0 / ranks}


def _metrics(ranks_by: dict[str, np.ndarray], seed: int) -> dict[str, dict[str, float]]:
    by = {name: query_metrics(ranks) for name, ranks in ranks_by.items()}
    by["difference"] = {name: by["embeddings"][name] * 1.0 - by["bm25"][name] for name in METRICS}
    columns = {(one, name): by[one][name].astype(np.float64) for one in by for name in METRICS}

    def means(counts: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        # einsum, not @, as its order of summation does not depend on threads.
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
