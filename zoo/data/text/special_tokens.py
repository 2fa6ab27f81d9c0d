"""Texts as BERT reads them: `[CLS] text [SEP]`, or `[CLS] one [SEP] other [SEP]` in two segments.

Devlin et al., "BERT" (2019), section 3 and figure 2.
"""

from typing import NamedTuple

import numpy as np

from zoo.data.text import encoding
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput

# Between the two texts of a pair where they travel as one: a sign that stands for just this, and in no text.
PAIR_SEPARATOR = "\N{SYMBOL FOR RECORD SEPARATOR}"


class SpecialTokens(NamedTuple):
    """The ids that stand around a text."""

    first: int
    last: int


def from_tokenizer(tokenizer: Tokenizer) -> SpecialTokens:
    """The ids of [CLS] and [SEP].

    Raises:
        BadInput: the tokenizer has none.
    """
    found = [tokenizer.id_of(token) for token in ("[CLS]", "[SEP]")]
    if None in found:
        raise BadInput("the tokenizer has no [CLS] and [SEP]; expected one of a BERT, or one trained here")
    return SpecialTokens(*found)


def add_special_tokens(
    encoded: Encoded, frame: SpecialTokens, max_length: int, cut: str = "head"
) -> dict[str, np.ndarray]:
    """Texts in their frames, as rows of one width, that of the longest after cutting.

    Args:
        encoded: the texts' ids.
        frame: of the tokenizer.
        max_length: most tokens of a row, the frame's two included.
        cut: which tokens of a longer text are kept; one of `text.CUTS`.

    Returns:
        `tokens` int32 `[texts, width]`, 0 after a text's end, and `length` int32 `[texts]`, 2 or more.

    Raises:
        BadInput: there is no room for a token.
    """
    check_room(max_length, 3)
    inner = encoding.padded(encoded, max_length - 2, cut)["tokens"]
    lengths = np.minimum(np.diff(encoded.starts), max_length - 2).astype(np.int32)
    tokens = np.pad(inner, [(0, 0), (1, 1)])
    tokens[:, 0] = frame.first
    tokens[np.arange(len(tokens)), lengths + 1] = frame.last
    return {"tokens": tokens, "length": lengths + np.int32(2)}


def add_special_tokens_to_pairs(
    one: Encoded, other: Encoded, frame: SpecialTokens, max_length: int
) -> dict[str, np.ndarray]:
    """Pairs of texts; of a pair that is too long the longer text loses its end first.

    Args:
        one: the ids of the first texts.
        other: of the second ones, as many.
        frame: of the tokenizer.
        max_length: most tokens of a row, the frame's three included.

    Returns:
        As of `add_special_tokens`, and `segments` int32 `[texts, width]`: 1 at the second text and the [SEP] behind it.

    Raises:
        BadInput: there is no room for a token of each.
    """
    check_room(max_length, 5)
    room = max_length - 3
    both = np.diff(one.starts), np.diff(other.starts)
    kept = np.minimum(both[0], np.maximum(room - both[1], (room + 1) // 2))
    kept = kept, np.minimum(both[1], room - kept)
    parts = [encoding.padded(part, room)["tokens"] for part in (one, other)]
    length = kept[0] + kept[1] + 3
    places = np.arange(int(length.max(initial=3)))
    second = kept[0][:, None] + 2
    rows = np.arange(len(length))[:, None]
    inner = [np.minimum(np.maximum(places - start, 0), part.shape[1] - 1) for start, part in zip((1, second), parts)]
    tokens = np.where(places < second, parts[0][rows, inner[0]], parts[1][rows, inner[1]])
    tokens[:, 0] = frame.first
    tokens = np.where((places == second - 1) | (places == length[:, None] - 1), frame.last, tokens)
    inside = places < length[:, None]
    columns = {"tokens": tokens * inside, "segments": (places >= second) & inside, "length": length}
    return {name: column.astype(np.int32) for name, column in columns.items()}


def check_room(max_length: int, fewest: int) -> None:
    """Refuses rows that have no room for a token of each text.

    Raises:
        BadInput: they have not.
    """
    if max_length < fewest:
        raise BadInput(f"the longest row is {max_length} tokens: expected {fewest} or more, with [CLS] and [SEP]")
