"""Folders of images, one folder per class, decoded once into array files of the cache."""

import hashlib
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data import cache as caches
from zoo.data import mapped_files, splits
from zoo.data.datasets import image_files, image_layout, labelled_tables
from zoo.data.datasets.image_files import Shape
from zoo.data.datasets.image_layout import ImageFile, Layout
from zoo.data.datasets.image_layout import is_image_folder as is_image_folder
from zoo.data.splits import Columns, Splits
from zoo.errors import BadInput

# Raised where the same files would become other arrays.
_VERSION = b"images 2"
# Fractions for validation and test where the folder has none.
_SHARES = {"validation": 0.1, "test": 0.1}
# Largest side of images that keep their size, and side of all others: what a small network on a CPU can do.
_SIDE = 64
# Bytes of pixels up to which they are held in memory, where the engine gathers examples faster.
_IN_MEMORY = 1 << 30
# Images that are decoded at a time.
_CHUNK = 256
# Images from which decoding is announced.
_MANY = 2000


class ImageOptions(NamedTuple):
    """How the images of a folder are read.

    Attributes:
        size: height and width, or one number for both; empty: the images' own size where all have one of at most
            64 x 64, else 64 x 64.
        resize: one of `image_files.RESIZE`.
        skip_damaged: whether files that cannot be decoded are left out instead of refused.
        channels: 1 or 3; 0: 1 where all images are grey, else 3.
    """

    size: tuple[int, ...] = ()
    resize: str = "crop"
    skip_damaged: bool = False
    channels: int = 0

    @classmethod
    def of_run(cls, config: Mapping[str, Any]) -> "ImageOptions":
        """The options in the config of a run."""
        flags = {"size": tuple(config.get("image_size") or ()), "resize": config.get("resize") or "crop"}
        return cls(**flags, skip_damaged=bool(config.get("skip_damaged")))


def load(
    root: Path,
    options: ImageOptions,
    classes: Sequence[str] = (),
    others: Mapping[str, Path] | None = None,
    is_whole: bool = False,
) -> Splits:
    """Loads a folder of images; 10 % for validation and 10 % for test are drawn at random where no folder says it.

    Each image is decoded once: the arrays lie in the cache under a hash of the files' names, sizes and times of change
    and of the options. Copies of a file in a later split are left out of the earlier one.

    Args:
        root: `root/CLASS/*.png`, or `root/train/CLASS/*.png` and the same for `test` and `validation`; see
            `image_layout.find`.
        options: how images are read.
        classes: the classes of a model that is evaluated on the folder; empty: those of the folder.
        others: folders of class folders by split ("validation", "test"), instead of those in the root.
        is_whole: whether all images but those of a folder `test` become the training split, with copies and with a
            column `splits.ORIGIN` of paths in the root, for `zoo.data.folds`.

    Returns:
        Splits of uint8 `[examples, height, width]`, or `[examples, height, width, 3]`; memory-mapped where large.

    Raises:
        BadInput: a file or the layout cannot be used, or the cache cannot hold what memory cannot.
    """
    layout = _with_others(image_layout.find(root), others or {})
    indices = np.arange(len(layout.classes))
    if classes:
        indices = labelled_tables.class_indices(str(root), layout.classes, classes)
    label_of = dict(zip(layout.classes, indices.tolist()))
    files = [(part, file) for part, each in layout.parts.items() for file in each]
    if is_whole:
        files = [("train", file) for part, file in files if part != "test"]
    labels = np.array([label_of[file.class_name] for _, file in files], np.int32)
    notes: list[str] = list(layout.notes)
    if is_whole and "test" in layout.parts:
        notes.append(f"{root}: the images of the test folder are in no fold")
    columns = _columns(root, files, labels, options, notes, is_whole)
    notes += json.loads(columns["notes"].tobytes().decode())
    x, y, part = columns["x"], np.array(columns["y"]), np.asarray(columns["part"])
    if x.nbytes <= _IN_MEMORY:
        x = np.array(x)
    if is_whole:
        names = [os.path.relpath(files[row][1].path, root) for row in np.asarray(columns["row"]).tolist()]
        whole = {"x": x, "y": y, splits.ORIGIN: np.array(names)}
        return Splits(whole, {}, {}, tuple(classes) or layout.classes, 255.0, tuple(notes))
    edges = np.searchsorted(part, [0, 1, 2, 3])
    parts = [{"x": x[start:stop], "y": y[start:stop]} for start, stop in itertools.pairwise(edges)]
    return Splits(*parts, tuple(classes) or layout.classes, 255.0, tuple(notes))


def model_info(path: Path, options: ImageOptions) -> dict[str, str]:
    """What a model's file says about images, so that `zoo predict` reads them as the training did."""
    return {"resize": options.resize} if is_image_folder(path) else {}


def _with_others(layout: Layout, others: Mapping[str, Path]) -> Layout:
    parts, notes = dict(layout.parts), list(layout.notes)
    for part, path in others.items():
        if not is_image_folder(path):
            raise BadInput(f"{path} is no folder of images, as the training data are; expected class folders")
        found = image_layout.find(path)
        if set(found.parts) != {"train"}:
            raise BadInput(f"{path} has folders of splits; expected the class folders of one split")
        unknown = sorted(set(found.classes) - set(layout.classes))
        if unknown:
            raise BadInput(f"{path} has the class {unknown[0]!r} that the training data lack")
        parts[part] = found.parts["train"]
        notes += found.notes
    return layout._replace(parts=parts, notes=tuple(notes))


def _columns(
    root: Path,
    files: list[tuple[str, ImageFile]],
    labels: np.ndarray,
    options: ImageOptions,
    notes: list[str],
    is_whole: bool,
) -> Columns:
    """Columns x, y, part (0, 1, 2), row (of `files`) and notes (JSON), sorted by part, from the cache if there."""
    import PIL

    _check_size(options.size)
    directory, name = caches.folder(), _name(root, files, labels, options, PIL.__version__, is_whole)
    columns = mapped_files.load(directory, name, notes)
    if columns is not None:
        return columns
    source = _source(files, labels, options, is_whole)
    if len(files) >= _MANY:
        print(f"zoo: decoding {len(files):,} images of {root} once, into {directory}", file=sys.stderr, flush=True)
    dtypes = {"x": np.uint8, "y": np.int32, "part": np.uint8, "row": np.int64, "notes": np.uint8}
    try:
        mapped_files.store(directory, name, dtypes, _chunks(source))
        columns = mapped_files.load(directory, name, problems := [])
    except OSError as error:
        columns, problems = None, [error.strerror or str(error)]
    if columns is not None:
        return columns
    problem = f"the images cannot be kept in {directory} ({'; '.join(problems) or 'they are gone'})"
    if len(files) * int(np.prod(source.shape.of_example)) > _IN_MEMORY:
        raise BadInput(f"{problem}; make room, or set $ZOO_CACHE to another folder")
    notes.append(f"{problem}: decoded again at each start; $ZOO_CACHE sets the folder")
    chunks = list(_chunks(source))
    return {part: np.concatenate([chunk[part] for chunk in chunks]) for part in dtypes}


class _Source(NamedTuple):
    """What is decoded.

    Attributes:
        files: split and file of each image.
        shape: what all become.
        options: how they are read.
        data: the files by split; column `row` is the index of each.
        unreadable: how many files were left out for their headers.
    """

    files: list[tuple[str, ImageFile]]
    shape: Shape
    options: ImageOptions
    data: Splits
    unreadable: int


def _source(files: list[tuple[str, ImageFile]], labels: np.ndarray, options: ImageOptions, is_whole: bool) -> _Source:
    shape, good = _shape(files, options)
    rows = np.flatnonzero(good)
    if is_whole:
        none = {"y": labels[:0], "row": rows[:0]}
        data = Splits({"y": labels[rows], "row": rows}, none, none, ())
    else:
        data = _split(files, labels, rows)
    return _Source(files, shape, options, data, int((~good).sum()))


def _name(root: Path, files, labels: np.ndarray, options: ImageOptions, version: str, is_whole: bool) -> str:
    listed = [
        f"{part} {os.path.relpath(file.path, root)} {file.bytes} {file.changed} {label}"
        for (part, file), label in zip(files, labels.tolist())
    ]
    listed.append("whole" if is_whole else "split")
    return caches.name_of(_VERSION, version.encode(), repr(options).encode(), *caches.content(listed))


def _check_size(size: tuple[int, ...]) -> None:
    if len(size) > 2 or any(side < 1 for side in size):
        shown = ",".join(map(str, size))
        raise BadInput(f"--image_size is {shown}: expected one side, or height,width, of 1 or more pixels")


def _shape(files: list[tuple[str, ImageFile]], options: ImageOptions) -> tuple[Shape, np.ndarray]:
    """The shape of all images, from their headers; and whose headers are readable, bool `[files]`."""

    def header(pair: tuple[str, ImageFile]) -> image_files.Header | None:
        try:
            return image_files.read_header(pair[1].path)
        except BadInput as error:
            return _skip(error, options)

    with _threads() as threads:
        headers = list(threads.map(header, files))
    good = np.array([each is not None for each in headers])
    headers = [each for each in headers if each is not None]
    if not headers:
        raise BadInput(f"none of the {len(files)} images can be read, the first being {files[0][1].path}")
    channels = options.channels or (1 if all(each.is_grey for each in headers) else 3)
    sizes = {(each.height, each.width) for each in headers}
    own = next(iter(sizes))
    if options.size:
        height, width = options.size[0], options.size[-1]
    else:
        height, width = own if len(sizes) == 1 and max(own) <= _SIDE else (_SIDE, _SIDE)
    return Shape(height, width, channels, options.resize), good


def _skip(error: BadInput, options: ImageOptions) -> None:
    if not options.skip_damaged:
        raise BadInput(f"{error}; --skip_damaged leaves such files out") from None


def _split(files: list[tuple[str, ImageFile]], labels: np.ndarray, rows: np.ndarray) -> Splits:
    """The readable files by split; column `row` is the index of each, `x` the digest of its bytes."""

    def digest(row: int) -> np.ndarray:
        content = files[row][1].path.read_bytes()
        return np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), np.uint8)

    with _threads() as threads:
        digests = np.array(list(threads.map(digest, rows.tolist())), np.uint8).reshape(len(rows), 16)
    columns = {"x": digests, "y": labels[rows], "row": rows}
    parts_of_rows = np.array([files[row][0] for row in rows])
    parts = {part: {name: column[parts_of_rows == part] for name, column in columns.items()} for part in _SHARES}
    train = {name: column[parts_of_rows == "train"] for name, column in columns.items()}
    missing = [part for part in _SHARES if not len(parts[part]["y"])]
    if missing:
        *drawn, train = splits.cut(train, *(_SHARES[part] for part in missing))
        parts |= dict(zip(missing, drawn))
    # The pixels in memory are compared, too; this finds the copies among those on disk.
    return splits.without_overlap(Splits(train, parts["validation"], parts["test"], ()))


def _chunks(source: _Source) -> Iterator[dict[str, np.ndarray]]:
    """The columns of `_columns`, decoded by several threads."""
    parts = source.data.train, source.data.validation, source.data.test
    rows = np.concatenate([part["row"] for part in parts])
    labels = np.concatenate([part["y"] for part in parts])
    numbers = np.repeat(np.arange(3, dtype=np.uint8), [len(part["y"]) for part in parts])
    counts = Counter(damaged=source.unreadable)

    def decode(row: int) -> image_files.Decoded | None:
        try:
            return image_files.read(source.files[row][1].path, source.shape)
        except BadInput as error:
            return _skip(error, source.options)

    none, shape = np.zeros(0, np.uint8), source.shape.of_example
    with _threads() as threads:
        for start in range(0, len(rows), _CHUNK):
            index = slice(start, start + _CHUNK)
            decoded = list(threads.map(decode, rows[index].tolist()))
            kept = np.array([each is not None for each in decoded])
            good = [each for each in decoded if each is not None]
            counts["transparent"] += sum(each.is_transparent for each in good)
            counts["deep"] += sum(each.is_deep for each in good)
            counts["damaged"] += len(decoded) - len(good)
            x = np.array([each.pixels for each in good], np.uint8).reshape(-1, *shape)
            good_rows, good_labels = rows[index][kept], labels[index][kept]
            yield {"x": x, "y": good_labels, "part": numbers[index][kept], "row": good_rows, "notes": none}
    # Known at the end only; each chunk has rows of any number in each column.
    notes = [*source.data.notes, *_notes(counts)]
    empty = {"x": np.zeros((0, *shape), np.uint8), "y": labels[:0], "part": none, "row": rows[:0]}
    yield empty | {"notes": np.frombuffer(json.dumps(notes).encode(), np.uint8)}


def _notes(counts: Counter) -> list[str]:
    texts = {
        "transparent": "put {} with transparent pixels on white",
        "deep": "kept the upper 8 of 16 bits of {}",
        "damaged": "left out {} that cannot be decoded",
    }
    return [
        text.format(f"{counts[kind]:,} image{'s' if counts[kind] > 1 else ''}")
        for kind, text in texts.items()
        if counts[kind]
    ]


def _threads() -> ThreadPoolExecutor:
    # Pillow and hashlib release the interpreter's lock.
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))
