"""Search in texts by their vectors, exactly, and beside it by their words."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from zoo.data import cache as caches
from zoo.predict.retrieval.bm25 import Bm25
from zoo.predict.retrieval.embedder import Embedder

# Part of the name of every kept file: raised when the meaning of the files changes.
_FORMAT = b"1"


class Hit(NamedTuple):
    """A text that was found.

    Attributes:
        index: its number, from 0.
        score: cosine of the vectors' angle, or BM25's.
    """

    index: int
    score: float


class Index:
    """Texts to search in.

    Args:
        embedder: of texts and queries.
        texts: one or more.
        cache: folder for the texts' vectors, see `cache.folder`; None keeps nothing.
        notes: gets a line for whatever went wrong, and where texts were cut.
    """

    def __init__(self, embedder: Embedder, texts: Sequence[str], cache: Path | None, notes: list[str] | None = None):
        self._embedder, self._notes = embedder, notes
        self.vectors = embedded(embedder, texts, cache, notes)
        self.bm25 = Bm25(texts)

    def by_meaning(self, queries: Sequence[str], top: int) -> list[list[Hit]]:
        """For each query the texts whose vectors are nearest by cosine: all are compared."""
        asking = self._embedder.embed(queries, normalized=True, notes=self._notes)
        return [best(self.vectors @ vector, top) for vector in asking]

    def by_words(self, queries: Sequence[str], top: int) -> list[list[Hit]]:
        """For each query the best texts by BM25; those without a word of it are none."""
        found = [best(self.bm25.scores(query), top) for query in queries]
        return [[hit for hit in hits if hit.score > 0] for hits in found]


def embedded(
    embedder: Embedder, texts: Sequence[str], cache: Path | None, notes: list[str] | None = None
) -> np.ndarray:
    """Vectors of length 1 of texts, float32 `[texts, width]`, or the same ones kept by an earlier run.

    Args:
        embedder: kept vectors belong to all of its weights and settings.
        texts: any number.
        cache: folder, see `cache.folder`; None keeps nothing.
        notes: gets what `Embedder.embed` notes, also of kept vectors, and a line where the cache is at fault.
    """
    name = caches.name_of(
        b"vectors", _FORMAT, tokenizers.__version__.encode(), embedder.digest(), *caches.content(texts)
    )

    def compute() -> caches.Arrays:
        said: list[str] = []
        vectors = embedder.embed(texts, normalized=True, notes=said)
        return {"vectors": vectors, "notes": np.frombuffer("\n".join(said).encode(), np.uint8)}

    found = caches.cached(cache, name, compute, notes)
    if notes is not None:
        notes += found["notes"].tobytes().decode().splitlines()
    return found["vectors"]


def best(scores: np.ndarray, top: int) -> list[Hit]:
    """The texts of the highest scores `[texts]`, highest first; of equal ones the first text."""
    return [Hit(int(index), float(scores[index])) for index in np.argsort(-scores, kind="stable")[:top]]
