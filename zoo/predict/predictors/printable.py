"""Texts that are safe to print on a terminal."""

import unicodedata

# Characters of a text that stand for it in a line.
_LONGEST = 100
_SHORT = 60


def visible(text: str) -> str:
    """The same number of characters in one line, in which no control character reaches the terminal."""
    return "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)


def one_line(text: str, longest: int | None = _LONGEST) -> str:
    """A text in one line, with single blanks, cut to `longest` characters (None: whole)."""
    line = " ".join(visible(text).split())
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def short(text: str) -> str:
    """The beginning of a text, enough to recognise it in a table."""
    return one_line(text, _SHORT)
