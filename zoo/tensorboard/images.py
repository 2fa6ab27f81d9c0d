"""Images for TensorBoard: confusion matrices and grids of examples, drawn in milliseconds; Matplotlib takes seconds."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from zoo.tensorboard import fonts

_WHITE, _BLACK = (255, 255, 255), (20, 20, 20)
_GOOD, _BAD = (20, 110, 60), (180, 30, 30)
# The darkest colour of a matrix, for a fraction of 1.
_DARK = np.array((8, 48, 107))
# Width in pixels at which TensorBoard shows images: drawn at this width they are sharp.
_WIDTH = 350
# Maximum number of classes that are drawn with names and numbers.
_NAMED = 40


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The confusion matrix `[classes (true), classes (predicted)]`, coloured by the fraction of each true class.

    Returns:
        uint8 `[height, width, 3]`.
    """
    size = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-9)
    if size > _NAMED:
        side = max(1, 800 // size)
        colours = 255 - shares[..., None] * (255 - _DARK)
        return np.kron(colours, np.ones((side, side, 1))).astype(np.uint8)
    names = [_short(str(name)) for name in classes]
    font = fonts.font_for("".join(names), 12)
    left = 34 + max(int(font.getlength(name)) for name in names)
    side = min(60, max(26, (_WIDTH - left - 6) // size))
    top = 30 + (left - 24 if max(map(len, names)) > 5 else 26)
    image = Image.new("RGB", (max(_WIDTH, left + size * side + 6), top + size * side + 6), _WHITE)
    draw = ImageDraw.Draw(image)
    draw.text((left + size * side / 2, 14), "predicted", _BLACK, font, anchor="mm")
    _upright(image, "true", (4, top + size * side // 2), font)
    for i, name in enumerate(names):
        draw.text((left - 6, top + (i + 0.5) * side), name, _BLACK, font, anchor="rm")
        if max(map(len, names)) > 5:
            _upright(image, name, (left + int((i + 0.5) * side) - 8, top - 6), font, ends=True)
        else:
            draw.text((left + (i + 0.5) * side, top - 6), name, _BLACK, font, anchor="mb")
        for j in range(size):
            x, y = left + j * side, top + i * side
            fill = tuple((255 - shares[i, j] * (255 - _DARK)).astype(int))
            draw.rectangle((x, y, x + side - 2, y + side - 2), fill)
            if matrix[i, j]:
                ink = _WHITE if shares[i, j] > 0.5 else _BLACK
                draw.text((x + side / 2, y + side / 2), _number(matrix[i, j]), ink, font, anchor="mm")
    return np.asarray(image)


def grid(images: np.ndarray, captions: Sequence[str], good: Sequence[bool], columns: int = 5) -> np.ndarray:
    """A grid of images with captions of up to two lines below, green where good and red elsewhere.

    Args:
        images: uint8 `[pictures, height, width]` or `[pictures, height, width, 3]`.
        captions: one caption per picture.
        good: one value per picture.
        columns: number of pictures per row.

    Returns:
        uint8 `[height, width, 3]`.
    """
    font, scale = fonts.font_for("".join(captions), 11), max(1, round(56 / max(images.shape[1:3])))
    high, wide = images.shape[1] * scale, images.shape[2] * scale
    widest = max(int(font.getlength(line)) for text in captions for line in text.split("\n"))
    cell = max(wide, widest, _WIDTH // columns - 8) + 8, high + 44
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * cell[0], rows * cell[1]), _WHITE)
    draw = ImageDraw.Draw(sheet)
    for i, (pixels, caption, is_good) in enumerate(zip(images, captions, good, strict=True)):
        x, y = i % columns * cell[0], i // columns * cell[1]
        picture = Image.fromarray(pixels).convert("RGB").resize((wide, high), Image.Resampling.NEAREST)
        sheet.paste(picture, (x + (cell[0] - wide) // 2, y + 6))
        ink = _GOOD if is_good else _BAD
        for line, text in enumerate(caption.split("\n")):
            draw.text((x + cell[0] / 2, y + high + 17 + 15 * line), text, ink, font, anchor="mm")
    return np.asarray(sheet)


def _upright(image: Image.Image, text: str, place: tuple[int, int], font, ends: bool = False) -> None:
    """Draws a text upwards, vertically centred at a place, or ending there."""
    label = Image.new("RGB", (int(font.getlength(text)) + 4, 18), _WHITE)
    ImageDraw.Draw(label).text((2, 9), text, _BLACK, font, anchor="lm")
    label = label.rotate(90, expand=True)
    image.paste(label, (place[0], place[1] - (label.height if ends else label.height // 2)))


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"
