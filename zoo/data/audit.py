"""What is in a table before anything learns from it: kinds, missing values, copies, columns that give the label away.

It says and changes nothing. A finding is a hint: a column that predicts the label may be a good feature.
"""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data import duplicates, splits
from zoo.data.datasets import class_labels, column_kinds, column_schema, delimited, delimited_format, text_columns
from zoo.data.datasets.column_kinds import ColumnOptions
from zoo.data.datasets.column_schema import CATEGORY, NUMBER, TableSchema
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.datasets.text_columns import TextColumns
from zoo.data.splits import shortened
from zoo.errors import BadInput

# Examples that columns are tried on for giving the label away.
_SAMPLE = 5000
# Balanced accuracy, or R2 of values, of one column alone from which on it is reported.
_GIVES_AWAY = 0.98
# Size of the digit to which numbers are compared, beside the first digit of their column's spread.
_DIGIT = 0.01
# How many times the rows of the smallest class the largest one has, from which on it is reported.
_RARE = 10.0


@dataclasses.dataclass(frozen=True)
class ColumnFacts:
    """What a column holds.

    Attributes:
        name: its name.
        kind: "number", "category" or "date"; "left out" where it would be no feature.
        missing: number of rows without a value.
        different: number of different values.
        range: smallest, median and largest number or date, or the most frequent values.
        is_whole: whether all are whole numbers.
    """

    name: str
    kind: str
    missing: int
    different: int
    range: str
    is_whole: bool = False


@dataclasses.dataclass(frozen=True)
class Audit:
    """What is in a table.

    Attributes:
        path: the file.
        rows: number of rows.
        columns: each column but the label.
        labels: rows by class, the most frequent first; empty for values and without a label column.
        values: smallest, median and largest value to predict; empty for classes.
        warnings: findings that may spoil a model or its evaluation, one line each.
        notes: what the reader assumed.
    """

    path: str
    rows: int
    columns: tuple[ColumnFacts, ...]
    labels: dict[str, int]
    values: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return dataclasses.asdict(self)


def table(
    path: Path,
    label_column: str = "",
    test_file: Path | None = None,
    options: ColumnOptions = column_kinds.NO_OPTIONS,
    form: DelimitedFormat = FOUND,
) -> Audit:
    """Examines a table.

    Args:
        path: a file of one of `text_columns.SUFFIXES`.
        label_column: column of the classes or values; empty: `label`, where the file has it.
        test_file: another file, whose rows should not be in the first.
        options: what flags say about the columns' kinds.
        form: what a user says of delimited files.

    Raises:
        BadInput: a file cannot be read, or the label column is missing.
    """
    delimited_format.check(path, form.flags, delimited.is_supported(path))
    read = text_columns.read(path, form)
    if not read.rows:
        raise BadInput(f"{path} is empty: expected {'a header and ' if form.has_header else ''}at least one row")
    label = read.column(label_column, "label_column") if label_column else ("label" if "label" in read.header else "")
    names = [name for name in read.header if name != label]
    schema, warnings, notes = _schema(read, names, options)
    facts = tuple(_facts(read, name, schema) for name in names)
    labels = read.texts(label) if label else []
    warnings += _of_columns(read.rows, facts)
    warnings += _of_rows(read, names, labels)
    counts, values = label_counts(labels)
    warnings += label_warnings(labels, counts)
    if labels and schema.columns:
        warnings += _giving_away(column_schema.encoded(read, schema), schema, labels, bool(values))
    if test_file is not None:
        warnings += _shared(read, text_columns.read(test_file, form), names, schema)
    return Audit(str(path), read.rows, facts, counts, values, tuple(warnings), (*read.notes, *notes))


def _schema(
    read: TextColumns, names: Sequence[str], options: ColumnOptions
) -> tuple[TableSchema, list[str], list[str]]:
    """What the columns are; a column that training would refuse is a warning and left out here."""
    columns, warnings, notes = [], [], []
    for name in names:
        try:
            said: list[str] = []
            columns += column_kinds.infer(read, [name], options, said).columns
            notes += said
        except BadInput as error:
            if "has no column to learn from" in str(error):
                notes += said
            else:
                warnings.append(f"{error}")
    return TableSchema(tuple(columns), options.decimal), warnings, notes


def _facts(read: TextColumns, name: str, schema: TableSchema) -> ColumnFacts:
    texts = read.columns[name]
    column = next((column for column in schema.columns if column.name == name), None)
    kind = NUMBER if column is None else column.kind
    missing = column_schema.is_missing(texts, CATEGORY if column is None else kind)
    levels, codes = text_columns.coded(texts)
    counts = np.bincount(codes[~missing], minlength=len(levels)) if len(levels) else np.zeros(0, int)
    is_whole = False
    if column is None or kind == CATEGORY:
        shown = ", ".join(shortened([levels[i]]) for i in np.argsort(-counts, kind="stable")[:3] if counts[i])
    elif kind == NUMBER:
        numbers = column_schema.numbers(texts, read.decimal(name, schema.decimal))[~missing]
        shown, is_whole = _range(numbers), bool((numbers == np.round(numbers)).all())
    else:
        days = column_schema.dates(texts, column.format)[~missing]
        shown = f"{days.min()} to {days.max()}"
    kind = "left out" if column is None else kind
    return ColumnFacts(name, kind, int(missing.sum()), int((counts > 0).sum()), shown, is_whole)


def _range(numbers: np.ndarray) -> str:
    return f"{numbers.min():.6g} .. {np.median(numbers):.6g} .. {numbers.max():.6g}"


def _of_columns(rows: int, facts: Sequence[ColumnFacts]) -> list[str]:
    warnings = []
    for fact in facts:
        if fact.different == 1 and not fact.missing:
            warnings.append(f"column {fact.name!r} is constant: it tells nothing")
        elif fact.missing > rows / 2 and fact.different:
            warnings.append(f"column {fact.name!r} has no value in {fact.missing / rows:.0%} of the rows")
        if fact.kind == NUMBER and fact.is_whole and fact.different == rows > 2:
            warnings.append(f"column {fact.name!r} is another whole number in each row: an identity? Then leave it out")
    return warnings


def _of_rows(read: TextColumns, names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Rows that are there several times, and such as differ in the label alone."""
    keys = _keys(read, names)
    copies = len(keys) - len(set(keys))
    if not copies:
        return []
    warnings = [f"{copies:,} rows ({copies / len(keys):.1%}) repeat the columns of an earlier row"]
    if labels:
        found = collections.defaultdict(set)
        for key, label in zip(keys, labels):
            found[key].add(label)
        contradictions = sum(len(each) > 1 for each in found.values())
        if contradictions:
            warnings.append(f"{contradictions:,} groups of equal rows have different labels")
    return warnings


def _keys(read: TextColumns, names: Sequence[str]) -> list[int]:
    """A hash of each row's columns."""
    hashes = np.zeros(read.rows, np.uint64)
    for place, name in enumerate(names):
        levels, codes = text_columns.coded(read.columns[name])
        of_levels = np.array([hash((place, level)) & (2**64 - 1) for level in levels], np.uint64)
        with np.errstate(over="ignore"):
            hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + of_levels[codes]
    return hashes.tolist()


def label_counts(labels: Sequence[str]) -> tuple[dict[str, int], str]:
    """Rows by class, or the range of values: an empty dictionary or text where there are none."""
    if not labels:
        return {}, ""
    present = [label for label in labels if not class_labels.is_missing(label)]
    if class_labels.like_values(present):
        return {}, _range(np.array(present, np.float64))
    return dict(collections.Counter(present).most_common()), ""


def label_warnings(labels: Sequence[str], counts: dict[str, int]) -> list[str]:
    """What labels warn of: missing ones, one class alone, and rare classes.

    Args:
        labels: the label of each row; may be empty where none can be missing.
        counts: rows by class.
    """
    missing = sum(class_labels.is_missing(label) for label in labels)
    warnings = [f"{missing:,} rows have no label: --drop_unlabelled leaves them out"] if missing else []
    if len(counts) == 1:
        warnings.append(f"all rows have the label {next(iter(counts))!r}: there is nothing to learn")
    elif len(counts) > 1:
        largest, smallest = max(counts.values()), min(counts.values())
        if largest >= _RARE * smallest:
            warnings.append(
                f"the largest class has {largest / smallest:.0f} times the rows of the smallest: accuracy hides errors "
                f"of rare classes, look at F1 and see --imbalance (answering the largest alone is right in "
                f"{largest / sum(counts.values()):.1%})"
            )
    return warnings


def _giving_away(x: np.ndarray, schema: TableSchema, labels: Sequence[str], is_values: bool) -> list[str]:
    """Columns of which one alone nearly tells the label, by small cross-validated trees."""
    from sklearn.model_selection import cross_val_score
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    known = np.array([not class_labels.is_missing(label) for label in labels])
    rows = np.flatnonzero(known)
    rows = np.random.default_rng(0).permutation(rows)[:_SAMPLE]
    y = np.array(labels)[rows]
    if is_values:
        y, model, score = y.astype(np.float64), DecisionTreeRegressor(max_leaf_nodes=64, random_state=0), "r2"
    else:
        different, y, counts = np.unique(y, return_inverse=True, return_counts=True)
        # Five folds need five examples of a class.
        kept = counts[y] >= 5
        rows, y = rows[kept], y[kept]
        leaves = max(8, 2 * len(different))
        model, score = DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0), "balanced_accuracy"
    if len(rows) < 20 or len(np.unique(y)) < 2:
        return []
    found, place = [], 0
    for column in schema.columns:
        part = x[rows, place : place + len(column.features)]
        place += len(column.features)
        reached = float(np.mean(cross_val_score(model, part, y, cv=5, scoring=score)))
        if reached >= _GIVES_AWAY:
            found.append(
                f"column {column.name!r} alone tells the label ({score.replace('_', ' ')} {reached:.2f}): would you "
                "know it before the label? If not, leave it out"
            )
    return found


def _shared(read: TextColumns, test: TextColumns, names: Sequence[str], schema: TableSchema) -> list[str]:
    """Rows of the test file that are in the first file, or are with their numbers rounded."""
    error = text_columns.missing_columns(test, names)
    if error is not None:
        return [str(error)]
    trained = set(_keys(read, names))
    equal = np.array([key in trained for key in _keys(test, names)], bool)
    shared = int(equal.sum())
    warnings = [f"{shared:,} of {test.rows:,} rows of {test.path} are in {read.path}, too"] if shared else []
    try:
        x = [column_schema.encoded(each, schema) for each in (read, test)] if schema.columns else []
    except BadInput as problem:
        return [*warnings, str(problem)]
    near = int((nearly_shared(*x) & ~equal).sum()) if x else 0
    if near:
        warnings.append(
            f"{near:,} of {test.rows:,} rows of {test.path} equal one of {read.path} but for the last digits of "
            "numbers: rounded copies?"
        )
    return warnings


def nearly_shared(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Which test examples equal a training example but for the last digits, beyond chance: bool `[examples]`.

    Numbers are compared in hundredths of their column's spread, on two grids: one rounds up where the other does not.

    Args:
        train: `[examples, columns]`, NaN where a value is missing.
        test: the same of the test split.
    """
    x = np.concatenate([train, test]).astype(np.float64)
    size, found = len(train), np.zeros(len(test), bool)
    if not len(train) or not len(test):
        return found
    known = np.where(np.isfinite(x), x, np.nan)
    present = np.isfinite(known)
    mean = np.where(present, known, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    spread = np.sqrt((np.where(present, known - mean, 0.0) ** 2).sum(axis=0) / np.maximum(present.sum(axis=0), 1))
    unit = 10.0 ** np.floor(np.log10(np.where(spread > 0, spread, 1.0))) * _DIGIT
    for offset in (0.0, 0.5):
        # 0 and -0 have other bytes.
        cells = np.where(present, np.floor(x / unit + offset), -1e30).astype(np.float32) + np.float32(0)
        keys = splits.keys(cells)
        trained = set(keys[:size]) & duplicates.copies(cells, keys)
        found |= np.array([key in trained for key in keys[size:]], bool)
    return found
