"""Tagging schemes (IOB1, IOB2, BIOES, BILOU, BMES, BMEWO): recognition, conversion to IOB2, and entity spans."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.data.datasets.conll import Sentence
from zoo.errors import BadInput

PLAIN, IOB2 = "plain", "IOB2"
# Prefixes of each scheme. The first two have the same ones and differ in their order.
_LETTERS = {IOB2: "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}
_OPEN, _CONTINUES = "BIM", "IMEL"
_END = "O at the end"
# The prefixes of all schemes in those of BIOES.
_AS_BIES = {"L": "E", "M": "I", "U": "S", "W": "S"}


class Spelling(NamedTuple):
    """How a file writes tags of entities.

    Attributes:
        mark: pattern of a tag with the groups `letter` and `type`.
        outside: tag of words outside of entities.
        example: a tag in this spelling.
    """

    mark: re.Pattern[str]
    outside: str
    example: str


def to_iob2(path: Path, sentences: Sequence[Sentence], fix: bool = False) -> tuple[list[Sentence], str, list[str]]:
    """Recognises the tagging scheme of a file and converts entity tags to IOB2.

    IOB2 (BIO, Ratnaparkhi, 1998): the first word of an entity has B-TYPE, the others I-TYPE, all else O. In IOB1
    (Ramshaw and Marcus, 1995) B- is used only where an entity follows another one of its type. BIOES, BILOU, BMES and
    BMEWO also mark the last word of an entity and single words. Tags may be spelt b-TYPE, B_TYPE, B:TYPE, B/TYPE or
    TYPE-B, and O as o, 0, - or _. Tags without such prefixes, like parts of speech, are plain. A sentence with a word
    whose tag the file does not give ("") is left out.

    Args:
        path: the file, for errors and notes.
        sentences: all sentences of the file.
        fix: whether to accept tags that break the scheme, read as CoNLL's script reads them (`spans`): an entity that
            was not begun begins there, an unknown tag is O. The notes count them.

    Returns:
        The sentences, `IOB2` or `PLAIN`, and notes about the conversion.

    Raises:
        BadInput: the tags mix schemes or break one, and not `fix`; the message has the first such line.
    """
    sentences, notes = list(sentences), []
    names = {tag for sentence in sentences for tag in sentence.tags}
    spelling = _spelling(names)
    if spelling is not None and spelling != _CANONICAL:
        notes.append(f"{path}: tags of entities are spelt {spelling.example!r} and {spelling.outside!r}")
        sentences = [each._replace(tags=[_respelt(tag, spelling) for tag in each.tags]) for each in sentences]
    sentences, left_out = _annotated(path, sentences)
    notes += left_out
    names = {tag for sentence in sentences for tag in sentence.tags}
    marked = {tag for tag in names if _CANONICAL.mark.fullmatch(tag)}
    others = names - marked - {"O"}
    if not marked or (others and "O" not in names):
        alone = others and "O" in names
        note = f"{path}: tags have no B- or I- before them, so metrics are per word, not per entity"
        return sentences, PLAIN if others else IOB2, [*notes, note] if alone else notes
    if fix:
        return _fixed(path, sentences, marked, notes)
    if others:
        line, tag = _first(sentences, others)
        raise BadInput(
            f"{path} line {line}: {tag!r} among tags of entities; expected O, or B- or I- and a type (--fix_tags reads "
            "it as O)"
        )
    scheme = _scheme(path, sentences, marked)
    converted = [sentence._replace(tags=_iob2_tags(sentence.tags, scheme)) for sentence in sentences]
    return converted, IOB2, notes if scheme == IOB2 else [*notes, _rewritten(path, scheme)]


def _spelling(names: set[str]) -> Spelling | None:
    """The spelling of tags of entities, if they all have one; None for tags of another kind."""
    for spelling in (_CANONICAL, *_OTHER_SPELLINGS):
        matches = [match for match in map(spelling.mark.fullmatch, names) if match]
        outside = names - {match[0] for match in matches} - {""}
        if spelling == _CANONICAL and matches and (outside == {"O"} or not outside | (names & {""})):
            return spelling
        # Other marks without a tag outside of entities, or without B- and I-, may well be parts of speech.
        begun = any(match["letter"] in "BIbi" for match in matches)
        if begun and (outside == {spelling.outside} or (not outside and "" in names and spelling.outside == "_")):
            return spelling._replace(example=min(match[0] for match in matches))
    return None


def _respelt(tag: str, spelling: Spelling) -> str:
    match = spelling.mark.fullmatch(tag)
    if match is not None:
        return f"{match['letter'].upper()}-{match['type']}"
    return "O" if tag or spelling.outside == "_" else ""


def _annotated(path: Path, sentences: Sequence[Sentence]) -> tuple[list[Sentence], list[str]]:
    """The sentences whose words all have a tag, and a note about others."""
    kept = [sentence for sentence in sentences if "" not in sentence.tags]
    if len(kept) == len(sentences):
        return kept, []
    if not kept:
        raise BadInput(f"{path}: every sentence has a word whose tag is '_'; expected another --tag_column")
    left_out = len(sentences) - len(kept)
    return kept, [f"WARNING: {path}: left out {left_out} of {len(sentences)} sentences, with words whose tag is '_'"]


def _fixed(path: Path, sentences: list[Sentence], marked: set[str], notes: list[str]):
    """Reads all tags as `spans` does; see `to_iob2`."""
    names = marked | {"O"}
    unknown = {line for _, tags, lines in sentences for tag, line in zip(tags, lines) if tag not in names}
    known = [each._replace(tags=[tag if tag in names else "O" for tag in each.tags]) for each in sentences]
    # The scheme that the fewest lines break.
    breaks = {scheme: unknown | _breaks(known, letters, scheme) for scheme, letters in _LETTERS.items()}
    scheme = min(breaks, key=lambda each: len(breaks[each]))
    if not breaks[scheme]:
        converted = [each._replace(tags=_iob2_tags(each.tags, scheme)) for each in known]
        return converted, IOB2, notes if scheme == IOB2 else [*notes, _rewritten(path, scheme)]
    converted = [each._replace(tags=_lenient(each.tags)) for each in known]
    total = sum(tag != "O" for each in sentences for tag in each.tags)
    share = f"{len(breaks[scheme])} of {total} tags of entities break {scheme}"
    return (
        converted,
        IOB2,
        [*notes, f"WARNING: {path}: {share} and were fixed, the first in line {min(breaks[scheme])}"],
    )


def _breaks(sentences: Sequence[Sentence], letters: str, scheme: str) -> set[int]:
    """The lines whose tags a scheme does not have, or not there."""
    foreign = {line for _, tags, lines in sentences for tag, line in zip(tags, lines) if tag[0] not in letters + "O"}
    return foreign | {line for line, *_ in _violations(sentences, scheme)}


def _rewritten(path: Path, scheme: str) -> str:
    return f"{path}: tags rewritten from {scheme} to IOB2"


def _lenient(tags: Sequence[str]) -> list[str]:
    """IOB2 tags of the entities that `spans` finds, whatever the scheme."""
    fixed = ["O"] * len(tags)
    for start, stop, kind in spans([_AS_BIES.get(tag[0], tag[0]) + tag[1:] for tag in tags]):
        fixed[start:stop] = [f"B-{kind}", *[f"I-{kind}"] * (stop - start - 1)]
    return fixed


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


def _mark(letters: str, separators: str, prefix: bool) -> re.Pattern[str]:
    letter, kind = f"(?P<letter>[{letters}])", "(?P<type>.+)"
    return re.compile(f"{letter}[{separators}]{kind}" if prefix else f"{kind}[{separators}]{letter}")


_UPPER = "BIESLUMW"
_CANONICAL = Spelling(_mark(_UPPER, "-", prefix=True), "O", "B-TYPE")
# Each spelling is asked for in turn; all tags of a file must have it.
_OTHER_SPELLINGS = [
    Spelling(_mark(letters, separator, prefix), outside, "")
    for prefix in (True, False)
    for separator in "-_:/"
    for letters in (_UPPER, _UPPER.lower())
    for outside in ("O", "o", "0", "-", "_")
]


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
    raise BadInput(
        f"{path} line {line}: {tag!r} after {before!r}{more} is {verdict}; expected {expected} (--fix_tags reads such "
        "tags as CoNLL's script does)"
    )


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
