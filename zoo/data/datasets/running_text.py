"""Running text for language models: three blocks of it, and windows of its tokens, read from disk."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import errors, files
from zoo.data import cache as caches
from zoo.data.datasets import people_daily, text_files, tfds
from zoo.data.text import encoding as texts
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput

NAMES = ("people_daily", "tiny_shakespeare")
# Of running text: what comes last is judged, and no neighbour of it is learned. Tiny Shakespeare's own shares.
_SHARES = (0.9, 0.05, 0.05)


class Corpus(NamedTuple):
    """Blocks of one text in their order: to learn from, to watch and choose by, and to be read once, at the end."""

    train: str
    validation: str
    test: str


def load(dataset: str, train_file: str = "") -> Corpus:
    """Loads a corpus by name, or one's own from a file.

    Args:
        dataset: one of `NAMES`; not read where there is a `train_file`.
        train_file: any text in UTF-8; its last two twentieths become validation and test.

    Raises:
        BadInput: what was not found, where, and how to mend it.
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
    """The ids of a text, `[tokens]`: mapped from a file of the cache, which is made where it is not there yet.

    Without a folder for the cache they are in memory.
    """
    if cache is None:
        return _ids(text, tokenizer)
    path = cache / f"{caches.name_of(b'corpus', tokenizer.to_json().encode(), text.encode())}.npy"
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return _kept(path, lambda: _ids(text, tokenizer))


def windows(ids: np.ndarray, width: int) -> np.ndarray:
    """All runs of `width + 1` ids, `[tokens - width, width + 1]`, as a view that takes no memory.

    Raises:
        BadInput: there are not as many ids.
    """
    if len(ids) <= width:
        raise BadInput(f"the text has {len(ids)} tokens; expected more than the context, {width}: give a longer text")
    return np.lib.stride_tricks.sliding_window_view(ids, width + 1, subok=True)


def judged(ids: np.ndarray, width: int) -> np.ndarray:
    """Runs end to end, int32 `[runs, width + 1]`, in which each token but the first is predicted once; 0 is padding."""
    whole = Encoded(np.asarray(ids), np.array([0, len(ids)]))
    tokens = texts.windows(whole, width)["tokens"]
    return np.pad(tokens, [(0, 0), (0, width + 1 - tokens.shape[1])])


def _blocks(text: str, source: str) -> Corpus:
    edges = np.cumsum([int(share * len(text)) for share in _SHARES[:2]])
    found = Corpus(text[: edges[0]], text[edges[0] : edges[1]], text[edges[1] :])
    if not all(found):
        raise BadInput(f"{source} has {len(text)} characters; expected a text long enough to cut in twenty")
    return found


def _ids(text: str, tokenizer: Tokenizer) -> np.ndarray:
    # Line by line, or one call would need a hundred times the text's memory.
    return tokenizer.encode(text.splitlines(keepends=True)).ids


def _kept(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    ids = compute()
    content = io.BytesIO()
    np.save(content, ids)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        caches.replace(path, content.getbuffer())
        return np.load(path, mmap_mode="r")
    except OSError:
        # No room: the run goes on with what is in memory.
        return ids
