"""One training step: the only place where gradients are reduced, normalised, checked, clipped and applied.

The order is the same on any hardware:

    for each micro-batch: tape -> terms -> sums of losses, weights and gradients on this replica
    (--sam: all-reduce, then once more at the worst weights nearby)
    all-reduce the sums -> divide by the global weight -> add the penalty once -> norm and finite check -> clip
    -> schedule -> optimizer of each group (decoupled decay in it) -> moving average (taken back if it is skipped)

Nothing is divided before the reduction, so a replica may hold any number of the examples, also none.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from zoo import randomness
from zoo.engine import (
    batch_losses,
    gradient_noise,
    loss_scaling,
    private_apis,
    reduction,
    regularization,
    sharpness,
    skipping,
)
from zoo.engine.optimizers import Group
from zoo.engine.task import LocalSums, ReplicaBatch, StepFunctions, Task, Values, values_of
from zoo.terms import WeightedSum


def train(
    task: Task, parts: StepFunctions, share: ReplicaBatch, step: tf.Tensor, measure: tf.Tensor
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Runs one training step on this replica, together with the others.

    Args:
        task: model, losses and optimizers.
        parts: functions of this file bound to the task, perhaps compiled.
        share: this replica's part of the batch.
        step: scalar int32.
        measure: scalar bool, whether to compute the gradient's norm even if it is not clipped.

    Returns:
        The terms' sums, and scalars by name: gradient norm (0 if not computed), learning rates. The same on all
        replicas.
    """
    # Read once: programs that run side by side would wait for each other at the variables' locks.
    values = [tf.convert_to_tensor(value) for value in values_of(task.variables)]
    scales = loss_factors(task, parts, values, share, step)
    batch_sums, pulls = batch_losses.pulls(task, parts, values, share, step)
    if task.loss_scale is not None:
        scale = tf.convert_to_tensor(task.loss_scale.scale)
        scales = {name: scale * scales.get(name, 1.0) for name in task.losses}
        pulls = {name: tf.cast(scale, pull.dtype) * pull for name, pull in pulls.items()}

    def compute(number: tf.Tensor) -> LocalSums:
        rows = share.read(number)
        own = batch_losses.of_slice(pulls, rows.first_row, rows.weights.shape[0])
        return parts.gradients(rows, values, scales, step, own)

    if share.cut.replicas == share.micro_batches == 1 and not share.cut.is_exact:
        # Added up inside the update: large gradients would go through memory once more.
        locals = [compute(tf.constant(part)) for part in range(share.slices)]
    else:
        locals = [reduction.over_slices(compute, share)]
    if task.sharpness is not None:
        locals = [sharpness.second_pass(task, parts, share, step, reduction.added(locals), values, scales)]
    sums, scalars = parts.update(locals, measure)
    return sums | batch_sums, scalars


def update(
    task: Task, locals: list[LocalSums], measure: tf.Tensor
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Turns the reduced sums into metrics and applies the update; the second half of `train`."""
    total, scalars, extra = _unscaled(task, reduction.added(locals)), {}, None
    if task.penalty is not None:
        scalars["penalty"], extra = regularization.gradients(task.penalty, values_of(task.variables))
    gradients = global_gradients(task, total, extra)
    if task.clip_norm or task.loss_scale is not None or task.skipping is not None:
        norm = global_norm(gradients)
    else:
        # The norm would add a tenth to an MLP's step. A gradient that is not finite shows in the next loss, and the
        # last step of each call, after which a checkpoint may be written, always computes it. The branch computes the
        # gradients again: as its arguments they could not be fused with the update.
        norm = tf.cond(measure, lambda: global_norm(global_gradients(task, total, extra)), lambda: 0.0)
    if task.clip_norm:
        # Not min(1, clip / norm): 0 / 0 must not come from a gradient of 0, and NaN must stay NaN to be seen.
        scale = task.clip_norm / tf.maximum(norm, task.clip_norm)
        gradients = [gradient * tf.cast(scale, gradient.dtype) for gradient in gradients]
    if task.gradient_noise:
        gradients = gradient_noise.added(gradients, task.gradient_noise, task.seed, iterations(task))
    return finish(task, total, gradients, norm, scalars)


def finish(
    task: Task,
    total: LocalSums,
    gradients: list[tf.Tensor],
    norm: tf.Tensor,
    scalars: dict[str, tf.Tensor],
    remember: Callable[[], None] | None = None,
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Applies the update, unless the step is skipped.

    Args:
        task: what the step works on.
        total: sums over the global batch.
        gradients: what the optimizers get.
        norm: scalar, norm of the gradient.
        scalars: scalars of the step so far.
        remember: changes further variables of this replica that belong to the update; None: none.
    """
    scalars = {**scalars, "gradient_norm": norm, **learning_rates(task.groups)}

    def apply() -> None:
        _apply(task, gradients)
        _follow(task, total.statistics)
        if remember is not None:
            remember()

    sums = total.sums
    if task.loss_scale is not None:
        scalars |= loss_scaling.apply_if_finite(task.loss_scale, norm, _changed(task), apply)
    elif task.skipping is not None:
        loss = tf.add_n([mean_of(sums[name]) for name in task.losses if name in sums])
        scalars |= skipping.apply_if_good(task.skipping, loss, norm, _changed(task), apply)
        sums = skipping.without_non_finite(sums) if task.skipping.non_finite else sums
    else:
        apply()
    return sums, scalars


def mean_of(total: WeightedSum) -> tf.Tensor:
    """The mean of a term from its sums; 0 where all weights are 0."""
    return tf.cast(total.numerator, tf.float32) * tf.math.reciprocal_no_nan(tf.cast(total.weight, tf.float32))


def _unscaled(task: Task, total: LocalSums) -> LocalSums:
    """The sums without the loss scale."""
    if task.loss_scale is None:
        return total
    inverse = 1.0 / tf.convert_to_tensor(task.loss_scale.scale)
    return total._replace(gradients=[gradient * tf.cast(inverse, gradient.dtype) for gradient in total.gradients])


def _changed(task: Task) -> list[tf.Variable]:
    """This replica's copies of all variables that an update changes."""
    optimizers = [variable for group in task.groups for variable in group.optimizer.variables]
    keras_variables = [*task.model.weights, *optimizers]
    own = [*task.averages, *(task.second_order.variables.values() if task.second_order is not None else ())]
    return [private_apis.local_copy(each) for each in (*(each.value for each in keras_variables), *own)]


def global_gradients(task: Task, total: LocalSums, extra: list[tf.Tensor] | None) -> list[tf.Tensor]:
    """The gradient of the mean loss over the global batch, plus that of the penalty."""
    gradients = total.gradients
    if task.has_one_weight:
        # If all weights are 0 the gradient is 0, not NaN.
        mean = tf.math.reciprocal_no_nan(total.sums[task.losses[0]].weight)
        gradients = [gradient * tf.cast(mean, gradient.dtype) for gradient in gradients]
    return gradients if extra is None else [one + more for one, more in zip(gradients, extra, strict=True)]


def evaluate(
    task: Task, parts: StepFunctions, share: ReplicaBatch, step: tf.Tensor
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Evaluates one batch: the terms' sums over all replicas, and the outputs `[global batch, ...]` in order."""
    if task.batch_losses is not None:
        return batch_losses.evaluated(task, lambda rows: parts.examine(rows, step), share)
    return reduction.collected(lambda number: parts.examine(share.read(number), step), share)


def global_norm(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The Euclidean norm of all tensors together, as the norm of the columns' norms.

    XLA vectorises a sum over columns on a CPU; a sum over all elements is one long chain of additions, which adds 20 %
    to an MLP's step. The root in between keeps XLA from fusing the two sums.
    """
    tensors = [tf.cast(tensor, tf.float32) for tensor in tensors]
    columns = [tf.sqrt(tf.reduce_sum(tf.square(tensor), axis=0)) if tensor.shape.rank else tensor for tensor in tensors]
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(column)) for column in columns]))


def learning_rates(groups: Sequence[Group]) -> dict[str, tf.Tensor]:
    """The rates of the next update by tag: `learning_rate`, or one tag for each of several groups."""
    one = len(groups) == 1
    return {
        "learning_rate" if one else f"learning_rate/{group.name}": tf.cast(group.optimizer.learning_rate, tf.float32)
        for group in groups
    }


def loss_factors(
    task: Task, parts: StepFunctions, values: Values, share: ReplicaBatch, step: tf.Tensor
) -> dict[str, tf.Tensor]:
    """1 / global weight of each loss; needed before the tape if several losses have their own weights."""
    if task.has_one_weight:
        return {}
    total = reduction.over_slices(lambda number: parts.weights(share.read(number), values, step), share)
    return {name: tf.math.reciprocal_no_nan(weight) for name, weight in total.items()}


def _apply(task: Task, gradients: list[tf.Tensor]) -> None:
    by_variable = {id(variable): gradient for variable, gradient in zip(task.variables, gradients)}
    # Keras' optimizers always sum over the replicas again: each replica passes its share of the sum.
    share = 1.0 / tf.distribute.get_replica_context().num_replicas_in_sync
    for group in task.groups:
        mine = [by_variable[id(variable)] for variable in group.variables]
        group.optimizer.apply([gradient * share for gradient in mine] if share != 1.0 else mine, group.variables)
    if task.averages:
        step = tf.cast(iterations(task), tf.float32)
        if task.average_start is None:
            # A short memory at first, or the random initial weights would count for 1 / (1 - decay) steps.
            rate = 1.0 - tf.minimum(task.average_decay, (1.0 + step) / (10.0 + step))
        else:
            # The mean of all weights since then: Izmailov et al., "Averaging weights leads to wider optima", 2018.
            rate = 1.0 / tf.maximum(step - task.average_start, 1.0)
        for average, value in zip(task.averages, values_of(task.model.trainable_variables), strict=True):
            average.assign_add(tf.cast(rate, average.dtype) * (value - average))


def iterations(task: Task) -> tf.Tensor:
    """The updates that the optimizer has made."""
    return tf.convert_to_tensor(task.groups[0].optimizer.iterations.value)


def _follow(task: Task, statistics: list[WeightedSum]) -> None:
    """Updates the layers' moving statistics, once per step and from the global batch."""
    for (variable, rate), total in zip(task.moving_statistics, statistics, strict=True):
        statistic = randomness.Statistic(variable, rate, *total)
        variable.assign(randomness.moving_average(variable.value, statistic))
