"""Splits raw text into words for a tagger, as the words of its training sentences look.

A tagger should see at prediction the words that it was trained and evaluated on: where training keeps AL-AIN or #tag
in one word, so must the prediction. `learned` reads a `WordRule` off the training words; `words_of` applies it.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Ways of splitting a text into words; see `words_of`.
WORDS = ("characters", "spaces", "signs", "learned")
# A sign stays inside of words unless it is 20 times as often a word of its own between two words: a dash is one, too.
_INSIDE = 0.05
# Tokens of one character are the characters of a text, unless more than one in a hundred has several.
_CHARACTERS = 0.99
# A split of a contraction: 's, 're, n't.
_CONTRACTION = re.compile(r"n?['’]\w{1,2}", re.IGNORECASE)
_INITIALS = re.compile(r"(\w\.){2,}")
_LINK = re.compile(r"(https?://|www\.)\S+", re.IGNORECASE)
# Words that no other part of the rule keeps whole: abbreviations, emoticons. More would fill model.json.
_MAX_KEPT = 500


class WordRule(NamedTuple):
    """How the words of a text with signs (all but letters, digits and white space) are found.

    Attributes:
        letters: signs that stay inside of a word between letters, or a letter and a digit (AL-AIN).
        digits: signs that stay inside of a word between digits (1,000).
        leading: signs that stay at the beginning of a word (#tag).
        trailing: signs that stay at the end of a word (50%).
        endings: endings that are words of their own ('s, n't), in lower case.
        runs: whether equal signs in a row are one word (...).
        initials: whether letters with a full stop each are one word (U.S.).
        links: whether a web address is one word.
        ideographs: whether each Chinese character is a word of its own.
        kept: words that stay whole where the rest of the rule would split them (Mr., :-)).
    """

    letters: str = ""
    digits: str = ""
    leading: str = ""
    trailing: str = ""
    endings: tuple[str, ...] = ()
    runs: bool = False
    initials: bool = False
    links: bool = False
    ideographs: bool = True
    kept: tuple[str, ...] = ()


def learned(sentences: Sequence[Sequence[str]]) -> WordRule:
    """The rule by which most words of the sentences stay whole, and their signs separate."""
    counts = Counter(itertools.chain.from_iterable(sentences))
    alone, attached = Counter(), {name: Counter() for name in ("letters", "digits", "leading", "trailing")}
    runs = ideographs = links = initials = 0
    for word, count in counts.items():
        signs = [is_sign(character) for character in word]
        if all(signs):
            runs += count * (len(word) > 1 and len(set(word)) == 1)
            alone[word] += count * (len(word) == 1)
        elif _LINK.fullmatch(word):
            links += count
        elif _INITIALS.fullmatch(word):
            initials += count
        elif not _CONTRACTION.fullmatch(word):
            for kind, sign in _attached(word, signs):
                attached[kind][sign] += count
        chinese = sum(map(is_ideograph, word))
        ideographs += count * (chinese == 1) - count * (chinese > 1)
    between, pairs = _separated(sentences)
    limits = {"letters": (_INSIDE, between["letters"]), "digits": (1.0, between["digits"])}
    kept = {}
    for kind, signs in attached.items():
        share, others = limits.get(kind, (1.0, alone))
        kept[kind] = "".join(sorted(sign for sign, count in signs.items() if count > share * others[sign]))
    endings = {word.lower() for word, count in counts.items() if count > 1 and _CONTRACTION.fullmatch(word)}
    rule = WordRule(
        **kept,
        endings=tuple(sorted(endings)),
        runs=runs > pairs,
        initials=initials > 0,
        links=links > 0,
        ideographs=ideographs >= 0,
    )
    whole = [
        word
        for word, count in counts.most_common()
        if count > 1 and any(map(is_sign, word)) and not re.search(r"\s", word) and len(_split(word, rule)) > 1
    ]
    return rule._replace(kept=tuple(whole[:_MAX_KEPT]))


def _separated(sentences: Sequence[Sequence[str]]) -> tuple[dict[str, Counter], int]:
    """How often each sign is a word between two words, or two numbers, and how often two equal ones follow."""
    between, pairs = {"letters": Counter(), "digits": Counter()}, 0
    for words in sentences:
        signs = [len(word) == 1 and is_sign(word) for word in words]
        for index in itertools.compress(range(len(words)), signs):
            pairs += index + 1 < len(words) and words[index + 1] == words[index]
            if 0 < index < len(words) - 1 and not signs[index - 1] and not signs[index + 1]:
                kind = "digits" if words[index - 1][-1].isdigit() and words[index + 1][0].isdigit() else "letters"
                between[kind][words[index]] += 1
    return between, pairs


def are_characters(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether the words are single characters, also those of numbers and Latin words, but for one in a hundred."""
    lengths = np.fromiter(map(len, itertools.chain.from_iterable(sentences)), np.int64)
    return bool(len(lengths)) and float(np.mean(lengths == 1)) > _CHARACTERS


def kept_whole(sentences: Sequence[Sequence[str]], rule: WordRule) -> float:
    """Fraction of the sentences, joined by spaces, of which the rule gives back the words."""
    same = 0
    for words in sentences:
        text = " ".join(words)
        same += [text[start:end] for start, end in words_of(text, "learned", rule)] == list(words)
    return same / max(len(sentences), 1)


def words_of(text: str, how: str, rule: WordRule | None = None) -> list[tuple[int, int]]:
    """Splits a text into words: start and end of each; only white space is left out.

    Args:
        text: any text.
        how: "characters": each character is a word, as in `people_daily.names`; "spaces": words are separated by white
            space; "signs": in addition, each punctuation mark and each Chinese character is a word of its own;
            "learned": in addition, signs are separated as `rule` says.
        rule: rule for "learned".
    """
    if how == "characters":
        return [(index, index + 1) for index, character in enumerate(text) if not character.isspace()]
    words = [match.span() for match in re.finditer(r"\S+", text)]
    if how == "spaces":
        return words
    if how == "signs":
        rule = WordRule()
    spans = []
    for start, end in words:
        for word in _split(text[start:end], rule):
            spans.append((start, start + len(word)))
            start += len(word)
    return spans


def as_json(rule: WordRule) -> dict[str, Any]:
    """The rule as model.json holds it."""
    return rule._asdict()


def from_json(value: Any) -> WordRule | None:
    """The rule of `as_json`, or None for any other value."""
    if not isinstance(value, Mapping) or set(value) != set(WordRule._fields):
        return None
    default, fields = WordRule(), {}
    for name, part in value.items():
        expected = getattr(default, name)
        if isinstance(expected, tuple):
            if not isinstance(part, list) or not all(isinstance(each, str) and each for each in part):
                return None
            part = tuple(part)
        elif not isinstance(part, type(expected)):
            return None
        fields[name] = part
    return WordRule(**fields)


def is_sign(character: str) -> bool:
    """Whether a character is neither a letter, digit or combining mark, which belongs to its letter, nor invisible."""
    return unicodedata.category(character) != "Cf" and unicodedata.category(character)[0] not in "LNM"


def is_ideograph(character: str) -> bool:
    """Whether a character is Chinese."""
    return unicodedata.name(character, "").startswith("CJK ")


def _attached(word: str, signs: list[bool]) -> Iterator[tuple[str, str]]:
    """Each sign of a word, and where it is."""
    last = len(word) - 1
    for index, (character, sign) in enumerate(zip(word, signs)):
        if not sign:
            continue
        if 0 < index < last:
            if not signs[index - 1] and not signs[index + 1]:
                yield _between(word, index), character
        elif not signs[1 if index == 0 else index - 1]:
            yield ("trailing" if index else "leading"), character


def _between(word: str, index: int) -> str:
    return "digits" if word[index - 1].isdigit() and word[index + 1].isdigit() else "letters"


def _split(chunk: str, rule: WordRule) -> list[str]:
    """The words of a text without white space."""
    before, after = [], []

    def is_whole() -> bool:
        if chunk in rule.kept or (rule.initials and _INITIALS.fullmatch(chunk)):
            return True
        # A full stop or bracket after a web address is not of it.
        return rule.links and not is_sign(chunk[-1]) and bool(_LINK.fullmatch(chunk))

    while chunk and not is_whole() and is_sign(chunk[-1]):
        size = _run(chunk[::-1], rule.runs)
        if chunk[-1] in rule.trailing and size == 1 and len(chunk) > 1 and not is_sign(chunk[-2]):
            break
        after.insert(0, chunk[len(chunk) - size :])
        chunk = chunk[: len(chunk) - size]
    while chunk and not is_whole() and is_sign(chunk[0]):
        size = _run(chunk, rule.runs)
        if chunk[0] in rule.leading and size == 1 and not is_sign(chunk[1]):
            break
        before.append(chunk[:size])
        chunk = chunk[size:]
    if not chunk or is_whole():
        return [*before, *filter(None, [chunk]), *after]
    ending = max((each for each in rule.endings if chunk.lower().endswith(each)), key=len, default="")
    if ending and len(ending) < len(chunk):
        after.insert(0, chunk[len(chunk) - len(ending) :])
        chunk = chunk[: len(chunk) - len(ending)]
    return [*before, *_inner(chunk, rule), *after]


def _run(chunk: str, runs: bool) -> int:
    """Number of equal characters at the beginning, where these are one word."""
    return len(chunk) - len(chunk.lstrip(chunk[0])) if runs else 1


def _inner(chunk: str, rule: WordRule) -> list[str]:
    """Separates the signs inside of a word that do not stay there, and Chinese characters."""
    words, start, index = [], 0, 0
    while index < len(chunk):
        size = 1
        if is_sign(chunk[index]):
            size = _run(chunk[index:], rule.runs)
            alone = not _stays(chunk, index, rule)
        else:
            alone = rule.ideographs and is_ideograph(chunk[index])
        if alone:
            words += [*filter(None, [chunk[start:index]]), chunk[index : index + size]]
            start = index + size
        index += size if alone else 1
    return [*words, *filter(None, [chunk[start:]])]


def _stays(chunk: str, index: int, rule: WordRule) -> bool:
    if index == 0:
        return chunk[0] in rule.leading
    if index == len(chunk) - 1:
        return chunk[-1] in rule.trailing
    if is_sign(chunk[index - 1]) or is_sign(chunk[index + 1]):
        return False
    return chunk[index] in getattr(rule, _between(chunk, index))
