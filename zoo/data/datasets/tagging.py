"""Data sets for taggers of words: sentences in blocks as they stand in a file, none of them on two sides."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from zoo import errors, files
from zoo.data.datasets import conll, people_daily, text_splits
from zoo.data.datasets.tag_schemes import IOB2, PLAIN, to_iob2
from zoo.errors import BadInput

__all__ = ["IOB2", "NAMES", "PLAIN", "Sentences", "Tagged", "load"]

NAMES = ("people_daily/names", "people_daily/pos")
_FEWEST = 10


class Sentences(NamedTuple):
    """The words of each sentence and their tags, one for each word."""

    words: list[list[str]]
    tags: list[list[str]]


@dataclasses.dataclass(frozen=True)
class Tagged:
    """What a tagger learns from, is chosen by and is judged by.

    Attributes:
        train: to learn from.
        validation: to watch a run and to choose by.
        test: to be read once, at the end.
        tags: all names in the order of the labels; the first is the best guess where nothing is known: O in IOB2, where
            B-TYPE and I-TYPE follow by type, else the most frequent one in training.
        scheme: `IOB2`, tags of entities, or `PLAIN`, each word by itself.
        notes: what was done to the data, to be said aloud.
    """

    train: Sentences
    validation: Sentences
    test: Sentences
    tags: tuple[str, ...]
    scheme: str
    notes: tuple[str, ...] = ()


def load(
    dataset: str,
    *,
    train_file: str = "",
    eval_file: str = "",
    test_file: str = "",
    token_column: int = 1,
    tag_column: int = -1,
) -> Tagged:
    """Loads a data set by name, or one's own from CoNLL files.

    What is cut off for validation and test are the last two tenths in one piece each: sentences near each other, of one
    article, are mostly on one side.

    Args:
        dataset: one of `NAMES`; not read where there is a `train_file`. `people_daily/pos` are Chinese words and 44
            parts of speech, `people_daily/names` characters and names of persons, places and organisations.
        train_file: as `conll.read` reads it, tags of entities in any scheme of `tags.to_iob2`.
        eval_file: such a file of validation sentences; without it a tenth of `train_file` is.
        test_file: such a file of test sentences; without it a tenth of `train_file` is.
        token_column: of the files, 1 for the first, -1 for the last.
        tag_column: of the files, likewise.

    Raises:
        BadInput: what was not found or not understood, where, and how to mend it.
    """
    if train_file:
        given = [files.absolute(name) if name else None for name in (train_file, eval_file, test_file)]
        parts, scheme, notes = _files(*given, token_column, tag_column)
        return _finished(parts, scheme, notes, str(given[0]))
    for flag, name in (("eval_file", eval_file), ("test_file", test_file)):
        if name:
            raise BadInput(f"--{flag} is {name!r} without --train_file: expected both, or the latter alone")
    if dataset not in NAMES:
        raise BadInput(f"--dataset is {dataset!r}: {errors.nearest(dataset, NAMES, '--train_file with a CoNLL file')}")
    # Cut between paragraphs.
    parts = [_people_daily(block, dataset) for block in _blocks(people_daily.paragraphs(), 2)]
    return _finished(parts, IOB2 if dataset == NAMES[0] else PLAIN, [], dataset)


def _people_daily(paragraphs: Sequence[list[people_daily.Word]], dataset: str) -> Sentences:
    sentences = [sentence for paragraph in paragraphs for sentence in people_daily.sentences(paragraph)]
    if dataset == NAMES[0]:
        return Sentences(*map(list, zip(*map(people_daily.names, sentences))))
    return Sentences(*([[word[part] for word in sentence] for sentence in sentences] for part in (0, 1)))


def _files(
    train_file: Path, eval_file: Path | None, test_file: Path | None, token_column: int, tag_column: int
) -> tuple[list[Sentences], str, list[str]]:
    found, schemes, notes = {}, {}, []
    for path in filter(None, dict.fromkeys((train_file, eval_file, test_file))):
        sentences, schemes[path], said = to_iob2(path, conll.read(path, token_column, tag_column))
        found[path] = Sentences([sentence.words for sentence in sentences], [sentence.tags for sentence in sentences])
        notes += said
        if schemes[path] != schemes[train_file]:
            raise BadInput(
                f"{path} has tags as {', '.join(_names(found[path])[:3])}; expected those of {train_file}, as "
                f"{', '.join(_names(found[train_file])[:3])}"
            )
    count, missing = len(found[train_file].words), (not eval_file) + (not test_file)
    if missing and count < _FEWEST:
        raise BadInput(
            f"{train_file} has {count} sentence{'s'[: count != 1]}; expected {_FEWEST} or more, with an empty line "
            "after each"
        )
    train, *cut = _blocks(list(zip(*found[train_file])), missing)
    cut = [Sentences(*map(list, zip(*block))) for block in (train, *cut)]
    validation = found[eval_file] if eval_file else cut[1]
    return [cut[0], validation, found[test_file] if test_file else cut[-1]], schemes[train_file], notes


def _blocks(whole: list, count: int) -> list[list]:
    """Cuts `count` tenths off the end."""
    tenth = len(whole) // 10
    edges = [len(whole) - tenth * behind for behind in range(count, -1, -1)]
    return [whole[first:last] for first, last in zip([0, *edges], edges)]


def _finished(parts: Sequence[Sentences], scheme: str, notes: list[str], source: str) -> Tagged:
    """Takes out what stands on two sides, and refuses what a tagger cannot learn from."""
    train, validation, test = parts
    judged = _keys(test)
    validation, dropped_validation = _without(validation, judged)
    train, dropped_train = _without(train, judged | _keys(validation))
    if dropped_train or dropped_validation:
        dropped = f"{dropped_train} training and {dropped_validation} validation sentences"
        notes = [*notes, f"removed {dropped} that stand in a later split"]
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        if not part.words:
            raise BadInput(f"{source}: no sentences left for {name}; expected more sentences, and different ones")
    tags = _names(train, validation, test) if scheme == PLAIN else _names_of_entities(train, validation, test)
    if len(tags) < 2:
        raise BadInput(f"{source}: only the tag {tags[0]!r}; expected two or more")
    unseen = sorted(set(_names(validation, test)) - set(_names(train)))
    if unseen:
        named = ", ".join(unseen[:10]) + (", ..." if len(unseen) > 10 else "")
        notes = [*notes, f"WARNING: tags of validation or test that no training word has: {named}"]
    return Tagged(train, validation, test, tags, scheme, tuple(notes))


def _names(*parts: Sentences) -> tuple[str, ...]:
    """The tags of all parts, those that are most frequent in the first before the others."""
    counts = Counter(tag for tags in parts[0].tags for tag in tags)
    every = {tag for part in parts for tags in part.tags for tag in tags}
    return tuple(sorted(every, key=lambda tag: (-counts[tag], tag)))


def _names_of_entities(*parts: Sentences) -> tuple[str, ...]:
    types = sorted({tag[2:] for tag in _names(*parts) if tag != "O"})
    return ("O", *(f"{letter}-{kind}" for kind in types for letter in "BI"))


def _keys(part: Sentences) -> set[str]:
    return {_key(words) for words in part.words}


def _key(words: Sequence[str]) -> str:
    return text_splits.normalized_key(" ".join(words))


def _without(part: Sentences, forbidden: set[str]) -> tuple[Sentences, int]:
    stays = [_key(words) not in forbidden for words in part.words]
    kept = ([each for each, keep in zip(column, stays) if keep] for column in part)
    return Sentences(*kept), stays.count(False)
