"""Running text for language models: train, validation and test blocks, and windows of tokens, read from disk."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from zoo import errors, files
from zoo.data import cache as caches
from zoo.data import mapped_files
from zoo.data.datasets import people_daily, text_files, tfds
from zoo.data.text import encoding
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput

NAMES = ("people_daily", "tiny_shakespeare")
# Train, validation and test blocks, in the order of the text. Tiny Shakespeare has the same fractions.
_SHARES = (0.9, 0.05, 0.05)
# Characters of a line that two independent texts hardly share.
_LONG = 60


class Corpus(NamedTuple):
    """Train, validation and test blocks of one text, in its order; test is evaluated once, at the end."""

    train: str
    validation: str
    test: str


def load(
    dataset: str, train_file: str = "", eval_file: str = "", test_file: str = "", notes: list[str] | None = None
) -> Corpus:
    """Loads a corpus by name, or your own from files.

    Args:
        dataset: one of `NAMES`; ignored with a `train_file`.
        train_file: any text in UTF-8; where one of the other files is missing, its last twentieth, or its last two, are
            cut off instead.
        eval_file: validation text for `train_file`.
        test_file: test text for `train_file`.
        notes: gets a line where texts overlap.

    Raises:
        BadInput: the corpus or a file is missing or malformed, or a later file is given without the first.
    """
    if train_file:
        return _own(train_file, eval_file, test_file, [] if notes is None else notes)
    for flag, name in (("eval_file", eval_file), ("test_file", test_file)):
        if name:
            raise BadInput(f"--{flag} is {name!r} without --train_file: expected both, or the latter alone")
    if dataset == "people_daily":
        lines = ("".join(word.text for word in paragraph) for paragraph in people_daily.paragraphs())
        return _blocks("\n".join(lines), dataset)
    if dataset == "tiny_shakespeare":
        parts, _ = tfds.read("tiny_shakespeare", ("train", "validation", "test"), instead="people_daily")
        return Corpus(*(parts[name]["text"][0].decode() for name in ("train", "validation", "test")))
    raise BadInput(f"--dataset is {dataset!r}: {errors.nearest(dataset, NAMES, '--train_file with your own text')}")


def stored(text: str, tokenizer: Tokenizer, cache: Path | None, notes: list[str] | None = None) -> np.ndarray:
    """The ids of a text, `[tokens]`: memory-mapped from a cache file, which is written if missing or damaged.

    Without a cache folder, or where it cannot be written, they are in memory.

    Args:
        text: any text.
        tokenizer: its whole definition is part of the cache key.
        cache: the cache folder; None disables the cache.
        notes: gets a line where the cache is damaged.
    """
    if cache is None:
        return _ids(text, tokenizer)
    version, notes = tokenizers.__version__.encode(), [] if notes is None else notes
    name = caches.name_of(b"corpus", version, tokenizer.to_json().encode(), text.encode())
    columns = mapped_files.load(cache, name, notes)
    if columns is not None:
        return columns["ids"]
    ids = _ids(text, tokenizer)
    with contextlib.suppress(OSError):
        # Else the cache cannot be written: the run continues with the ids in memory.
        mapped_files.store(cache, name, {"ids": ids.dtype}, [{"ids": ids}])
        columns = mapped_files.load(cache, name, notes)
    return ids if columns is None else columns["ids"]


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


def _own(train_file: str, eval_file: str, test_file: str, notes: list[str]) -> Corpus:
    texts = {name: text_files.content(files.absolute(name)) for name in (train_file, eval_file, test_file) if name}
    for flag, name in (("train_file", train_file), ("eval_file", eval_file), ("test_file", test_file)):
        if name and len(texts[name]) < 2:
            raise BadInput(f"--{flag} {name} has {len(texts[name])} characters; expected a text")
    text, later = texts[train_file], {name: texts[name] for name in (eval_file, test_file) if name}
    lines = set(filter(_is_long, text.splitlines()))
    for name, other in later.items():
        known = [line in lines for line in filter(_is_long, other.splitlines())]
        if any(known):
            notes.append(
                f"{sum(known)} of {len(known)} lines of {name} are in {train_file} too, so its loss is too low"
            )
    if eval_file and test_file:
        return Corpus(text, texts[eval_file], texts[test_file])
    if not later:
        return _blocks(text, train_file)
    # The file that is given replaces one of the two blocks; the other one is the text's last twentieth.
    edge = len(text) - int(_SHARES[1] * len(text))
    if edge == len(text):
        raise BadInput(f"{train_file} has {len(text)} characters; expected a text long enough to cut in twenty")
    validation, test = (texts[eval_file], text[edge:]) if eval_file else (text[edge:], texts[test_file])
    return Corpus(text[:edge], validation, test)


def _is_long(line: str) -> bool:
    """Whether a line is long enough that it is not in two texts by chance."""
    return len(line) >= _LONG


def _blocks(text: str, source: str) -> Corpus:
    edges = np.cumsum([int(share * len(text)) for share in _SHARES[:2]])
    corpus = Corpus(text[: edges[0]], text[edges[0] : edges[1]], text[edges[1] :])
    if not all(corpus):
        raise BadInput(f"{source} has {len(text)} characters; expected a text long enough to cut in twenty")
    return corpus


def _ids(text: str, tokenizer: Tokenizer) -> np.ndarray:
    # Line by line: a single call would need a hundred times the text's memory.
    return tokenizer.encode(text.splitlines(keepends=True)).ids
