"""Folders of small images: dark and bright ones, with noise, as PNG and JPEG."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("bright", "dark")


def draw(seed: int, shape=(12, 10, 3), low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.uint8)


def save(path: Path, pixels, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def folder(root: Path, count: int = 20, shape=(12, 10, 3), suffixes=(".png", ".JPG"), seed: int = 0) -> Path:
    """`count` images of each of two classes, told apart by their brightness."""
    for label, name in enumerate(CLASSES):
        low = 128 * (1 - label)
        for number in range(count):
            pixels = draw(seed + 1000 * label + number, shape, low, low + 128)
            save(root / name / f"{number}{suffixes[number % len(suffixes)]}", pixels)
    return root
