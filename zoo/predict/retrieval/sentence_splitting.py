"""Sentence splitting by punctuation, for Chinese, English and languages punctuated like it.

It uses no model and needs no language setting. It fails where only the meaning decides, as in "He left the U.S. She
stayed."
"""

import re

# A blank line ends a sentence; a single newline may be a line wrap.
_PARAGRAPH = re.compile(r"\n\s*\n")
_CLOSERS = "\"'”’»)\\]"
_CLOSERS_CHINESE = "”’」』》）】\"'"
_HAN = "[\u3400-\u9fff]"
# Chinese has no space after a sentence, and its marks always end one; ASCII marks between Han characters do, too.
_CHINESE = rf"[。！？｡]+[。！？｡!?…]*[{_CLOSERS_CHINESE}]*|(?<={_HAN})[.!?]+(?={_HAN})"
# A mark counts if a sentence can follow: a capital, a digit, a quotation, or a letter without upper case.
_LATIN = rf"[.!?…]+[{_CLOSERS}]*(?=\s+[\"'“‘«(\[¿¡-]*(?:[^\W_a-zß-öø-ÿа-я]|$))"
_END = re.compile(f"{_CHINESE}|{_LATIN}")
# Abbreviations, after which a full stop never ends a sentence.
_SHORT = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Sen|Rep|Lt|Col|Capt|Sgt|Rev|Hon|vs|e\.g|i\.e|cf|al|approx|ca|Fig|Figs|Eq)"
    # Initials of a name, and letters with stops, as in U.S.; but not "I", which ends sentences more often.
    r"|\b[A-HJ-Z]|\b(?:[^\W\d_]\.)+[^\W\d_])\.$"
)
_NUMBERED = re.compile(r"\b(?:No|Nos|pp?|Vol|Ch|Sec)\.$", re.IGNORECASE)


def split(text: str) -> list[str]:
    """The sentences of a text, in order, stripped of white space; never an empty one."""
    return [sentence for part in _PARAGRAPH.split(text) for sentence in _split_paragraph(part)]


def _split_paragraph(text: str) -> list[str]:
    ends = [mark.end() for mark in _END.finditer(text) if _ends(text, mark.end())]
    pieces = (text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)]))
    return [piece for piece in pieces if piece]


def _ends(text: str, position: int) -> bool:
    """Whether the mark before a position ends a sentence."""
    # Longer than any abbreviation.
    before = text[max(0, position - 20) : position]
    if _SHORT.search(before):
        return False
    return not (_NUMBERED.search(before) and text[position:].lstrip()[:1].isdigit())
