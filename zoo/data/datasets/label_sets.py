"""Several labels per example: a yes/no column for each label, or one column of names with a separator between them."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from zoo.data.datasets import class_labels
from zoo.data.datasets.text_columns import TextColumns, coded
from zoo.data.splits import shortened
from zoo.errors import BadInput

_YES, _NO = ("1", "true", "t", "yes", "y"), ("0", "false", "f", "no", "n")
EXPECTED = "expected 1 or 0, true or false, yes or no"


@dataclasses.dataclass(frozen=True)
class LabelSets:
    """How a table says which labels an example has.

    Attributes:
        columns: names of yes/no columns, one for each label; a single name where there is a separator.
        separator: what stands between the labels of a cell; empty for yes/no columns.
        empty_is_none: whether an empty cell says that an example has no label, instead of being a missing one.
    """

    columns: tuple[str, ...] = ()
    separator: str = ""
    empty_is_none: bool = False


def from_flags(label_column: str, separator: str = "", empty_is_none: bool = False) -> LabelSets:
    """What the flags of a run say.

    Args:
        label_column: names with commas between them, or a single name where there is a separator.
        separator: text between the labels of a cell; empty: a column for each label.
        empty_is_none: whether an empty cell says that there is no label.

    Raises:
        BadInput: the flags do not fit each other.
    """
    if separator:
        if not separator.strip() and separator != " ":
            raise BadInput(f"--label_separator is {separator!r}: expected a sign such as | or ; or one blank")
        return LabelSets((label_column.strip(),), separator, empty_is_none)
    if empty_is_none:
        raise BadInput("--empty_is_none is for --label_separator; in columns of 0 and 1 write 0: leave it out")
    names = tuple(name.strip() for name in label_column.split(",") if name.strip())
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadInput(f"--label_column has {twice[0]!r} twice: expected each column once")
    return LabelSets(names)


def read(
    table: TextColumns, options: LabelSets, labels: Sequence[str], notes: list[str], drop_unlabelled: bool = False
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Reads which labels each row has.

    Args:
        table: the table.
        options: how the table says so; its columns as the table has them.
        labels: the model's labels; empty: they are found in the table, which then has to show each of them.
        notes: gets a line for each doubt.
        drop_unlabelled: whether rows without a known answer are left out instead of refused.

    Returns:
        Names of the labels; float32 `[rows, labels]`, 1 where a row has the label; and bool `[rows]`, which rows are
        labelled.

    Raises:
        BadInput: a cell is missing or not understood, with its line; a label is unknown to the model; or all rows have
            a label, or none has.
    """
    if options.separator:
        names, y, is_labelled = _of_names(table, options, labels, notes, drop_unlabelled)
    else:
        names, y, is_labelled = _of_columns(table, options, labels, drop_unlabelled)
    if not is_labelled.any():
        raise BadInput(f"{table.path}: no row is labelled in {shortened(options.columns)}; expected labels")
    if not is_labelled.all():
        notes.append(class_labels.dropped_note(str(table.path), int((~is_labelled).sum())))
    if not labels:
        refuse_constant(str(table.path), names, y[is_labelled])
    return names, y, is_labelled


def of_array(y: np.ndarray, source: str, labels: Sequence[str] = ()) -> tuple[tuple[str, ...], np.ndarray]:
    """Labels of an array, named by their numbers from 0: the names, and float32 `[examples, labels]`.

    Args:
        y: 0 or 1, `[examples, labels]`.
        source: name of the array, for messages.
        labels: the model's labels; empty: each must occur, and none in all examples.

    Raises:
        BadInput: it is another array.
    """
    if y.ndim != 2 or y.dtype.kind not in "fiub" or y.shape[1] < 2:
        raise BadInput(
            f"{source} is {y.dtype}{list(y.shape)}; expected 0 or 1, [examples, labels] with 2 labels or more"
        )
    wrong = ~np.isin(y, (0, 1))
    if wrong.any():
        row, column = (int(each) for each in np.argwhere(wrong)[0])
        raise BadInput(f"{source}[{row}, {column}] is {y[row, column]}; expected 0 or 1")
    if labels and len(labels) != y.shape[1]:
        raise BadInput(f"{source} has {y.shape[1]} labels; expected the model's {len(labels)}: {shortened(labels)}")
    names = tuple(labels) or tuple(map(str, range(y.shape[1])))
    y = y.astype(np.float32)
    if not labels:
        refuse_constant(source, names, y)
    return names, y


def _of_columns(
    table: TextColumns, options: LabelSets, labels: Sequence[str], drop_unlabelled: bool
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    of_model(options, labels)
    columns = [_yes_or_no(table, name, drop_unlabelled) for name in options.columns]
    y = np.stack(columns, axis=1)
    is_labelled = ~np.isnan(y).any(axis=1)
    return tuple(labels) or options.columns, np.where(np.isnan(y), np.float32(0), y), is_labelled


def of_model(options: LabelSets, labels: Sequence[str]) -> LabelSets:
    """The yes/no columns, one for each of the model's labels, where it has some.

    Raises:
        BadInput: there is one column alone, or another number than the model has labels.
    """
    if len(options.columns) < 2:
        raise BadInput(
            f"--label_column is {','.join(options.columns)!r}: one column; expected several with commas between them, "
            "or --label_separator for one with names (experiments.mlp_classifier trains on a single yes/no column)"
        )
    if labels and len(labels) != len(options.columns):
        raise BadInput(
            f"--label_column has {len(options.columns)} columns; expected one for each label of the model, in its "
            f"order: {shortened(labels)}"
        )
    return options


def _yes_or_no(table: TextColumns, name: str, may_lack: bool) -> np.ndarray:
    """1, 0, and NaN where the answer is missing: float32 `[rows]`."""
    levels, codes = coded(table.columns[name])
    meanings = np.array([meaning(level) for level in levels], np.float32)
    codes = np.asarray(codes)
    wrong = [index for index, value in enumerate(meanings) if value < 0 or (np.isnan(value) and not may_lack)]
    rows = np.flatnonzero(np.isin(codes, wrong))
    if len(rows):
        row, text = int(rows[0]), levels[int(codes[rows[0]])]
        if class_labels.is_missing(text):
            what = f"is {text!r}, a missing label" if text else "is empty"
            raise BadInput(
                f"{table.place(row)}: {name!r} {what}; {EXPECTED}, or --drop_unlabelled to leave such rows out"
            )
        raise BadInput(f"{table.place(row)}: {name!r} is {class_labels.quoted(text)}; {EXPECTED} in a column of labels")
    return meanings[codes]


def meaning(text: str) -> float:
    """1 or 0; NaN for a missing answer, -1 for anything else."""
    word, number = text.strip().lower(), class_labels.number(text)
    if class_labels.is_missing(text):
        return np.nan
    if word in _YES or number == 1:
        return 1.0
    return 0.0 if word in _NO or number == 0 else -1.0


def _of_names(
    table: TextColumns, options: LabelSets, labels: Sequence[str], notes: list[str], drop_unlabelled: bool
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    [column] = options.columns
    levels, codes = coded(table.columns[column])
    codes = np.asarray(codes)
    # A label may be called like a missing value in a cell with others, but not alone.
    missing = [class_labels.is_missing(level) and level.strip() not in labels for level in levels]
    is_labelled = ~np.array(missing, bool)[codes]
    if options.empty_is_none:
        is_labelled |= np.array([not level.strip() for level in levels], bool)[codes]
    if not is_labelled.all() and not drop_unlabelled:
        row = int(np.argmin(is_labelled))
        text = levels[int(codes[row])]
        what = f"is {text!r}, a missing label" if text else "is empty"
        raise BadInput(
            f"{table.place(row)}: {column!r} {what}; expected labels with {options.separator!r} between them, "
            "--empty_is_none where an empty cell has none, or --drop_unlabelled to leave such rows out"
        )
    cells = [[] if lacks else parts(level, options.separator) for level, lacks in zip(levels, missing)]
    source = f"{table.path}, column {column!r}"
    names = tuple(labels)
    if not names:
        names, doubts = class_labels.classes(itertools.chain.from_iterable(cells[code] for code in codes), source)
        notes.extend(doubts)
    y = np.zeros((len(levels), len(names)), np.float32)
    for row, these in enumerate(cells):
        found = class_labels.indices(these, names)
        if (found < 0).any():
            unknown = these[int(np.argmax(found < 0))]
            place = table.place(int(np.argmax(codes == row)))
            raise BadInput(f"{place}: {column!r} {class_labels.unknown(unknown, names, 'the model')}")
        y[row, found] = 1.0
    return names, y[codes], is_labelled


def parts(cell: str, separator: str) -> list[str]:
    """The different names in a cell."""
    return list(dict.fromkeys(part.strip() for part in cell.split(separator) if part.strip()))


def refuse_constant(source: str, names: Sequence[str], y: np.ndarray) -> None:
    """Refuses labels that no example has, or all have."""
    counts = y.sum(axis=0)
    for value, said in ((0, "no example has"), (len(y), f"all {len(y):,} examples have")):
        constant = [name for name, count in zip(names, counts) if count == value]
        if constant:
            raise BadInput(
                f"{source}: {said} the label {shortened(list(map(repr, constant)))}, so there is nothing to learn; "
                "expected examples with and without it: leave it out"
            )
