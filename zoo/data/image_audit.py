"""What is in a folder of images before anything learns from it: sizes, damage, copies, near duplicates.

Near duplicates have thumbnails of 32 x 32 pixels whose correlation is 0.99 or more: the same picture in another size,
quality or brightness. Candidates are found by perceptual hashes, the signs of differences between neighbours in a
thumbnail of 8 x 8 (Krawetz, "Kind of like that", 2013), in bands of 16 bits. It says and changes nothing.
"""

import collections
import dataclasses
import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data import audit, near_duplicates
from zoo.data.datasets import image_files, image_layout
from zoo.errors import BadInput

SIMILAR = 0.99
_SIDE = 32
_HASH_SIDE = 8
# Grey levels up to which two neighbours are equal: noise of JPEG must not decide a bit.
_EQUAL = 2.0
# Images of one band just before it that each is compared with: in drawings whole bands are often empty.
_WINDOW = 8
# Share of equal bits below which two images are not compared.
_ALIKE = 0.85
# Standard deviation of a thumbnail, in grey levels, below which it shows nothing to compare.
_FLAT = 4.0
_THREADS = 8
# Sizes that are listed.
_SIZES = 5


@dataclasses.dataclass(frozen=True)
class ImageAudit:
    """What is in a folder of images.

    Attributes:
        path: the folder.
        images: number of files that can be read.
        parts: images by split.
        sizes: images by "height x width", the most frequent first.
        modes: images by format and mode of Pillow, such as "PNG RGBA".
        labels: images of the training split by class, the most frequent first.
        warnings: findings that may spoil a model or its evaluation, one line each.
        notes: what was left out.
    """

    path: str
    images: int
    parts: dict[str, int]
    sizes: dict[str, int]
    modes: dict[str, int]
    labels: dict[str, int]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return dataclasses.asdict(self)


class _Image(NamedTuple):
    """A readable image: its name in the folder, split, class, size, mode, digest of its bytes, grey thumbnail."""

    name: str
    part: str
    label: str
    size: tuple[int, int]
    mode: str
    digest: bytes
    thumbnail: np.ndarray


def images(root: Path, test_folder: Path | None = None) -> ImageAudit:
    """Examines a folder of images.

    Args:
        root: class folders with images, or `train`, `test` and `validation` with class folders; see
            `image_layout.find`.
        test_folder: another folder of class folders, whose images should not be in the first.

    Raises:
        BadInput: there are no class folders with images, or no image can be read.
    """
    layout = image_layout.find(root)
    files = [(root, part, file) for part, each in layout.parts.items() for file in each]
    notes = list(layout.notes)
    if test_folder is not None:
        other = image_layout.find(test_folder)
        files += [(test_folder, "test", file) for each in other.parts.values() for file in each]
        notes += other.notes
    with ThreadPoolExecutor(_THREADS) as threads:
        read = list(threads.map(lambda each: _read(*each), files))
    damaged = [each for each in read if isinstance(each, str)]
    good = [each for each in read if isinstance(each, _Image)]
    if not good:
        raise BadInput(f"{root}: none of {len(read)} images can be read, the first: {damaged[0]}")
    counts = dict(collections.Counter(image.label for image in good if image.part == "train").most_common())
    warnings = [f"{len(damaged):,} files cannot be decoded, the first: {damaged[0]}"] if damaged else []
    warnings += audit.label_warnings([], counts)
    groups = near_groups(np.array([image.thumbnail for image in good]))
    warnings += _repeated(good, [image.digest for image in good], "have the bytes of")
    warnings += _near(good, groups)
    warnings += _flat(good)
    return ImageAudit(
        str(root),
        len(good),
        dict(collections.Counter(image.part for image in good)),
        _counted(f"{height} x {width}" for height, width in (image.size for image in good)),
        _counted(image.mode for image in good),
        counts,
        tuple(warnings),
        tuple(notes),
    )


def near_groups(thumbnails: np.ndarray) -> np.ndarray:
    """The number of each image's group, int `[images]`: near duplicates have one number.

    Args:
        thumbnails: grey pixels, `[images, 32, 32]`.
    """
    pixels = thumbnails.astype(np.float32)
    bits = _bits(pixels)
    flat = pixels.reshape(len(pixels), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1))
    words = np.packbits(bits, axis=1).view(np.uint16).astype(np.int64)  # [images, bands]
    bands = [np.where(spread < _FLAT, -1, words[:, band]) for band in range(words.shape[1])]
    pairs = near_duplicates.candidates(bands, _WINDOW)
    pairs = pairs[near_duplicates.agreement(bits, pairs) >= _ALIKE]

    def is_near(one: int, other: int) -> bool:
        covariance = float((centred[one] * centred[other]).mean())
        return covariance >= SIMILAR * float(spread[one] * spread[other])

    return near_duplicates.linked(pairs, len(pixels), is_near)


def _bits(pixels: np.ndarray) -> np.ndarray:
    """Whether each place of a thumbnail is darker than its right and its lower neighbour, bool `[images, 112]`."""
    block = pixels.shape[1] // _HASH_SIDE
    small = pixels.reshape(-1, _HASH_SIDE, block, _HASH_SIDE, block).mean(axis=(2, 4))
    across, down = np.diff(small, axis=2) > _EQUAL, np.diff(small, axis=1) > _EQUAL
    return np.concatenate([across.reshape(len(pixels), -1), down.reshape(len(pixels), -1)], axis=1)


def _read(root: Path, part: str, file: image_layout.ImageFile) -> _Image | str:
    """The image, or why it cannot be read."""
    from PIL import Image, ImageOps

    name = str(file.path.relative_to(root))
    try:
        content = file.path.read_bytes()
        with Image.open(io.BytesIO(content), formats=image_files.FORMATS) as image:
            mode, size = f"{image.format} {image.mode}", image.size[::-1]
            if image.format == "JPEG":
                # Decodes at a fraction of the size, several times faster.
                image.draft(None, (4 * _SIDE, 4 * _SIDE))
            image.load()
            grey = np.asarray(ImageOps.exif_transpose(_eight_bits(image)).convert("L").resize((_SIDE, _SIDE)))
    except Exception as error:
        # A damaged file surfaces as OSError, SyntaxError, ValueError, struct.error, zlib.error and others.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"{name} ({reason})"
    return _Image(name, part, file.class_name, size, mode, hashlib.blake2b(content, digest_size=16).digest(), grey)


def _eight_bits(image):
    """Images of 16 bits with their upper 8; Pillow would clip them at 255."""
    from PIL import Image

    if image.mode[:1] not in "IF":
        return image
    values = np.asarray(image)
    return Image.fromarray((np.clip(values, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8))


def _repeated(good: Sequence[_Image], keys: Sequence, what: str) -> list[str]:
    """Images that repeat an earlier one; such as have different labels, and such as are in two splits."""
    members = collections.defaultdict(list)
    for image, key in zip(good, keys):
        members[key].append(image)
    several = [each for each in members.values() if len(each) > 1]
    if not several:
        return []
    copies = sum(len(each) - 1 for each in several)
    warnings = [f"{copies:,} images {what} an earlier one, {_pair(several[0])}"]
    differing = [each for each in several if len({image.label for image in each}) > 1]
    if differing:
        warnings.append(
            f"{len(differing):,} groups of them have different labels, {_pair(_apart(differing[0], 'label'))}"
        )
    crossing = [each for each in several if len({image.part for image in each}) > 1]
    if crossing:
        warnings.append(f"{len(crossing):,} groups of them are in two splits, {_pair(_apart(crossing[0], 'part'))}")
    return warnings


def _near(good: Sequence[_Image], groups: np.ndarray) -> list[str]:
    """Near duplicates, one of each group of equal files."""
    different: dict[bytes, int] = {}
    for place, image in enumerate(good):
        different.setdefault(image.digest, place)
    rows = list(different.values())
    return _repeated([good[row] for row in rows], groups[rows].tolist(), "show nearly the same as")


def _apart(members: Sequence[_Image], field: str) -> list[_Image]:
    """Two of them that differ in a field."""
    first = members[0]
    return [first, next(each for each in members if getattr(each, field) != getattr(first, field))]


def _pair(members: Sequence[_Image]) -> str:
    return f"such as {members[0].name} and {members[1].name}"


def _flat(good: Sequence[_Image]) -> list[str]:
    plain = [image.name for image in good if image.thumbnail.std() < 0.5]
    return [f"{len(plain):,} images have one colour, the first: {plain[0]}"] if plain else []


def _counted(values) -> dict[str, int]:
    counts = collections.Counter(values).most_common()
    rest = sum(count for _, count in counts[_SIZES:])
    return dict(counts[:_SIZES]) | ({"others": rest} if rest else {})
