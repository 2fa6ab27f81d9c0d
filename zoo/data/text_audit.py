"""What is in a file of labelled texts before anything learns from it: lengths, copies, near duplicates, leaks.

It says and changes nothing. A finding is a hint: a word that tells the label may be what the label is about.
"""

import collections
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo.data import audit, near_duplicates
from zoo.data.datasets import delimited, delimited_format, json_records, text_columns, text_files
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.datasets.text_files import Row
from zoo.data.datasets.text_splits import normalized_key
from zoo.data.splits import shortened
from zoo.errors import BadInput

# Texts that words and lengths are tried on for giving the label away.
_SAMPLE = 20_000
# Balanced accuracy of one word, or of the length, from which on it is reported.
_GIVES_AWAY, _LENGTH_GIVES_AWAY = 0.95, 0.9
_WORDS = 5000
# Share of texts with HTML from which on it is reported: some texts are about it.
_HTML_SHARE = 0.01
# What is left of UTF-8 that was read as Latin-1 or Windows-1252, or could not be read.
_BROKEN = re.compile("\ufffd|Ã[\u0080-\u00bf]|â€|Â[\u00a0-\u00bf]|ï»¿")
_HTML = re.compile(r"</?[a-z][a-z0-9]*(\s[^<>]{0,200})?/?>|&(amp|lt|gt|quot|nbsp|#\d+);", re.IGNORECASE)
_NO_BLANKS = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")


@dataclasses.dataclass(frozen=True)
class TextAudit:
    """What is in a file of texts.

    Attributes:
        path: the file.
        texts: number of texts.
        characters: smallest, median and largest number of characters.
        words: the same of words between blanks.
        labels: texts by class, the most frequent first; empty for values and without a label column.
        values: smallest, median and largest value to predict; empty for classes.
        warnings: findings that may spoil a model or its evaluation, one line each.
        notes: what the reader assumed.
    """

    path: str
    texts: int
    characters: str
    words: str
    labels: dict[str, int]
    values: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return dataclasses.asdict(self)


def header(path: Path, form: DelimitedFormat = FOUND) -> list[str]:
    """Names of the columns of a file, or the first of several, that may have texts; empty for another kind of file."""
    path = files.listed(path)[0]
    if delimited.is_supported(path):
        return list(delimited.read(path, form).header)
    if delimited.kind(path) in json_records.SUFFIXES:
        _, first = next(iter(json_records.read(path)), (0, None))
        return list(first) if isinstance(first, dict) else []
    if text_columns.is_typed(path):
        return list(text_columns.read(path).header)
    return []


def texts(
    path: Path,
    text_column: str = "",
    label_column: str = "",
    test_file: Path | None = None,
    form: DelimitedFormat = FOUND,
) -> TextAudit:
    """Examines a file of texts.

    Args:
        path: a file that `text_files.read` reads.
        text_column: column of the texts; empty: `text`.
        label_column: column of the classes or values; empty: `label`, where the file has it.
        test_file: another file, whose texts should not be in the first.
        form: what a user says of delimited files.

    Raises:
        BadInput: a file cannot be read, or a column is missing.
    """
    delimited_format.check(path, form.flags, all(delimited.is_supported(each) for each in files.listed(path)))
    if not label_column and delimited.match("label", header(path, form)) is not None:
        label_column = "label"
    notes: list[str] = []
    read = [_read(each, text_column or "text", label_column, notes, form) for each in (path, test_file) if each]
    rows = read[0]
    if not rows:
        raise BadInput(f"{path} has no texts: expected at least one")
    labels = [row.label for row in rows] if label_column else []
    counts, values = audit.label_counts(labels)
    warnings = [*_of_texts(rows), *audit.label_warnings(labels, counts)]
    groups = near_duplicates.groups([row.text for each in read for row in each])
    keys = [[normalized_key(row.text) for row in each] for each in read]
    warnings += _copies(rows, keys[0], labels)
    warnings += _near(rows, keys[0], groups[: len(rows)], labels)
    if len(counts) > 1:
        warnings += _telling(rows)
    if test_file is not None:
        warnings += _shared(path, test_file, read, keys, groups)
    lengths = (np.array([measure(row.text) for row in rows]) for measure in (len, lambda text: len(text.split())))
    return TextAudit(str(path), len(rows), *map(_range, lengths), counts, values, tuple(warnings), tuple(notes))


def _read(path: Path, text_column: str, label_column: str, notes: list[str], form: DelimitedFormat) -> list[Row]:
    names = header(path, form)
    # A test file without labels is one, too.
    has_label = bool(label_column) and delimited.match(label_column, names) is not None
    if label_column not in ("", "label") and not has_label:
        raise BadInput(f"{path} has no column {label_column!r}, it has {shortened(names)}")
    said: list[str] = []
    # Without the label first: a text whose label is missing is examined, too.
    rows = text_files.read(path, text_column, None, notes=said, form=form)
    if has_label:
        labelled = text_files.read(path, text_column, label_column, drop_unlabelled=True, notes=said, form=form)
        label_of = {(row.file, row.line): row.label for row in labelled}
        rows = [row._replace(label=label_of.get((row.file, row.line), "")) for row in rows]
    if path.exists() and text_files.unit(path) == "row":
        # Else its rows would be called lines.
        rows = [row._replace(file=path) for row in rows]
    notes += [note for note in dict.fromkeys(said) if note not in notes and "without a label" not in note]
    return rows


def _range(lengths: np.ndarray) -> str:
    return f"{lengths.min():,} .. {int(np.median(lengths)):,} .. {lengths.max():,}"


def _of_texts(rows: Sequence[Row]) -> list[str]:
    warnings = []
    empty = [row for row in rows if not row.text.strip()]
    if empty:
        warnings.append(f"{len(empty):,} texts are empty, {_first(empty[0])}")
    broken = [row for row in rows if _BROKEN.search(row.text)]
    if broken:
        warnings.append(
            f"{len(broken):,} texts have signs of a wrong encoding, such as \ufffd or Ã©, {_first(broken[0])}: "
            "save the file anew from its source, or see --encoding"
        )
    marked = [row for row in rows if _HTML.search(row.text)]
    if len(marked) >= _HTML_SHARE * len(rows) and marked:
        warnings.append(
            f"{len(marked):,} texts ({len(marked) / len(rows):.1%}) have HTML tags or entities, {_first(marked[0])}"
        )
    return warnings


def _copies(rows: Sequence[Row], keys: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Texts that are there several times, and such as differ in the label alone."""
    lines = collections.defaultdict(list)
    for place, key in enumerate(keys):
        lines[key].append(place)
    several = [places for key, places in lines.items() if len(places) > 1 and key]
    if not several:
        return []
    copies = sum(len(places) - 1 for places in several)
    warnings = [f"{copies:,} texts ({copies / len(rows):.1%}) repeat an earlier one, {_pair(rows, several[0])}"]
    if labels:
        differing = [places for places in several if len({labels[place] for place in places}) > 1]
        if differing:
            warnings.append(
                f"{len(differing):,} groups of equal texts have different labels, {_pair(rows, differing[0])}"
            )
    return warnings


def _near(rows: Sequence[Row], keys: Sequence[str], groups: np.ndarray, labels: Sequence[str]) -> list[str]:
    """Texts that are nearly the same as an earlier one, but not equal to one."""
    members = collections.defaultdict(dict)
    for place, (group, key) in enumerate(zip(groups.tolist(), keys)):
        members[group].setdefault(key, place)
    several = [list(each.values()) for each in members.values() if len(each) > 1]
    if not several:
        return []
    near = sum(len(places) - 1 for places in several)
    warnings = [
        f"{near:,} texts ({near / len(rows):.1%}) are nearly the same as an earlier one (Jaccard similarity of "
        f"{near_duplicates.SIMILAR} or more), {_pair(rows, several[0])}: a split at random puts them on both sides"
    ]
    differing = [places for places in several if labels and len({labels[place] for place in places}) > 1]
    if differing:
        warnings.append(
            f"{len(differing):,} groups of nearly equal texts have different labels, {_pair(rows, differing[0])}"
        )
    return warnings


def _pair(rows: Sequence[Row], places: Sequence[int]) -> str:
    one, other = rows[places[0]], rows[places[1]]
    if one.file is not None:
        return f"such as {one.place('')} and {other.place('')}"
    return f"such as lines {one.line} and {other.line}"


def _first(row: Row) -> str:
    return f"the first in {row.place('')}" if row.file is not None else f"the first in line {row.line}"


def _shared(path: Path, test_file: Path, read, keys: Sequence[Sequence[str]], groups: np.ndarray) -> list[str]:
    """Texts of the test file that are in the first file, or nearly so."""
    known, known_groups = {key for key in keys[0] if key}, set(groups[: len(keys[0])].tolist())
    of_test = groups[len(keys[0]) :].tolist()
    equal = [place for place, key in enumerate(keys[1]) if key in known]
    near = [
        place for place, (key, group) in enumerate(zip(keys[1], of_test)) if key not in known and group in known_groups
    ]
    warnings = []
    for places, what in ((equal, "are in"), (near, "are nearly the same as one in")):
        if places:
            warnings.append(
                f"{len(places):,} of {len(keys[1]):,} texts of {test_file} {what} {path}, {_first(read[1][places[0]])}"
            )
    return warnings


def _telling(rows: Sequence[Row]) -> list[str]:
    """Words, and lengths, of which one alone nearly tells the label."""
    known = [row for row in rows if row.label and row.text.strip()]
    picked = np.random.default_rng(0).permutation(len(known))[:_SAMPLE]
    texts_, labels = ([getattr(known[place], name) for place in picked.tolist()] for name in ("text", "label"))
    classes, y, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # Five folds need five examples of a class.
    kept = np.flatnonzero(counts[y] >= 5)
    if len(np.unique(y[kept])) < 2 or len(kept) < 20:
        return []
    texts_, y = [texts_[place] for place in kept.tolist()], y[kept]
    return [*_telling_words(texts_, y, classes), *_telling_length(texts_, y)]


def _telling_words(texts_: Sequence[str], y: np.ndarray, classes: np.ndarray) -> list[str]:
    from sklearn.feature_extraction.text import CountVectorizer

    sample = "".join(texts_[:200])
    by_letter = len(_NO_BLANKS.findall(sample)) > 0.2 * len(sample)
    options = {"analyzer": "char", "ngram_range": (1, 2)} if by_letter else {"token_pattern": r"(?u)\b\w+\b"}
    vectorizer = CountVectorizer(binary=True, max_features=_WORDS, dtype=np.float32, **options)
    try:
        x = vectorizer.fit_transform(texts_)
    except ValueError:
        # No text has a word.
        return []
    names, warnings = vectorizer.get_feature_names_out(), []
    for label in np.unique(y):
        own = np.asarray(x[y == label].mean(axis=0))[0]
        others = np.asarray(x[y != label].mean(axis=0))[0]
        scores = (own + 1 - others) / 2
        best = int(np.argmax(scores))
        if scores[best] >= _GIVES_AWAY:
            warnings.append(
                f"the word {names[best]!r} alone tells the class {str(classes[label])!r}: it is in {own[best]:.0%} of "
                f"its texts and in {others[best]:.0%} of the others; would it be there before the label is known?"
            )
    return warnings


def _telling_length(texts_: Sequence[str], y: np.ndarray) -> list[str]:
    from sklearn.model_selection import cross_val_score
    from sklearn.tree import DecisionTreeClassifier

    x = np.array([[len(text), len(text.split())] for text in texts_])
    model = DecisionTreeClassifier(max_leaf_nodes=max(8, 2 * len(np.unique(y))), random_state=0)
    reached = float(np.mean(cross_val_score(model, x, y, cv=5, scoring="balanced_accuracy")))
    if reached < _LENGTH_GIVES_AWAY:
        return []
    said = f"the length of a text alone tells the label (balanced accuracy {reached:.2f})"
    return [f"{said}: do the classes come from different sources?"]
