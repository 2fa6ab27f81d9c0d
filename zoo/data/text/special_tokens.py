"""BERT's special tokens: `[CLS] text [SEP]`, or `[CLS] first [SEP] second [SEP]` in two segments.

Devlin et al., "BERT" (2019), section 3 and figure 2.
"""

from typing import NamedTuple

import numpy as np

from zoo.data.text import encoding
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput

# Joins the two texts of a pair into one string: a character made for this purpose, which no text contains.
PAIR_SEPARATOR = "\N{SYMBOL FOR RECORD SEPARATOR}"


class SpecialTokens(NamedTuple):
    """The ids around a text: [CLS] first, [SEP] last."""

    first: int
    last: int


def from_tokenizer(tokenizer: Tokenizer) -> SpecialTokens:
    """The ids of [CLS] and [SEP].

    Raises:
        BadInput: the tokenizer lacks one of them.
    """
    ids = [tokenizer.id_of(token) for token in ("[CLS]", "[SEP]")]
    if None in ids:
        raise BadInput("the tokenizer has no [CLS] and [SEP]; expected a BERT tokenizer, or one trained here")
    return SpecialTokens(*ids)


def add_special_tokens(
    encoded: Encoded, special_tokens: SpecialTokens, max_length: int, cut: str = "head"
) -> dict[str, np.ndarray]:
    """Truncates texts, adds their special tokens and pads them to the width of the longest one.

    Args:
        encoded: ids of the texts.
        special_tokens: ids of [CLS] and [SEP].
        max_length: maximum number of tokens per row, the two special ones included.
        cut: which tokens of a longer text are kept; one of `encoding.CUTS`.

    Returns:
        `tokens` int32 `[texts, width]`, 0 after a text's end, and `length` int32 `[texts]`, 2 or more.

    Raises:
        BadInput: `max_length` leaves no room for a token.
    """
    check_room(max_length, 3)
    inner = encoding.padded(encoded, max_length - 2, cut)["tokens"]
    lengths = np.minimum(np.diff(encoded.starts), max_length - 2).astype(np.int32)
    tokens = np.pad(inner, [(0, 0), (1, 1)])  # [texts, width]
    tokens[:, 0] = special_tokens.first
    tokens[np.arange(len(tokens)), lengths + 1] = special_tokens.last
    return {"tokens": tokens, "length": lengths + np.int32(2)}


def add_special_tokens_to_pairs(
    first: Encoded, second: Encoded, special_tokens: SpecialTokens, max_length: int
) -> dict[str, np.ndarray]:
    """Joins pairs of texts with their special tokens; the longer text of a pair is truncated first.

    Args:
        first: ids of the first texts.
        second: ids of the second texts, one for each first one.
        special_tokens: ids of [CLS] and [SEP].
        max_length: maximum number of tokens per row, the three special ones included.

    Returns:
        `tokens` and `length` as `add_special_tokens` returns them, and `segments` int32 `[texts, width]`: 1 at the
        second text and the [SEP] after it.

    Raises:
        BadInput: `max_length` leaves no room for a token of each text.
    """
    check_room(max_length, 5)
    room = max_length - 3
    first_lengths, second_lengths = np.diff(first.starts), np.diff(second.starts)
    first_kept = np.minimum(first_lengths, np.maximum(room - second_lengths, (room + 1) // 2))
    second_kept = np.minimum(second_lengths, room - first_kept)
    parts = [encoding.padded(part, room)["tokens"] for part in (first, second)]
    length = first_kept + second_kept + 3
    positions = np.arange(int(length.max(initial=3)))  # [width]
    second_start = first_kept[:, None] + 2  # [texts, 1]
    rows = np.arange(len(length))[:, None]
    inner = [
        np.minimum(np.maximum(positions - start, 0), part.shape[1] - 1) for start, part in zip((1, second_start), parts)
    ]
    tokens = np.where(positions < second_start, parts[0][rows, inner[0]], parts[1][rows, inner[1]])  # [texts, width]
    tokens[:, 0] = special_tokens.first
    is_last = (positions == second_start - 1) | (positions == length[:, None] - 1)
    tokens = np.where(is_last, special_tokens.last, tokens)
    inside = positions < length[:, None]
    columns = {"tokens": tokens * inside, "segments": (positions >= second_start) & inside, "length": length}
    return {name: column.astype(np.int32) for name, column in columns.items()}


def check_room(max_length: int, minimum: int) -> None:
    """Refuses rows without room for a token of each text.

    Raises:
        BadInput: `max_length` is below the minimum.
    """
    if max_length < minimum:
        raise BadInput(f"the longest row is {max_length} tokens: expected {minimum} or more, with [CLS] and [SEP]")
