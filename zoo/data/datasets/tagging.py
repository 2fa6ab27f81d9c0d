"""Tagging data sets: named entities and parts of speech; splits by position, without overlap."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from zoo import errors, files
from zoo.data.datasets import conll, people_daily, text_splits
from zoo.data.datasets.tag_schemes import IOB2, PLAIN, to_iob2
from zoo.data.splits import shortened
from zoo.errors import BadInput

__all__ = ["IOB2", "NAMES", "PLAIN", "Sentences", "TaggingDataset", "load"]

NAMES = ("people_daily/names", "people_daily/pos")
_MIN_SENTENCES = 10


class Sentences(NamedTuple):
    """The words of each sentence and one tag per word."""

    words: list[list[str]]
    tags: list[list[str]]


@dataclasses.dataclass(frozen=True)
class TaggingDataset:
    """Train, validation and test split of a tagging data set.

    Attributes:
        train: training sentences.
        validation: sentences for monitoring and model selection.
        test: sentences to be evaluated once, at the end.
        tags: tag names in the order of the labels; the first is the best guess without a prediction: O in IOB2,
            followed by B-TYPE and I-TYPE of each type, else the most frequent training tag.
        scheme: `IOB2` (entity tags) or `PLAIN` (one tag per word).
        notes: changes made to the data, to be reported.
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
    fix_tags: bool = False,
) -> TaggingDataset:
    """Loads a data set by name, or your own from CoNLL files.

    The last two tenths of the text become validation and test: so neighbouring sentences, of one article, are mostly in
    the same split.

    Args:
        dataset: one of `NAMES`; ignored with a `train_file`. `people_daily/pos` has Chinese words and 44 parts of
            speech, `people_daily/names` characters and names of persons, places and organisations.
        train_file: a file for `conll.read`, with entity tags in any scheme of `tag_schemes.to_iob2`.
        eval_file: such a file of validation sentences; a tenth of `train_file` without it.
        test_file: such a file of test sentences; a tenth of `train_file` without it.
        token_column: number of the token column, 1 for the first, -1 for the last.
        tag_column: number of the tag column, counted in the same way.
        fix_tags: whether to accept entity tags that break their scheme; see `tag_schemes.to_iob2`.

    Raises:
        BadInput: the data set or a file is missing or malformed.
    """
    if train_file:
        paths = [files.absolute(name) if name else None for name in (train_file, eval_file, test_file)]
        parts, scheme, notes = _files(*paths, token_column, tag_column, fix_tags)
        return _checked(parts, scheme, notes, str(paths[0]))
    for flag, name in (("eval_file", eval_file), ("test_file", test_file)):
        if name:
            raise BadInput(f"--{flag} is {name!r} without --train_file: expected both, or the latter alone")
    if dataset not in NAMES:
        raise BadInput(f"--dataset is {dataset!r}: {errors.nearest(dataset, NAMES, '--train_file with a CoNLL file')}")
    # Cut between paragraphs.
    parts = [_people_daily(block, dataset) for block in _blocks(people_daily.paragraphs(), 2)]
    return _checked(parts, IOB2 if dataset == NAMES[0] else PLAIN, [], dataset)


def _people_daily(paragraphs: Sequence[list[people_daily.Word]], dataset: str) -> Sentences:
    sentences = [sentence for paragraph in paragraphs for sentence in people_daily.sentences(paragraph)]
    if dataset == NAMES[0]:
        return Sentences(*map(list, zip(*map(people_daily.names, sentences))))
    return Sentences(*([[word[part] for word in sentence] for sentence in sentences] for part in (0, 1)))


def _files(
    train_file: Path,
    eval_file: Path | None,
    test_file: Path | None,
    token_column: int,
    tag_column: int,
    fix_tags: bool,
) -> tuple[list[Sentences], str, list[str]]:
    contents, schemes, notes = {}, {}, []
    for path in filter(None, dict.fromkeys((train_file, eval_file, test_file))):
        sentences, schemes[path], path_notes = to_iob2(path, conll.read(path, token_column, tag_column), fix_tags)
        contents[path] = Sentences([each.words for each in sentences], [each.tags for each in sentences])
        notes += path_notes
        if schemes[path] != schemes[train_file]:
            raise BadInput(
                f"{path} has tags as {', '.join(_names(contents[path])[:3])}; expected those of {train_file}, as "
                f"{', '.join(_names(contents[train_file])[:3])}"
            )
    count, missing = len(contents[train_file].words), (not eval_file) + (not test_file)
    if missing and count < _MIN_SENTENCES:
        raise BadInput(
            f"{train_file} has {count} sentence{'s'[: count != 1]}; expected {_MIN_SENTENCES} or more, with an empty "
            "line after each"
        )
    train, *cut = (Sentences(*map(list, zip(*block))) for block in _blocks(list(zip(*contents[train_file])), missing))
    validation = contents[eval_file] if eval_file else cut[0]
    return [train, validation, contents[test_file] if test_file else cut[-1]], schemes[train_file], notes


def _blocks(items: list, count: int) -> list[list]:
    """Cuts `count` tenths off the end."""
    tenth = len(items) // 10
    edges = [len(items) - tenth * after for after in range(count, -1, -1)]
    return [items[first:last] for first, last in zip([0, *edges], edges)]


def _checked(parts: Sequence[Sentences], scheme: str, notes: list[str], source: str) -> TaggingDataset:
    """Removes overlap between the splits, and refuses splits that a tagger cannot learn from."""
    train, validation, test = parts
    test_keys = _keys(test)
    validation, dropped_validation = _without(validation, test_keys)
    train, dropped_train = _without(train, test_keys | _keys(validation))
    if dropped_train or dropped_validation:
        dropped = f"{dropped_train} training and {dropped_validation} validation sentences"
        notes = [*notes, f"removed {dropped} that are in a later split"]
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        if not part.words:
            raise BadInput(f"{source}: no sentences left for {name}; expected more sentences, and different ones")
    tags = _names(train, validation, test) if scheme == PLAIN else _names_of_entities(train, validation, test)
    if len(tags) < 2:
        raise BadInput(f"{source}: only the tag {tags[0]!r}; expected two or more")
    unseen = sorted(set(_names(validation, test)) - set(_names(train)))
    if unseen:
        notes = [*notes, f"WARNING: tags of validation or test that no training word has: {shortened(unseen)}"]
    return TaggingDataset(train, validation, test, tags, scheme, tuple(notes))


def _names(*parts: Sentences) -> tuple[str, ...]:
    """The tags of all parts, by descending frequency in the first part."""
    counts = Counter(tag for tags in parts[0].tags for tag in tags)
    all_tags = {tag for part in parts for tags in part.tags for tag in tags}
    return tuple(sorted(all_tags, key=lambda tag: (-counts[tag], tag)))


def _names_of_entities(*parts: Sentences) -> tuple[str, ...]:
    types = sorted({tag[2:] for tag in _names(*parts) if tag != "O"})
    return ("O", *(f"{letter}-{kind}" for kind in types for letter in "BI"))


def _keys(part: Sentences) -> set[str]:
    return {_key(words) for words in part.words}


def _key(words: Sequence[str]) -> str:
    return text_splits.normalized_key(" ".join(words))


def _without(part: Sentences, excluded: set[str]) -> tuple[Sentences, int]:
    kept = [_key(words) not in excluded for words in part.words]
    columns = ([each for each, keep in zip(column, kept) if keep] for column in part)
    return Sentences(*columns), kept.count(False)
