"""Features of words for a linear tagger, as numbers of hash buckets.

They are those of classic taggers (Ratnaparkhi, "A maximum entropy model for part-of-speech tagging", 1996, table 1;
Zhang and Johnson, "A robust risk minimization based named entity recognition system", 2003): a word as it is written,
its beginning and end, its shape, and its neighbours. They see capitals, which a tokenizer may remove, and they are of
whole words, which it may cut.
"""

import itertools
import re
import zlib
from collections.abc import Sequence

import numpy as np

# Attributes of a word, in the order of `_attributes`.
_WORD, _LOWER, _SHAPE, _AFFIXES = 0, 1, 2, range(3, 11)
# A feature is the attributes of one or more words: their distance from the word, and the attribute.
_TEMPLATES = (
    *(((shift, _WORD),) for shift in (-2, -1, 0, 1, 2)),
    *(((shift, _LOWER),) for shift in (-1, 0, 1)),
    *(((shift, _SHAPE),) for shift in (-1, 0, 1)),
    *(((0, affix),) for affix in _AFFIXES),
    ((-1, _WORD), (0, _WORD)),
    ((0, _WORD), (1, _WORD)),
    ((-2, _WORD), (-1, _WORD)),
    ((1, _WORD), (2, _WORD)),
    ((-1, _WORD), (0, _WORD), (1, _WORD)),
    ((-1, _SHAPE), (0, _SHAPE), (1, _SHAPE)),
)
# Number of features of a word.
COUNT = len(_TEMPLATES)
# Farthest neighbour that a feature sees.
_REACH = 2
# Prime of the 64-bit FNV hash, and its 64-bit start.
_PRIME, _START = np.uint64(0x100000001B3), np.uint64(0xCBF29CE484222325)


def features(sentences: Sequence[Sequence[str]], buckets: int) -> np.ndarray:
    """The features of all words, one sentence after the other: int32 `[words, COUNT]`, in [1, buckets).

    Args:
        sentences: words of each sentence.
        buckets: number of hash buckets; bucket 0 is for what is no word.
    """
    # Two marks before and after each sentence, so that no feature sees another sentence.
    marks = [f"<{number}" for number in range(_REACH)], [f">{number}" for number in range(_REACH)]
    words = list(itertools.chain.from_iterable((*marks[0], *sentence, *marks[1]) for sentence in sentences))
    is_word = np.concatenate([_is_word(len(sentence)) for sentence in sentences] or [np.zeros(0, bool)])
    numbers: dict[str, int] = {}
    indices = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.int64, len(words))
    hashes = np.array([_attributes(word) for word in numbers], np.uint64).reshape(-1, _AFFIXES.stop)
    places = np.flatnonzero(is_word)
    result = np.zeros((len(places), COUNT), np.int32)
    for column, template in enumerate(_TEMPLATES):
        values = np.full(len(places), _START + np.uint64(column))
        for shift, attribute in template:
            # The second line moves high bits down: a product changes none that are lower than its factors'.
            values = (values ^ hashes[indices[places + shift], attribute]) * _PRIME
            values ^= values >> np.uint64(29)
        result[:, column] = 1 + values % np.uint64(buckets - 1)
    return result


def column(rows: Sequence[Sequence[str]], positions: Sequence[np.ndarray], width: int, buckets: int) -> np.ndarray:
    """The features of each word at its first token, 0 elsewhere: int32 `[rows, width, COUNT]`.

    Args:
        rows: words of each row.
        positions: position of each word's first token in its row, -1 if it has none (`word_alignment.Aligned`).
        width: number of tokens of a row.
        buckets: number of hash buckets.
    """
    return placed(features(rows, buckets), positions, width)


def placed(values: np.ndarray, positions: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Values of words `[words, ...]` at each word's first token, 0 elsewhere: `[rows, width, ...]`; see `column`."""
    result = np.zeros((len(positions), width, *values.shape[1:]), values.dtype)
    row = np.repeat(np.arange(len(positions)), [len(each) for each in positions])
    position = np.concatenate([np.zeros(0, np.int64), *positions])
    present = position >= 0
    result[row[present], position[present]] = values[present]
    return result


def _is_word(length: int) -> np.ndarray:
    return np.pad(np.ones(length, bool), _REACH)


def _attributes(word: str) -> list[int]:
    """Hashes of the word, its lower case, its shape, and its last and first 1 to 4 characters."""
    lower = word.lower()
    shape = re.sub(r"(.)\1+", r"\1", "".join(map(_character_class, word)))
    ends, starts = [lower[-size:] for size in range(1, 5)], [lower[:size] for size in range(1, 5)]
    return [zlib.crc32(part.encode("utf8", "surrogatepass")) for part in (word, lower, shape, *ends, *starts)]


def _character_class(character: str) -> str:
    return "A" if character.isupper() else "a" if character.islower() else "0" if character.isdigit() else "x"
