"""Compiled programs, one for each shape of the inputs, and the few sizes that inputs are padded to."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class CompiledPrograms:
    """A function that is compiled once for each combination of input shapes and then kept.

    Args:
        function: maps nests of tensors to a nest of tensors; it sees their static shapes.
        jit_compile: whether XLA compiles it.
    """

    def __init__(self, function: Callable[..., Any], jit_compile: bool = False):
        self._function = tf.function(function, jit_compile=jit_compile, autograph=False)
        self._programs: dict[tuple[tf.TensorShape, ...], Callable[..., Any]] = {}

    def __call__(self, *inputs: Any) -> Any:
        """The function's outputs.

        Args:
            inputs: nests of tensors, whose structure and dtypes are the same in every call.
        """
        shapes = tuple(each.shape for each in tf.nest.flatten(inputs))
        if shapes not in self._programs:
            specs = tf.nest.map_structure(lambda each: tf.TensorSpec(each.shape, each.dtype), inputs)
            # A call of the tf.function itself would find the program more slowly, and warn about retracing.
            self._programs[shapes] = self._function.get_concrete_function(*specs)
        return self._programs[shapes](*inputs)


def next_size(number: int, sizes: Sequence[int]) -> int:
    """The smallest of ascending sizes that is not below a number; the largest size if all are."""
    return next((size for size in sizes if size >= number), sizes[-1])


def doubled_size(number: int, first: int, limit: int | None = None) -> int:
    """`first`, doubled until it is not below a number, but `limit` at most."""
    size = first
    while size < number:
        size *= 2
    return size if limit is None else min(size, limit)


def zero_padded(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Int32 of a shape: the values, and zeros after them along each axis."""
    padded = np.zeros(shape, np.int32)
    padded[tuple(map(slice, values.shape))] = values
    return padded
