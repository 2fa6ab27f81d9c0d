"""Batches of sequences that are cut to one of a few widths, in one compiled call."""

import functools
from collections.abc import Callable, Mapping

import tensorflow as tf

from zoo.data.batches import Batches
from zoo.engine.task import MicroBatch, StepFunctions


def all_by_width(batches: Batches, width: tf.Tensor, parts: StepFunctions) -> StepFunctions:
    """The functions of a step that take rows, for rows of any of the widths."""
    return StepFunctions(*(_by_width(batches, width, part) for part in parts[:-1]), parts.update)


def _by_width(batches: Batches, width: tf.Tensor, part: Callable) -> Callable:
    """Wraps `part` to take rows of any of the widths: a branch of the graph, and a program, for each width.

    So one call does many steps of different widths; a call for each width would add an eighth to a small step's time.
    """

    def chosen(rows: MicroBatch, *rest):
        def branch(number: int):
            return part(rows._replace(batch=batches.cut(rows.batch, number)), *rest)

        if len(batches.widths) < 2:
            return branch(0) if batches.widths else part(rows, *rest)
        return tf.switch_case(width, [functools.partial(branch, number) for number in range(len(batches.widths))])

    return chosen


def filled(examine: Callable, specs: Mapping[str, tf.TensorSpec]) -> Callable:
    """Pads the outputs of short sequences with zeros to one shape."""

    def padded(values: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
        missing = [whole - size for whole, size in zip(spec.shape[1:], values.shape[1:])]
        return tf.pad(values, [(0, 0), *((0, some) for some in missing)]) if any(missing) else values

    def examined(*arguments):
        sums, outputs = examine(*arguments)
        return sums, {name: padded(values, specs[name]) for name, values in outputs.items()}

    return examined
