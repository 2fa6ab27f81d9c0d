"""Steps that are skipped: whose gradient is not finite (`--on_nonfinite=skip`), or whose loss jumps (`--skip_spikes`).

A skipped step leaves weights, moments and averages bit for bit as they are. The loss and gradient of the global batch
decide, after the reduction, so all devices skip the same steps; what the rule remembers belongs to the run's state, so
a resumed run does, too. Chowdhery et al., "PaLM", 2022, section 5.1, left out batches at which the loss jumped.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from zoo.terms import WeightedSum

# Steps whose mean and deviation a loss is compared with: an average over that many.
_MEMORY = 100.0
# Good steps before a loss counts as a jump.
_FIRST = 100.0
# Jumps in a row after which the new height counts as the usual one.
MOST_SPIKES = 20.0
# Steps in a row after which a run ends: such weights give nothing else.
MOST_IN_A_ROW = 50
# The scalar's name; what the names in a checkpoint begin with.
IN_A_ROW, PREFIX = "skipped_in_a_row", "skipping/"


class Rule(NamedTuple):
    """Which steps are skipped, and each device's own copy of what the rule remembers: float32 scalars.

    Attributes:
        non_finite: whether those whose gradient is not finite.
        deviations: those whose loss is so many standard deviations above its running mean; 0: none.
        skipped: all skipped steps.
        in_a_row: skipped steps since the last good one.
        mean: running mean of the loss of good steps.
        square: running mean of its squared deviation.
        good: good steps.
    """

    non_finite: bool
    deviations: float
    skipped: tf.Variable
    in_a_row: tf.Variable
    mean: tf.Variable
    square: tf.Variable
    good: tf.Variable

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """What a checkpoint keeps, by name."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, tf.Variable)}


def make(strategy: tf.distribute.Strategy, non_finite: bool, deviations: float) -> Rule | None:
    """The rule at the start of a run; None where no step is to be skipped."""
    if not non_finite and not deviations:
        return None

    def variable() -> tf.Variable:
        return tf.Variable(
            0.0,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    with strategy.scope():
        return Rule(non_finite, deviations, *(variable() for _ in range(5)))


def apply_if_good(
    rule: Rule,
    loss: tf.Tensor,
    norm: tf.Tensor,
    variables: Sequence[tf.Variable],
    apply: Callable[[], None],
) -> dict[str, tf.Tensor]:
    """Runs an update and takes it back where the step is to be skipped.

    Args:
        rule: which steps are.
        loss: scalar, the mean loss of the global batch.
        norm: scalar, the gradient's global norm.
        variables: this replica's copies of all that the update changes.
        apply: the update.

    Returns:
        Scalars: the steps skipped so far, those in a row, and the norm: 0 for a step that is skipped as not finite.
    """
    is_finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
    mean, square, good = map(tf.convert_to_tensor, (rule.mean, rule.square, rule.good))
    # The memory begins anew at a height that stays.
    good = tf.where(tf.convert_to_tensor(rule.in_a_row) < MOST_SPIKES, good, 0.0)
    is_spike = tf.constant(False)
    if rule.deviations:
        is_spike = (good >= _FIRST) & (loss > mean + rule.deviations * tf.sqrt(square))
    is_good = (is_finite | (not rule.non_finite)) & ~is_spike
    take_back(is_good, variables, apply)
    # Averages with a short memory at first, in which the first loss is the mean.
    rate = tf.where(is_good & is_finite, tf.maximum(1.0 / (good + 1.0), 1.0 / _MEMORY), 0.0)
    gap = tf.where(is_finite, loss, mean) - mean
    rule.mean.assign(mean + rate * gap)
    rule.square.assign((1.0 - rate) * (square + rate * gap * gap))
    rule.good.assign(good + tf.where(is_good, 1.0, 0.0))
    rule.skipped.assign_add(tf.where(is_good, 0.0, 1.0))
    rule.in_a_row.assign(tf.where(is_good, 0.0, tf.convert_to_tensor(rule.in_a_row) + 1.0))
    counts = {"skipped_steps": rule.skipped, IN_A_ROW: rule.in_a_row}
    shown = tf.where(is_finite | is_good, norm, 0.0)
    return {name: tf.convert_to_tensor(count) for name, count in counts.items()} | {"gradient_norm": shown}


def take_back(is_good: tf.Tensor, variables: Sequence[tf.Variable], apply: Callable[[], None]) -> None:
    """Runs an update, and gives the variables their values of before unless the scalar is true."""
    # An update under a condition is not possible: optimizers talk to the other replicas.
    before = [tf.convert_to_tensor(variable) for variable in variables]
    with tf.control_dependencies(before):
        apply()
    for variable, value in zip(variables, before, strict=True):
        variable.assign(tf.where(is_good, tf.convert_to_tensor(variable), value))


def without_non_finite(sums: Mapping[str, WeightedSum]) -> dict[str, WeightedSum]:
    """The terms' sums, and nothing of a batch in which one is not finite: it would make the mean of a window so."""
    is_finite = tf.reduce_all([tf.math.is_finite(term.numerator) for term in sums.values()])
    return {
        name: WeightedSum(*(tf.where(is_finite, value, tf.zeros_like(value)) for value in term))
        for name, term in sums.items()
    }
