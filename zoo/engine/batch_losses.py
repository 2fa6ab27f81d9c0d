"""Losses over all rows of the global batch, such as contrastive ones, on any number of devices and micro-batches.

A slice of the batch does not have the other rows. So there are two passes (Gao et al., "Scaling deep contrastive
learning batch size under memory limited setup", 2021): the first one collects `forward`'s outputs for all rows, of
which every device computes the loss and its gradient for each output; the second one is the usual pass over the slices,
which carries these gradients on to the weights. Both draw the same noise.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from zoo import terms
from zoo.engine import reduction
from zoo.engine.task import ReplicaBatch, StepFunctions, Task, Values
from zoo.terms import Term, WeightedSum

# Among the outputs while they are collected.
_WEIGHTS = "row weights"


def pulls(
    task: Task, parts: StepFunctions, values: Values, share: ReplicaBatch, step: tf.Tensor
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """The losses of a training step, and their gradient for each output of `forward`, `[global batch, ...]`."""
    if task.batch_losses is None:
        return {}, {}
    outputs, weights = _collected(lambda rows: ({}, parts.outputs(rows, values, step)), share)[1:]
    return slopes(task, outputs, weights)


def slopes(
    task: Task, outputs: Mapping[str, tf.Tensor], weights: tf.Tensor
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """The losses of outputs `[global batch, ...]` with weights `[global batch]`, and their gradient for each output."""
    outputs = dict(outputs)
    floats = {name: values for name, values in outputs.items() if values.dtype.is_floating}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(floats)
        sums = _sums(task.batch_losses, {**outputs, **floats}, weights)
        # A weight is a number of rows, whatever the outputs are.
        means = [
            sums[name].numerator * tf.math.reciprocal_no_nan(tf.stop_gradient(sums[name].weight))
            for name in task.objective
            if name in sums
        ]
        total = tf.add_n(means) if means else tf.constant(0.0)
    return sums, tape.gradient(total, floats, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def of_slice(pulls: Mapping[str, tf.Tensor], first_row: tf.Tensor, rows: int) -> dict[str, tf.Tensor]:
    """The gradients for the outputs of a slice, from those for all rows."""
    return {name: _rows(pull, first_row, rows) for name, pull in pulls.items()}


def evaluated(
    task: Task, examine: Callable, share: ReplicaBatch
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """The sums and outputs of a batch of an evaluation, with the losses over all its rows."""
    sums, outputs, weights = _collected(examine, share)
    return sums | _sums(task.batch_losses, outputs, weights), outputs


def _collected(
    compute: Callable, share: ReplicaBatch
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor], tf.Tensor]:
    def one(number: tf.Tensor):
        rows = share.read(number)
        sums, outputs = compute(rows)
        return sums, outputs | {_WEIGHTS: rows.weights}

    sums, outputs = reduction.collected(one, share)
    return sums, outputs, outputs.pop(_WEIGHTS)


def _sums(
    losses: Callable[..., Mapping[str, Term]], outputs: Mapping[str, tf.Tensor], weights: tf.Tensor
) -> dict[str, WeightedSum]:
    return {name: terms.sums(name, term, weights) for name, term in losses(outputs, weights).items()}


def _rows(values: tf.Tensor, first_row: tf.Tensor, rows: int) -> tf.Tensor:
    sizes = [rows, *values.shape[1:]]
    return tf.ensure_shape(tf.slice(values, [first_row, *[0] * (len(sizes) - 1)], sizes), sizes)
