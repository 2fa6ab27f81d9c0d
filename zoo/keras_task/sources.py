"""Data as `fit` takes them (arrays, nested arrays, datasets), read into nested NumPy arrays."""

import itertools
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo import memory
from zoo.errors import BadInput


class Examples(NamedTuple):
    """Inputs, targets and weights of examples, each a nested structure of arrays `[examples, ...]`.

    Attributes:
        x: inputs.
        y: targets; None without any.
        sample_weight: weights, one structure for all outputs or one array; None for 1 each.
        batch_size: examples per batch of a dataset; None for arrays, which have no batches.
        notes: what a reader should know of a dataset.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    batch_size: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of examples."""
        return len(keras.tree.flatten(self.x)[0])

    def slice(self, rows: slice) -> "Examples":
        """The examples of some rows."""
        cut = keras.tree.map_structure(lambda column: None if column is None else column[rows], tuple(self[:3]))
        return Examples(*cut, *self[3:])


def read(x: Any, y: Any = None, sample_weight: Any = None, *, name: str = "x", steps: int | None = None) -> Examples:
    """Reads arrays, or all batches of a dataset once.

    Args:
        x: arrays (a nested structure of NumPy arrays, tensors, pandas), or a `tf.data.Dataset`, `keras.utils.PyDataset`
            or Grain `MapDataset` of batches `x`, `(x, y)` or `(x, y, sample_weight)`.
        y: targets; None for a dataset.
        sample_weight: weights; None for a dataset.
        name: name of the argument, for errors.
        steps: batches of a dataset to read; None for all.

    Raises:
        BadInput: the data are of another kind, empty, endless, ragged, sparse or too large for the memory.
    """
    batches = _batches(x, name)
    if batches is None:
        return _checked(Examples(_arrays(x, name), _arrays(y, "y"), _arrays(sample_weight, "sample_weight")), name)
    if y is not None or sample_weight is not None:
        raise BadInput(f"{name} is a dataset and y or sample_weight is given, too: expected them in its batches")
    return _checked(_collected(batches, x, name, steps), name)


def is_dataset(x: Any) -> bool:
    """Whether data have batches of their own."""
    return isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)) or _is_grain(x)


def split(examples: Examples, fraction: float) -> tuple[Examples, Examples]:
    """Cuts the last part off for validation, as `validation_split` does.

    Raises:
        BadInput: one of the parts would be empty.
    """
    if not 0.0 < fraction < 1.0:
        raise BadInput(f"validation_split is {fraction:g}: expected a fraction between 0 and 1")
    edge = int(examples.count * (1.0 - fraction))
    if edge in (0, examples.count):
        raise BadInput(
            f"validation_split is {fraction:g}: of {examples.count} examples that leaves one part empty; expected more "
            "examples, or another fraction"
        )
    return examples.slice(slice(0, edge)), examples.slice(slice(edge, None))


def weigh_classes(examples: Examples, class_weight: Mapping[int, float] | None) -> Examples:
    """The examples with the weight of their class; integer targets, or the largest entry of one-hot targets.

    Raises:
        BadInput: there are weights of examples as well, several outputs, or keys that are not classes.
    """
    if class_weight is None:
        return examples
    if not isinstance(class_weight, Mapping):
        raise BadInput(f"class_weight is a {type(class_weight).__name__}: expected a dictionary of numbers by class")
    if examples.sample_weight is not None:
        raise BadInput("class_weight and sample_weight are both given: expected one; multiply them into sample_weight")
    if keras.tree.is_nested(examples.y) or examples.y is None:
        raise BadInput("class_weight: the model has several targets; expected one, or sample_weight for each of them")
    labels = examples.y
    if labels.ndim > 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else np.argmax(labels, axis=-1)
    if labels.ndim != 1:
        raise BadInput(f"class_weight: y has shape {examples.y.shape}; expected one class for each example")
    labels = np.round(labels).astype(np.int64)
    weights = np.ones(len(labels), np.float32)
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    return examples._replace(sample_weight=weights)


def _batches(x: Any, name: str) -> Iterable[Any] | None:
    """The batches of a dataset as NumPy arrays or tensors; None for arrays."""
    if isinstance(x, tf.data.Dataset):
        return x
    if isinstance(x, keras.utils.PyDataset):
        return map(x.__getitem__, range(len(x)) if x.num_batches is not None else itertools.count())
    if _is_grain(x):
        return map(x.__getitem__, range(len(x)))
    if hasattr(x, "__next__") or type(x).__name__ == "DataLoader":
        raise BadInput(
            f"{name} is a {type(x).__name__}, whose batches cannot be read again: expected arrays, a tf.data.Dataset, "
            "a keras.utils.PyDataset or a Grain MapDataset"
        )
    return None


def _is_grain(x: Any) -> bool:
    # Whoever has such a dataset has imported it.
    grain = sys.modules.get("grain")
    return grain is not None and isinstance(x, grain.MapDataset)


def _collected(batches: Iterable[Any], x: Any, name: str, steps: int | None) -> Examples:
    if _is_endless(x) and steps is None:
        raise BadInput(f"{name} is an endless dataset: expected one with an end, or steps_per_epoch (validation_steps)")
    read, structure, sizes, total = [], None, [], 0
    for batch in itertools.islice(batches, steps):
        parts = Examples(*(_arrays(part, name) for part in keras.utils.unpack_x_y_sample_weight(batch)))
        flat = keras.tree.flatten(parts[:3])
        if structure is not None and len(flat) != len(read[0]):
            raise BadInput(f"{name}: batch {len(read)} has other parts than the first; expected the same in each")
        structure = structure or parts
        total += sum(column.nbytes for column in flat if column is not None)
        if total > memory.total():
            raise BadInput(
                f"{name} is larger than this machine's memory ({memory.readable(memory.total())}), and its examples "
                "are kept there; expected fewer, or np.memmap arrays"
            )
        sizes.append(parts.count)
        read.append(flat)
    if structure is None:
        raise BadInput(f"{name} has no batches: expected at least one")
    columns = [None if rows[0] is None else _joined(rows, name) for rows in zip(*read, strict=True)]
    return Examples(*keras.tree.pack_sequence_as(structure[:3], columns), sizes[0], _notes(x, name, sizes))


def _is_endless(x: Any) -> bool:
    if isinstance(x, tf.data.Dataset):
        return int(x.cardinality()) == tf.data.INFINITE_CARDINALITY
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches is None
    return len(x) >= 2**62


def _joined(rows: tuple[np.ndarray, ...], name: str) -> np.ndarray:
    shapes = list(dict.fromkeys(row.shape[1:] for row in rows))
    if len(shapes) > 1:
        raise BadInput(
            f"{name} has batches whose examples have shapes {shapes[0]} and {shapes[1]}: expected one shape; pad them "
            "all to the same length"
        )
    return np.concatenate(rows)


def _notes(x: Any, name: str, sizes: list[int]) -> tuple[str, ...]:
    notes = []
    if any(size != sizes[0] for size in sizes[:-1]):
        notes.append(f"{name} has batches of {min(sizes)} to {max(sizes)} examples: cut into batches of {sizes[0]}")
    if isinstance(x, keras.utils.PyDataset) and type(x).on_epoch_end is not keras.utils.PyDataset.on_epoch_end:
        notes.append(f"{type(x).__name__}.on_epoch_end is not called: its batches are read once, the engine shuffles")
    return tuple(notes)


def _arrays(part: Any, name: str) -> Any:
    """The part with a NumPy array at each leaf; None stays."""
    return keras.tree.map_structure(lambda leaf: None if leaf is None else _array(leaf, name), part)


def _array(leaf: Any, name: str) -> np.ndarray:
    kind = type(leaf).__name__
    if kind in ("RaggedTensor", "SparseTensor") or hasattr(leaf, "tocsr"):
        raise BadInput(f"{name} has a {kind}: expected dense arrays; pad it, or convert it by to_tensor() or toarray()")
    is_pandas = hasattr(leaf, "to_numpy") and hasattr(leaf, "index")
    array = leaf if isinstance(leaf, np.ndarray) else leaf.to_numpy() if is_pandas else _converted(leaf)
    if array is None or not array.ndim:
        raise BadInput(f"{name} has a {kind} where an array is expected: [examples, ...]; batch it, or use np.asarray")
    if array.dtype == object and not all(isinstance(each, (str, bytes)) for each in array.ravel()[:100]):
        raise BadInput(f"{name} has an array of Python objects: expected numbers or texts, all examples of one shape")
    if array.dtype == np.float64 and not isinstance(array, np.memmap):
        array = array.astype(keras.config.floatx())
    # As Keras: a column of a table.
    return array[:, None] if is_pandas and array.ndim == 1 else array


def _converted(leaf: Any) -> np.ndarray | None:
    return np.asarray(leaf) if hasattr(leaf, "__array__") else None


def _checked(examples: Examples, name: str) -> Examples:
    columns = [column for column in keras.tree.flatten(examples[:3]) if column is not None]
    if not keras.tree.flatten(examples.x) or any(column is None for column in keras.tree.flatten(examples.x)):
        raise BadInput(f"{name} is missing: expected arrays [examples, ...] or a dataset")
    counts = {len(column) for column in columns}
    if len(counts) > 1:
        shown = ", ".join(str(column.shape) for column in columns)
        raise BadInput(f"{name}, y and sample_weight have arrays of shapes {shown}: expected as many examples in each")
    if counts == {0}:
        raise BadInput(f"{name} has no examples: expected at least one")
    return examples
