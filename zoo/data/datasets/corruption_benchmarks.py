"""Public benchmarks of corrupted test images: CIFAR-10-C, CIFAR-100-C and MNIST-C, memory-mapped.

Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations" (2019): a
folder with `labels.npy` and a `NAME.npy` for each corruption, severities 1 to 5 one after the other. Mu and Gilmer,
"MNIST-C: a robustness benchmark for computer vision" (2019): a folder for each corruption with `test_images.npy` and
`test_labels.npy`, or `mnist_corrupted` of TensorFlow Datasets (TFDS); it has one severity.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import errors, files
from zoo.data.datasets import tfds
from zoo.errors import BadInput

# Its name in TFDS, and its configurations there: the images as they are, then fifteen corruptions.
MNIST_C = "mnist_corrupted"
MNIST_CORRUPTIONS = (
    "identity", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate", "brightness",
    "translate", "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges",
)  # fmt: skip
SEVERITIES = 5
_LABELS, _TEST_IMAGES, _TEST_LABELS = "labels.npy", "test_images.npy", "test_labels.npy"


class CorruptedImages(NamedTuple):
    """Images with one corruption.

    Attributes:
        corruption: its name.
        severity: 1 (light) to 5 (strong); 0 where the benchmark has one severity only.
        images: uint8 `[examples, height, width]` or `[examples, height, width, channels]`, perhaps memory-mapped.
        labels: int32 `[examples]`, classes in the benchmark's order.
    """

    corruption: str
    severity: int
    images: np.ndarray
    labels: np.ndarray


def load(dataset: str) -> Iterator[CorruptedImages]:
    """Reads a benchmark, one corruption and severity after the other.

    Args:
        dataset: `mnist_corrupted`, which TFDS prepares, or a folder of CIFAR-10-C, CIFAR-100-C or MNIST-C.

    Raises:
        BadInput: there is no such folder, a file of it is missing, or an array is of another type or shape; or TFDS
            has no such data on this machine and cannot download it.
    """
    if dataset == MNIST_C:
        return _of_tfds()
    folder = files.absolute(dataset)
    if not folder.is_dir():
        hint = errors.nearest(dataset, (MNIST_C,), "a folder of CIFAR-10-C, CIFAR-100-C or MNIST-C")
        raise BadInput(f"--dataset is {dataset!r}: {hint}")
    inner = sorted(path.parent for path in folder.glob(f"*/{_TEST_IMAGES}"))
    if not inner and not (folder / _LABELS).is_file():
        raise BadInput(
            f"{folder} has neither {_LABELS} beside NAME.npy (CIFAR-10-C) nor NAME/{_TEST_IMAGES} (MNIST-C); "
            "expected the unpacked folder of one of them"
        )
    return _of_mnist_c(inner) if inner else _of_cifar_c(folder)


def labelled_file(path: Path) -> dict[str, np.ndarray]:
    """All images of one file of a benchmark's folder, `NAME.npy` or `test_images.npy`, as columns `x` and `y`.

    Raises:
        BadInput: the file of labels beside it is missing, or an array is of another type or shape.
    """
    labels = path.with_name(path.name.replace("images", "labels") if path.stem.endswith("_images") else _LABELS)
    if not labels.is_file():
        raise BadInput(f"{path} has no labels: expected them in {labels.name} beside it, as CIFAR-10-C has them")
    values = _labels(labels)
    return {"x": _images(path, len(values)), "y": values}


def for_shape(images: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Images in a model's input shape: grey ones with or without an axis of one channel.

    Args:
        images: `[examples, height, width]` or `[examples, height, width, channels]`.
        shape: shape of one example.
        name: name of the data set, for the message.

    Raises:
        BadInput: the images have another size, or other channels.
    """
    own = images.shape[1:]
    if own != shape and _grey(own) != _grey(shape):
        raise BadInput(f"--dataset={name} has images {list(own)}, the model takes {list(shape)}; expected the same")
    return images.reshape(len(images), *shape)


def _grey(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1,) else shape


def _of_tfds() -> Iterator[CorruptedImages]:
    for corruption in MNIST_CORRUPTIONS:
        # A network is needed for all of them or none: the first one says so.
        columns, _ = tfds.read(f"{MNIST_C}/{corruption}", ("test",), instead="FOLDER with its files from Zenodo")
        test = columns["test"]
        yield CorruptedImages(corruption, 0, test["image"], test["label"].astype(np.int32))


def _of_mnist_c(folders: list[Path]) -> Iterator[CorruptedImages]:
    for folder in folders:
        columns = labelled_file(folder / _TEST_IMAGES)
        yield CorruptedImages(folder.name, 0, columns["x"], columns["y"])


def _of_cifar_c(folder: Path) -> Iterator[CorruptedImages]:
    labels = _labels(folder / _LABELS)
    count, rest = divmod(len(labels), SEVERITIES)
    blocks = labels.reshape(SEVERITIES, count) if not rest else None  # [severities, examples]
    if blocks is None or not count or (blocks != blocks[0]).any():
        raise BadInput(
            f"{folder / _LABELS} has {len(labels):,} labels: expected those of the same images five times, severity 1 "
            "first"
        )
    paths = sorted(path for path in folder.glob("*.npy") if path.name != _LABELS)
    if not paths:
        raise BadInput(f"{folder} has {_LABELS} and no other .npy file; expected one for each corruption")
    for path in paths:
        images = _images(path, len(labels))
        for severity in range(SEVERITIES):
            part = slice(severity * count, (severity + 1) * count)
            yield CorruptedImages(path.stem, severity + 1, images[part], labels[part])


def _labels(path: Path) -> np.ndarray:
    values = _mapped(path)
    if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values) or values.min() < 0:
        raise BadInput(f"{path} has {values.dtype} {list(values.shape)}: expected whole numbers from 0, [examples]")
    return values.astype(np.int32)


def _images(path: Path, count: int) -> np.ndarray:
    """The images of a file, memory-mapped."""
    values = _mapped(path)
    if values.dtype != np.uint8 or values.ndim not in (3, 4) or len(values) != count:
        raise BadInput(
            f"{path} has {values.dtype} {list(values.shape)}: expected uint8 [{count}, height, width] or [{count}, "
            "height, width, channels], an image for each label"
        )
    return values


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} cannot be read ({reason}); expected an array that numpy.save wrote") from error
