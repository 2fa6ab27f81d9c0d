"""Sums over the slices of a batch, over micro-batches and replicas."""

from collections.abc import Callable

import tensorflow as tf

from zoo.engine import slicing
from zoo.engine.task import ReplicaBatch
from zoo.terms import WeightedSum


def over_slices(compute: Callable, share: ReplicaBatch):
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
        return added([compute(number * share.slices + part) for part in range(share.slices)])

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


def collected(compute: Callable, share: ReplicaBatch) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """The sums over all slices of the global batch, and the outputs `[global batch, ...]` in order, on each replica.

    Args:
        compute: from the number of a slice to its sums and its outputs `[rows, ...]`.
        share: this replica's part of the batch.
    """
    sums, outputs = _collected_exactly(compute, share) if share.cut.is_exact else _collected(compute, share)
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
        outputs = {name: context.all_gather(values, axis=0) for name, values in outputs.items()}
    return sums, outputs


def _collected(compute: Callable, share: ReplicaBatch) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    def one(number: tf.Tensor):
        slices = [compute(number * share.slices + part) for part in range(share.slices)]
        names = slices[0][1]
        return added([sums for sums, _ in slices]), {n: tf.concat([out[n] for _, out in slices], 0) for n in names}

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


def _collected_exactly(compute: Callable, share: ReplicaBatch) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Like `_collected`, with the sums in the order of an exact run."""
    outputs: list[dict[str, tf.Tensor]] = []

    def one(number: tf.Tensor):
        sums, more = compute(number)
        outputs.append(more)
        return sums

    sums = over_slices(one, share)
    return sums, {name: tf.concat([each[name] for each in outputs], axis=0) for name in outputs[0]}


def all_reduce(local):
    """Sums a structure of tensors over the replicas, in one call."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1 or not tf.nest.flatten(local):
        return local
    flat = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(local))
    return tf.nest.pack_sequence_as(local, flat)


def added(structures: list):
    """The sum of structures of tensors, in any order."""
    return structures[0] if len(structures) == 1 else tf.nest.map_structure(lambda *x: tf.add_n(list(x)), *structures)
