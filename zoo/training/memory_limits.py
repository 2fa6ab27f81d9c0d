"""Refuses a model or a batch that cannot fit in memory, before its first array is made, and a model that is too deep.

Linux grants more memory than there is and ends the process when it is used, without a word.
"""

import contextlib
import math
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

from zoo import memory
from zoo.config import Config
from zoo.data.batches import Batches
from zoo.errors import BadInput

# Each weight has a gradient; Adam's two moments would be four in all, but plain SGD has none.
_ARRAYS_PER_WEIGHT = 2
_FLOAT = 4


@contextlib.contextmanager
def checked_weights() -> Iterator[None]:
    """Counts the weights of all layers that are built inside, and refuses the one that is too large for this machine.

    Nothing is counted where there is a GPU, whose memory is its own and which reports what it lacks.

    Raises:
        BadInput: the weights and their gradients need more memory than there is, or the model has too many layers.
    """
    add_weight, available, counted = keras.layers.Layer.add_weight, memory.total(), [0]

    def counting(layer, shape=None, *arguments, **options):
        counted[0] += math.prod(shape) if isinstance(shape, (tuple, list)) else shape or 1
        needed = counted[0] * _FLOAT * _ARRAYS_PER_WEIGHT
        if needed > available:
            raise BadInput(
                f"the model has {counted[0]:,} weights or more, up to its layer {layer.name}: with their gradients "
                f"they take {memory.readable(needed)}, and this machine has {memory.readable(available)}; make it "
                "narrower or give it fewer layers"
            )
        return add_weight(layer, shape, *arguments, **options)

    if tf.config.list_physical_devices("GPU"):
        with _connected():
            yield
        return
    keras.layers.Layer.add_weight = counting
    try:
        with _connected():
            yield
    finally:
        keras.layers.Layer.add_weight = add_weight


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    """Refuses more layers in a row than Keras can follow, which takes some calls of Python's for each."""
    try:
        yield
    except RecursionError as error:
        if not any("keras" in Path(frame.filename).parts for frame in traceback.extract_tb(error.__traceback__)):
            raise
        raise BadInput(
            "the model has more layers one after another than Keras can connect (it calls itself for each, and Python "
            f"allows {sys.getrecursionlimit():,} such calls); give it fewer layers"
        ) from None


def check_batch(config: Config, batches: Batches) -> None:
    """Refuses a batch whose examples alone, as float32, are larger than the machine's memory.

    Raises:
        BadInput: names --batch_size.
    """
    numbers = sum(math.prod(column.shape[1:]) for column in batches.columns.values())
    needed, available = batches.batch_size * numbers * _FLOAT, memory.total()
    if needed > available:
        raise BadInput(
            f"--batch_size is {config.batch_size}: one batch takes {memory.readable(needed)}, and this machine has "
            f"{memory.readable(available)}; choose a smaller one (the training data have {batches.examples:,} examples)"
        )
