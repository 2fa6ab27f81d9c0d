"""What a step works on: the task of a run, slices of a batch, and the sums over them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from zoo.engine import added_losses, lbfgs, loss_scaling, newton_cg, regularization, skipping, slicing
from zoo.engine.optimizers import Group
from zoo.terms import Output, Term, WeightedSum

Batch = dict[str, tf.Tensor]
ForwardFn = Callable[[keras.Model, Batch, bool], dict[str, Term | Output]]
# `batch_losses(outputs, weights) -> terms`, see `Experiment`.
BatchLosses = Callable[[dict[str, tf.Tensor], tf.Tensor], dict[str, Term]]
Values = list[tf.Tensor]


class Sharpness(NamedTuple):
    """Where the gradient is taken, see `zoo.engine.sharpness`.

    Attributes:
        radius: how far from the weights.
        adaptive: whether distances are relative to the size of each weight.
    """

    radius: float
    adaptive: bool


class Task(NamedTuple):
    """Model, losses and optimizers of an update, fixed before the first trace."""

    model: keras.Model
    # Empty where a step has one update.
    name: str
    # What the update trains: all trainable variables, or those of one of several updates.
    variables: Sequence[keras.Variable]
    forward: ForwardFn
    objective: tuple[str, ...]
    batch_losses: BatchLosses | None
    groups: Sequence[Group]
    penalty: regularization.Penalty | None
    sharpness: Sharpness | None
    second_order: newton_cg.NewtonCg | lbfgs.Lbfgs | None
    clip_norm: float
    averages: Sequence[tf.Variable]
    average_decay: float
    # Updates before a plain mean of the weights begins; None for one with the decay.
    average_start: int | None
    gradient_noise: float
    loss_scale: loss_scaling.LossScale | None
    skipping: skipping.Rule | None
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

    @property
    def has_one_weight(self) -> bool:
        """Whether all of the loss is divided by one weight, which can be done after the reduction."""
        return len(self.losses) == 1 and self.batch_losses is None


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
    """The separately compiled functions, bound to the task: five that take a micro-batch, then the update."""

    gradients: Callable[..., LocalSums]
    weights: Callable[..., dict[str, tf.Tensor]]
    outputs: Callable[..., dict[str, tf.Tensor]]
    examine: Callable[..., tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]]
    product: Callable[..., Values]
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


def values_of(variables: Sequence[keras.Variable]) -> list[tf.Variable]:
    """This replica's copies of variables, for the tape."""
    return [variable.value for variable in variables]
