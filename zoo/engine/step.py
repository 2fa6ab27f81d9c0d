"""One training step: the one place where gradients are reduced, normalised, checked, clipped and applied.

In this order, whatever the hardware:

    for each micro-batch: tape -> terms -> sums of losses, weights and gradients on this replica
    all-reduce the sums -> divide by the global weight -> add the penalty once -> norm and finite check -> clip
    -> schedule -> optimizer of each group (decoupled decay in it) -> moving average

Nothing is divided before the reduction, so a replica may hold any share of the examples, also none.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from zoo import randomness, terms
from zoo.engine import regularization
from zoo.engine.optimizers import Group
from zoo.terms import Sums, Term

Batch = dict[str, tf.Tensor]
Forward = Callable[[keras.Model, Batch, bool], dict[str, Term]]


class Task(NamedTuple):
    """All that a step needs to know, fixed before the first trace."""

    model: keras.Model
    forward: Forward
    objective: tuple[str, ...]
    groups: Sequence[Group]
    penalty: regularization.Penalty | None
    clip_norm: float
    averages: Sequence[tf.Variable]
    average_decay: float
    seed: int
    split: bool
    # Filled by each trace of a forward pass: the variables that follow its statistics, and how fast.
    followers: list[tuple[keras.Variable, float]]


class Rows(NamedTuple):
    """A replica's slice of one micro-batch."""

    batch: Batch
    weights: tf.Tensor
    first_row: tf.Tensor


class Local(NamedTuple):
    """What one micro-batch, one replica or, after the reduction, the global batch adds up to."""

    gradients: list[tf.Tensor]
    sums: dict[str, Sums]
    statistics: list[Sums]


class Micro(NamedTuple):
    """The two functions on a micro-batch that may be compiled by themselves."""

    gradients: Callable[..., Local]
    weights: Callable[..., dict[str, tf.Tensor]]


def train(
    task: Task,
    micro: Micro,
    read: Callable[[tf.Tensor], Rows],
    accumulate: int,
    step: tf.Tensor,
    measure: tf.Tensor,
) -> tuple[dict[str, Sums], dict[str, tf.Tensor]]:
    """Does one step on this replica, in step with the others.

    Args:
        task: model, losses and optimizers.
        micro: `gradients` and `weights` of this file bound to the task, perhaps compiled.
        read: gives this replica's rows of a micro-batch by its number.
        accumulate: number of micro-batches.
        step: scalar int32.
        measure: scalar bool, whether the norm of the gradient is wanted where nothing is clipped by it.

    Returns:
        The terms' sums, and scalars by name: gradient norm (0 where not measured), learning rates. The same on all
        replicas.
    """
    scales = _scales(task, micro, read, accumulate, step)
    local = _over_micro_batches(lambda number: micro.gradients(read(number), scales, step), accumulate)
    total: Local = all_reduce(local)
    scalars, extra = {}, None
    if task.penalty is not None:
        scalars["penalty"], extra = regularization.gradients(task.penalty, _values(task.model))
    gradients = _global_gradients(task, total, extra)
    if task.clip_norm:
        norm = global_norm(gradients)
    else:
        # An MLP's step would take a tenth longer with the norm in it. A gradient that is not finite shows in the next
        # loss, and the last step of each call, after which a checkpoint may be written, is always measured. The
        # gradients are made again in the branch: as its arguments they could not be fused with the update.
        norm = tf.cond(measure, lambda: global_norm(_global_gradients(task, total, extra)), lambda: 0.0)
    if task.clip_norm:
        # Not min(1, clip / norm): 0 / 0 must not come from a gradient of 0, and NaN must stay NaN to be seen.
        scale = task.clip_norm / tf.maximum(norm, task.clip_norm)
        gradients = [gradient * scale for gradient in gradients]
    scalars |= {"gradient_norm": norm, **learning_rates(task.groups)}
    _apply(task, gradients)
    _follow(task, total.statistics)
    return total.sums, scalars


def _global_gradients(task: Task, total: Local, extra: list[tf.Tensor] | None) -> list[tf.Tensor]:
    """The gradient of the mean loss over the global batch, and of the penalty."""
    gradients = total.gradients
    if len(task.objective) == 1:
        # A batch without any weight has a gradient of 0, not of NaN.
        mean = tf.math.reciprocal_no_nan(total.sums[task.objective[0]].weight)
        gradients = [gradient * mean for gradient in gradients]
    return gradients if extra is None else [one + more for one, more in zip(gradients, extra, strict=True)]


def evaluate(task: Task, read: Callable[[tf.Tensor], Rows], accumulate: int, step: tf.Tensor) -> dict[str, Sums]:
    """The terms of one batch of an evaluation, added up over micro-batches and replicas."""
    return all_reduce(_over_micro_batches(lambda number: forward(task, read(number), step, False)[0], accumulate))


def gradients(task: Task, rows: Rows, scales: dict[str, tf.Tensor], step: tf.Tensor) -> Local:
    """Sums of gradients, losses and weights over one micro-batch."""
    values = _values(task.model)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        sums, statistics = forward(task, rows, step, training=True)
        loss = tf.add_n([sums[name].numerator * scales.get(name, 1.0) for name in task.objective])
    found = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # Embeddings give sparse gradients: densified, or the norm and the reduction would miss repeated rows.
    return Local([tf.convert_to_tensor(gradient) for gradient in found], sums, statistics)


def weights(task: Task, rows: Rows, step: tf.Tensor) -> dict[str, tf.Tensor]:
    """The objective's weights alone; the graph's pruning leaves the model out where they do not depend on it."""
    sums, _ = forward(task, rows, step, training=True)
    return {name: sums[name].weight for name in task.objective}


def forward(task: Task, rows: Rows, step: tf.Tensor, training: bool) -> tuple[dict[str, Sums], list[Sums]]:
    """The task's terms, and its layers' statistics, added up over the rows.

    The noise inside belongs to the rows' places in the global batch.
    """
    with randomness.scope(task.seed, step, rows.first_row, rows.weights, task.split) as where:
        found = task.forward(task.model, rows.batch, training)
    _check_terms(task, found)
    task.followers[:] = [(statistic.variable, statistic.rate) for statistic in where.statistics]
    sums = {name: terms.sums(name, term, rows.weights) for name, term in found.items()}
    return sums, [Sums(statistic.numerator, statistic.weight) for statistic in where.statistics]


def all_reduce(local):
    """Adds any structure of tensors up over the replicas, in one call."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return local
    flat = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(local))
    return tf.nest.pack_sequence_as(local, flat)


def global_norm(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The Euclidean norm of all tensors together, as the norm of the columns' norms.

    XLA vectorises a sum over columns on a CPU; a sum over everything is one long chain of additions, which costs an
    MLP's step 20 % more. The root in between keeps XLA from joining the two sums.
    """
    columns = [tf.sqrt(tf.reduce_sum(tf.square(tensor), axis=0)) if tensor.shape.rank else tensor for tensor in tensors]
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(column)) for column in columns]))


def learning_rates(groups: Sequence[Group]) -> dict[str, tf.Tensor]:
    """The rates that the next update will use, by tag: `learning_rate`, or one for each of several groups."""
    one = len(groups) == 1
    return {
        "learning_rate" if one else f"learning_rate/{group.name}": tf.cast(group.optimizer.learning_rate, tf.float32)
        for group in groups
    }


def _scales(task: Task, micro: Micro, read, accumulate: int, step: tf.Tensor) -> dict[str, tf.Tensor]:
    """1 / global weight of each loss, needed before the tape where several losses with weights of their own meet."""
    if len(task.objective) == 1:
        return {}
    total = all_reduce(_over_micro_batches(lambda number: micro.weights(read(number), step), accumulate))
    return {name: tf.math.reciprocal_no_nan(weight) for name, weight in total.items()}


def _over_micro_batches(compute: Callable, accumulate: int):
    total = compute(tf.constant(0))
    if accumulate == 1:
        return total
    _, total = tf.while_loop(
        lambda number, total: number < accumulate,
        lambda number, total: (number + 1, tf.nest.map_structure(tf.add, total, compute(number))),
        (tf.constant(1), total),
        parallel_iterations=1,
    )
    return total


def _apply(task: Task, gradients: list[tf.Tensor]) -> None:
    by_variable = {id(variable): gradient for variable, gradient in zip(task.model.trainable_variables, gradients)}
    # Keras' optimizers add up over the replicas once more, without a switch: each brings its share of the sum.
    share = 1.0 / tf.distribute.get_replica_context().num_replicas_in_sync
    for group in task.groups:
        mine = [by_variable[id(variable)] for variable in group.variables]
        group.optimizer.apply([gradient * share for gradient in mine] if share != 1.0 else mine, group.variables)
    if task.averages:
        step = tf.cast(task.groups[0].optimizer.iterations.value, tf.float32)
        # A short memory at first, or the random start would weigh for 1 / (1 - decay) steps.
        decay = tf.minimum(task.average_decay, (1.0 + step) / (10.0 + step))
        for average, value in zip(task.averages, _values(task.model), strict=True):
            average.assign_add((1.0 - decay) * (value - average))


def _follow(task: Task, statistics: list[Sums]) -> None:
    """Moves the layers' moving statistics, once per step and by the global batch."""
    for (variable, rate), found in zip(task.followers, statistics, strict=True):
        statistic = randomness.Statistic(variable, rate, *found)
        variable.assign(randomness.followed(variable.value, statistic))


def _values(model: keras.Model) -> list[tf.Variable]:
    """This replica's variables, for the tape."""
    return [variable.value for variable in model.trainable_variables]


def _check_terms(task: Task, found: dict[str, Term]) -> None:
    missing = [name for name in task.objective if name not in found]
    if missing:
        raise ValueError(f"forward returned the terms {sorted(found)}: the objective needs {missing} as well")
    expected = sum(1 for variable in task.model.trainable_variables if getattr(variable, "regularizer", None))
    if len(task.model.losses) > expected:
        raise ValueError(
            "a layer calls add_loss: its value would be counted once per replica; return it as a Term from forward "
            "and name it in the objective"
        )
