"""Text in one line that is safe to print on a terminal."""

import unicodedata

# Zero-width characters, and those that turn the direction of what follows. Joiners stay: emoji and Persian need them.
_HIDDEN = frozenset("\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\ufeff") | frozenset(
    map(chr, (*range(0x202A, 0x202F), *range(0x2060, 0x2070)))
)
# Most characters of a text in a line, and in a table.
_LONGEST = 100
_SHORT = 60


def visible(text: str) -> str:
    """The text with a blank for each control or hidden character and half a surrogate; its length does not change."""
    return "".join(" " if each in _HIDDEN or unicodedata.category(each) in ("Cc", "Cs") else each for each in text)


def one_line(text: str, longest: int | None = _LONGEST) -> str:
    """A text in one line, with single blanks, cut to `longest` characters (None: not cut)."""
    line = " ".join(visible(text).split())
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def short(text: str) -> str:
    """The beginning of a text, enough to recognise it in a table."""
    return one_line(text, _SHORT)
