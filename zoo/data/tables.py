"""One's own examples: .npz, .csv, or a folder of .npy files that may be larger than memory."""

import csv
import math
import zipfile
from pathlib import Path

import numpy as np

from zoo.data import splits
from zoo.data.splits import Columns, Splits
from zoo.errors import BadInput

# Of one's own data: validation, then test.
_SHARES = (0.1, 0.1)


def load(path: Path, label_column: str, weight_column: str) -> Splits:
    """Loads and splits a user's file: a tenth is validation, a tenth is test, chosen by a fixed seed.

    A .npz or a folder has `x`, `y`, perhaps `weight`, and perhaps `x_test`, `y_test` to be used as they are.

    Raises:
        BadInput: the file is missing, empty, or not of the shape expected, with the line or the name.
    """
    if not path.exists():
        raise BadInput(f"--dataset {path}: no such file")
    if path.suffix == ".csv":
        columns, names = _csv(path, label_column, weight_column)
        return _split(columns, None, names)
    arrays = _npz(path) if path.is_file() else _npy_folder(path)
    columns = _columns(path, arrays, "")
    test = _columns(path, arrays, "_test") if "x_test" in arrays else None
    if test is not None and test["x"].shape[1:] != columns["x"].shape[1:]:
        raise BadInput(f"{path}: x_test has examples of {test['x'].shape[1:]}, x of {columns['x'].shape[1:]}")
    if test is not None and test["x"].dtype != columns["x"].dtype:
        raise BadInput(f"{path}: x_test is {test['x'].dtype}, x is {columns['x'].dtype}; expected the same")
    if columns["y"].max(initial=0) >= max(len(columns["y"]), 2):
        raise BadInput(
            f"{path}: label {columns['y'].max()} in {len(columns['y'])} examples; expected classes from 0 on"
        )
    classes = tuple(str(label) for label in range(int(columns["y"].max(initial=0)) + 1))
    return _split(columns, test, classes)


def more(path: Path) -> Columns:
    """The examples of a .npz, not split: `x`, `y` and perhaps `weight`.

    Raises:
        BadInput: as of `load`, or the file is of another kind.
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
    """Contiguous parts, which stay on disk; the order of the file is the owner's to choose."""
    size = len(columns["y"])
    first = size - round(size * _SHARES[0])
    start = first if test is not None else first - round(size * _SHARES[1])
    parts = [
        {name: column[part] for name, column in columns.items()}
        for part in (slice(start), slice(start, first), slice(first, size))
    ]
    note = "files on disk are split by position: the last tenths are test and validation"
    return Splits(parts[0], parts[2], parts[1] if test is None else test, classes, scale, (note,))


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here: on a torn file NumPy would leave its own open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read as .npz ({error}); expected numpy.savez(path, x=..., y=...)") from None


def _npy_folder(path: Path) -> dict[str, np.ndarray]:
    names = [
        name for name in ("x", "y", "weight", "x_test", "y_test", "weight_test") if (path / f"{name}.npy").is_file()
    ]
    try:
        # Labels and weights are small and are looked through; only x may be large.
        return {n: np.load(path / f"{n}.npy", mmap_mode="r" if n.startswith("x") else None) for n in names}
    except (ValueError, OSError, EOFError) as error:
        raise BadInput(f"{path}: a .npy file cannot be read ({error})") from None


def _columns(path: Path, arrays: dict[str, np.ndarray], suffix: str) -> Columns:
    missing = [name for name in (f"x{suffix}", f"y{suffix}") if name not in arrays]
    if missing:
        raise BadInput(f"{path} has {', '.join(arrays) or 'nothing'}, not {' and '.join(missing)}; expected x and y")
    x, y = arrays[f"x{suffix}"], arrays[f"y{suffix}"]
    if x.dtype.kind not in "fiub" or y.dtype.kind not in "iu" or y.ndim != 1 or x.ndim < 2:
        raise BadInput(
            f"{path}: x{suffix} is {x.dtype}{list(x.shape)} and y{suffix} is {y.dtype}{list(y.shape)}; expected "
            "numbers [examples, ...] and whole numbers [examples]"
        )
    if isinstance(x, np.memmap) and x.dtype not in (np.uint8, np.float32):
        raise BadInput(f"{path}: x{suffix}.npy is {x.dtype}; expected float32 or uint8, which need no copy in memory")
    columns = {"x": x if x.dtype == np.uint8 else _floats(x), "y": y.astype(np.int32)}
    if f"weight{suffix}" in arrays:
        columns["weight"] = _weights(path, arrays[f"weight{suffix}"])
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise BadInput(f"{path}: {lengths}; expected one label for each example")
    return columns


def _floats(x: np.ndarray) -> np.ndarray:
    return x if x.dtype == np.float32 else np.asarray(x, np.float32)


def _weights(path: Path, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float32)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise BadInput(f"{path}: weights must be one finite number of 0 or more for each example, and not all 0")
    return values


def _csv(path: Path, label_column: str, weight_column: str) -> tuple[Columns, tuple[str, ...]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as .csv in UTF-8: {error}") from None
    rows = [(line, row) for line, row in enumerate(rows, 2) if row]
    if not rows:
        raise BadInput(f"{path} is empty: expected a header and at least one row")
    for flag, column in (("label_column", label_column), ("weight_column", weight_column)):
        if column and column not in header:
            raise BadInput(f"{path} has no column {column!r}, it has {', '.join(header)}; give the one with --{flag}")
    for line, row in rows:
        if len(row) != len(header):
            raise BadInput(f"{path} line {line} has {len(row)} fields; expected {len(header)} as in the header")
        if not row[header.index(label_column)].strip():
            raise BadInput(f"{path} line {line}, column {label_column!r} is empty: expected a class")
    labels = [row[header.index(label_column)] for _, row in rows]
    names = tuple(sorted(set(labels), key=_numbers_first))
    features = [i for i, name in enumerate(header) if name not in (label_column, weight_column)]
    if not features:
        raise BadInput(f"{path} has no columns besides {label_column!r}: expected features")
    columns = {
        "x": np.array([[_number(path, line, header[i], row[i]) for i in features] for line, row in rows], np.float32),
        "y": np.array([names.index(label) for label in labels], np.int32),
    }
    if weight_column:
        place = header.index(weight_column)
        columns["weight"] = _weights(
            path, np.array([_number(path, line, weight_column, row[place]) for line, row in rows])
        )
    return columns, names


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{path} line {line}, column {column!r}: {text!r} is not a number") from None


def _numbers_first(label: str) -> tuple[bool, float, str]:
    """0, 1, 2, ..., 10 in the order of numbers; names after them in the order of letters."""
    try:
        number = float(label)
    except ValueError:
        return True, 0.0, label
    return (False, number, label) if math.isfinite(number) else (True, 0.0, label)
