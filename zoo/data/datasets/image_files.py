"""One image file as an array of one size: PNG and JPEG, the same way for training and for prediction."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.errors import BadInput

SUFFIXES = (".png", ".jpg", ".jpeg")
RESIZE = ("crop", "pad", "stretch")
FORMATS = ("PNG", "JPEG")
# EXIF's tag, and the orientations that swap width and height.
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
_GREY = ("1", "L", "LA", "La", "I", "F")


class Shape(NamedTuple):
    """What images become.

    Attributes:
        height: rows of pixels.
        width: columns of pixels.
        channels: 1 for grey, `[height, width]`; 3 for red, green and blue, `[height, width, 3]`.
        resize: one of `RESIZE`. crop: the largest central part of the new shape; pad: the whole image between black
            bars; stretch: the whole image, whatever its shape.
    """

    height: int
    width: int
    channels: int
    resize: str = "crop"

    @property
    def of_example(self) -> tuple[int, ...]:
        """The shape of an array: grey images have no axis of channels."""
        return (self.height, self.width) + ((3,) if self.channels == 3 else ())


class Header(NamedTuple):
    """What the header of an image file says: its size as it is to be shown, and whether it is grey."""

    height: int
    width: int
    is_grey: bool


class Decoded(NamedTuple):
    """An image as an array.

    Attributes:
        pixels: uint8 `[height, width]` or `[height, width, 3]`.
        is_transparent: whether pixels were transparent, which are put on white.
        is_deep: whether a grey image had 16 bits, of which the upper 8 are kept.
    """

    pixels: np.ndarray
    is_transparent: bool
    is_deep: bool


def is_image(path: Path) -> bool:
    """Whether a file is read as an image, by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read_header(path: Path) -> Header:
    """Reads size and kind of an image without its pixels.

    Raises:
        BadInput: the file is missing or no PNG or JPEG.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                width, height = height, width
            return Header(height, width, image.mode.partition(";")[0] in _GREY)
    except Exception as error:
        raise _damaged(path, error) from None


def read(path: Path, shape: Shape) -> Decoded:
    """Decodes an image and brings it to a size, turned as its EXIF orientation says.

    Resampling is bilinear over all pixels that fall into one (antialiased), as Pillow does it.

    Raises:
        BadInput: the file is missing, truncated, damaged or no PNG or JPEG; one line with the path.
    """
    # Only images need it.
    from PIL import Image, ImageOps

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _shrink(image, shape)
            image.load()
            turned = ImageOps.exif_transpose(image)
            opaque, is_transparent, is_deep = _opaque(turned)
            return Decoded(_resized(opaque, shape), is_transparent, is_deep)
    except Exception as error:
        # A damaged file surfaces as OSError, SyntaxError, ValueError, struct.error, zlib.error and others.
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> BadInput:
    if isinstance(error, OSError) and error.strerror:
        return BadInput(f"{path} cannot be read: {error.strerror}")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if "cannot identify image file" in reason:
        reason = "its content is neither"
    return BadInput(f"{path} cannot be read as PNG or JPEG ({reason}); restore it, or save it again as one of these")


def _shrink(image, shape: Shape) -> None:
    """Lets a JPEG decode at a fraction of its size that is still twice what is needed, several times faster."""
    sides = sorted(image.size), sorted((2 * shape.width, 2 * shape.height))
    # Whatever the orientation: the shorter side has to hold the longer one.
    factor = sides[1][1] / sides[0][0]
    if image.format == "JPEG" and factor < 1:
        image.draft(None, tuple(int(np.ceil(side * factor)) for side in image.size))


def _opaque(image):
    """The image in mode L or RGB; whether pixels were transparent; whether it had 16 bits."""
    from PIL import Image

    if image.mode[:1] in "IF":
        # Pillow would clip 16 bits at 255.
        values = np.asarray(image)
        return Image.fromarray((np.clip(values, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8)), False, True
    is_grey = image.mode in _GREY
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("L" if is_grey else "RGB"), True, False
    return image.convert("L" if is_grey else "RGB"), False, False


def _resized(image, shape: Shape) -> np.ndarray:
    from PIL import Image

    image = image.convert("RGB" if shape.channels == 3 else "L")
    (width, height), target = image.size, (shape.width, shape.height)
    if image.size == target:
        return np.asarray(image)
    if shape.resize == "crop":
        scale = min(width / shape.width, height / shape.height)
        part = scale * shape.width, scale * shape.height
        left, top = (width - part[0]) / 2, (height - part[1]) / 2
        box = (left, top, min(left + part[0], width), min(top + part[1], height))
        return np.asarray(image.resize(target, Image.Resampling.BILINEAR, box=box))
    if shape.resize == "stretch":
        return np.asarray(image.resize(target, Image.Resampling.BILINEAR))
    scale = min(shape.width / width, shape.height / height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    padded = Image.new(image.mode, target)
    corner = (shape.width - inner[0]) // 2, (shape.height - inner[1]) // 2
    padded.paste(image.resize(inner, Image.Resampling.BILINEAR), corner)
    return np.asarray(padded)
