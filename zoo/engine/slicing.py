"""How the global batch is cut into slices, and how their sums are added up.

Floating-point addition is not associative: sums taken in another order differ in their last digits. Exact runs cut the
batch into the same slices on any number of devices, compute each by one and the same program, and add them up in pairs,
neighbours first: a binary tree. A device holds a power of two of neighbouring slices, so a whole branch of the tree.
The result is the same bit for bit, whatever the number of devices.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from zoo.engine import private_apis
from zoo.errors import BadInput

# Slices of an exact run unless it asks for others: the same run on 1, 2 and 4 devices.
_DEFAULT = 4


class Cut(NamedTuple):
    """Slices of the global batch, all of one size.

    Attributes:
        replicas: number of replicas; each holds neighbouring slices.
        micro_batches: groups of slices that a replica computes one after the other.
        side_by_side: slices that run at the same time, one for each core.
        is_exact: whether the sums are the same bit for bit wherever the slices are computed.
    """

    replicas: int
    micro_batches: int
    side_by_side: int
    is_exact: bool

    @property
    def slices(self) -> int:
        """All slices of the global batch."""
        return self.replicas * self.micro_batches * self.side_by_side


def cut(replicas: int, accumulate: int, cores: int, exact: bool | None, slices: int) -> Cut:
    """How to cut a batch.

    Args:
        replicas: number of replicas.
        accumulate: micro-batches of each replica at least, which bounds the memory of a slice.
        cores: slices that each replica can compute side by side.
        exact: whether the run must be exact; None: where there are several replicas, and it can be.
        slices: slices of an exact run; 0: 4, or more where replicas and micro-batches are more.

    Raises:
        BadInput: these replicas cannot share the slices.
    """
    if exact is None and not slices:
        is_exact = replicas > 1 and _is_power_of_two(replicas * accumulate * cores)
        return Cut(replicas, accumulate, cores, is_exact)
    if exact is False:
        return Cut(replicas, accumulate, cores, is_exact=False)
    if not _is_power_of_two(replicas):
        raise BadInput(
            f"--exact: {replicas} devices cannot share a binary tree of sums; expected 1, 2, 4, 8, ... devices, or "
            "--noexact"
        )
    least = replicas * accumulate
    total = slices or max(_DEFAULT, _next_power_of_two(least))
    if not can_share(total, least):
        raise BadInput(
            f"--slices is {slices}: expected a power of two of at least {least}, devices times --accumulate, so that "
            "each device adds up a whole branch of the tree of sums"
        )
    share = total // replicas
    side_by_side = max(count for count in (1, 2, 4, 8, 16, 32, 64) if count <= cores and accumulate * count <= share)
    return Cut(replicas, share // side_by_side, side_by_side, is_exact=True)


def can_share(slices: int, parts: int) -> bool:
    """Whether each of the parts (devices times micro-batches) can hold a whole branch of the tree of sums."""
    return _is_power_of_two(slices) and slices >= parts


def tree_sum(structures: list):
    """Sums structures of tensors in pairs, neighbours first, then the sums in pairs, and so on."""
    while len(structures) > 1:
        pairs = zip(structures[::2], structures[1::2], strict=True)
        structures = [tf.nest.map_structure(tf.add, *pair) for pair in pairs]
    return structures[0]


def sum_in_turn(compute: Callable[[int], object], count: int):
    """The tree sum of `compute(0)`, ..., `compute(count - 1)`, one after the other.

    As few results are kept at a time as the tree is high, as in a binary counter; `count` is a power of two.
    """
    kept: list[tuple[int, object]] = []
    before: list[tf.Operation] = []
    for number in range(count):
        with tf.control_dependencies(before):
            size, total = 1, compute(number)
        while kept and kept[-1][0] == size:
            total = tf.nest.map_structure(tf.add, kept.pop()[1], total)
            size *= 2
        kept.append((size, total))
        before = [tensor.op for tensor in tf.nest.flatten(total)]
    return kept[0][1]


def sum_over_replicas(local):
    """The tree sum of the replicas' structures, on each replica."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    flat = tf.nest.flatten(local)
    if replicas == 1 or not flat:
        return local
    if replicas == 2 or isinstance(private_apis.reduction(context.strategy), TreeReduction):
        # A sum of two is the same in either order.
        return tf.nest.pack_sequence_as(local, context.all_reduce(tf.distribute.ReduceOp.SUM, flat))
    gathered = context.all_gather([tensor[None] for tensor in flat], axis=0)
    return tree_sum(
        [tf.nest.pack_sequence_as(local, [tensor[each] for tensor in gathered]) for each in range(replicas)]
    )


class TreeReduction(tf.distribute.ReductionToOneDevice):
    """Adds up the replicas' values on one device as a tree, where it is as fast as any order."""

    def __init__(self):
        super().__init__(accumulation_fn=_in_tree)


def _in_tree(values: list[tf.Tensor]) -> tf.Tensor:
    return tree_sum(values) if _is_power_of_two(len(values)) else tf.add_n(values)


def _is_power_of_two(number: int) -> bool:
    return number > 0 and not number & (number - 1)


def _next_power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
