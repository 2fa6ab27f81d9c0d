"""Forward and backward pass of one slice of a batch: sums of losses, weights and gradients, nothing divided yet."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from zoo import randomness, terms
from zoo.engine import added_losses, dead_rows, forward_call
from zoo.engine.task import LocalSums, MicroBatch, Task, Values
from zoo.errors import BadInput
from zoo.terms import Output, Term, WeightedSum


def gradients(
    task: Task,
    rows: MicroBatch,
    values: Values,
    scales: dict[str, tf.Tensor],
    step: tf.Tensor,
    pulls: dict[str, tf.Tensor],
) -> LocalSums:
    """Sums of gradients, losses and weights over one micro-batch.

    Args:
        task: model and losses.
        rows: the micro-batch.
        values: values of the trainable variables.
        scales: factors of the losses by name; 1 for others.
        step: scalar int32.
        pulls: for outputs by name `[rows, ...]` the gradient of the losses over the whole batch, see `batch_losses`.
    """
    if task.has_dead_rows:
        rows = without_dead_rows(task, rows, values, step)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        with replaced(values, task) as scope:
            sums, statistics, outputs = forward(task, rows, step, training=True, added=scope.losses)
        losses = [sums[name].numerator * scales.get(name, 1.0) for name in task.losses if name in sums]
        losses += [tf.reduce_sum(tf.cast(pull * outputs[name], tf.float32)) for name, pull in pulls.items()]
        loss = tf.add_n(losses)
    slopes = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # Embeddings have sparse gradients, whose repeated rows the norm and the reduction would miss: densified.
    return LocalSums([tf.convert_to_tensor(slope) for slope in slopes], sums, statistics)


def weights(task: Task, rows: MicroBatch, values: Values, step: tf.Tensor) -> dict[str, tf.Tensor]:
    """The objective's weights alone; the model is pruned from the graph if they do not depend on it."""
    with replaced(values, task) as scope:
        sums, *_ = forward(task, rows, step, training=True, added=scope.losses)
    return {name: sums[name].weight for name in task.losses if name in sums}


def outputs(task: Task, rows: MicroBatch, values: Values, step: tf.Tensor) -> dict[str, tf.Tensor]:
    """The outputs `[rows, ...]` of a training step."""
    with replaced(values, task) as scope:
        return forward(task, rows, step, training=True, added=scope.losses)[2]


def examine(task: Task, rows: MicroBatch, step: tf.Tensor) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """The terms' sums and the outputs of one micro-batch, outside training; changes no variable."""
    with keras.StatelessScope(collect_losses=True) as scope:
        sums, _, outputs = forward(task, rows, step, training=False, added=scope.losses)
    return sums, outputs


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


def without_dead_rows(task: Task, rows: MicroBatch, values: Values, step: tf.Tensor) -> MicroBatch:
    """The rows without what examples of weight 0 hold; the model is pruned from the graph as in `weights`."""
    with replaced(values, task), _scope(task, rows, step, training=True):
        results = forward_call.call(task.forward, task.model, rows.batch, True)
    _check_terms(task, results, training=True)
    weighed = [terms.weigh(name, results[name], rows.weights)[1] for name in task.objective if name in results]
    if not weighed:
        return rows
    weights = tf.add_n([tf.reduce_sum(tf.abs(each), axis=list(range(1, each.shape.rank))) for each in weighed])
    # The row in a dead one's place must not count twice.
    living = tf.where(tf.equal(weights, 0.0), 0.0, rows.weights)
    return rows._replace(batch=dead_rows.replaced(rows.batch, weights), weights=living)


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


@contextlib.contextmanager
def replaced(values: Values, task: Task) -> Iterator[keras.StatelessScope]:
    """Replaces the variables that are trained by `values` inside."""
    trained = {id(variable) for variable in task.variables}
    pairs = zip(task.variables, values, strict=True)
    with keras.StatelessScope(pairs, collect_losses=True) as scope:
        yield scope
    # Keras' own random layers advance a seed, which so far only the scope knows.
    for variable in task.model.variables:
        if id(variable) not in trained and scope.get_current_value(variable) is not None:
            variable.assign(scope.get_current_value(variable))


def _check_terms(task: Task, results: dict[str, Term | Output], training: bool) -> None:
    # An evaluation may lack terms of the objective, such as a penalty that exists in training only.
    missing = [name for name in task.objective if training and name not in results]
    if missing and task.batch_losses is None:
        where = forward_call.defined(task.forward)
        raise BadInput(f"forward{where} returned the terms {sorted(results)}: the objective needs {missing} as well")
