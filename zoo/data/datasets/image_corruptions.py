"""Image corruptions: twelve kinds in five severities each, to measure a classifier's robustness.

After Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations" (2019)
and, for digits, Mu and Gilmer, "MNIST-C" (2019). Random draws are a function of the seed, the corruption and the
image's index, so any part of a test set is corrupted as in the whole; they do not depend on the severity, so a higher
one is more of the same damage.
"""

import math
import zlib
from collections.abc import Callable

import numpy as np
from scipy import ndimage, special

from zoo import errors
from zoo.errors import BadInput

# Strengths by severity. Lengths are fractions of the image's smaller side, so that they suit any size.
_STRENGTHS = {
    "noise": (0.1, 0.2, 0.35, 0.5, 0.7),  # standard deviation, white being 1
    "impulses": (0.03, 0.08, 0.15, 0.25, 0.4),  # fraction of the pixels
    "blur": (0.03, 0.045, 0.06, 0.08, 0.1),  # standard deviation
    "contrast": (0.6, 0.4, 0.25, 0.15, 0.1),  # remaining contrast
    "brightness": (0.1, 0.2, 0.3, 0.45, 0.6),  # added brightness, white being 1
    "fog": (0.12, 0.25, 0.4, 0.55, 0.7),  # opacity
    "stripes": (0.03, 0.07, 0.13, 0.22, 0.35),  # fraction of the image
    "occlusion": (0.25, 0.33, 0.41, 0.48, 0.55),  # side of the patch
    "rotation": (10, 20, 32, 45, 60),  # degrees
    "translation": (0.04, 0.08, 0.12, 0.15, 0.18),  # distance
    "scale": (0.85, 0.75, 0.65, 0.57, 0.5),  # new size by old size
    "pixelation": (0.5, 0.36, 0.25, 0.18, 0.15),  # new pixels by old pixels, along a side
}
NAMES = tuple(_STRENGTHS)

_STRIPES = 2  # across the smaller side
_LATTICES = (3, 5, 9, 17)  # points along a side of the fog's octaves
# Numbers per block of images that is processed at once; bounds the memory and fits the CPU caches.
_BLOCK = 2**18

# Called once, with the shape of the draws for one image.
Draw = Callable[..., np.ndarray]


def corrupted(images: np.ndarray, name: str, severity: int, seed: int = 0, first: int = 0) -> np.ndarray:
    """Corrupts images, each with its own random draws.

    Args:
        images: uint8 from 0 (black) to 255, `[examples, height, width]`, `[examples, height, width, channels]` or
            squares as rows, `[examples, side * side]`; not modified.
        name: one of `NAMES`.
        severity: from 1, which is light, to 5.
        seed: any integer of up to 64 bits; it determines the noise, fog, stripes and patches and the directions of
            rotation and translation. Blur, contrast, brightness, scale and pixelation draw nothing.
        first: index of the first image in the whole set:
            `corrupted(images[7:], ..., first=7)` equals `corrupted(images, ...)[7:]` bit for bit.

    Returns:
        uint8 of the same shape.

    Raises:
        BadInput: an unknown name, a severity that is not from 1 to 5, or images of another type or shape.
    """
    if name not in NAMES:
        raise BadInput(f"the corruption is {name!r}: {errors.nearest(str(name), NAMES)}")
    if severity not in range(1, 6):
        raise BadInput(f"the severity of {name} is {severity!r}: expected a whole number from 1 (light) to 5 (strong)")
    if first < 0:
        raise BadInput(f"the index of the first image is {first}: expected 0 or more")
    pixels = _pixels(np.asarray(images))
    result = np.empty(pixels.shape, np.uint8)
    step = max(1, _BLOCK // pixels[:1].size) if len(pixels) else 1
    for start in range(0, len(pixels), step):
        block = pixels[start : start + step].astype(np.float32)
        draw = _draw(name, seed, first + start, len(block))
        corrupted_block = _FUNCTIONS[name](block, _STRENGTHS[name][int(severity) - 1], draw)
        result[start : start + step] = np.rint(np.clip(corrupted_block, 0, 255))
    return result.reshape(np.shape(images))


def _pixels(images: np.ndarray) -> np.ndarray:
    """The images as `[examples, height, width, channels]`."""
    if images.dtype != np.uint8:
        raise BadInput(f"images are {images.dtype}: expected uint8 from 0 to 255; scale them back and round first")
    if images.ndim not in (2, 3, 4) or 0 in images.shape[1:]:
        expected = "[examples, height, width], with channels behind or not, or [examples, side * side]"
        raise BadInput(f"images have the shape {list(images.shape)}: expected {expected}")
    if images.ndim == 2:
        side = math.isqrt(images.shape[1])
        if side * side != images.shape[1]:
            raise BadInput(
                f"images are rows of {images.shape[1]} pixels, which is not a square number: reshape them to "
                "[examples, height, width]"
            )
        images = images.reshape(-1, side, side)  # [examples, height, width]
    return images if images.ndim == 4 else images[..., None]


def _draw(name: str, seed: int, first: int, count: int) -> Draw:
    """Uniform draws for `count` images: `draw(*shape)` is float32 `[count, *shape]` in the open interval (0, 1)."""
    key = int(seed) % 2**64 + (zlib.crc32(name.encode()) << 64)

    def draw(*shape: int) -> np.ndarray:
        # Philox computes its n-th block of four numbers from n (Salmon et al., "Parallel random numbers: as easy as
        # 1, 2, 3", 2011): each image has its own blocks.
        blocks = -(-math.prod(shape) // 4)
        raw = np.random.Philox(key=key, counter=first * blocks).random_raw(count * blocks * 4)
        integers = (raw >> np.uint64(41)).astype(np.float32).reshape(count, blocks * 4)[:, : math.prod(shape)]
        return ((integers + np.float32(0.5)) * np.float32(2.0**-23)).reshape(count, *shape)  # [count, *shape]

    return draw


def _noise(images: np.ndarray, deviation: float, draw: Draw) -> np.ndarray:
    """Adds Gaussian noise."""
    return images + np.float32(255 * deviation) * special.ndtri(draw(*images.shape[1:]))


def _impulses(images: np.ndarray, share: float, draw: Draw) -> np.ndarray:
    """Salt-and-pepper noise: makes a fraction of the pixels white or black, with equal probability."""
    uniform = draw(*images.shape[1:])
    return np.where(uniform < share / 2, 0, np.where(uniform > 1 - share / 2, 255, images))


def _blur(images: np.ndarray, deviation: float, draw: Draw) -> np.ndarray:
    """Blurs with a Gaussian; black outside the image."""
    pixels = deviation * min(images.shape[1:3])
    return ndimage.gaussian_filter(images, (0, pixels, pixels, 0), mode="constant")


def _contrast(images: np.ndarray, left: float, draw: Draw) -> np.ndarray:
    """Moves all pixels towards their mean."""
    mean = images.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    return mean + left * (images - mean)


def _brightness(images: np.ndarray, added: float, draw: Draw) -> np.ndarray:
    """Adds a constant to all pixels."""
    return images + 255 * added


def _fog(images: np.ndarray, opacity: float, draw: Draw) -> np.ndarray:
    """Blends with clouds from black to white: fractal noise, a sum of ever finer and fainter octaves.

    After Fournier, Fussell and Carpenter, "Computer rendering of stochastic models" (1982).
    """
    uniform = draw(sum(points**2 for points in _LATTICES))
    parts = np.split(uniform, np.cumsum([points**2 for points in _LATTICES])[:-1], axis=1)
    clouds = np.zeros((), np.float32)  # [examples, height, width] after the first octave
    for octave, (points, part) in enumerate(zip(_LATTICES, parts)):
        lattice = part.reshape(-1, points, points)  # [examples, points, points]
        clouds = clouds + _stretched(_stretched(lattice, images.shape[1], 1), images.shape[2], 2) * 2.0**-octave
    clouds -= clouds.min(axis=(1, 2), keepdims=True)
    clouds /= np.maximum(clouds.max(axis=(1, 2), keepdims=True), 1e-6)
    return images + opacity * (255 * clouds[..., None] - images)


def _stretched(lattice: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Interpolates linearly along an axis, with aligned end points."""
    coordinates = np.linspace(0, lattice.shape[axis] - 1, size, dtype=np.float32)
    below = np.minimum(coordinates.astype(int), lattice.shape[axis] - 2)
    fraction = (coordinates - below).astype(np.float32).reshape(-1, *[1] * (lattice.ndim - 1 - axis))
    low, high = lattice.take(below, axis), lattice.take(below + 1, axis)
    return low + fraction * (high - low)


def _stripes(images: np.ndarray, share: float, draw: Draw) -> np.ndarray:
    """Inverts parallel stripes of any direction."""
    angle, phase = np.moveaxis(draw(2, 1, 1), 1, 0)
    down, right = _offsets(images)
    across = (down * np.sin(np.pi * angle) + right * np.cos(np.pi * angle)) * (_STRIPES / min(images.shape[1:3]))
    return np.where(((across + phase) % 1 < share)[..., None], 255 - images, images)


def _occlusion(images: np.ndarray, share: float, draw: Draw) -> np.ndarray:
    """Covers a random part of the image with a black square patch."""
    side = share * min(images.shape[1:3])
    hidden = np.ones((), bool)
    for uniform, offsets, size in zip(np.moveaxis(draw(2, 1, 1), 1, 0), _offsets(images), images.shape[1:3]):
        start = uniform * (size - side)
        centers = offsets + size / 2
        hidden = hidden & (centers >= start) & (centers < start + side)
    return np.where(hidden[..., None], 0, images)


def _rotation(images: np.ndarray, degrees: float, draw: Draw) -> np.ndarray:
    """Rotates left or right about the center."""
    angle = np.radians(np.where(draw(1, 1) < 0.5, -degrees, degrees))
    down, right = _offsets(images)
    return _sampled(images, np.cos(angle) * down - np.sin(angle) * right, np.sin(angle) * down + np.cos(angle) * right)


def _translation(images: np.ndarray, share: float, draw: Draw) -> np.ndarray:
    """Translates in a random direction."""
    angle, distance = 2 * np.pi * draw(1, 1), share * min(images.shape[1:3])
    down, right = _offsets(images)
    return _sampled(images, down - distance * np.sin(angle), right - distance * np.cos(angle))


def _scale(images: np.ndarray, factor: float, draw: Draw) -> np.ndarray:
    """Shrinks towards the center."""
    down, right = _offsets(images)
    return _sampled(images, down / factor, right / factor)


def _pixelation(images: np.ndarray, factor: float, draw: Draw) -> np.ndarray:
    """Replaces the pixels of each cell with their mean."""
    for axis in (1, 2):
        size = images.shape[axis]
        cells = max(1, round(factor * size))
        cell = np.arange(size) * cells // size
        starts = np.searchsorted(cell, np.arange(cells))
        shape = [-1 if other == axis else 1 for other in range(4)]
        means = np.add.reduceat(images, starts, axis) / np.bincount(cell).reshape(shape)
        images = means.take(cell, axis)  # [examples, height, width, channels]
    return images


def _offsets(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offset of each pixel from the image's center, in pixels: down `[height, 1]` and right `[1, width]`."""
    height, width = images.shape[1:3]
    return np.arange(height)[:, None] - (height - 1) / 2, np.arange(width)[None, :] - (width - 1) / 2


def _sampled(images: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Bilinear samples of the images at offsets `[examples, height, width]` from the center; black outside."""
    count, height, width, _ = images.shape
    index = np.arange(count)[:, None, None]
    coordinates = np.broadcast_arrays(index, down + (height - 1) / 2, right + (width - 1) / 2)
    # The image index is whole, so neighbouring images have weight 0.
    channels = [
        ndimage.map_coordinates(channel, coordinates, order=1, mode="grid-constant")
        for channel in np.moveaxis(images, 3, 0)
    ]
    return np.stack(channels, axis=3)  # [examples, height, width, channels]


_FUNCTIONS = {
    "noise": _noise,
    "impulses": _impulses,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "fog": _fog,
    "stripes": _stripes,
    "occlusion": _occlusion,
    "rotation": _rotation,
    "translation": _translation,
    "scale": _scale,
    "pixelation": _pixelation,
}
