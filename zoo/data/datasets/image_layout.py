"""The files of an image folder: which class and which split each belongs to."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.data.datasets import image_files, saved_datasets
from zoo.data.splits import shortened
from zoo.errors import BadInput

PARTS = ("train", "validation", "test")
_NAMES = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}
_EXPECTED = "expected FOLDER/CLASS/*.png or *.jpg, or such class folders in FOLDER/train, /test and perhaps /validation"


class ImageFile(NamedTuple):
    """An image: its path, class, size in bytes and time of change."""

    path: Path
    class_name: str
    bytes: int
    changed: int


class Layout(NamedTuple):
    """The images of a folder.

    Attributes:
        parts: images by split, in the order of their paths; only "train" where the folder has no splits.
        classes: names of the class folders, sorted.
        notes: lines on what was left out.
    """

    parts: dict[str, list[ImageFile]]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def is_image_folder(path: Path) -> bool:
    """Whether a path is a folder that holds images or folders, and no .npy files."""
    if not path.is_dir() or saved_datasets.is_saved(path):
        return False
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if any(entry.suffix == ".npy" for entry in entries):
        return False
    return any(entry.is_dir() or image_files.is_image(entry) for entry in entries)


def find(root: Path) -> Layout:
    """Finds the images of a folder: `root/CLASS/...`, or `root/train/CLASS/...` and the same for the other splits.

    A class folder may have folders in it. Hidden files and files of other suffixes are left out and counted.

    Raises:
        BadInput: there is no image, a single class, a mixture of both layouts, or a class that `train` lacks.
    """
    left_out: Counter[str] = Counter()
    folders = _split_folders(root)
    parts = {}
    for part in PARTS:
        if part in folders:
            parts[part] = _class_folders(folders[part], left_out)
    classes = tuple(sorted({file.class_name for file in parts["train"]}))
    if not classes:
        raise BadInput(f"{folders['train']} has no .png, .jpg or .jpeg in class folders; {_EXPECTED}")
    if len(classes) < 2:
        raise BadInput(f"{folders['train']} has images of the class {classes[0]!r} only; {_EXPECTED}, of two or more")
    for part, files in parts.items():
        unknown = sorted({file.class_name for file in files} - set(classes))
        if unknown:
            raise BadInput(
                f"{folders[part]} has the class {shortened([repr(name) for name in unknown])} that {folders['train']} "
                f"lacks; expected some of {shortened([repr(name) for name in classes])}"
            )
        if not files:
            raise BadInput(f"{folders[part]} has no .png, .jpg or .jpeg in class folders; {_EXPECTED}")
    return Layout(parts, classes, _notes(left_out))


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split; the root as "train" where it has no folders of splits."""
    found: dict[str, Path] = {}
    others = []
    for folder in _subfolders(root):
        part = _NAMES.get(folder.name.lower())
        if part is None or not any(_has_images(each) for each in _subfolders(folder)):
            others.append(folder)
        elif part in found:
            raise BadInput(f"{root} has both {found[part].name}/ and {folder.name}/; expected one of them")
        else:
            found[part] = folder
    if not found:
        return {"train": root}
    if "train" not in found:
        first = next(iter(found.values()))
        raise BadInput(f"{root} has {first.name}/ with class folders, but no train/; {_EXPECTED}")
    mixed = [each.name for each in others if _has_images(each)]
    if mixed or _loose_images(root):
        what = f"the folder {mixed[0]!r} with images" if mixed else f"the image {_loose_images(root)[0]!r}"
        raise BadInput(f"{root} has {what} beside train/, a mixed layout; {_EXPECTED}")
    return found


def _class_folders(root: Path, left_out: Counter) -> list[ImageFile]:
    loose = _loose_images(root)
    if loose:
        raise BadInput(f"{root} has the image {loose[0]!r} outside of a class folder; {_EXPECTED}")
    for entry in os.scandir(root):
        if not entry.is_dir():
            left_out[_kind(entry.name)] += 1
    files = []
    for folder in _subfolders(root):
        before = len(files)
        for path in _walk(folder):
            if path.name.startswith(".") or not image_files.is_image(path):
                left_out[_kind(path.name)] += 1
                continue
            status = path.stat()
            files.append(ImageFile(path, folder.name, status.st_size, status.st_mtime_ns))
        if len(files) == before:
            left_out["folders without images"] += 1
    return files


def _subfolders(root: Path) -> list[Path]:
    try:
        return sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError as error:
        raise BadInput(f"{root} cannot be read: {error.strerror}") from None


def _loose_images(root: Path) -> list[str]:
    return sorted(
        each.name
        for each in root.iterdir()
        if image_files.is_image(each) and not each.name.startswith(".") and each.is_file()
    )


def _walk(root: Path) -> Iterator[Path]:
    """All files below a folder in the order of their paths, but those in hidden folders."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names))


def _has_images(folder: Path) -> bool:
    return any(image_files.is_image(path) and not path.name.startswith(".") for path in _walk(folder))


def _kind(name: str) -> str:
    return "hidden" if name.startswith(".") else Path(name).suffix.lower() or "no suffix"


def _notes(left_out: Counter) -> Sequence[str]:
    folders = left_out.pop("folders without images", 0)
    notes = [f"left out {folders} folder{'s' if folders > 1 else ''} without images"] if folders else []
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.most_common(5))
        total = left_out.total()
        notes.append(f"left out {total} file{'s' if total > 1 else ''} of other kinds ({kinds})")
    return tuple(notes)
