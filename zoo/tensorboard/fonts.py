"""Fonts for a text's characters: Pillow's own covers European languages, the machine may have others."""

import functools

from PIL import ImageFont

# No font has this character: it is drawn as the font's glyph for missing characters.
_MISSING = "\U0010ffff"


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font if it has all characters of the text, else the machine's font that lacks the fewest.

    Args:
        text: the text to draw.
        size: font size in pixels.
    """
    return _font_for("".join(sorted(set(text))), size)


@functools.cache
def _font_for(characters: str, size: int) -> ImageFont.FreeTypeFont:
    best = ImageFont.load_default(size)
    fewest = _missing_count(best, characters)
    if fewest:
        for path in _paths():
            try:
                font = ImageFont.truetype(path, size)
            except OSError:
                # The list includes bitmap fonts and damaged files.
                continue
            missing = _missing_count(font, characters)
            if missing < fewest:
                best, fewest = font, missing
            if not fewest:
                break
    return best


def _missing_count(font: ImageFont.FreeTypeFont, characters: str) -> int:
    missing = bytes(font.getmask(_MISSING))
    return sum(bytes(font.getmask(character)) == missing for character in characters if not character.isspace())


def _paths() -> list[str]:
    """The machine's fonts, upright and regular sans-serif ones first."""
    # The import takes half a second, and few texts need it.
    from matplotlib import font_manager

    preference = lambda path: ("Sans" not in path, "Regular" not in path, "Mono" in path, path)  # noqa: E731
    return sorted(font_manager.findSystemFonts(), key=preference)
