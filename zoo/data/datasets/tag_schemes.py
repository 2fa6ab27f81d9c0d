"""Tags of entities: the schemes that files have them in, IOB2 from each of these, and the entities that tags mean."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.data.datasets.conll import Sentence
from zoo.errors import BadInput

PLAIN, IOB2 = "plain", "IOB2"
# The letters before the hyphen. The first two schemes have the same ones, and are told apart by what follows what.
_LETTERS = {IOB2: "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
_OPEN, _CONTINUES = "BIM", "IMEL"
_END = "O at the end"
_MARKED = re.compile(r"[BIESLUM]-.")


def to_iob2(path: Path, sentences: Sequence[Sentence]) -> tuple[list[Sentence], str, list[str]]:
    """Recognises the scheme of a file's tags and rewrites those of entities in IOB2.

    IOB2 (BIO, Ratnaparkhi, 1998): the first word of an entity has B-TYPE, the others I-TYPE, all else O. In IOB1
    (Ramshaw and Marcus, 1995) B- stands only where an entity follows another one of its type. BIOES, BILOU and BMES
    mark the last word of an entity and single words too. Tags without such letters, as of parts of speech, are plain.

    Args:
        path: for errors and notes.
        sentences: all of the file.

    Returns:
        The sentences, `IOB2` or `PLAIN`, and notes of what was done.

    Raises:
        BadInput: the tags are of no one scheme, with the first line that shows it.
    """
    names = {tag for sentence in sentences for tag in sentence.tags}
    marked = {tag for tag in names if _MARKED.match(tag)}
    others = names - marked - {"O"}
    if not marked or (others and "O" not in names):
        alone = others and "O" in names
        note = f"{path}: tags have no B- or I- before them, so each word is judged by itself, not entities"
        return list(sentences), PLAIN if others else IOB2, [note] if alone else []
    if others:
        line, tag = _first(sentences, others)
        raise BadInput(f"{path} line {line}: {tag!r} among tags of entities; expected O, or B- or I- and a type")
    scheme = _scheme(path, sentences, marked)
    found = [sentence._replace(tags=_rewritten(sentence.tags, scheme)) for sentence in sentences]
    return found, IOB2, [] if scheme == IOB2 else [f"{path}: tags rewritten from {scheme} to IOB2"]


def spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """The entities of one sentence as (start, stop, type), for any sequence of O and of B-, I-, E- or S- and a type.

    As CoNLL's own script and seqeval by default read them: what continues nothing begins an entity, and a change of
    the type ends one.
    """
    found, start, letter, kind = [], 0, "O", ""
    for place, tag in enumerate([*tags, "O"]):
        before, kind_before = letter, kind
        letter, kind = tag[0], tag[2:]
        if letter in "IE" and before in "BI" and kind == kind_before:
            continue
        if before != "O":
            found.append((start, place, kind_before))
        start = place
    return found


def _first(sentences: Sequence[Sentence], wanted: set[str]) -> tuple[int, str]:
    """The first line that has one of the tags, and the tag."""
    return next((line, tag) for _, tags, lines in sentences for tag, line in zip(tags, lines) if tag in wanted)


def _scheme(path: Path, sentences: Sequence[Sentence], marked: set[str]) -> str:
    letters = {tag[0] for tag in marked}
    possible = [scheme for scheme, known in _LETTERS.items() if letters <= set(known)]
    if not possible:
        # The line at which the letters so far stop to be those of any scheme.
        seen = set()
        while any(seen <= set(known) for known in _LETTERS.values()):
            line, tag = _first(sentences, {tag for tag in marked if tag[0] not in seen})
            seen.add(tag[0])
        before = ", ".join(f"{letter}-" for letter in sorted(seen - {tag[0]}))
        raise BadInput(f"{path} line {line}: {tag!r} after tags with {before}; expected one scheme: {_known()}")
    for scheme in possible:
        if next(_faults(sentences, scheme), None) is None:
            return scheme
    scheme = possible[0]
    (line, before, tag), *others = _faults(sentences, scheme)
    more = f" (and {len(others)} more)" if others else ""
    called = "neither IOB2 nor IOB1" if scheme == IOB2 else f"not {scheme}"
    wanted = f"B-{tag[2:]} to begin an entity" if scheme == IOB2 else "entities that are begun, continued and ended"
    raise BadInput(f"{path} line {line}: {tag!r} after {before!r}{more} is {called}; expected {wanted}")


def _known() -> str:
    return ", ".join(f"{scheme} ({' '.join(letters)})" for scheme, letters in _LETTERS.items() if scheme != "IOB1")


def _faults(sentences: Sequence[Sentence], scheme: str) -> Iterator[tuple[int, str, str]]:
    """Each line whose tag may not stand there, with the tag before and its own."""
    for _, tags, lines in sentences:
        for before, tag, line in zip(["O", *tags], [*tags, _END], [*lines, lines[-1]]):
            if _wrong(before, tag, scheme):
                yield line, before, tag


def _wrong(before: str, tag: str, scheme: str) -> bool:
    same = before[2:] == tag[2:]
    if scheme == IOB2:
        return tag[0] == "I" and not (before != "O" and same)
    if scheme == "IOB1":
        return tag[0] == "B" and not (before != "O" and same)
    # What is open must be continued, and nothing else may be.
    is_open, continues = before[0] in _OPEN, tag[0] in _CONTINUES
    return (is_open or continues) and not (is_open and continues and same)


def _rewritten(tags: Sequence[str], scheme: str) -> list[str]:
    """Valid tags of a scheme as IOB2."""
    found = []
    for before, tag in zip(["O", *tags], tags):
        inside = tag[0] in _CONTINUES and (scheme != "IOB1" or (before != "O" and before[2:] == tag[2:]))
        found.append(tag if tag == "O" else f"{'I' if inside else 'B'}-{tag[2:]}")
    return found
