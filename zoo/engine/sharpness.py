"""Sharpness-aware minimization: the gradient at the worst weights nearby, for a flat minimum.

Foret et al., "Sharpness-aware minimization for efficiently improving generalization", 2021, algorithm 1, and its
adaptive form, in which a weight may change by a share of itself: Kwon et al., "ASAM", 2021, section 3. The first
gradient is that of the global batch, so that the run is the same on any number of devices; the paper takes one for each
device.
"""

import tensorflow as tf

from zoo.engine import batch_losses, reduction
from zoo.engine.task import LocalSums, ReplicaBatch, Sharpness, StepFunctions, Task, Values

KINDS = ("none", "sam", "asam")
# The papers' radii for most tasks.
RADII = {"sam": 0.05, "asam": 0.5}
# Added to the sizes of weights, so that those of 0 may change (ASAM, section 5.1).
_LEAST_SIZE = 0.01


def make(kind: str, radius: float | None) -> Sharpness | None:
    """The setting of one of `KINDS`; a radius of None is that of the paper."""
    if kind == "none":
        return None
    return Sharpness(RADII[kind] if radius is None else radius, kind == "asam")


def worst(sharpness: Sharpness, values: Values, gradients: list[tf.Tensor]) -> Values:
    """The weights within the radius at which the loss is largest, to first order.

    Args:
        sharpness: radius and kind of distance.
        values: the weights.
        gradients: their gradients, times any positive number.
    """
    sizes = [tf.abs(value) + _LEAST_SIZE if sharpness.adaptive else tf.ones_like(value) for value in values]
    scaled = [size * tf.cast(gradient, size.dtype) for size, gradient in zip(sizes, gradients, strict=True)]
    squares = [tf.reduce_sum(tf.square(tf.cast(each, tf.float32))) for each in scaled]
    # At a gradient of 0 there is nowhere to go.
    factor = tf.math.divide_no_nan(sharpness.radius, tf.sqrt(tf.add_n(squares)))
    return [
        value + tf.cast(factor, value.dtype) * size * each
        for value, size, each in zip(values, sizes, scaled, strict=True)
    ]


def second_pass(
    task: Task,
    parts: StepFunctions,
    share: ReplicaBatch,
    step: tf.Tensor,
    first: LocalSums,
    values: Values,
    scales: dict[str, tf.Tensor],
) -> LocalSums:
    """The gradients at the worst weights, summed over the global batch, beside the first pass' losses and statistics.

    Both passes draw the same noise.

    Args:
        task: what the step works on.
        parts: functions of the step.
        share: this replica's part of the batch.
        step: scalar int32.
        first: sums of the first pass over the global batch.
        values: the weights.
        scales: factors of the losses by name.
    """
    raised = worst(task.sharpness, values, first.gradients)
    _, pulls = batch_losses.pulls(task, parts, raised, share, step)
    if task.loss_scale is not None:
        scale = tf.convert_to_tensor(task.loss_scale.scale)
        pulls = {name: tf.cast(scale, pull.dtype) * pull for name, pull in pulls.items()}

    def compute(number: tf.Tensor) -> LocalSums:
        rows = share.read(number)
        own = batch_losses.of_slice(pulls, rows.first_row, rows.weights.shape[0])
        return parts.gradients(rows, raised, scales, step, own)

    return first._replace(gradients=reduction.over_slices(compute, share).gradients)
