"""Running text for language models: train, validation and test blocks, and windows of tokens, read from disk."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import errors, files
from zoo.data import cache as caches
from zoo.data.datasets import people_daily, text_files, tfds
from zoo.data.text import encoding
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput

NAMES = ("people_daily", "tiny_shakespeare")
# Train, validation and test blocks, in the order of the text. Tiny Shakespeare has the same fractions.
_SHARES = (0.9, 0.05, 0.05)


class Corpus(NamedTuple):
    """Train, validation and test blocks of one text, in its order; test is evaluated once, at the end."""

    train: str
    validation: str
    test: str


def load(dataset: str, train_file: str = "") -> Corpus:
    """Loads a corpus by name, or your own from a file.

    Args:
        dataset: one of `NAMES`; ignored with a `train_file`.
        train_file: any text in UTF-8; its last two twentieths become validation and test.

    Raises:
        BadInput: the corpus or file is missing or malformed.
    """
    if train_file:
        return _blocks(text_files.content(files.absolute(train_file)), train_file)
    if dataset == "people_daily":
        lines = ("".join(word.text for word in paragraph) for paragraph in people_daily.paragraphs())
        return _blocks("\n".join(lines), dataset)
    if dataset == "tiny_shakespeare":
        parts, _ = tfds.read("tiny_shakespeare", ("train", "validation", "test"), instead="people_daily")
        return Corpus(*(parts[name]["text"][0].decode() for name in ("train", "validation", "test")))
    raise BadInput(f"--dataset is {dataset!r}: {errors.nearest(dataset, NAMES, '--train_file with your own text')}")


def stored(text: str, tokenizer: Tokenizer, cache: Path | None) -> np.ndarray:
    """The ids of a text, `[tokens]`: memory-mapped from a cache file, which is written if missing.

    Without a cache folder they are in memory.
    """
    if cache is None:
        return _ids(text, tokenizer)
    path = cache / f"{caches.name_of(b'corpus', tokenizer.to_json().encode(), text.encode())}.npy"
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return _store(path, lambda: _ids(text, tokenizer))


def windows(ids: np.ndarray, width: int) -> np.ndarray:
    """All windows of `width + 1` ids, `[tokens - width, width + 1]`, as a view without a copy.

    Raises:
        BadInput: the text has too few ids.
    """
    if len(ids) <= width:
        raise BadInput(f"the text has {len(ids)} tokens; expected more than the context, {width}: give a longer text")
    return np.lib.stride_tricks.sliding_window_view(ids, width + 1, subok=True)


def evaluation_windows(ids: np.ndarray, width: int) -> np.ndarray:
    """Evaluation windows, int32 `[windows, width + 1]`: each token but the first is predicted once; 0 is padding."""
    encoded = Encoded(np.asarray(ids), np.array([0, len(ids)]))
    tokens = encoding.windows(encoded, width)["tokens"]
    return np.pad(tokens, [(0, 0), (0, width + 1 - tokens.shape[1])])  # [windows, width + 1]


def _blocks(text: str, source: str) -> Corpus:
    edges = np.cumsum([int(share * len(text)) for share in _SHARES[:2]])
    corpus = Corpus(text[: edges[0]], text[edges[0] : edges[1]], text[edges[1] :])
    if not all(corpus):
        raise BadInput(f"{source} has {len(text)} characters; expected a text long enough to cut in twenty")
    return corpus


def _ids(text: str, tokenizer: Tokenizer) -> np.ndarray:
    # Line by line: a single call would need a hundred times the text's memory.
    return tokenizer.encode(text.splitlines(keepends=True)).ids


def _store(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    ids = compute()
    content = io.BytesIO()
    np.save(content, ids)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        caches.replace(path, content.getbuffer())
        return np.load(path, mmap_mode="r")
    except OSError:
        # The cache cannot be written: the run continues with the ids in memory.
        return ids
