"""One training step: the only place where gradients are reduced, normalised, checked, clipped and applied.

The order is the same on any hardware:

    for each micro-batch: tape -> terms -> sums of losses, weights and gradients on this replica
    all-reduce the sums -> divide by the global weight -> add the penalty once -> norm and finite check -> clip
    -> schedule -> optimizer of each group (decoupled decay in it) -> moving average

Nothing is divided before the reduction, so a replica may hold any number of the examples, also none.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from zoo import randomness, terms
from zoo.engine import added_losses, dead_rows, forward_call, loss_scaling, private_apis, regularization, slicing
from zoo.engine.optimizers import Group
from zoo.errors import BadInput
from zoo.terms import Output, Term, WeightedSum

Batch = dict[str, tf.Tensor]
ForwardFn = Callable[[keras.Model, Batch, bool], dict[str, Term | Output]]
Values = list[tf.Tensor]


class Task(NamedTuple):
    """Model, losses and optimizers of a run, fixed before the first trace."""

    model: keras.Model
    forward: ForwardFn
    objective: tuple[str, ...]
    groups: Sequence[Group]
    penalty: regularization.Penalty | None
    clip_norm: float
    averages: Sequence[tf.Variable]
    average_decay: float
    loss_scale: loss_scaling.LossScale | None
    seed: int
    split: bool
    has_dead_rows: bool
    # Rows of the global batch and of a group of Keras' batch normalisation; by `training`, which of Keras' draws are
    # by row.
    batch_rows: int
    group: int
    is_by_row: dict[bool, Sequence[bool]]
    # By `training`, what the losses are that layers add.
    added: dict[bool, added_losses.Kinds]
    # Set by each trace of a forward pass: the variables that follow batch statistics, and their rates.
    moving_statistics: list[tuple[keras.Variable, float]]

    @property
    def losses(self) -> tuple[str, ...]:
        """The terms whose means are summed into the loss: the objective's, and those of losses that layers add."""
        return (*self.objective, *self.added.get(True, added_losses.Kinds()).terms)


class MicroBatch(NamedTuple):
    """A slice of a micro-batch: columns `[rows, ...]`, weights `[rows]` (0: padding), first row's global position."""

    batch: Batch
    weights: tf.Tensor
    first_row: tf.Tensor


class LocalSums(NamedTuple):
    """Sums over one micro-batch, over one replica or, after the reduction, over the global batch."""

    gradients: list[tf.Tensor]
    sums: dict[str, WeightedSum]
    statistics: list[WeightedSum]


class StepFunctions(NamedTuple):
    """The separately compiled functions, bound to the task: three that take a micro-batch, then the update."""

    gradients: Callable[..., LocalSums]
    weights: Callable[..., dict[str, tf.Tensor]]
    examine: Callable[..., tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]]
    update: Callable[..., tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]]


class ReplicaBatch(NamedTuple):
    """A replica's part of the batch: consecutive micro-batches, each cut into slices that run side by side.

    Attributes:
        read: returns the rows of a slice by its number, `micro-batch * slices + slice`.
        cut: how the global batch is cut.
    """

    read: Callable[[tf.Tensor], MicroBatch]
    cut: slicing.Cut

    @property
    def micro_batches(self) -> int:
        """Number of micro-batches."""
        return self.cut.micro_batches

    @property
    def slices(self) -> int:
        """Slices of a micro-batch, programs that may run at the same time, one for each core."""
        return self.cut.side_by_side


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
    values = [tf.convert_to_tensor(value) for value in _values(task.model)]
    scales = _scales(task, parts, values, share, step)
    if task.loss_scale is not None:
        scale = tf.convert_to_tensor(task.loss_scale.scale)
        scales = {name: scale * scales.get(name, 1.0) for name in task.losses}

    def compute(number: tf.Tensor) -> LocalSums:
        return parts.gradients(share.read(number), values, scales, step)

    if share.cut.replicas == share.micro_batches == 1 and not share.cut.is_exact:
        # Added up inside the update: large gradients would go through memory once more.
        return parts.update([compute(tf.constant(part)) for part in range(share.slices)], measure)
    return parts.update([_over_slices(compute, share)], measure)


def update(
    task: Task, locals: list[LocalSums], measure: tf.Tensor
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Turns the reduced sums into metrics and applies the update; the second half of `train`."""
    total, scalars, extra = _unscaled(task, _added(locals)), {}, None
    if task.penalty is not None:
        scalars["penalty"], extra = regularization.gradients(task.penalty, _values(task.model))
    gradients = global_gradients(task, total, extra)
    if task.clip_norm or task.loss_scale is not None:
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
    scalars |= {"gradient_norm": norm, **learning_rates(task.groups)}

    def apply() -> None:
        _apply(task, gradients)
        _follow(task, total.statistics)

    if task.loss_scale is None:
        apply()
    else:
        scalars |= loss_scaling.apply_if_finite(task.loss_scale, norm, _changed(task), apply)
    return total.sums, scalars


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
    return [private_apis.local_copy(each) for each in (*(each.value for each in keras_variables), *task.averages)]


def global_gradients(task: Task, total: LocalSums, extra: list[tf.Tensor] | None) -> list[tf.Tensor]:
    """The gradient of the mean loss over the global batch, plus that of the penalty."""
    gradients = total.gradients
    if len(task.losses) == 1:
        # If all weights are 0 the gradient is 0, not NaN.
        mean = tf.math.reciprocal_no_nan(total.sums[task.losses[0]].weight)
        gradients = [gradient * tf.cast(mean, gradient.dtype) for gradient in gradients]
    return gradients if extra is None else [one + more for one, more in zip(gradients, extra, strict=True)]


def evaluate(
    parts: StepFunctions, share: ReplicaBatch, step: tf.Tensor
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Evaluates one batch: the terms' sums over all replicas, and the outputs `[global batch, ...]` in order."""
    sums, outputs = _examined_exactly(parts, share, step) if share.cut.is_exact else _examined(parts, share, step)
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
        outputs = {name: context.all_gather(values, axis=0) for name, values in outputs.items()}
    return sums, outputs


def _examined(
    parts: StepFunctions, share: ReplicaBatch, step: tf.Tensor
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """The sums over all replicas, like `_over_micro_batches`, and the outputs of this replica's part, in order."""

    def one(number: tf.Tensor):
        slices = [parts.examine(share.read(number * share.slices + part), step) for part in range(share.slices)]
        names = slices[0][1]
        return _added([sums for sums, _ in slices]), {n: tf.concat([out[n] for _, out in slices], 0) for n in names}

    def more(number, sums, arrays):
        more_sums, outputs = one(number)
        arrays = {name: array.write(number, outputs[name]) for name, array in arrays.items()}
        return number + 1, tf.nest.map_structure(tf.add, sums, more_sums), arrays

    sums, outputs = one(tf.constant(0))
    if share.micro_batches == 1:
        return all_reduce(sums), outputs
    arrays = {
        name: tf.TensorArray(values.dtype, share.micro_batches, element_shape=values.shape).write(0, values)
        for name, values in outputs.items()
    }
    _, sums, arrays = tf.while_loop(
        lambda number, *_: number < share.micro_batches, more, (tf.constant(1), sums, arrays), parallel_iterations=1
    )
    return all_reduce(sums), {name: array.concat() for name, array in arrays.items()}


def _examined_exactly(
    parts: StepFunctions, share: ReplicaBatch, step: tf.Tensor
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Like `_examined`, with the sums in the order of an exact run."""
    outputs: list[dict[str, tf.Tensor]] = []

    def compute(number: tf.Tensor):
        sums, more = parts.examine(share.read(number), step)
        outputs.append(more)
        return sums

    sums = _over_slices(compute, share)
    return sums, {name: tf.concat([each[name] for each in outputs], axis=0) for name in outputs[0]}


def examine(task: Task, rows: MicroBatch, step: tf.Tensor) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """The terms' sums and the outputs of one micro-batch, outside training; changes no variable."""
    with keras.StatelessScope(collect_losses=True) as scope:
        sums, _, outputs = forward(task, rows, step, training=False, added=scope.losses)
    return sums, outputs


def gradients(task: Task, rows: MicroBatch, values: Values, scales: dict[str, tf.Tensor], step: tf.Tensor) -> LocalSums:
    """Sums of gradients, losses and weights over one micro-batch, with `values` as the trainable variables."""
    if task.has_dead_rows:
        rows = _without_dead_rows(task, rows, values, step)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        with _as(values, task.model) as scope:
            sums, statistics, _ = forward(task, rows, step, training=True, added=scope.losses)
        loss = tf.add_n([sums[name].numerator * scales.get(name, 1.0) for name in task.losses])
    slopes = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # Embeddings have sparse gradients, whose repeated rows the norm and the reduction would miss: densified.
    return LocalSums([tf.convert_to_tensor(slope) for slope in slopes], sums, statistics)


def weights(task: Task, rows: MicroBatch, values: Values, step: tf.Tensor) -> dict[str, tf.Tensor]:
    """The objective's weights alone; the model is pruned from the graph if they do not depend on it."""
    with _as(values, task.model) as scope:
        sums, *_ = forward(task, rows, step, training=True, added=scope.losses)
    return {name: sums[name].weight for name in task.losses}


def _without_dead_rows(task: Task, rows: MicroBatch, values: Values, step: tf.Tensor) -> MicroBatch:
    """The rows without what examples of weight 0 hold; the model is pruned from the graph as in `weights`."""
    with _as(values, task.model), _scope(task, rows, step, training=True):
        results = forward_call.call(task.forward, task.model, rows.batch, True)
    _check_terms(task, results, training=True)
    weighed = [terms.weigh(name, results[name], rows.weights)[1] for name in task.objective]
    weights = tf.add_n([tf.reduce_sum(tf.abs(each), axis=list(range(1, each.shape.rank))) for each in weighed])
    # The row in a dead one's place must not count twice.
    living = tf.where(tf.equal(weights, 0.0), 0.0, rows.weights)
    return rows._replace(batch=dead_rows.replaced(rows.batch, weights), weights=living)


def forward(
    task: Task, rows: MicroBatch, step: tf.Tensor, training: bool, added: Sequence[tf.Tensor]
) -> tuple[dict[str, WeightedSum], list[WeightedSum], dict[str, tf.Tensor]]:
    """The terms and the layers' batch statistics, summed over the rows, and the outputs `[rows, ...]`.

    The noise inside depends on the rows' positions in the global batch.

    Args:
        task: model and losses.
        rows: a slice of the batch.
        step: scalar int32.
        training: whether the model trains.
        added: gets the losses that layers add while `forward` runs.
    """
    with _scope(task, rows, step, training) as scope:
        # Names for TensorBoard's graph.
        with tf.name_scope("forward"):
            results = forward_call.call(task.forward, task.model, rows.batch, training)
    _check_terms(task, results, training)
    task.moving_statistics[:] = [(statistic.variable, statistic.rate) for statistic in scope.statistics]
    outputs = {name: output.values for name, output in results.items() if isinstance(output, Output)}
    with tf.name_scope("terms"):
        sums = {name: terms.sums(name, term, rows.weights) for name, term in results.items() if name not in outputs}
    sums |= added_losses.sums(added, task.added.get(training), rows.weights)
    return sums, [WeightedSum(statistic.numerator, statistic.weight) for statistic in scope.statistics], outputs


def _scope(task: Task, rows: MicroBatch, step: tf.Tensor, training: bool):
    return randomness.scope(
        task.seed,
        step,
        rows.first_row,
        rows.weights,
        task.split,
        batch_rows=task.batch_rows,
        group=task.group,
        is_by_row=task.is_by_row.get(training),
    )


def all_reduce(local):
    """Sums a structure of tensors over the replicas, in one call."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return local
    flat = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(local))
    return tf.nest.pack_sequence_as(local, flat)


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


def _scales(
    task: Task, parts: StepFunctions, values: Values, share: ReplicaBatch, step: tf.Tensor
) -> dict[str, tf.Tensor]:
    """1 / global weight of each loss; needed before the tape if several losses have their own weights."""
    if len(task.losses) == 1:
        return {}
    total = _over_slices(lambda number: parts.weights(share.read(number), values, step), share)
    return {name: tf.math.reciprocal_no_nan(weight) for name, weight in total.items()}


def _over_slices(compute: Callable, share: ReplicaBatch):
    """Sums over all slices of the global batch; in an exact run, in an order that does not depend on the devices."""
    if not share.cut.is_exact:
        return all_reduce(_over_micro_batches(compute, share))

    def one(number: int):
        first = number * share.slices
        return slicing.tree_sum([compute(tf.constant(first + part)) for part in range(share.slices)])

    return slicing.sum_over_replicas(slicing.sum_in_turn(one, share.micro_batches))


def _over_micro_batches(compute: Callable, share: ReplicaBatch):
    """Sums over the micro-batches in a loop of the graph, and over the slices of each, which run side by side."""

    def one(number: tf.Tensor):
        return _added([compute(number * share.slices + part) for part in range(share.slices)])

    total = one(tf.constant(0))
    if share.micro_batches == 1:
        return total
    _, total = tf.while_loop(
        lambda number, total: number < share.micro_batches,
        lambda number, total: (number + 1, tf.nest.map_structure(tf.add, total, one(number))),
        (tf.constant(1), total),
        parallel_iterations=1,
    )
    return total


def _added(structures: list):
    return structures[0] if len(structures) == 1 else tf.nest.map_structure(lambda *x: tf.add_n(list(x)), *structures)


@contextlib.contextmanager
def _as(values: Values, model: keras.Model) -> Iterator[keras.StatelessScope]:
    """Replaces the model's trainable variables by `values` inside."""
    trained = {id(variable) for variable in model.trainable_variables}
    pairs = zip(model.trainable_variables, values, strict=True)
    with keras.StatelessScope(pairs, collect_losses=True) as scope:
        yield scope
    # Keras' own random layers advance a seed, which so far only the scope knows.
    for variable in model.variables:
        if id(variable) not in trained and scope.get_current_value(variable) is not None:
            variable.assign(scope.get_current_value(variable))


def _apply(task: Task, gradients: list[tf.Tensor]) -> None:
    by_variable = {id(variable): gradient for variable, gradient in zip(task.model.trainable_variables, gradients)}
    # Keras' optimizers always sum over the replicas again: each replica passes its share of the sum.
    share = 1.0 / tf.distribute.get_replica_context().num_replicas_in_sync
    for group in task.groups:
        mine = [by_variable[id(variable)] for variable in group.variables]
        group.optimizer.apply([gradient * share for gradient in mine] if share != 1.0 else mine, group.variables)
    if task.averages:
        step = tf.cast(task.groups[0].optimizer.iterations.value, tf.float32)
        # A short memory at first, or the random initial weights would count for 1 / (1 - decay) steps.
        decay = tf.minimum(task.average_decay, (1.0 + step) / (10.0 + step))
        for average, value in zip(task.averages, _values(task.model), strict=True):
            average.assign_add(tf.cast(1.0 - decay, average.dtype) * (value - average))


def _follow(task: Task, statistics: list[WeightedSum]) -> None:
    """Updates the layers' moving statistics, once per step and from the global batch."""
    for (variable, rate), total in zip(task.moving_statistics, statistics, strict=True):
        statistic = randomness.Statistic(variable, rate, *total)
        variable.assign(randomness.moving_average(variable.value, statistic))


def _values(model: keras.Model) -> list[tf.Variable]:
    """This replica's variables, for the tape."""
    return [variable.value for variable in model.trainable_variables]


def _check_terms(task: Task, results: dict[str, Term | Output], training: bool) -> None:
    # An evaluation may lack terms of the objective, such as a penalty that exists in training only.
    missing = [name for name in task.objective if training and name not in results]
    if missing:
        where = forward_call.defined(task.forward)
        raise BadInput(f"forward{where} returned the terms {sorted(results)}: the objective needs {missing} as well")
