"""Steps of second order: the passes that they make over the batch, around the one place where weights change.

Such an optimizer needs losses, gradients and products at several points before it knows its step, and what comes next
depends on what it found. Its loops run outside of the replicas, where loops may hold passes that reduce over all of
them; vectors are the same on each. All passes of a step see the same examples and noise.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from zoo import memory
from zoo.engine import lbfgs, newton_cg, private_apis, reduction, slice_pass
from zoo.engine import step as step_functions
from zoo.engine.task import LocalSums, ReplicaBatch, StepFunctions, Task, Values, values_of
from zoo.engine.vectors import Proposal
from zoo.errors import BadInput
from zoo.models import lstm_layers
from zoo.terms import WeightedSum

KINDS = ("newton_cg", "lbfgs")
# What the names in a checkpoint begin with.
PREFIX = "second_order/"
_FLOAT = 4
_HALF = ("float16", "bfloat16")
_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional, lstm_layers.Lstm)


class _First(NamedTuple):
    """What the pass at the weights finds; the same on all replicas."""

    total: LocalSums
    loss: tf.Tensor
    gradient: Values
    penalty: tf.Tensor | None
    scales: dict[str, tf.Tensor]
    state: dict[str, tf.Tensor]
    rate: tf.Tensor


def check(model: keras.Model, kind: str, asked: Mapping[str, Any]) -> None:
    """Refuses what steps of second order cannot be combined with.

    Args:
        model: the model.
        kind: one of `KINDS`.
        asked: other settings of the run by what they are called, each true where it is asked for.

    Raises:
        BadInput: names the first one.
    """
    layers = private_apis.all_layers(model)
    others = {
        **asked,
        "layers that compute in half precision": any(layer.compute_dtype in _HALF for layer in layers),
        "recurrent layers, which TensorFlow cannot differentiate in forward mode": kind == "newton_cg"
        and any(isinstance(layer, _RECURRENT) for layer in layers),
        "an L1 regularizer of a layer": any(
            getattr(getattr(variable, "regularizer", None), "l1", 0.0) for variable in model.trainable_variables
        ),
    }
    for name, is_asked in others.items():
        if is_asked:
            raise BadInput(
                f"--optimizer={kind} cannot be combined with {name}: it needs one smooth loss of the weights, in "
                "float32 or float64; leave that out, or use another optimizer"
            )


def newton(strategy: tf.distribute.Strategy, damping: float, iterations: int, tolerance: float) -> newton_cg.NewtonCg:
    """Newton's method at the start of a run; see `newton_cg.NewtonCg`."""
    return newton_cg.NewtonCg(iterations, tolerance, _variables(strategy, newton_cg.initial(damping)))


def quasi_newton(strategy: tf.distribute.Strategy, model: keras.Model, pairs: int) -> lbfgs.Lbfgs:
    """Limited-memory BFGS at the start of a run.

    Raises:
        BadInput: its memory of `pairs` steps is larger than the machine's.
    """
    weights = sum(int(keras.ops.size(variable)) for variable in model.trainable_variables)
    needed, available = 2 * pairs * weights * _FLOAT, memory.total()
    if needed > available and not tf.config.list_physical_devices("GPU"):
        raise BadInput(
            f"--lbfgs_pairs is {pairs}: 2 vectors for each take {memory.readable(needed)} for {weights:,} weights, and "
            f"this machine has {memory.readable(available)}; choose fewer, or another optimizer"
        )
    return lbfgs.Lbfgs(_variables(strategy, lbfgs.initial(pairs, model.trainable_variables)))


def train(
    task: Task,
    place: Callable[[], tuple[StepFunctions, ReplicaBatch]],
    everywhere: Callable,
    step: tf.Tensor,
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Runs one training step, outside of the replicas; see `zoo.engine.step.train`.

    Args:
        task: model, losses and optimizer.
        place: on a replica, the step's functions and the replica's part of the batch.
        everywhere: runs a function of tensors on all replicas, and returns the first one's result.
        step: scalar int32.

    Returns:
        The terms' sums, and scalars by name.
    """
    first = everywhere(lambda: _first(task, *place(), step))

    def product(vector: Values) -> Values:
        return everywhere(lambda *given: _product(task, *place(), step, list(given), first), *vector)

    def evaluate(change: Values) -> tuple[tf.Tensor, Values]:
        return everywhere(lambda *given: _at(task, *place(), step, list(given), first), *change)

    start = first.state, first.loss, first.gradient
    if isinstance(task.second_order, lbfgs.Lbfgs):
        proposal = lbfgs.propose(*start, evaluate, task.clip_norm)
    else:
        proposal = newton_cg.propose(task.second_order, *start, product, evaluate, first.rate, task.clip_norm)
    return everywhere(lambda: _update(task, place()[0], first, proposal))


def update(
    task: Task, total: LocalSums, norm: tf.Tensor, proposal: Proposal
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Applies a step as a gradient is applied, and keeps what the optimizer remembers."""

    def remember() -> None:
        for name, variable in task.second_order.variables.items():
            variable.assign(proposal.state[name])

    return step_functions.finish(task, total, proposal.direction, norm, proposal.scalars, remember)


def _first(task: Task, parts: StepFunctions, share: ReplicaBatch, step: tf.Tensor) -> _First:
    values = _values(task)
    scales = step_functions.loss_factors(task, parts, values, share, step)
    total = reduction.over_slices(lambda number: parts.gradients(share.read(number), values, scales, step, {}), share)
    loss, gradient, penalty = _with_penalty(task, total, values)
    state = {name: tf.convert_to_tensor(variable) for name, variable in task.second_order.variables.items()}
    rate = tf.cast(task.groups[0].optimizer.learning_rate, tf.float32)
    return _First(total, loss, gradient, penalty, scales, state, rate)


def _at(task: Task, parts: StepFunctions, share: ReplicaBatch, step, change: Values, first: _First):
    """Loss and gradient at weights that differ by `change`."""
    values = [value + each for value, each in zip(_values(task), change, strict=True)]
    total = reduction.over_slices(
        lambda number: parts.gradients(share.read(number), values, first.scales, step, {}), share
    )
    return _with_penalty(task, total, values)[:2]


def _product(task: Task, parts: StepFunctions, share: ReplicaBatch, step, vector: Values, first: _First) -> Values:
    """The product with the Gauss-Newton matrix of the mean losses plus the Hessian of the penalty."""
    values = _values(task)
    summed = reduction.over_slices(
        lambda number: parts.product(share.read(number), values, vector, first.scales, step), share
    )
    extra = None
    if task.penalty is not None:
        with tf.autodiff.ForwardAccumulator(values, vector) as along:
            slopes = _penalty(task, values)[1]
        extra = [along.jvp(slope, unconnected_gradients=tf.UnconnectedGradients.ZERO) for slope in slopes]
    return step_functions.global_gradients(task, first.total._replace(gradients=summed), extra)


def _update(task: Task, parts: StepFunctions, first: _First, proposal: Proposal):
    sums, scalars = parts.update(first.total, step_functions.global_norm(first.gradient), proposal)
    return sums, scalars if first.penalty is None else {"penalty": first.penalty, **scalars}


def _with_penalty(task: Task, total: LocalSums, values: Values) -> tuple[tf.Tensor, Values, tf.Tensor | None]:
    """Loss and gradient of the global batch with the penalty at `values`, and that penalty."""
    loss = tf.add_n([step_functions.mean_of(total.sums[name]) for name in task.losses if name in total.sums])
    if task.penalty is None:
        return loss, step_functions.global_gradients(task, total, None), None
    penalty, extra = _penalty(task, values)
    return loss + penalty, step_functions.global_gradients(task, total, extra), penalty


def _penalty(task: Task, values: Values) -> tuple[tf.Tensor, Values]:
    """The penalty and its gradient at `values`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        with slice_pass.replaced(values, task):
            total = task.penalty()
    return total, tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _variables(strategy: tf.distribute.Strategy, values: Mapping[str, Any]) -> dict[str, tf.Variable]:
    """Variables that each replica has a copy of; equal updates keep them equal."""
    with strategy.scope():
        return {
            name: tf.Variable(
                value,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for name, value in values.items()
        }


def _values(task: Task) -> Values:
    return [tf.convert_to_tensor(value) for value in values_of(task.variables)]
