"""Tables with classes: label, weight and feature columns of a file, as a file has them or a model expects."""

import dataclasses
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from zoo.data.datasets import (
    class_labels,
    column_kinds,
    column_schema,
    label_sets,
    number_fields,
    table_columns,
    text_columns,
)
from zoo.data.datasets.column_kinds import NO_OPTIONS, ColumnOptions
from zoo.data.datasets.column_schema import TableSchema
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.datasets.label_sets import LabelSets
from zoo.data.datasets.text_columns import TextColumns
from zoo.data.folds import Fold
from zoo.data.splits import ORIGIN, SPLIT, Columns, shortened
from zoo.errors import BadInput


@dataclasses.dataclass
class ModelSchema:
    """Classes and columns that a trained model expects of an evaluation file.

    Attributes:
        classes: the model's classes in the order of its labels. A file may lack some of them.
        features: names of the training columns in their order; empty where the run has no names.
        weight_column: weight column of the training data, used where the file has it and no other is requested.
        notes: gets a line for each assumption made while reading a file.
        columns: what the columns are; None where all are complete numbers.
    """

    classes: tuple[str, ...]
    features: tuple[str, ...] = ()
    weight_column: str = ""
    notes: list[str] = dataclasses.field(default_factory=list)
    columns: TableSchema | None = None


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """What flags say about a table.

    Attributes:
        label_column: name of the label column.
        weight_column: name of the weight column; empty for none.
        ignored: names of columns that are no features.
        drop_unlabelled: whether rows without a label are left out instead of refused.
        columns: what flags say about the columns' kinds.
        values: whether the label column has numbers to predict instead of classes.
        split: by what the rows are split; see `split_column`.
        fold: the fold to test on, in a cross-validation: the rows are returned with their lines and not split.
        form: what a user says of delimited files.
        labels: how the table says which of several labels an example has, instead of `label_column`; None: one class.
    """

    label_column: str = "label"
    weight_column: str = ""
    ignored: tuple[str, ...] = ()
    drop_unlabelled: bool = False
    columns: ColumnOptions = NO_OPTIONS
    values: bool = False
    split: str = "random"
    fold: Fold | None = None
    form: DelimitedFormat = FOUND
    labels: LabelSets | None = None


def read(path: Path, schema: ModelSchema, options: TableOptions) -> tuple[Columns, ModelSchema]:
    """Reads all examples of a table.

    Args:
        path: the file.
        schema: classes and columns that it must have; empty ones are found in the file.
        options: names of columns.

    Returns:
        Columns `x`, `y` (int32 classes, float32 values, or float32 `[examples, labels]` of 0 and 1) and perhaps
        `weight`, and the schema by which another table of the same kind is read.

    Raises:
        BadInput: the file is malformed; the message has the line and the column.
    """
    table, notes = text_columns.read(path, options.form), schema.notes
    if not table.rows:
        raise BadInput(
            f"{path} is empty: expected {'a header and ' if options.form.has_header else ''}at least one row"
        )
    label_columns, weight_column = _label_and_weight(table, schema, options)
    columns = _schema_of(table, label_columns, weight_column, schema, options)
    weight = _weight_values(table, weight_column) if weight_column else None
    notes.extend(note for note in table.notes if note not in notes)
    classes, values, label_column = schema.classes, None, label_columns[0]
    if options.labels is not None:
        sets = dataclasses.replace(options.labels, columns=label_columns)
        classes, values, has_label = label_sets.read(table, sets, classes, notes, options.drop_unlabelled)
        # Rows with the same labels are of one class for what looks at the order of the file.
        labels, values = [row.tobytes() for row in values], values[has_label]
    else:
        labels = table.texts(label_column)
        has_label = _has_label(table, labels, label_column, schema, options, notes)
        values = _values(table, label_column, has_label, options.columns.decimal) if options.values else None
    split_keys = _split_keys(table, options) if options.split != "random" else None
    origins = table.origins() if options.fold else None
    x = column_schema.encoded(table, columns, release=True)
    if not has_label.all():
        x, labels = x[has_label], [label for label, has in zip(labels, has_label) if has]
        weight = None if weight is None else weight[has_label]
    if not classes and not options.values:
        classes = _classes(labels, f"{path}, column {label_column!r}", notes)
    if not (schema.classes or schema.features):
        columns, x = table_columns.without_row_numbers(path, columns, x, labels, notes)
        columns = dataclasses.replace(columns, has_missing=bool(np.isnan(x).any()) or not columns.has_numbers_only)
        if not columns.is_plain:
            notes.append(f"{path}: {columns.describe()}")
    y = _indices(labels, classes, f"{path}, column {label_column!r},") if values is None else values
    examples = {"x": np.ascontiguousarray(x), "y": y}
    if split_keys is not None:
        examples[SPLIT] = split_keys[has_label]
    if origins is not None:
        examples[ORIGIN] = origins.values[has_label]
    if weight is not None:
        examples["weight"] = weight
    return examples, ModelSchema(classes, columns.features, weight_column, notes, columns)


def split_column(split: str) -> tuple[str, str]:
    """The kind of a --split, "group" or "time", and its column; "random" has none.

    Raises:
        BadInput: it is none of these.
    """
    kind, _, column = split.partition(":")
    if split != "random" and (kind not in ("group", "time") or not column):
        raise BadInput(f"--split is {split!r}: expected random, group:COLUMN or time:COLUMN")
    return kind, column


def _split_keys(table: TextColumns, options: TableOptions) -> np.ndarray:
    """By what the rows are split: names of groups, or times as numbers, `[rows]`."""
    kind, given = split_column(options.split)
    name = table.column(given, "split")
    if kind == "group":
        return np.array(table.texts(name))
    column = column_kinds.infer(table, [name], options.columns, []).columns[0]
    if column.kind == column_schema.CATEGORY:
        raise BadInput(f"{table.path}: --split=time:{name}: the column has categories; expected dates or numbers")
    times = column_schema.encoded(table, column_schema.TableSchema((column,), options.columns.decimal))[:, 0]
    missing = np.flatnonzero(np.isnan(times))
    if len(missing):
        raise BadInput(
            f"{table.place(int(missing[0]))}: --split=time:{name}: the row has no time; expected one in each"
        )
    return times


def _classes(labels: list[str], source: str, notes: list[str]) -> tuple[str, ...]:
    """The classes of a training file."""
    table_columns.refuse_values(labels, source)
    names, doubts = class_labels.classes(labels, source)
    notes.extend(doubts)
    return tuple(sorted(names, key=_numbers_first))


def _indices(labels: list[str], classes: Sequence[str], source: str) -> np.ndarray:
    """The index of each label's class, int32 `[labels]`."""
    names = sorted(set(labels), key=_numbers_first)
    index_of = dict(zip(names, class_indices(source, names, classes)))
    return np.array([index_of[label] for label in labels], np.int32)


def _values(table: TextColumns, column: str, has_label: np.ndarray, decimal: str) -> np.ndarray:
    """The values to predict of the rows that have one, float32 `[labelled rows]`."""
    values = column_schema.numbers(table.columns[column], table.decimal(column, decimal))
    wrong = has_label & ~np.isfinite(values.astype(np.float32))
    if wrong.any():
        row = int(np.argmax(wrong))
        said = number_fields.not_a_number(table.columns[column][row].as_py())
        raise BadInput(f"{table.place(row)}, column {column!r}: {said}")
    return values[has_label].astype(np.float32)


def class_indices(source: str, classes: Sequence[str], expected: Sequence[str]) -> np.ndarray:
    """The model's index of each class of a data set, int32 `[classes]`: by name, or else by number (1.0 is 1).

    Raises:
        BadInput: the model lacks some of the classes; the message names them.
    """
    indices = class_labels.indices(classes, expected)
    unknown = [repr(name) for name, index in zip(classes, indices) if index < 0]
    if unknown:
        near = class_labels.nearest(classes[int(np.argmax(indices < 0))], expected)
        raise BadInput(
            f"{source} has the class{'es' if len(unknown) > 1 else ''} {shortened(unknown)} that the model does not "
            f"know; expected some of its {len(expected)}: {shortened(expected)}"
            + (f"; did you mean {near!r}?" if near else "")
        )
    return indices


def weights(path: Path, values: np.ndarray) -> np.ndarray:
    """Checked weights, float32 `[examples]`."""
    values = np.asarray(values, np.float32)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise BadInput(f"{path}: weights must be one finite number of 0 or more for each example, and not all 0")
    return values


def _schema_of(
    table: TextColumns, label_columns: tuple[str, ...], weight_column: str, schema: ModelSchema, options: TableOptions
) -> TableSchema:
    """The columns that the model expects, or else those that the file has."""
    if schema.classes or schema.features:
        expected = schema.columns or column_schema.plain(schema.features)
        _check_features(table, expected.names, label_columns, weight_column, schema)
        if expected.names:
            return expected
        others = table_columns.features(table, (*label_columns, weight_column), options.ignored, schema.notes)
        return column_schema.plain(others)
    taken = [*label_columns, weight_column]
    kind, column = split_column(options.split)
    if kind == "group":
        # Else the model could learn the groups by heart.
        taken.append(table.column(column, "split"))
        schema.notes.append(f"{table.path}: {taken[-1]!r} splits the rows and is no feature")
    names = table_columns.features(table, taken, options.ignored, schema.notes)
    given = options.columns
    asked = {
        flag: tuple(table.column(name, flag) for name in getattr(given, flag)) for flag in ("categorical", "numeric")
    }
    for flag, columns in asked.items():
        for name in columns:
            if name not in names:
                raise BadInput(f"--{flag} has {name!r}, which is no feature; expected one of {shortened(names)}")
    return column_kinds.infer(table, names, dataclasses.replace(given, **asked), schema.notes)


def _label_and_weight(table: TextColumns, schema: ModelSchema, options: TableOptions) -> tuple[tuple[str, ...], str]:
    """Names of the label columns, one or several, and of the weight column, as the file has them."""
    given = (options.label_column,) if options.labels is None else options.labels.columns
    labels = tuple(table.column(name, "label_column") for name in given)
    weight = options.weight_column
    if not weight and schema.weight_column:
        weight = _default_weight_column(table, schema)
    return labels, table.column(weight, "weight_column") if weight else ""


def _check_features(
    table: TextColumns,
    features: tuple[str, ...],
    label_columns: tuple[str, ...],
    weight_column: str,
    schema: ModelSchema,
) -> None:
    """Reports how the columns of another file are read by a model."""
    others = [name for name in table.header if name not in (*label_columns, weight_column)]
    if not features:
        schema.notes.append(
            f"{table.path}: the run has no names of its columns, so these are taken in their order: {shortened(others)}"
        )
        return
    for name, flag in (*((name, "label_column") for name in label_columns), (weight_column, "weight_column")):
        if name in features:
            raise BadInput(f"--{flag} is {name!r}, which the model reads as a feature; expected another column")
    known = {*features, schema.weight_column}
    ignored = [repr(name) for name in others if name not in known]
    if ignored:
        # Not an error: a file may have an id or a date beside the features.
        schema.notes.append(
            f"{table.path}: ignored the columns that the model was not trained on: {shortened(ignored)}"
        )


def _has_label(
    table: TextColumns, labels: list[str], column: str, schema: ModelSchema, options: TableOptions, notes
) -> np.ndarray:
    """Which rows have a label, bool `[rows]`; others are refused unless they are to be dropped."""
    missing = np.array([class_labels.is_missing(label) for label in labels], bool)
    # A class of a run that was recorded when such names were classes.
    missing &= ~np.isin(labels, schema.classes) if schema.classes else True
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        if not options.drop_unlabelled:
            raise BadInput(class_labels.missing_message(table.place(first), column, labels[first]))
        if missing.all():
            raise BadInput(f"{table.path}: no row has a label in {column!r}; expected classes")
        notes.append(class_labels.dropped_note(str(table.path), int(missing.sum())))
    return ~missing


def _default_weight_column(table: TextColumns, schema: ModelSchema) -> str:
    """The run's weight column, or "" where the table lacks it."""
    if schema.weight_column in table.header:
        return schema.weight_column
    schema.notes.append(
        f"{table.path} has no column {schema.weight_column!r}, the run's --weight_column: all examples weigh the same"
    )
    return ""


def _weight_values(table: TextColumns, name: str) -> np.ndarray:
    values = column_schema.encoded(table, column_schema.plain([name]))[:, 0]
    negative = np.flatnonzero(values < 0)
    if len(negative):
        row = int(negative[0])
        raise BadInput(
            f"{table.place(row)}, column {name!r}: {values[row]:g} is negative; expected a weight of 0 or more"
        )
    return weights(table.path, values)


def _numbers_first(label: str) -> tuple[bool, Decimal, str]:
    """Sort key: numbers in numerical order, then names in alphabetical order."""
    number = class_labels.number(label)
    return (True, Decimal(0), label) if number is None else (False, number, label)
