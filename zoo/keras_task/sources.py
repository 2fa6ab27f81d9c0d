"""Data as `fit` takes them (arrays, nested arrays, datasets), as nested NumPy arrays."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from zoo.errors import BadInput
from zoo.keras_task import arrays, datasets


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
    """Reads arrays, or all batches of a dataset once: into memory, or into files where they are large.

    Args:
        x: arrays (a nested structure of NumPy arrays, tensors, pandas), or a `tf.data.Dataset`, `keras.utils.PyDataset`
            or Grain `MapDataset` of batches `x`, `(x, y)` or `(x, y, sample_weight)`.
        y: targets; None for a dataset.
        sample_weight: weights; None for a dataset.
        name: name of the argument, for errors.
        steps: batches of a dataset to read; None for all.

    Raises:
        BadInput: the data are of another kind, empty, endless, ragged, sparse or too large for the disk.
    """
    if not datasets.is_dataset(x, name):
        named = {name: x, "y": y, "sample_weight": sample_weight}
        return _checked(Examples(*(arrays.nested(part, part_name) for part_name, part in named.items())), name)
    if y is not None or sample_weight is not None:
        raise BadInput(f"{name} is a dataset and y or sample_weight is given, too: expected them in its batches")
    parts, batch_size, notes = datasets.read(x, name, steps)
    return _checked(Examples(*parts, batch_size, notes), name)


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
