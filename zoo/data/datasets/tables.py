"""Your own arrays and tables: .npz, .csv or .tsv, or a folder of .npy files that may be larger than memory."""

import collections
import dataclasses
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data import splits
from zoo.data.datasets import csv_tables
from zoo.data.datasets.csv_tables import Table
from zoo.data.splits import Columns, Splits, shortened
from zoo.errors import BadInput

# Fractions of your own data for validation and test.
_SHARES = (0.1, 0.1)
# Bytes that are checked at once where an array may be larger than memory.
_BLOCK = 1 << 24


@dataclasses.dataclass
class ModelSchema:
    """Classes and columns that a trained model expects of an evaluation file.

    Attributes:
        classes: the model's classes in the order of its labels. A file may lack some of them.
        features: names of the training columns in their order; empty where the run has no names.
        weight_column: weight column of the training data, used where the file has it and no other is requested.
        notes: gets a line for each assumption made while reading a file.
    """

    classes: tuple[str, ...]
    features: tuple[str, ...] = ()
    weight_column: str = ""
    notes: list[str] = dataclasses.field(default_factory=list)


def is_supported(path: Path) -> bool:
    """Whether a path is of a kind that `load` reads; a file need not exist."""
    return path.suffix in (*csv_tables.SUFFIXES, ".npz") or path.is_dir()


def load(path: Path, label_column: str, weight_column: str, schema: ModelSchema | None = None) -> Splits:
    """Loads and splits a user's file: 10 % validation and 10 % test, drawn with a fixed seed.

    A .npz or a folder has `x`, `y`, perhaps `weight`, and perhaps `x_test`, `y_test`, which become the test split.

    Args:
        path: the file or the folder.
        label_column: name of a table's label column.
        weight_column: name of a table's weight column; empty for none.
        schema: the model's classes and columns, to evaluate it on the file: a table's columns are then selected by name
            and its classes are the model's. The labels of a .npz or a folder are indices of the model's classes.

    Raises:
        BadInput: the file is missing, empty or malformed; the message has the line or the array's name.
    """
    if not path.exists():
        raise BadInput(f"--dataset {path}: no such file")
    if not is_supported(path):
        raise BadInput(
            f"--dataset {path}: unknown kind of file; expected a .csv, .tsv or .npz, or a folder of x.npy and y.npy"
        )
    if path.suffix in csv_tables.SUFFIXES:
        return _table(csv_tables.read(path), label_column.strip(), weight_column.strip(), schema)
    arrays = _npz(path) if path.is_file() else _npy_folder(path)
    columns = _columns(path, arrays, "")
    test = _columns(path, arrays, "_test") if "x_test" in arrays else None
    if test is not None and test["x"].shape[1:] != columns["x"].shape[1:]:
        raise BadInput(f"{path}: x_test has examples of {test['x'].shape[1:]}, x of {columns['x'].shape[1:]}")
    if test is not None and test["x"].dtype != columns["x"].dtype:
        raise BadInput(f"{path}: x_test is {test['x'].dtype}, x is {columns['x'].dtype}; expected the same")
    if schema is not None:
        return _split(columns, test, schema.classes)
    if columns["y"].max(initial=0) >= max(len(columns["y"]), 2):
        raise BadInput(
            f"{path}: label {columns['y'].max()} in {len(columns['y'])} examples; expected classes from 0 on"
        )
    classes = tuple(str(label) for label in range(int(columns["y"].max(initial=0)) + 1))
    return _split(columns, test, classes)


def class_indices(source: str, classes: Sequence[str], expected: Sequence[str]) -> np.ndarray:
    """The model's index of each class of a data set, int32 `[classes]`: by name, or else by number (1.0 is 1).

    Raises:
        BadInput: the model lacks some of the classes; the message names them.
    """
    by_name = {name.strip(): index for index, name in reversed(list(enumerate(expected)))}
    values = [_value(name) for name in expected]
    # A number that two classes share is ambiguous.
    counts = collections.Counter(values)
    by_number = {value: index for index, value in enumerate(values) if value is not None and counts[value] == 1}
    indices = [by_name.get(name, by_number.get(_value(name))) for name in classes]
    unknown = [repr(name) for name, index in zip(classes, indices) if index is None]
    if unknown:
        raise BadInput(
            f"{source} has the class{'es' if len(unknown) > 1 else ''} {shortened(unknown)} that the model does not "
            f"know; expected some of its {len(expected)}: {shortened(expected)}"
        )
    return np.array(indices, np.int32)


def load_unsplit(path: Path) -> Columns:
    """All examples of a .npz: `x`, `y` and perhaps `weight`.

    Raises:
        BadInput: the file is missing, malformed or not a .npz.
    """
    if path.suffix != ".npz" or not path.is_file():
        raise BadInput(f"{path}: expected a .npz file with x, y and perhaps weight")
    return _columns(path, _npz(path), "")


def _split(columns: Columns, test: Columns | None, classes: tuple[str, ...]) -> Splits:
    scale = 255.0 if columns["x"].dtype == np.uint8 else 0.0
    if isinstance(columns["x"], np.memmap):
        return _split_in_order(columns, test, classes, scale)
    if test is not None:
        validation, train = splits.cut(columns, _SHARES[0])
    else:
        validation, test, train = splits.cut(columns, *_SHARES)
    return Splits(train, validation, test, classes, scale)


def _split_in_order(columns: Columns, test: Columns | None, classes: tuple[str, ...], scale: float) -> Splits:
    """Contiguous parts, which stay on disk; the owner of the file decides its order."""
    size = len(columns["y"])
    first = size - round(size * _SHARES[0])
    start = first if test is not None else first - round(size * _SHARES[1])
    parts = [
        {name: column[part] for name, column in columns.items()}
        for part in (slice(start), slice(start, first), slice(first, size))
    ]
    note = (
        "files on disk are split by position: the last tenths are test and validation; where they are sorted by class, "
        "shuffle x.npy and y.npy together first"
    )
    return Splits(parts[0], parts[2], parts[1] if test is None else test, classes, scale, (note,))


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here: NumPy would not close a torn file.
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is not a zip file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = _reason(error)
        raise BadInput(f"{path} cannot be read as .npz ({reason}); expected numpy.savez(path, x=..., y=...)") from None


def _reason(error: Exception) -> str:
    # NumPy's message suggests unpickling, which would run arbitrary code.
    return "it holds no array of numbers" if "pickle" in str(error) else str(error)


def _npy_folder(path: Path) -> dict[str, np.ndarray]:
    names = [
        name for name in ("x", "y", "weight", "x_test", "y_test", "weight_test") if (path / f"{name}.npy").is_file()
    ]
    try:
        # Labels and weights are small and are checked; only x may be large.
        return {n: np.load(path / f"{n}.npy", mmap_mode="r" if n.startswith("x") else None) for n in names}
    except (ValueError, OSError, EOFError) as error:
        raise BadInput(f"{path}: a .npy file cannot be read ({_reason(error)}); expected numpy.save(path, x)") from None


def _columns(path: Path, arrays: dict[str, np.ndarray], suffix: str) -> Columns:
    missing = [name for name in (f"x{suffix}", f"y{suffix}") if name not in arrays]
    if missing:
        # In a folder each array is a file.
        end = ".npy" if path.is_dir() else ""
        has, lacks = ", ".join(f"{name}{end}" for name in arrays), " and ".join(f"{name}{end}" for name in missing)
        raise BadInput(f"{path} has {has or 'nothing'}, not {lacks}; expected x{end} and y{end}")
    x, y = arrays[f"x{suffix}"], arrays[f"y{suffix}"]
    if x.dtype.kind not in "fiub" or y.dtype.kind not in "iu" or y.ndim != 1 or x.ndim < 2:
        raise BadInput(
            f"{path}: x{suffix} is {x.dtype}{list(x.shape)} and y{suffix} is {y.dtype}{list(y.shape)}; expected "
            "numbers [examples, ...] and whole numbers [examples]"
        )
    if isinstance(x, np.memmap) and x.dtype not in (np.uint8, np.float32):
        raise BadInput(f"{path}: x{suffix}.npy is {x.dtype}; expected float32 or uint8, which need no copy in memory")
    columns = {"x": x if x.dtype == np.uint8 else _floats(x), "y": y.astype(np.int32)}
    _check_finite(_display_name(path, f"x{suffix}"), columns["x"])
    if f"weight{suffix}" in arrays:
        columns["weight"] = _weights(path, arrays[f"weight{suffix}"])
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise BadInput(f"{path}: {lengths}; expected one label for each example")
    return columns


def _display_name(path: Path, name: str) -> str:
    """Name of an array for error messages, with its file."""
    return f"{path / f'{name}.npy'}: {name}" if path.is_dir() else f"{path}: {name}"


def _floats(x: np.ndarray) -> np.ndarray:
    # _check_finite reports overflows with their place, which NumPy's warning does not.
    with np.errstate(over="ignore"):
        return x if x.dtype == np.float32 else np.asarray(x, np.float32)


def _check_finite(name: str, x: np.ndarray) -> None:
    """Refuses NaN and infinite numbers before training, also in files larger than memory.

    This reads a file once: 0.3 s per GB that the system has cached, else as long as the disk takes. The features' mean
    and variance read it twice more, so the check makes a run's start at most 50 % longer.
    """
    if x.dtype.kind != "f":
        return
    rows = max(1, _BLOCK // max(x[:1].nbytes, 1))
    for start in range(0, len(x), rows):
        good = np.isfinite(x[start : start + rows])
        if not good.all():
            first, *rest = (int(index) for index in np.argwhere(~good)[0])
            value = x[(start + first, *rest)]
            raise BadInput(f"{name}{[start + first, *rest]} is {value}; expected finite numbers (counted from 0)")


def _weights(path: Path, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float32)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise BadInput(f"{path}: weights must be one finite number of 0 or more for each example, and not all 0")
    return values


def _table(table: Table, label_column: str, weight_column: str, schema: ModelSchema | None) -> Splits:
    path = table.path
    if not table.rows:
        raise BadInput(f"{path} is empty: expected a header and at least one row")
    if schema is not None and not weight_column and schema.weight_column:
        weight_column = _default_weight_column(table, schema)
    labels = table.column(label_column, "label_column")
    for (line, _), label in zip(table.rows, labels):
        if not label:
            raise BadInput(f"{path} line {line}, column {label_column!r} is empty: expected a class")
    features = _features(table, label_column, weight_column, schema)
    weight = _weight_values(table, weight_column) if weight_column else None
    names = sorted(set(labels), key=_numbers_first)
    classes = schema.classes if schema is not None else tuple(names)
    index_of = dict(zip(names, class_indices(f"{path}, column {label_column!r},", names, classes)))
    columns = {"x": table.numbers(features), "y": np.array([index_of[label] for label in labels], np.int32)}
    if weight is not None:
        columns["weight"] = weight
    return dataclasses.replace(_split(columns, None, classes), features=features)


def _features(table: Table, label_column: str, weight_column: str, schema: ModelSchema | None) -> tuple[str, ...]:
    """Names of the columns that become `x`: the model's, or all but the label and the weight column."""
    others = tuple(name for name in table.header if name not in (label_column, weight_column))
    if not others:
        raise BadInput(f"{table.path} has no columns besides {label_column!r}: expected features")
    if schema is None:
        return others
    if not schema.features:
        schema.notes.append(
            f"{table.path}: the run has no names of its columns, so these are taken in their order: {shortened(others)}"
        )
        return others
    for name, flag in ((label_column, "label_column"), (weight_column, "weight_column")):
        if name in schema.features:
            raise BadInput(f"--{flag} is {name!r}, which the model reads as a feature; expected another column")
    ignored = [repr(name) for name in others if name not in (*schema.features, schema.weight_column)]
    if ignored:
        # Not an error: a file may have an id or a date beside the features.
        schema.notes.append(
            f"{table.path}: ignored the columns that the model was not trained on: {shortened(ignored)}"
        )
    return schema.features


def _default_weight_column(table: Table, schema: ModelSchema) -> str:
    """The run's weight column, or "" where the table lacks it."""
    if schema.weight_column in table.header:
        return schema.weight_column
    schema.notes.append(
        f"{table.path} has no column {schema.weight_column!r}, the run's --weight_column: all examples weigh the same"
    )
    return ""


def _weight_values(table: Table, name: str) -> np.ndarray:
    # Its error names the flag for another column.
    table.column(name, "weight_column")
    values = table.numbers([name])[:, 0]
    negative = np.flatnonzero(values < 0)
    if len(negative):
        line = table.rows[negative[0]][0]
        raise BadInput(
            f"{table.path} line {line}, column {name!r}: {values[negative[0]]:g} is negative; expected a weight of 0 "
            "or more"
        )
    return _weights(table.path, values)


def _value(label: str) -> float | None:
    """The finite number that a label spells, or None."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _numbers_first(label: str) -> tuple[bool, float, str]:
    """Sort key: numbers in numerical order, then names in alphabetical order."""
    number = _value(label)
    return (True, 0.0, label) if number is None else (False, number, label)
