"""Reading of arrays to predict: .npy, .npz, .png and .jpg files, tables, and JSON lines."""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data.datasets import column_schema, image_files, text_columns
from zoo.data.datasets.column_schema import TableSchema
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.splits import shortened
from zoo.errors import BadInput

SUFFIXES = (".npy", ".npz", *image_files.SUFFIXES, *text_columns.SUFFIXES)


class InputLine(NamedTuple):
    """A line of a stream: its number from 1, its `id` or None, and `[1, *shape]` or `[text]`, or an error."""

    number: int
    id: Any
    examples: np.ndarray | list[str] | None
    error: str = ""


def read(
    path: str | Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    features: Sequence[str] = (),
    columns: TableSchema | None = None,
    resize: str | None = None,
    form: DelimitedFormat = FOUND,
) -> np.ndarray:
    """Reads the examples of one file.

    Args:
        path: a .npy or .npz file with one example or a stack of examples (grey images with an axis of one channel or
            without it), a .png or .jpg file with one, or a .csv or .tsv with one per row.
        shape: shape of one example.
        dtype: dtype of the model's input.
        features: names of the table columns to read, in the model's order; other columns are ignored. Without names
            the table must have one column per number of an example.
        columns: what the table's columns are; None where all are complete numbers.
        resize: how an image of another size gets that of `shape`; None: it is refused. See `image_files.Shape`.
        form: how delimited files are written, as far as it is known.

    Returns:
        `[examples, *shape]` of that dtype.

    Raises:
        BadInput: names the file, what is wrong and what was expected; for a table also the line and the column.
    """
    path = Path(path)
    if text_columns.is_table(path):
        return _table(path, shape, dtype, features, columns, form)
    if image_files.is_image(path) and resize in image_files.RESIZE and shape[2:] in ((), (1,), (3,)):
        target = image_files.Shape(*shape[:2], channels=3 if shape[2:] == (3,) else 1, resize=resize)
        return numbers(image_files.read(path, target).pixels.reshape(1, *shape), dtype)
    readers = {".npy": _npy, ".npz": _npz} | dict.fromkeys(image_files.SUFFIXES, lambda path: _image(path, shape))
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path}: unknown kind of file; expected {', '.join(SUFFIXES)}, or - for JSON lines on stdin")
    try:
        values = _with_channels(_decoded(reader, path), shape)
        if values.shape != shape and not _is_stack(values, shape):
            raise BadInput(f"shape {values.shape}, expected {shape} or {_text(shape)}")
        return numbers(values, dtype, may_lack=columns is not None).reshape(-1, *shape)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def lines(
    stream: Iterable[bytes], shape: tuple[int, ...], dtype: np.dtype, columns: TableSchema | None = None
) -> Iterator[InputLine]:
    """Reads one example from each line, as a nested list or as `{"x": [...], "id": ...}`; empty lines are skipped.

    Of a table with `columns` an example is an object with a value for each column, null or left out where it is
    missing.

    A line that cannot be used becomes an `InputLine` with an error, and reading continues.
    """
    for number, text in enumerate(stream, 1):
        if not text.strip():
            continue
        name = None
        try:
            value = _parsed(text)
            if isinstance(value, dict):
                name = json_id(value)
                if columns is not None and "x" not in value:
                    yield InputLine(number, name, _row(value, columns))
                    continue
                value = _member(value)
            yield InputLine(number, name, numbers(_one(value, shape), dtype)[None])
        except BadInput as error:
            yield InputLine(number, name, None, str(error))


def json_id(value: dict[str, Any]) -> Any:
    """The `id` of a line, which its answer repeats; None without one.

    Raises:
        BadInput: it holds NaN or Infinity: Python reads them, but an answer with them would not be JSON.
    """
    try:
        json.dumps(value.get("id"), allow_nan=False)
    except ValueError:
        raise BadInput("id holds NaN or Infinity, which JSON does not have; expected a text or a number") from None
    return value.get("id")


def check_shape(examples: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuses an array that is not `[examples, *shape]`."""
    if not _is_stack(examples, shape):
        raise BadInput(f"shape {examples.shape}, expected {_text(shape)}")


def numbers(values: np.ndarray, dtype: np.dtype, first: int = 0, *, may_lack: bool = False) -> np.ndarray:
    """Converts numbers to another dtype, without loss of range.

    Args:
        values: array of any shape.
        dtype: a float or integer dtype.
        first: index of these values in a larger array, for errors.
        may_lack: whether NaN is a missing value, which the model takes.

    Raises:
        BadInput: NaN or infinite, or for integers a fraction or a value out of range; names the index.
    """
    if values.dtype == dtype and dtype.kind in "iu":
        return values
    if values.dtype.kind not in "fiub":
        raise BadInput(f"holds {values.dtype.name}, expected numbers")
    # Values that do not fit are detected below and reported with their index.
    with np.errstate(over="ignore", invalid="ignore"):
        converted = values.astype(dtype, copy=False)
    if dtype.kind in "iu":
        # Compared before the cast: a fraction or 256 would silently become another pixel.
        limits = np.iinfo(dtype)
        fits = (values >= limits.min) & (values <= limits.max) & (converted == values)
        expected = f"whole numbers from {limits.min} to {limits.max}"
    else:
        fits, expected = np.isfinite(converted) | (may_lack & np.isnan(values)), f"finite {dtype.name} numbers"
    if not fits.all():
        index = tuple(int(i) for i in np.argwhere(~fits)[0])
        raise BadInput(f"{values[index]} at {[first + index[0], *index[1:]]}, expected {expected}")
    return converted


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where the text is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _decoded(reader: Callable[[Path], np.ndarray], path: Path) -> np.ndarray:
    try:
        return reader(path)
    except BadInput:
        raise
    except Exception as error:
        # A damaged header surfaces as nearly anything: MemoryError, TokenError, NotImplementedError, struct.error.
        if isinstance(error, OSError) and error.strerror:
            raise BadInput(f"cannot be read: {error.strerror}") from error
        raise BadInput(f"cannot be read: {one_line(error)}; expected a whole {path.suffix.lower()} file") from error


def _npy(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _npz(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise BadInput("is not in the format of .npz, expected what numpy.savez(path, x=...) writes")
        # Not the path: NumPy leaves the file open where its directory is damaged.
        file.seek(0)
        arrays = np.load(file, allow_pickle=False)
        names = list(arrays.files)
        if "x" not in names and len(names) != 1:
            raise BadInput(f"has the arrays {', '.join(names) or '(none)'}; expected one named x, or only one")
        return np.asarray(arrays["x" if "x" in names else names[0]])


def _table(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    features: Sequence[str],
    columns: TableSchema | None,
    form: DelimitedFormat,
) -> np.ndarray:
    """All rows or none, as of the other files: where one is bad, the numbers of the answers would no longer fit."""
    if len(shape) != 1:
        raise BadInput(f"{path}: is a table, expected examples of shape {shape}; give a .npy or .npz file")
    table = text_columns.read(path, form)
    if columns is not None:
        return column_schema.encoded(table, columns)
    if not features and len(table.header) != shape[0]:
        raise BadInput(
            f"{path}: has {len(table.header)} columns, and the run keeps no names to choose by; expected the "
            f"{shape[0]} columns that it was trained on, in their order"
        )
    values = column_schema.encoded(table, column_schema.plain(features or table.header))
    try:
        return numbers(values, dtype)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _row(value: dict[str, Any], columns: TableSchema) -> np.ndarray:
    """The example of an object with values by column, `[1, features]`."""
    known = {name: value.get(name) for name in columns.names}
    unknown = [name for name in value if name not in known and name != "id"]
    if unknown:
        raise BadInput(f"has {unknown[0]!r}, expected the columns {shortened(columns.names)}")
    return column_schema.encoded(text_columns.of_records([known], columns.names), columns)


def _image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    # Only images need it.
    from PIL import Image

    if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
        raise BadInput(f"is an image, expected examples of shape {shape}; give a .npy or .npz file")
    with Image.open(path, formats=["PNG", "JPEG"]) as image:
        if image.size[::-1] != shape[:2]:
            raise BadInput(f"{_size(image.size[::-1])} pixels, expected {_size(shape[:2])}; resize the image first")
        if image.mode[0] in "IF":
            raise BadInput("more than 8 bits per pixel, expected 8; convert the image first")
        if image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            raise BadInput("has transparent pixels, expected opaque ones; put it on a background first")
        return np.asarray(image.convert("RGB" if shape[2:] == (3,) else "L")).reshape(shape)


def _size(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]} (width x height)"


def _is_stack(values: np.ndarray, shape: tuple[int, ...]) -> bool:
    return values.ndim == 1 + len(shape) and values.shape[1:] == shape


def _with_channels(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Grey images with the axis of one channel where the model has it, and without it where it has none."""
    if shape[2:] == (1,) and values.shape[-2:] == shape[:2] and values.ndim <= len(shape):
        return values[..., None]
    if len(shape) == 2 and values.shape[-3:] == (*shape, 1):
        return values[..., 0]
    return values


def _text(shape: tuple[int, ...]) -> str:
    return f"[n, {', '.join(map(str, shape))}]"


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {one_line(error)}") from None


def _member(value: dict[str, Any]) -> Any:
    if "x" not in value:
        raise BadInput(f'has {", ".join(map(repr, value)) or "nothing"}, expected {{"x": [...]}}')
    return value["x"]


def _one(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    # NumPy would give every entry the room of the longest text.
    _check_numbers(value)
    try:
        values = np.array(value)
    except ValueError:
        raise BadInput(f"lists of different lengths, expected an array of shape {shape}") from None
    if values.shape != shape:
        raise BadInput(f"shape {values.shape}, expected {shape}")
    if values.dtype == object:
        raise BadInput("holds a whole number of more than 64 bits, expected smaller ones")
    return values


def _check_numbers(value: Any) -> None:
    """Refuses anything but numbers and lists in a value."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, list):
            left.extend(each)
        elif not isinstance(each, (int, float)):
            kind = {str: "text", dict: "an object"}.get(type(each), "null")
            raise BadInput(f"holds {kind}{f' ({each[:20]!r})' if kind == 'text' else ''}, expected numbers")
