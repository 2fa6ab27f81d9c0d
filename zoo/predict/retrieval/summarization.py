"""Extractive summarization by maximal marginal relevance, with the lead sentences as baseline.

On news the lead is hard to beat (Nenkova, 2005).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.predict.retrieval import embedder

# Weight of relevance to the document; the rest is the weight of novelty against the sentences already chosen.
BALANCE = 0.5


class Summary(NamedTuple):
    """A summary of a document.

    Attributes:
        sentences: all sentences of the document.
        chosen: numbers of the sentences in the summary, ascending.
        lead: numbers of equally many sentences at the document's beginning.
        similarity: cosine of the chosen sentences' mean embedding with the mean of all sentences; 1 for the whole
            document. The choice partly maximises it, so a high value does not prove a good summary.
        lead_similarity: the same cosine for `lead`.
    """

    sentences: Sequence[str]
    chosen: list[int]
    lead: list[int]
    similarity: float
    lead_similarity: float


def summarize(sentences: Sequence[str], vectors: np.ndarray, count: int) -> Summary:
    """Chooses sentences for a summary.

    Args:
        sentences: the document's sentences, one or more.
        vectors: the sentences' embeddings of length 1, `[sentences, width]`.
        count: number of sentences to choose; a shorter document is its own summary.
    """
    chosen = sorted(maximal_marginal_relevance(vectors, count))
    lead = list(range(min(count, len(sentences))))
    return Summary(sentences, chosen, lead, _similarity(vectors, chosen), _similarity(vectors, lead))


def maximal_marginal_relevance(vectors: np.ndarray, count: int, balance: float = BALANCE) -> list[int]:
    """Numbers of sentences, the best first: near the document's centroid, far from sentences already chosen.

    Maximal marginal relevance (Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering
    documents and producing summaries", 1998), with the document's centroid as the query: the next sentence maximises
    `balance * cos(sentence, centroid) - (1 - balance) * max cos(sentence, chosen)`; of equal ones the first is chosen.

    Args:
        vectors: the sentences' embeddings of length 1, `[sentences, width]`.
        count: most sentences to choose.
        balance: 1 for relevance alone, 0 for novelty alone.
    """
    relevance = vectors @ embedder.unit(vectors.mean(axis=0))
    # Similarity to the nearest chosen sentence; 0 for the first choice.
    redundancy = np.zeros(len(vectors), vectors.dtype)
    free, chosen = np.ones(len(vectors), bool), []
    for _ in range(min(count, len(vectors))):
        scores = balance * relevance - (1 - balance) * redundancy
        best = int(np.argmax(np.where(free, scores, -np.inf)))
        redundancy = np.maximum(redundancy, vectors @ vectors[best]) if chosen else vectors @ vectors[best]
        free[best] = False
        chosen.append(best)
    return chosen


def _similarity(vectors: np.ndarray, chosen: list[int]) -> float:
    whole, part = (embedder.unit(rows.mean(axis=0)) for rows in (vectors, vectors[chosen]))
    return float(whole @ part)
