"""Tagging schemes (IOB1, IOB2, BIOES, BILOU, BMES): recognition, conversion to IOB2, and entity spans."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.data.datasets.conll import Sentence
from zoo.errors import BadInput

PLAIN, IOB2 = "plain", "IOB2"
# Prefixes of each scheme. The first two have the same ones and differ in their order.
_LETTERS = {IOB2: "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
_OPEN, _CONTINUES = "BIM", "IMEL"
_END = "O at the end"
_MARKED = re.compile(r"[BIESLUM]-.")


def to_iob2(path: Path, sentences: Sequence[Sentence]) -> tuple[list[Sentence], str, list[str]]:
    """Recognises the tagging scheme of a file and converts entity tags to IOB2.

    IOB2 (BIO, Ratnaparkhi, 1998): the first word of an entity has B-TYPE, the others I-TYPE, all else O. In IOB1
    (Ramshaw and Marcus, 1995) B- is used only where an entity follows another one of its type. BIOES, BILOU and BMES
    also mark the last word of an entity and single words. Tags without such prefixes, like parts of speech, are plain.

    Args:
        path: the file, for errors and notes.
        sentences: all sentences of the file.

    Returns:
        The sentences, `IOB2` or `PLAIN`, and notes about the conversion.

    Raises:
        BadInput: the tags mix schemes or break one; the message has the first such line.
    """
    names = {tag for sentence in sentences for tag in sentence.tags}
    marked = {tag for tag in names if _MARKED.match(tag)}
    others = names - marked - {"O"}
    if not marked or (others and "O" not in names):
        alone = others and "O" in names
        note = f"{path}: tags have no B- or I- before them, so metrics are per word, not per entity"
        return list(sentences), PLAIN if others else IOB2, [note] if alone else []
    if others:
        line, tag = _first(sentences, others)
        raise BadInput(f"{path} line {line}: {tag!r} among tags of entities; expected O, or B- or I- and a type")
    scheme = _scheme(path, sentences, marked)
    converted = [sentence._replace(tags=_iob2_tags(sentence.tags, scheme)) for sentence in sentences]
    return converted, IOB2, [] if scheme == IOB2 else [f"{path}: tags rewritten from {scheme} to IOB2"]


def spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """The entities of one sentence as (start, stop, type), for any sequence of O and of B-, I-, E- or S- and a type.

    As in CoNLL's script and seqeval's default mode: I- or E- without an entity to continue begins one, and a change of
    type ends one.
    """
    entities, start, letter, kind = [], 0, "O", ""
    for position, tag in enumerate([*tags, "O"]):
        letter_before, kind_before = letter, kind
        letter, kind = tag[0], tag[2:]
        if letter in "IE" and letter_before in "BI" and kind == kind_before:
            continue
        if letter_before != "O":
            entities.append((start, position, kind_before))
        start = position
    return entities


def _first(sentences: Sequence[Sentence], names: set[str]) -> tuple[int, str]:
    """The first line that has one of the tags, and the tag."""
    return next((line, tag) for _, tags, lines in sentences for tag, line in zip(tags, lines) if tag in names)


def _scheme(path: Path, sentences: Sequence[Sentence], marked: set[str]) -> str:
    prefixes = {tag[0] for tag in marked}
    possible = [scheme for scheme, letters in _LETTERS.items() if prefixes <= set(letters)]
    if not possible:
        # The first line at which no scheme has all prefixes so far.
        so_far = set()
        while any(so_far <= set(letters) for letters in _LETTERS.values()):
            line, tag = _first(sentences, {tag for tag in marked if tag[0] not in so_far})
            so_far.add(tag[0])
        before = ", ".join(f"{letter}-" for letter in sorted(so_far - {tag[0]}))
        raise BadInput(f"{path} line {line}: {tag!r} after tags with {before}; expected one scheme: {_schemes()}")
    for scheme in possible:
        if next(_violations(sentences, scheme), None) is None:
            return scheme
    scheme = possible[0]
    (line, before, tag), *others = _violations(sentences, scheme)
    more = f" (and {len(others)} more)" if others else ""
    verdict = "neither IOB2 nor IOB1" if scheme == IOB2 else f"not {scheme}"
    expected = f"B-{tag[2:]} to begin an entity" if scheme == IOB2 else "entities that are begun, continued and ended"
    raise BadInput(f"{path} line {line}: {tag!r} after {before!r}{more} is {verdict}; expected {expected}")


def _schemes() -> str:
    return ", ".join(f"{scheme} ({' '.join(letters)})" for scheme, letters in _LETTERS.items() if scheme != "IOB1")


def _violations(sentences: Sequence[Sentence], scheme: str) -> Iterator[tuple[int, str, str]]:
    """Each line whose tag breaks the scheme, with the tag before it and its own."""
    for _, tags, lines in sentences:
        for before, tag, line in zip(["O", *tags], [*tags, _END], [*lines, lines[-1]]):
            if _is_violation(before, tag, scheme):
                yield line, before, tag


def _is_violation(before: str, tag: str, scheme: str) -> bool:
    same = before[2:] == tag[2:]
    if scheme == IOB2:
        return tag[0] == "I" and not (before != "O" and same)
    if scheme == "IOB1":
        return tag[0] == "B" and not (before != "O" and same)
    # An open entity must be continued, and only an open one may be.
    is_open, continues = before[0] in _OPEN, tag[0] in _CONTINUES
    return (is_open or continues) and not (is_open and continues and same)


def _iob2_tags(tags: Sequence[str], scheme: str) -> list[str]:
    """Converts valid tags of a scheme to IOB2."""
    converted = []
    for before, tag in zip(["O", *tags], tags):
        inside = tag[0] in _CONTINUES and (scheme != "IOB1" or (before != "O" and before[2:] == tag[2:]))
        converted.append(tag if tag == "O" else f"{'I' if inside else 'B'}-{tag[2:]}")
    return converted
