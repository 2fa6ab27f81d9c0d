"""Your own arrays and tables: .npz, .csv, .parquet and others, or a folder of .npy files larger than memory."""

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo import files
from zoo.data import splits
from zoo.data.datasets import array_labels, label_sets, labelled_tables, saved_datasets, text_columns
from zoo.data.datasets.column_schema import TableSchema
from zoo.data.datasets.labelled_tables import ModelSchema, TableOptions
from zoo.data.datasets.labelled_tables import class_indices as class_indices
from zoo.data.splits import ORIGIN, SPLIT, Columns, Splits
from zoo.errors import BadInput

# Fractions of your own data for validation and test.
_SHARES = (0.1, 0.1)
# Bytes that are checked at once where an array may be larger than memory.
_BLOCK = 1 << 24


class Files(NamedTuple):
    """Paths of your own data: training data and, where not None, validation and test data of the same kind."""

    train: Path
    validation: Path | None = None
    test: Path | None = None


def is_supported(path: Path) -> bool:
    """Whether a path is of a kind that `load` reads; a file need not exist."""
    return text_columns.is_table(path) or path.suffix.lower() == ".npz" or path.is_dir()


def load(paths: Files, options: TableOptions, schema: ModelSchema | None = None) -> Splits:
    """Loads and splits a user's file: 10 % validation and 10 % test, drawn with a fixed seed, where they have no file.

    A .npz or a folder has `x`, `y`, perhaps `weight`, and perhaps `x_test`, `y_test`, which become the test split.
    So do the splits of a folder that Hugging Face's `datasets` saved, where no file is given for them.

    Args:
        paths: the files or the folder.
        options: names of a table's columns.
        schema: the model's classes and columns, to evaluate it on the file: a table's columns are then selected by name
            and its classes are the model's. The labels of a .npz or a folder are the names of the model's classes, or
            else their indices.

    Returns:
        The splits; with `options.fold` all examples in the training split, and empty ones beside it.

    Raises:
        BadInput: a file is missing, empty or malformed; the message has the line or the array's name.
    """
    splits_given = saved_datasets.folders(paths.train)
    validation, test_path = paths.validation or splits_given.validation, paths.test or splits_given.test
    paths = Files(splits_given.train, validation, test_path)
    expected = ModelSchema(()) if schema is None else schema
    columns, test, own = _examples(paths.train, expected, options)
    if options.fold is not None:
        if splits_given.others:
            own.notes.append(saved_datasets.LEFT_OUT)
        return _whole(paths.train, columns, test is not None, own)
    others = {}
    for name, path in (("validation", paths.validation), ("test", paths.test)):
        if path is not None:
            plain = dataclasses.replace(options, split="random")
            others[name] = _examples(path, dataclasses.replace(own, notes=own.notes), plain)[0]
            _check_alike(path, "x", others[name], columns)
    if test is not None:
        others.setdefault("test", test)
    split = dataclasses.replace(_split(columns, others, own.classes), features=own.features, schema=_raw(own))
    # The notes on a file that a model is evaluated on go to its schema.
    return split if schema is not None else dataclasses.replace(split, notes=(*own.notes, *split.notes))


def _whole(path: Path, columns: Columns, has_test: bool, schema: ModelSchema) -> Splits:
    """All examples of a file as the training split, for `zoo.data.folds`."""
    notes = list(schema.notes)
    if has_test:
        notes.append(f"{path}: folds are parts of x and y; x_test and y_test are left out")
    columns = {ORIGIN: np.arange(len(columns["y"]))} | columns
    scale = 255.0 if columns["x"].dtype == np.uint8 else 0.0
    return Splits(columns, {}, {}, schema.classes, scale, tuple(notes), schema.features, _raw(schema))


def _raw(schema: ModelSchema) -> TableSchema | None:
    """The schema of a table whose columns are not all complete numbers."""
    return None if schema.columns is None or schema.columns.is_plain else schema.columns


def _examples(path: Path, schema: ModelSchema, options: TableOptions) -> tuple[Columns, Columns | None, ModelSchema]:
    """The examples of a file, those of its own test split if it has one, and how files of the same kind are read."""
    missing = [each for each in files.listed(path) if not each.exists()]
    if missing:
        raise BadInput(f"--dataset {missing[0]}: no such file")
    if not is_supported(path):
        raise BadInput(
            f"--dataset {path}: unknown kind of file; expected a .csv, .tsv, .parquet, .arrow, .xlsx, .jsonl or .npz, "
            "a folder of x.npy and y.npy, or one that Hugging Face's datasets saved"
        )
    if text_columns.is_table(path) and (saved_datasets.is_saved(path) or not path.is_dir()):
        columns, schema = labelled_tables.read(path, schema, options)
        return columns, None, schema
    if options.split != "random":
        raise BadInput(f"--split={options.split}: {path} has no columns with names; expected a table")
    arrays = _npy_folder(path) if path.is_dir() else _npz(path)
    is_set = options.labels is not None
    columns, labels = _columns(path, arrays, "", options.values, is_set=is_set)
    classes = ()
    if is_set:
        classes, labels = label_sets.of_array(labels, f"{path}: y", schema.classes)
    elif not options.values:
        classes = schema.classes or array_labels.classes(labels, str(path), schema.notes)
        labels = array_labels.indices(labels, classes, str(path), bool(schema.classes))
    columns["y"] = labels
    test = None
    if "x_test" in arrays:
        test, labels = _columns(path, arrays, "_test", options.values, is_set=is_set)
        source = f"{path}: test"
        is_known = bool(schema.classes)
        if is_set:
            labels = label_sets.of_array(labels, f"{path}: y_test", classes)[1]
        elif not options.values:
            labels = array_labels.indices(labels, classes, source, is_known)
        test["y"] = labels
        _check_alike(path, "x_test", test, columns)
    return columns, test, dataclasses.replace(schema, classes=classes)


def _check_alike(path: Path, name: str, other: Columns, columns: Columns) -> None:
    if other["x"].shape[1:] != columns["x"].shape[1:]:
        raise BadInput(f"{path}: {name} has examples of {other['x'].shape[1:]}, x of {columns['x'].shape[1:]}")
    if other["x"].dtype != columns["x"].dtype:
        raise BadInput(f"{path}: {name} is {other['x'].dtype}, x is {columns['x'].dtype}; expected the same")


def load_unsplit(path: Path, may_lack: bool = False) -> Columns:
    """All examples of a .npz: `x`, `y` and perhaps `weight`.

    Args:
        path: the file.
        may_lack: whether NaN in `x` is a missing value, as in the table that the examples belong to.

    Raises:
        BadInput: the file is missing, malformed or not a .npz.
    """
    if path.suffix != ".npz" or not path.is_file():
        raise BadInput(f"{path}: expected a .npz file with x, y and perhaps weight")
    columns, labels = _columns(path, _npz(path), "", may_lack=may_lack)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise BadInput(f"{path}: y is {labels.dtype}{list(labels.shape)}; expected indices of classes, [examples]")
    return columns | {"y": labels.astype(np.int32)}


def _split(columns: Columns, others: Mapping[str, Columns], classes: tuple[str, ...]) -> Splits:
    """Splits examples; `others` are the validation and test splits that are given."""
    scale = 255.0 if columns["x"].dtype == np.uint8 else 0.0
    if isinstance(columns["x"], np.memmap):
        return _split_in_order(columns, others, classes, scale)
    missing = [name for name in ("validation", "test") if name not in others]
    columns, keys = dict(columns), columns.get(SPLIT)
    columns.pop(SPLIT, None)
    shares = _SHARES[: len(missing)]
    if keys is None:
        *drawn, train = splits.cut(columns, *shares)
    elif keys.dtype.kind == "U":
        *drawn, train = splits.cut_by_group(columns, keys, *shares)
    else:
        # The test split is later than the validation split, which is later than the training split.
        train, *drawn = splits.cut_by_time(columns, keys, *shares)
    parts = dict(zip(missing, drawn)) | others
    return Splits(train, parts["validation"], parts["test"], classes, scale)


def _split_in_order(columns: Columns, others: Mapping[str, Columns], classes: tuple[str, ...], scale: float) -> Splits:
    """Contiguous parts, which stay on disk; the owner of the file decides its order."""
    size = len(columns["y"])
    first = size if "validation" in others else size - round(size * _SHARES[0])
    start = first if "test" in others else first - round(size * _SHARES[1])
    parts = [
        {name: column[part] for name, column in columns.items()}
        for part in (slice(start), slice(start, first), slice(first, size))
    ]
    note = (
        "files on disk are split by position: the last tenths are test and validation; where they are sorted by class, "
        "shuffle x.npy and y.npy together first"
    )
    validation, test = others.get("validation", parts[2]), others.get("test", parts[1])
    return Splits(parts[0], validation, test, classes, scale, (note,) if start < size else ())


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


def _columns(
    path: Path,
    arrays: dict[str, np.ndarray],
    suffix: str,
    values: bool = False,
    may_lack: bool = False,
    is_set: bool = False,
) -> tuple[Columns, np.ndarray]:
    """The columns but `y`, and the labels as they are stored, or values as float32; `is_set`: `y` unchecked."""
    missing = [name for name in (f"x{suffix}", f"y{suffix}") if name not in arrays]
    if missing:
        # In a folder each array is a file.
        end = ".npy" if path.is_dir() else ""
        has, lacks = ", ".join(f"{name}{end}" for name in arrays), " and ".join(f"{name}{end}" for name in missing)
        raise BadInput(f"{path} has {has or 'nothing'}, not {lacks}; expected x{end} and y{end}")
    x, y = arrays[f"x{suffix}"], arrays[f"y{suffix}"]
    if x.dtype.kind not in "fiub" or x.ndim < 2:
        raise BadInput(f"{path}: x{suffix} is {x.dtype}{list(x.shape)}; expected numbers [examples, ...]")
    source = f"{path}: y{suffix}"
    labels = y if is_set else array_labels.values(y, source) if values else array_labels.plain(y, source)
    if isinstance(x, np.memmap) and x.dtype not in (np.uint8, np.float32):
        raise BadInput(f"{path}: x{suffix}.npy is {x.dtype}; expected float32 or uint8, which need no copy in memory")
    columns = {"x": x if x.dtype == np.uint8 else _floats(x)}
    known = columns["x"]
    if may_lack:
        known = np.where(np.isnan(known), np.float32(0), known)
    _check_finite(_display_name(path, f"x{suffix}"), known)
    if f"weight{suffix}" in arrays:
        columns["weight"] = labelled_tables.weights(path, arrays[f"weight{suffix}"])
    lengths = {name: len(column) for name, column in columns.items()} | {"y": len(labels)}
    if len(set(lengths.values())) != 1:
        raise BadInput(f"{path}: {lengths}; expected one label for each example")
    return columns, labels


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
