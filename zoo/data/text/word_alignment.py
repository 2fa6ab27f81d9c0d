"""Word-token alignment for tagging: labels at the first piece of each word, and word tags from token predictions."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.data.text import encoding
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput

IGNORED = -1
# A row best ends where a sentence does.
_STOPS = frozenset("。！？.!?")


class Aligned(NamedTuple):
    """Sentences as rows of tokens.

    Attributes:
        columns: `tokens` int32 `[sentences, width]`, 0 after a sentence's end; `tags` int32 of the same shape, the
            index of a word's tag in the tag names at its first piece, `IGNORED` elsewhere; `length` int32
            `[sentences]`, as `encoding.padded` returns it.
        positions: int64 `[words]` for each sentence: position of each word's first token in the row, -1 if it has none.
    """

    columns: dict[str, np.ndarray]
    positions: list[np.ndarray]

    @property
    def lost(self) -> int:
        """Number of words without a token: truncated, or without any piece (a stray control character)."""
        return sum(int((positions < 0).sum()) for positions in self.positions)


def aligned(
    words: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]] | None,
    names: Sequence[str],
    tokenizer: Tokenizer,
    max_length: int,
    around: tuple[int, int] | None = None,
) -> Aligned:
    """Encodes sentences word by word: the first piece of a word has its tag (Devlin et al., "BERT", 2019).

    Each word is encoded separately, as the library's `is_pretokenized` does. A sentence is truncated before the first
    word whose pieces do not all fit.

    Args:
        words: words of each sentence.
        tags: tag of each word, or None where tags are to be predicted.
        names: all tags in the order of the labels.
        tokenizer: splits the words into pieces.
        max_length: maximum number of tokens per row.
        around: ids before and after each sentence ([CLS] and [SEP] of BERT), or None; they count as tokens.

    Raises:
        BadInput: `max_length` leaves no room for a piece.
    """
    ends = 0 if around is None else 2
    if max_length <= ends:
        raise BadInput(f"max_length is {max_length}: expected {ends + 1} or more tokens")
    first = _starts([len(sentence) for sentence in words])
    sentence = np.repeat(np.arange(len(words)), np.diff(first))
    indices, distinct = _indexed(words)
    pieces = tokenizer.encode(distinct)
    kept, positions = _truncated(np.diff(pieces.starts)[indices], first, max_length - ends)
    ids, lengths = _selected(pieces, indices[kept])
    starts = _starts(np.bincount(sentence[kept], lengths, len(words)).astype(np.int64))
    if around is not None:
        ids = _surrounded(ids, starts, around)
        starts += 2 * np.arange(len(starts))
        positions += positions >= 0
    columns = encoding.padded(Encoded(ids, starts), max_length)
    columns["tags"] = np.full_like(columns["tokens"], IGNORED)
    if tags is not None:
        label_of = {name: label for label, name in enumerate(names)}
        labels = np.fromiter((label_of[tag] for each in tags for tag in each), np.int32, len(indices))
        present = positions >= 0
        columns["tags"][sentence[present], positions[present]] = labels[present]
    return Aligned(columns, [positions[start:stop] for start, stop in itertools.pairwise(first)])


def split_rows(sentences: Sequence[Sequence[str]], tokenizer: Tokenizer, room: int) -> list[list[list[str]]]:
    """Each sentence as rows of words that fit, as long as possible and best cut at the end of a sentence.

    A word of more than `room` pieces is read up to where a row ends.

    Args:
        sentences: words of each sentence.
        tokenizer: splits the words into pieces.
        room: maximum number of pieces per row, special tokens not counted.
    """
    indices, distinct = _indexed(sentences)
    lengths = np.diff(tokenizer.encode(distinct).starts)[indices]
    first = _starts([len(sentence) for sentence in sentences])
    return [
        [list(words)][: len(words)] if counts.sum() <= room else _rows(words, counts, tokenizer, room)
        for words, counts in zip(sentences, (lengths[start:stop] for start, stop in itertools.pairwise(first)))
    ]


def _rows(words: Sequence[str], counts: np.ndarray, tokenizer: Tokenizer, room: int) -> list[list[str]]:
    words = [
        word[: tokenizer.pieces(word)[room - 1].end] if count > room else word for word, count in zip(words, counts)
    ]
    ends = np.cumsum(np.minimum(counts, room))
    rows, first = [], 0
    while first < len(words):
        begins = ends[first - 1] if first else 0
        stop = int(np.searchsorted(ends, begins + room, side="right"))
        if stop < len(words):
            stop = next((end for end in range(stop, first, -1) if words[end - 1] in _STOPS), stop)
        rows.append(words[first:stop])
        first = stop
    return rows


def by_word(predicted: np.ndarray, positions: Sequence[np.ndarray], names: Sequence[str]) -> list[list[str]]:
    """The predicted tag of every word; a word without a token gets the first name.

    That is O or the most frequent tag (`tagging.TaggingDataset`), the best guess without a prediction. So truncated
    words are part of the metrics.

    Args:
        predicted: `[sentences, width]`, the label at each token.
        positions: positions of the words in each row (`Aligned.positions`).
        names: all tags in the order of the labels.
    """
    return [
        [names[row[position]] if position >= 0 else names[0] for position in of_sentence]
        for row, of_sentence in zip(predicted.tolist(), map(np.ndarray.tolist, positions), strict=True)
    ]


def _indexed(sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, list[str]]:
    """The index of each word in the list of distinct words, and this list."""
    words = [word for sentence in sentences for word in sentence]
    index_of = {word: index for index, word in enumerate(dict.fromkeys(words))}
    return np.fromiter((index_of[word] for word in words), np.int64, len(words)), list(index_of)


def _truncated(lengths: np.ndarray, first: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each word is kept, and the position of its first token in its sentence, -1 if none; both `[words]`."""
    ends = np.cumsum(lengths) - np.repeat(_starts(lengths)[first[:-1]], np.diff(first))
    kept = ends <= room
    return kept, np.where(kept & (lengths > 0), ends - lengths, -1)


def _selected(pieces: Encoded, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The concatenated ids of a selection of words, and the number of ids of each."""
    lengths = np.diff(pieces.starts)[words]
    shifts = pieces.starts[words] - _starts(lengths)[:-1]
    return pieces.ids[np.arange(lengths.sum()) + np.repeat(shifts, lengths)], lengths


def _surrounded(ids: np.ndarray, starts: np.ndarray, around: tuple[int, int]) -> np.ndarray:
    """Inserts one id before each sentence and one after it."""
    # In this order: at a border between sentences, np.insert keeps the order of the arguments.
    positions = np.stack([starts[:-1], starts[1:]], axis=1).ravel()
    return np.insert(ids, positions, np.tile(np.array(around, ids.dtype), len(starts) - 1))


def _starts(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Start offsets of concatenated parts, and the end."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
