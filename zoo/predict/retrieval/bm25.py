"""BM25: lexical search, the baseline for search by embeddings.

BM25 (Robertson and Zaragoza, "The probabilistic relevance framework: BM25 and beyond", 2009) in the form of Lucene
with exact lengths (Kamphuis et al., 2020), by the library of Lù, "BM25S" (2024, arXiv:2407.03618).
"""

import logging
import re
import unicodedata
from collections.abc import Sequence

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN

K1, B = 1.5, 0.75
# Kana and Chinese characters, which are written without spaces between words.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORDS = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")
_UNSPACED_WORD = re.compile(rf"[{_UNSPACED}]")
# The library logs each index as debugging output, which TensorFlow's logging would print.
logging.getLogger("bm25s").setLevel(logging.WARNING)


class Bm25:
    """A BM25 index of texts.

    Args:
        texts: texts to search; any may be empty.
    """

    def __init__(self, texts: Sequence[str]):
        tokens = [words(text) for text in texts]
        self._texts, self._index = len(texts), None
        # The library fails on the mean length of texts without words.
        if any(tokens):
            self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
            self._index.index(tokens, create_empty_token=False, show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        """BM25 score of each text, float32 `[texts]`; 0 for a text without a word of the query.

        A repeated word of the query counts repeatedly. Lucene's 33 English stop words (the, of, not, ...) are ignored,
        unless the query has no other word.
        """
        tokens = words(query)
        tokens = [word for word in tokens if word not in STOPWORDS_EN] or tokens
        ids = [] if self._index is None else self._index.get_tokens_ids(tokens)
        return self._index.get_scores_from_ids(ids) if ids else np.zeros(self._texts, np.float32)


def words(text: str) -> list[str]:
    """The words of a text, normalised (NFKC) and lower-cased; no stemming.

    In text without spaces between words, each character and each pair of neighbours is a word (Lucene's CJKBigramFilter
    with single characters).
    """
    tokens = []
    for run in _WORDS.findall(unicodedata.normalize("NFKC", text).lower()):
        if _UNSPACED_WORD.match(run):
            tokens += [*run, *(run[start : start + 2] for start in range(len(run) - 1))]
        else:
            tokens.append(run)
    return tokens
