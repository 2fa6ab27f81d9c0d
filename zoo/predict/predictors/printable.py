"""Text in one line that is safe to print on a terminal."""

import unicodedata

# Most characters of a text in a line, and in a table.
_LONGEST = 100
_SHORT = 60


def visible(text: str) -> str:
    """The text with a blank for each control character and line separator; its length does not change."""
    return "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)


def one_line(text: str, longest: int | None = _LONGEST) -> str:
    """A text in one line, with single blanks, cut to `longest` characters (None: not cut)."""
    line = " ".join(visible(text).split())
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def short(text: str) -> str:
    """The beginning of a text, enough to recognise it in a table."""
    return one_line(text, _SHORT)
