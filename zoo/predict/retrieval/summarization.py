"""Summaries out of a text's own sentences, beside its first ones, which on news are hard to beat (Nenkova, 2005)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.predict.retrieval import embedder

# Of a sentence's worth what is its nearness to the document; the rest is its distance from the sentences chosen before.
BALANCE = 0.5


class Summary(NamedTuple):
    """Sentences of a document.

    Attributes:
        sentences: all of them.
        chosen: numbers of those in the summary, ascending.
        lead: numbers of as many at the document's beginning.
        similarity: cosine of the chosen sentences' mean vector with that of all sentences; 1 for the whole document.
            What is chosen is chosen for it, in part, so a good value is no proof of a good summary.
        lead_similarity: the same of `lead`.
    """

    sentences: Sequence[str]
    chosen: list[int]
    lead: list[int]
    similarity: float
    lead_similarity: float


def summarize(sentences: Sequence[str], vectors: np.ndarray, count: int) -> Summary:
    """Chooses sentences for a summary.

    Args:
        sentences: of a document, one or more.
        vectors: of the sentences, of length 1, `[sentences, width]`.
        count: how many to choose; a shorter document is its own summary.
    """
    chosen = sorted(marginal_relevance(vectors, count))
    lead = list(range(min(count, len(sentences))))
    return Summary(sentences, chosen, lead, _similarity(vectors, chosen), _similarity(vectors, lead))


def marginal_relevance(vectors: np.ndarray, count: int, balance: float = BALANCE) -> list[int]:
    """Numbers of sentences, the best first: near the document's mean vector, far from the sentences before them.

    Maximal marginal relevance (Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering
    documents and producing summaries", 1998), where the document's centroid stands for the query: each time the
    sentence with the largest `balance * cos(sentence, centroid) - (1 - balance) * max cos(sentence, chosen)`, of equal
    ones the first.

    Args:
        vectors: of length 1, `[sentences, width]`.
        count: how many to choose, at most.
        balance: 1 for relevance alone, 0 for novelty alone.
    """
    relevance = vectors @ embedder.unit(vectors.mean(axis=0))
    # Nothing is like the sentences chosen before while there are none.
    likeness = np.zeros(len(vectors), vectors.dtype)
    free, chosen = np.ones(len(vectors), bool), []
    for _ in range(min(count, len(vectors))):
        worth = balance * relevance - (1 - balance) * likeness
        best = int(np.argmax(np.where(free, worth, -np.inf)))
        likeness = np.maximum(likeness, vectors @ vectors[best]) if chosen else vectors @ vectors[best]
        free[best] = False
        chosen.append(best)
    return chosen


def _similarity(vectors: np.ndarray, chosen: list[int]) -> float:
    whole, part = (embedder.unit(rows.mean(axis=0)) for rows in (vectors, vectors[chosen]))
    return float(whole @ part)
