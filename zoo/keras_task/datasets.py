"""Datasets of batches, which are read once: `tf.data.Dataset`, `keras.utils.PyDataset`, Grain's `MapDataset`."""

import itertools
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.data.spool import Spool
from zoo.errors import BadInput
from zoo.keras_task import arrays, random_draws

_ENDLESS = 2**62


def is_dataset(x: Any, name: str = "x") -> bool:
    """Whether data have batches of their own.

    Raises:
        BadInput: their batches cannot be read.
    """
    if isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)):
        return True
    grain = _grain()
    if grain is not None and isinstance(x, grain.IterDataset):
        raise BadInput(f"{name} is a Grain IterDataset: expected the MapDataset of which to_iter_dataset() made it")
    if grain is None or not isinstance(x, grain.MapDataset):
        if hasattr(x, "__next__") or type(x).__name__ == "DataLoader":
            raise BadInput(
                f"{name} is a {type(x).__name__}, whose batches cannot be read again: expected arrays, a "
                "tf.data.Dataset, a keras.utils.PyDataset or a Grain MapDataset"
            )
        return False
    return True


def read(x: Any, name: str, steps: int | None) -> tuple[tuple[Any, Any, Any], int, tuple[str, ...]]:
    """Reads all batches of a dataset once.

    Args:
        x: the dataset.
        name: name of the argument, for errors.
        steps: batches to read; None for all.

    Returns:
        Inputs, targets and weights, nested arrays `[examples, ...]`; examples in the first batch; notes.

    Raises:
        BadInput: there are none or no end of batches, they differ, or neither memory nor disk has room for them.
    """
    count = _count(x)
    if count is not None and count >= _ENDLESS and steps is None:
        raise BadInput(f"{name} is an endless dataset: expected one with an end, or steps_per_epoch (validation_steps)")
    known = [number for number in (count, steps) if number is not None]
    structure, first, sizes = (), [], []
    with Spool(name, min(known, default=None)) as spool:
        for batch in itertools.islice(_batches(x), steps):
            parts, size = _parts(batch, name)
            flat = _columns(parts)
            if not sizes:
                structure, first = parts, flat
            if len(flat) != len(first):
                raise BadInput(f"{name}: batch {len(sizes)} has other parts than the first; expected the same in each")
            spool.add(flat)
            sizes.append(size)
        if not sizes:
            raise BadInput(f"{name} has no batches: expected at least one")
        columns = iter(spool.columns())
    joined = keras.tree.map_structure(lambda leaf: None if leaf is None else next(columns), structure)
    return joined, sizes[0], (*spool.notes(), *_notes(x, name, sizes, first))


def _columns(parts: Any) -> list[Any]:
    """The leaves that are there."""
    return [leaf for leaf in keras.tree.flatten(parts) if leaf is not None]


def _grain() -> ModuleType | None:
    # Whoever has such a dataset has imported it.
    return sys.modules.get("grain")


def _count(x: Any) -> int | None:
    """The number of batches; None if unknown."""
    if isinstance(x, tf.data.Dataset):
        count = int(x.cardinality())
        return {tf.data.INFINITE_CARDINALITY: _ENDLESS, tf.data.UNKNOWN_CARDINALITY: None}.get(count, count)
    if isinstance(x, keras.utils.PyDataset):
        return _ENDLESS if x.num_batches is None else len(x)
    return len(x)


def _batches(x: Any) -> Iterable[Any]:
    if isinstance(x, tf.data.Dataset):
        return x
    return map(x.__getitem__, range(_count(x)))


def _parts(batch: Any, name: str) -> tuple[tuple[Any, Any, Any], int]:
    """Inputs, targets and weights of a batch, and its examples."""
    parts = tuple(keras.utils.unpack_x_y_sample_weight(batch))
    leaves = _columns(parts)
    shapes = [tuple(leaf.shape) if hasattr(leaf, "shape") else () for leaf in leaves]
    if not leaves or (() in shapes or len({shape[0] for shape in shapes}) > 1):
        shown = ", ".join(f"{type(leaf).__name__} {shape}" for leaf, shape in zip(leaves, shapes, strict=True))
        shown = shown or "nothing"
        raise BadInput(
            f"{name} has batches of {shown}: expected arrays of as many examples, [examples, ...]; if these are the "
            f"parts of one example, batch them: {name}.batch(32)"
        )
    converted = tuple(arrays.nested(part, name) for part in parts)
    return converted, len(_columns(converted)[0])


def _notes(x: Any, name: str, sizes: list[int], first: list[np.ndarray]) -> tuple[str, ...]:
    notes = []
    if any(size != sizes[0] for size in sizes[:-1]):
        notes.append(f"{name} has batches of {min(sizes)} to {max(sizes)} examples: cut into batches of {sizes[0]}")
    if isinstance(x, keras.utils.PyDataset) and type(x).on_epoch_end is not keras.utils.PyDataset.on_epoch_end:
        notes.append(f"{type(x).__name__}.on_epoch_end is not called: its batches are read once, the engine shuffles")
    drawn = _drawn(x, name, first)
    if drawn:
        notes.append(
            f"{name} draws at random ({drawn}), and is read once: all epochs see the same draws; put Random* layers "
            "(keras.layers.RandomFlip) into the model instead, where each step draws anew"
        )
    return tuple(notes)


def _drawn(x: Any, name: str, first: list[np.ndarray]) -> str:
    """Where a dataset draws at random; empty where it does not, as far as can be seen."""
    if isinstance(x, tf.data.Dataset):
        return random_draws.of_tensorflow(x)
    if not isinstance(x, keras.utils.PyDataset) and random_draws.has_random_map(x):
        return "random_map"
    # After all others, so that what was read does not depend on it.
    again = _columns(_parts(x[0], name)[0])
    same = len(first) == len(again) and all(map(random_draws.is_same, first, again))
    return "" if same else "batch 0 differs when it is read again"
