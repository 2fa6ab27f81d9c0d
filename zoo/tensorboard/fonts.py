"""A font that has the characters of a text: Pillow brings one for European languages, the machine may have others."""

import functools

from PIL import ImageFont

# No font has it, so that it is drawn as whatever the font shows for what it lacks.
_NONE = "\U0010ffff"


def able(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font where it has all characters of the text, else the machine's first that lacks the fewest.

    Args:
        text: to be drawn.
        size: in pixels.
    """
    return _able("".join(sorted(set(text))), size)


@functools.cache
def _able(characters: str, size: int) -> ImageFont.FreeTypeFont:
    best = ImageFont.load_default(size)
    fewest = _lacking(best, characters)
    if fewest:
        for path in _paths():
            try:
                font = ImageFont.truetype(path, size)
            except OSError:
                # Bitmap fonts and damaged files are among them.
                continue
            lacking = _lacking(font, characters)
            if lacking < fewest:
                best, fewest = font, lacking
            if not fewest:
                break
    return best


def _lacking(font: ImageFont.FreeTypeFont, characters: str) -> int:
    missing = bytes(font.getmask(_NONE))
    return sum(bytes(font.getmask(character)) == missing for character in characters if not character.isspace())


def _paths() -> list[str]:
    """Of the machine's fonts, upright and regular ones without serifs first."""
    # Half a second to import, for the few texts that need it.
    from matplotlib import font_manager

    wanted = lambda path: ("Sans" not in path, "Regular" not in path, "Mono" in path, path)  # noqa: E731
    return sorted(font_manager.findSystemFonts(), key=wanted)
