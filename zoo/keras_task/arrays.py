"""Arrays, tensors and tables as NumPy arrays."""

from typing import Any

import keras
import numpy as np

from zoo.errors import BadInput


def nested(part: Any, name: str) -> Any:
    """A nested structure with a NumPy array at each leaf; None stays.

    Args:
        part: arrays, tensors or tables, `[examples, ...]` each.
        name: name of the argument, for errors.

    Raises:
        BadInput: a leaf is no array, ragged, sparse, or of Python objects.
    """
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
