"""Search index: exact nearest neighbours of embeddings, and BM25."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from zoo.data import cache as caches
from zoo.predict.retrieval.bm25 import Bm25
from zoo.predict.retrieval.embedder import Embedder

# Version in the name of every cached file, to be raised when their format changes.
_FORMAT = b"1"


class Hit(NamedTuple):
    """A text in the results of a search.

    Attributes:
        index: the text's number, from 0.
        score: cosine similarity, or BM25 score.
    """

    index: int
    score: float


class Index:
    """Texts to search in.

    Args:
        embedder: embedder for texts and queries.
        texts: one text or more.
        cache: folder for the texts' embeddings, see `cache.folder`; None caches nothing.
        notes: list that gets a line for each problem with the cache, and if texts were cut.
    """

    def __init__(self, embedder: Embedder, texts: Sequence[str], cache: Path | None, notes: list[str] | None = None):
        self._embedder, self._notes = embedder, notes
        self.vectors = cached_embeddings(embedder, texts, cache, notes)
        self.bm25 = Bm25(texts)

    def search_embeddings(self, queries: Sequence[str], top: int) -> list[list[Hit]]:
        """The nearest texts to each query by cosine similarity, from an exact search."""
        vectors = self._embedder.embed(queries, normalized=True, notes=self._notes)
        return [best(self.vectors @ vector, top) for vector in vectors]

    def search_bm25(self, queries: Sequence[str], top: int) -> list[list[Hit]]:
        """The best texts for each query by BM25; texts without a word of the query are left out."""
        results = [best(self.bm25.scores(query), top) for query in queries]
        return [[hit for hit in hits if hit.score > 0] for hits in results]


def cached_embeddings(
    embedder: Embedder, texts: Sequence[str], cache: Path | None, notes: list[str] | None = None
) -> np.ndarray:
    """Embeddings of length 1, float32 `[texts, width]`, from the cache if an earlier call computed them.

    Args:
        embedder: the embedder; its digest is part of the cached file's name.
        texts: any number of texts.
        cache: folder of the cache, see `cache.folder`; None caches nothing.
        notes: list that gets the notes of `Embedder.embed`, also for cached embeddings, and any problem of the cache.
    """
    name = caches.name_of(
        b"vectors", _FORMAT, tokenizers.__version__.encode(), embedder.digest(), *caches.content(texts)
    )

    def compute() -> caches.Arrays:
        lines: list[str] = []
        vectors = embedder.embed(texts, normalized=True, notes=lines)
        return {"vectors": vectors, "notes": np.frombuffer("\n".join(lines).encode(), np.uint8)}

    arrays = caches.cached(cache, name, compute, notes)
    if notes is not None:
        notes += arrays["notes"].tobytes().decode().splitlines()
    return arrays["vectors"]


def best(scores: np.ndarray, top: int) -> list[Hit]:
    """The texts with the highest scores `[texts]`, highest first; of equal ones the first text first."""
    return [Hit(int(index), float(scores[index])) for index in np.argsort(-scores, kind="stable")[:top]]
