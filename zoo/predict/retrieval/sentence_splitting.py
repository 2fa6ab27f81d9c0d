"""Text cut into sentences by its punctuation: English and what is written like it, and Chinese.

No model and no language is asked for. It is wrong where only the meaning tells, as in "He left the U.S. She stayed."
"""

import re

# Nothing but a sentence follows a blank line; a single newline may be where an editor broke a line.
_PARAGRAPH = re.compile(r"\n\s*\n")
_CLOSERS = "\"'”’»)\\]"
_CLOSERS_CHINESE = "”’」』》）】\"'"
_HAN = "[\u3400-\u9fff]"
# Chinese has no space after a sentence, and its marks stand nowhere else; often they are typed as a keyboard has them.
_CHINESE = rf"[。！？｡]+[。！？｡!?…]*[{_CLOSERS_CHINESE}]*|(?<={_HAN})[.!?]+(?={_HAN})"
# What follows decides: a sentence begins with a capital, a digit, a quotation, or a letter that has no capitals.
_LATIN = rf"[.!?…]+[{_CLOSERS}]*(?=\s+[\"'“‘«(\[¿¡-]*(?:[^\W_a-zß-öø-ÿа-я]|$))"
_END = re.compile(f"{_CHINESE}|{_LATIN}")
# After these a full stop is no end, whatever follows.
_SHORT = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Sen|Rep|Lt|Col|Capt|Sgt|Rev|Hon|vs|e\.g|i\.e|cf|al|approx|ca|Fig|Figs|Eq)"
    # Initials of a name, and letters with a stop after each, as U.S.; "I" ends more sentences than it begins names.
    r"|\b[A-HJ-Z]|\b(?:[^\W\d_]\.)+[^\W\d_])\.$"
)
_NUMBERED = re.compile(r"\b(?:No|Nos|pp?|Vol|Ch|Sec)\.$", re.IGNORECASE)


def split(text: str) -> list[str]:
    """The sentences of a text, in order, without the space around them; none is empty."""
    return [sentence for part in _PARAGRAPH.split(text) for sentence in _of_paragraph(part)]


def _of_paragraph(text: str) -> list[str]:
    ends = [found.end() for found in _END.finditer(text) if _ends(text, found.end())]
    pieces = (text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)]))
    return [piece for piece in pieces if piece]


def _ends(text: str, place: int) -> bool:
    """Whether the mark before a place ends a sentence."""
    # No abbreviation is longer.
    before = text[max(0, place - 20) : place]
    if _SHORT.search(before):
        return False
    return not (_NUMBERED.search(before) and text[place:].lstrip()[:1].isdigit())
