"""Token ids of texts: encoded once and cached, then truncated and padded, or cut into windows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers

from zoo import errors
from zoo.data import cache as caches
from zoo.data.cache import folder as cache_folder
from zoo.data.text import tokenizer
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput

__all__ = ["CUTS", "Encoded", "cache_folder", "encoded", "padded", "trained", "windows"]

CUTS = ("head", "tail", "head_tail")
# Part of the name of every cached file: raised when the meaning of the files changes.
_FORMAT = b"2"


def trained(
    texts: Sequence[str], kind: str, vocabulary_size: int, cache: Path | None, notes: list[str] | None = None
) -> Tokenizer:
    """A tokenizer trained on the texts (`tokenizer.train`), or the same one from the cache.

    Args:
        texts: texts of the training split.
        kind: one of `tokenizer.KINDS`.
        vocabulary_size: maximum number of ids.
        cache: cache folder (`cache_folder`); None disables the cache.
        notes: gets a line where the cache is damaged or cannot be written.
    """
    name = caches.name_of(b"tokenizer", *_version(), f"{kind} {vocabulary_size}".encode(), *caches.content(texts))

    def compute() -> caches.Arrays:
        definition = tokenizer.train(texts, kind, vocabulary_size).to_json()
        return {"json": np.frombuffer(definition.encode(), np.uint8)}

    return Tokenizer.from_json(caches.cached(cache, name, compute, notes)["json"].tobytes().decode())


def encoded(texts: Sequence[str], tokenizer: Tokenizer, cache: Path | None, notes: list[str] | None = None) -> Encoded:
    """The ids of texts, computed or from the cache.

    Args:
        texts: any number of texts.
        tokenizer: its whole definition is part of the cache key.
        cache: cache folder (`cache_folder`); None disables the cache.
        notes: gets a line where the cache is damaged or cannot be written.
    """
    name = caches.name_of(b"ids", *_version(), tokenizer.to_json().encode(), *caches.content(texts))
    return Encoded(**caches.cached(cache, name, lambda: tokenizer.encode(texts)._asdict(), notes))


def padded(encoded: Encoded, max_length: int, cut: str = "head") -> dict[str, np.ndarray]:
    """Truncates texts and pads them to the width of the longest one.

    Args:
        encoded: ids of the texts.
        max_length: maximum number of tokens per text.
        cut: which tokens of a longer text are kept: the first ("head"), the last ("tail"), or the first quarter of
            `max_length` and the last three quarters ("head_tail"; 128 + 382 did best in Sun et al., "How to fine-tune
            BERT for text classification?", 2019).

    Returns:
        `tokens` int32 `[texts, width]`, 0 after a text's end, and `length` int32 `[texts]`, 1 or more: an empty text
        has one token of padding.

    Raises:
        BadInput: `max_length` below 1, or an unknown `cut`.
    """
    if max_length < 1:
        raise BadInput(f"max_length is {max_length}: expected 1 or more tokens")
    if cut not in CUTS:
        raise BadInput(f"cut is {cut!r}: {errors.nearest(cut, CUTS)}")
    head = {"head": max_length, "tail": 0, "head_tail": max_length // 4}[cut]
    lengths = np.diff(encoded.starts)
    from_start = np.arange(len(encoded.ids)) - np.repeat(encoded.starts[:-1], lengths)
    to_end = np.repeat(lengths, lengths) - from_start
    kept = (from_start < head) | (to_end <= max_length - head)
    kept_lengths = np.minimum(lengths, max_length)
    width = int(kept_lengths.max(initial=1))
    tokens = np.zeros((len(lengths), width), np.int32)
    # Both masks are in the order of the texts, and from left to right within each text.
    tokens[np.arange(width) < kept_lengths[:, None]] = encoded.ids[kept]
    return {"tokens": tokens, "length": np.maximum(kept_lengths, 1).astype(np.int32)}


def windows(encoded: Encoded, width: int) -> dict[str, np.ndarray]:
    """Windows of at most `width + 1` tokens that cover all texts, for next-token prediction.

    Each window but a text's first begins with the last token of the one before, so every token but the first of a text
    is predicted exactly once. Texts of fewer than two tokens have nothing to predict.

    Returns:
        `tokens` and `length` as `padded` returns them.
    """
    lengths = np.diff(encoded.starts)
    counts = np.maximum(-(-(lengths - 1) // width), 0)
    texts = np.repeat(np.arange(len(lengths)), counts)
    # The number of each window within its text.
    within = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = encoded.starts[:-1][texts] + within * width
    ends = np.minimum(starts + width + 1, encoded.starts[1:][texts])
    lengths = ends - starts
    tokens = np.zeros((len(lengths), int(lengths.max(initial=1))), np.int32)
    real = np.arange(tokens.shape[1]) < lengths[:, None]  # [windows, width + 1]
    tokens[real] = encoded.ids[(starts[:, None] + np.arange(tokens.shape[1]))[real]]
    return {"tokens": tokens, "length": lengths.astype(np.int32)}


def _version() -> tuple[bytes, bytes]:
    return _FORMAT, tokenizers.__version__.encode()
