"""Which columns of a table are features, and whether its labels are classes: row numbers and values to predict."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data.datasets import class_labels
from zoo.data.datasets.column_schema import TableSchema
from zoo.data.datasets.text_columns import TextColumns
from zoo.errors import BadInput

# What pandas calls a column without a name, such as the index that it wrote before.
_UNNAMED = re.compile(r"(unnamed: ?\d+(\.\d+)?)?", re.IGNORECASE)
_ROW_NUMBER = re.compile(r"(.*id|index|idx|level_0|row|row.?(no|nr|number|names?)|no\.?|nr\.?|n[°º]|#)", re.IGNORECASE)


def features(table: TextColumns, taken: Sequence[str], ignored: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    """Names of the columns that become `x`: all but the taken ones, the ignored ones, and a row index without a name.

    Args:
        table: the open file.
        taken: names of the label and the weight column.
        ignored: names of columns to leave out.
        notes: gets a line for each column that is left out unasked.

    Raises:
        BadInput: an ignored column is missing, or no column is left.
    """
    left_out = {table.column(name, "ignore_columns") for name in ignored}
    taken = [name for name in taken if name]
    both = left_out & set(taken)
    if both:
        raise BadInput(f"--ignore_columns has {sorted(both)[0]!r}, which is the label or the weight; expected features")
    others = [name for name in table.header if name not in (*taken, *left_out)]
    unnamed = [name for name in others if _UNNAMED.fullmatch(name)]
    if unnamed:
        texts = {name: table.texts(name) for name in unnamed}
        indices = [name for name in unnamed if _is_index(texts[name])]
        for name in indices:
            what = "a row index" if any(texts[name]) else "no values"
            notes.append(f"{table.path}: left out the column {name!r} without a name, {what}: name it to keep it")
        others = [name for name in others if name not in indices]
    if not others:
        raise BadInput(f"{table.path} has no columns besides {taken[0]!r}: expected features")
    return tuple(others)


def without_row_numbers(
    path: Path, columns: TableSchema, x: np.ndarray, labels: Sequence[str], notes: list[str]
) -> tuple[TableSchema, np.ndarray]:
    """Leaves out columns that count the rows from 0 or 1 and are named so; reports others that give sorted labels away.

    Args:
        path: the file.
        columns: the columns.
        x: their values, float32 `[rows, columns]`, in the order of the file.
        labels: labels in the same order.
        notes: gets a line for each such column.

    Returns:
        The columns that stay, and their values.
    """
    rows, names = np.arange(len(x), dtype=np.float32), columns.features
    if len(x) < 3:
        return columns, x
    counts = [
        index
        for index in range(x.shape[1])
        if columns.categories[index] == 0 and x[0, index] in (0, 1) and np.array_equal(x[:, index], rows + x[0, index])
    ]
    named = [index for index in counts if _ROW_NUMBER.fullmatch(names[index].strip())]
    changes = sum(one != other for one, other in itertools.pairwise(labels))
    for index in counts:
        name = names[index]
        if index in named and len(named) < len(names):
            notes.append(f"{path}: left out the column {name!r}, which numbers the rows: rename it to keep it")
        elif changes < 2 * len(set(labels)):
            notes.append(
                f"WARNING: {path}: the column {name!r} counts the rows of a file that is sorted by class, and so gives "
                f"the class away: leave it out with --ignore_columns={name} if it is a row number"
            )
    if not named or len(named) == len(names):
        return columns, x
    kept = [index for index in range(len(names)) if index not in named]
    left_out = {names[index] for index in named}
    stay = tuple(column for column in columns.columns if column.name not in left_out)
    return dataclasses.replace(columns, columns=stay), x[:, kept]


def refuse_values(labels: Sequence[str], source: str) -> None:
    """Refuses labels that are values to predict (regression) instead of classes.

    Raises:
        BadInput: most numbers among the labels occur a few times only.
    """
    doubt = class_labels.like_values(labels)
    if doubt:
        raise BadInput(
            f"{source}: {doubt}; expected classes: train experiments.mlp_regressor on it, or cut the numbers into a "
            "few classes (quartiles, say)"
        )


def _is_index(fields: Sequence[str]) -> bool:
    """Whether the fields of a column are empty, or whole numbers or names none of which occurs twice."""
    if not any(fields):
        return True
    numbers = [class_labels.number(field) for field in fields]
    are_values = all(number is not None and number != number.to_integral_value() for number in numbers)
    return len(set(fields)) == len(fields) and not are_values
