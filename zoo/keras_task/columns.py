"""Nested arrays as the engine's columns by name, and back."""

from typing import Any, NamedTuple

import keras
import numpy as np

from zoo.keras_task.sources import Examples

_PARTS = ("x", "y", "sample_weight")


class Layout(NamedTuple):
    """Names of columns in the structure of the inputs, targets and weights; None where there are none."""

    x: Any
    y: Any
    sample_weight: Any

    def inputs(self, batch: Any) -> Any:
        """The inputs of a batch as the model takes them."""
        return keras.tree.map_structure(lambda name: batch[name], self.x)


def layout(examples: Examples) -> Layout:
    """The layout of examples: `x` for one array, `x/NAME` or `x/NUMBER` in a structure; the same for y."""
    return Layout(*(_names(part, values) for part, values in zip(_PARTS, examples[:3], strict=True)))


def columns(examples: Examples) -> dict[str, np.ndarray]:
    """The arrays of examples by the names of their layout."""
    named: dict[str, np.ndarray] = {}
    for names, values in zip(layout(examples), examples[:3], strict=True):
        pairs = zip(keras.tree.flatten(names), keras.tree.flatten(values), strict=True)
        named |= {name: values for name, values in pairs if values is not None}
    return named


def _names(part: str, values: Any) -> Any:
    if values is None:
        return None
    paths = ["/".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(values)]
    flat = [None if leaf is None else path for path, leaf in zip(paths, keras.tree.flatten(values), strict=True)]
    names = [None if path is None else f"{part}/{path}" if path else part for path in flat]
    return keras.tree.pack_sequence_as(values, names)
