"""Counts of `NgramMixture`: which tokens follow which histories in the training text."""

from pathlib import Path

import numpy as np

from zoo.data import cache as caches
from zoo.metrics import ngram_baseline
from zoo.models import ngram_mixture
from zoo.models.ngram_mixture import FIELDS, SLOTS, WIDTHS, NgramMixture

# Most histories, the most frequent ones: with what follows them 20 to 40 MB. A million characters have 400,000.
_MOST = 2**19
# Histories per bucket, on average; of 2, one in a hundred finds its bucket full, and is left out.
_PER_BUCKET = 2
# Longest histories: each length is compiled by itself, and 9 of them took minutes. A text that repeats itself word for
# word would gain by longer ones.
_LONGEST = 5
# Part of the name of a cached file: raised when the counts change.
_FORMAT = b"2"


def fit(
    train: np.ndarray,
    validation: np.ndarray,
    vocabulary: int,
    cache: Path | None = None,
    notes: list[str] | None = None,
) -> NgramMixture:
    """The layer "ngrams" with the counts of a text; three seconds for a million characters.

    Args:
        train: ids `[tokens]` of the training text.
        validation: ids `[tokens]`, which the length of the histories is chosen on.
        vocabulary: number of ids.
        cache: cache folder; None disables the cache.
        notes: gets a line where the cache is damaged or cannot be written.
    """
    train, validation = (np.asarray(ids, np.int64) for ids in (train, validation))
    key = f"{vocabulary} {len(train)}".encode(), train.tobytes(), validation.tobytes()
    arrays = caches.cached(
        cache, caches.name_of(b"counts", _FORMAT, *key), lambda: _fit(train, validation, vocabulary), notes
    )
    buckets, entries = len(arrays["slots"]), len(arrays["pairs"]) - WIDTHS[0]
    layer = NgramMixture(vocabulary, int(arrays["longest"][0]), buckets, entries, name="ngrams")
    layer.build()
    for name in ("unigram", "slots", "pairs"):
        getattr(layer, name).assign(arrays[name])
    return layer


def _fit(train: np.ndarray, validation: np.ndarray, vocabulary: int) -> caches.Arrays:
    best = ngram_baseline.losses(train, validation, validation, vocabulary, _LONGEST + 1)
    longest = max(best.order - 1, 1)
    counts = np.bincount(train, minlength=vocabulary)
    kinds = np.count_nonzero(counts)
    unigram = (counts + kinds / vocabulary) / (len(train) + kinds)
    parts = [_histories(train, length, vocabulary) for length in range(1, longest + 1)]
    entries, pairs, base = [], [], 0
    for entry, pair in parts:
        # Columns: first hash, check, start, kept, total, kinds.
        entry[:, 2] += base
        base += len(pair)
        entries.append(entry)
        pairs.append(pair)
    slots = _slots(np.concatenate(entries))
    pairs = np.concatenate([*pairs, np.zeros((WIDTHS[0], 2))])
    arrays = {"unigram": unigram, "slots": slots, "pairs": pairs, "longest": np.array([longest])}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _histories(train: np.ndarray, length: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """The histories of a length, int64 `[histories, 6]`, and their next tokens with counts, int64 `[pairs, 2]`."""
    last = [train[length - 1 - back : len(train) - 1 - back] for back in range(length)]
    first, second = ngram_mixture.hashes(last)[-1]
    following = train[length:]
    keys, which = np.unique(first * 2**18 + second, return_inverse=True)
    pair, counts = np.unique(which * vocabulary + following, return_counts=True)
    history, token = np.divmod(pair, vocabulary)
    order = np.lexsort((token, -counts, history))
    history, token, counts = history[order], token[order], counts[order]
    totals, kinds = np.bincount(history, counts, len(keys)).astype(np.int64), np.bincount(history)
    rank = np.arange(len(history)) - np.repeat(np.cumsum(kinds) - kinds, kinds)
    kept = rank < ngram_mixture.width_of(length)
    numbers = np.bincount(history[kept], minlength=len(keys))
    starts = np.cumsum(numbers) - numbers
    checks = ngram_mixture.check_of(keys % 2**18, length)
    return (
        np.stack([keys // 2**18, checks, starts, numbers, totals, kinds], axis=1),
        np.stack([token[kept], counts[kept]], axis=1),
    )


def _slots(entries: np.ndarray) -> np.ndarray:
    """The buckets `[buckets, SLOTS, FIELDS]`, with the most frequent histories of each."""
    entries = entries[np.argsort(-entries[:, 4], kind="stable")[:_MOST]]
    buckets = len(entries) // _PER_BUCKET + 1
    bucket = entries[:, 0] % buckets
    order = np.argsort(bucket, kind="stable")
    sizes = np.bincount(bucket, minlength=buckets)
    slot = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    order, slot = order[slot < SLOTS], slot[slot < SLOTS]
    slots = np.zeros((buckets, SLOTS, FIELDS))
    slots[bucket[order], slot] = entries[order, 1:]
    return slots
