"""Search by words, the baseline that search by vectors has to beat.

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
# Kana and Chinese characters, whose words have no space between them.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORDS = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")
_UNSPACED_WORD = re.compile(rf"[{_UNSPACED}]")
# It speaks of each index at the level of debugging, which TensorFlow's logging would print.
logging.getLogger("bm25s").setLevel(logging.WARNING)


class Bm25:
    """The words of some texts.

    Args:
        texts: to be searched in; any may be empty.
    """

    def __init__(self, texts: Sequence[str]):
        found = [words(text) for text in texts]
        self._texts, self._index = len(texts), None
        # The library knows no mean length of no words.
        if any(found):
            self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
            self._index.index(found, create_empty_token=False, show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        """How well each text fits, float32 `[texts]`: 0 where it has no word of the query.

        A word that stands twice in the query counts twice. Of Lucene's 33 English stop words (the, of, not, ...) none
        counts, unless the query has no other word.
        """
        asked = words(query)
        asked = [word for word in asked if word not in STOPWORDS_EN] or asked
        known = [] if self._index is None else self._index.get_tokens_ids(asked)
        return self._index.get_scores_from_ids(known) if known else np.zeros(self._texts, np.float32)


def words(text: str) -> list[str]:
    """The words of a text, normalised (NFKC) and lower-cased; no stemming.

    Where there is no space between words, each character and each pair of neighbours is one (Lucene's CJKBigramFilter
    with single characters).
    """
    found = []
    for run in _WORDS.findall(unicodedata.normalize("NFKC", text).lower()):
        if _UNSPACED_WORD.match(run):
            found += [*run, *(run[place : place + 2] for place in range(len(run) - 1))]
        else:
            found.append(run)
    return found
