"""Between words and the tokens of their pieces: tags to learn from, and a tag for each word from predictions."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.data.text import encoding
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput

IGNORED = -1


class Aligned(NamedTuple):
    """Sentences as rows of tokens.

    Attributes:
        columns: `tokens` int32 `[sentences, width]`, 0 after a sentence's end; `tags` int32 of the same shape, the
            place of a word's tag among the names at its first piece, `IGNORED` elsewhere; `length` int32
            `[sentences]`, as `text.padded` has it.
        places: of each sentence int64 `[words]`: where in its row a word begins, -1 if it is not there.
    """

    columns: dict[str, np.ndarray]
    places: list[np.ndarray]

    @property
    def lost(self) -> int:
        """How many words have no token: behind the cut, or of no piece at all (a stray control character)."""
        return sum(int((places < 0).sum()) for places in self.places)


def aligned(
    words: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]] | None,
    names: Sequence[str],
    tokenizer: Tokenizer,
    max_length: int,
    around: tuple[int, int] | None = None,
) -> Aligned:
    """Encodes sentences word by word: the first piece of a word has its tag (Devlin et al., "BERT", 2019).

    Each word is encoded as a text of its own, as the library's `is_pretokenized` does. The first word of which not all
    pieces fit, and all behind it, are cut off.

    Args:
        words: of each sentence.
        tags: of each word, or None where they are to be predicted.
        names: all tags in the order of the labels.
        tokenizer: makes the pieces.
        max_length: most tokens of a row.
        around: ids before and after each sentence ([CLS] and [SEP] of BERT), or None; they count as tokens.

    Raises:
        BadInput: `max_length` leaves no room for a piece.
    """
    ends = 0 if around is None else 2
    if max_length <= ends:
        raise BadInput(f"max_length is {max_length}: expected {ends + 1} or more tokens")
    first = _starts([len(sentence) for sentence in words])
    sentence = np.repeat(np.arange(len(words)), np.diff(first))
    known, forms = _indexed(words)
    pieces = tokenizer.encode(forms)
    stays, places = _cut(np.diff(pieces.starts)[known], first, max_length - ends)
    ids, lengths = _chosen(pieces, known[stays])
    starts = _starts(np.bincount(sentence[stays], lengths, len(words)).astype(np.int64))
    if around is not None:
        ids = _between(ids, starts, around)
        starts += 2 * np.arange(len(starts))
        places += places >= 0
    columns = encoding.padded(Encoded(ids, starts), max_length)
    columns["tags"] = np.full_like(columns["tokens"], IGNORED)
    if tags is not None:
        label_of = {name: label for label, name in enumerate(names)}
        labels = np.fromiter((label_of[tag] for each in tags for tag in each), np.int32, len(known))
        there = places >= 0
        columns["tags"][sentence[there], places[there]] = labels[there]
    return Aligned(columns, [places[start:stop] for start, stop in itertools.pairwise(first)])


def by_word(predicted: np.ndarray, places: Sequence[np.ndarray], names: Sequence[str]) -> list[list[str]]:
    """The tags of all words of the sentences; a word that has no token gets the first name.

    That is O, or the most frequent tag (`tagging.Tagged`): the best guess that is no prediction. So what was cut off
    counts as wrong wherever it is, and nothing is left out of the metrics.

    Args:
        predicted: `[sentences, width]`, the label at each token.
        places: of `Aligned`.
        names: all tags in the order of the labels.
    """
    return [
        [names[row[place]] if place >= 0 else names[0] for place in of_sentence]
        for row, of_sentence in zip(predicted.tolist(), map(np.ndarray.tolist, places), strict=True)
    ]


def _indexed(sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, list[str]]:
    """The place of each word among those that differ, and these."""
    words = [word for sentence in sentences for word in sentence]
    places = {word: place for place, word in enumerate(dict.fromkeys(words))}
    return np.fromiter((places[word] for word in words), np.int64, len(words)), list(places)


def _cut(lengths: np.ndarray, first: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Which words stay, and where in its sentence each begins, -1 where it is not there; both `[words]`."""
    ends = np.cumsum(lengths) - np.repeat(_starts(lengths)[first[:-1]], np.diff(first))
    stays = ends <= room
    return stays, np.where(stays & (lengths > 0), ends - lengths, -1)


def _chosen(pieces: Encoded, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of some words, one after the other, and how many each has."""
    lengths = np.diff(pieces.starts)[words]
    shifts = pieces.starts[words] - _starts(lengths)[:-1]
    return pieces.ids[np.arange(lengths.sum()) + np.repeat(shifts, lengths)], lengths


def _between(ids: np.ndarray, starts: np.ndarray, around: tuple[int, int]) -> np.ndarray:
    """Puts one id before each sentence and one behind it."""
    # In this order: where one sentence ends and the next begins, what is given first stands first.
    places = np.stack([starts[:-1], starts[1:]], axis=1).ravel()
    return np.insert(ids, places, np.tile(np.array(around, ids.dtype), len(starts) - 1))


def _starts(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where each begins if they stand one after the other, and the end."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
