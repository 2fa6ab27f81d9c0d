"""What the engine asks of an experiment's `forward` before its first step, so that no promise is broken in silence.

The run is a function of its config, on any number of devices, in any number of micro-batches, with or without an
interruption, only if `forward` is a function of the weights, the batch, the step and the rows' places in it. It is
traced once in a graph of its own, which is inspected and then run on a few rows:

- random operations with a state of TensorFlow's own;
- variables that the model does not own, which are neither trained nor saved;
- variables of the model that change in a forward pass, once for each micro-batch and replica;
- terms whose value for an example depends on the other rows, or whose shape depends on their number.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo import randomness, terms
from zoo.data.batches import Batches
from zoo.engine import added_losses, compile_modes, forward_call
from zoo.engine.private_apis import all_layers, inner_graphs
from zoo.errors import BadInput
from zoo.models import xla_islands
from zoo.terms import Term

# Two slices of two rows each: the least that shows whether a row depends on those of another slice.
_ROWS = 4
# Of an evaluation, which needs one trace only: no usual dimension of a term.
_EVALUATION_ROWS = 7
# Largest difference of a term that is rounding, between programs for four and for two rows: relative to its largest
# value, and absolute. On a CPU all models of docs/conformance.md are bitwise equal but the one at fault, which differs
# by 6e-4; a term of the whole batch differs by a tenth and more. Two kernels for float32 may differ by 1e-5.
_EXACT, _COARSE = (1e-4, 1e-4), (0.1, 0.01)
# GPUs round the factors of float32 products to 10 bits where TensorFloat-32 is on.
_TENSOR_FLOAT_32 = (1e-2, 1e-3)
_ADDED = "a layer adds a loss (add_loss or an activity regularizer) that is"
_ADDED_REMEDY = "return it from forward as a zoo.Term with a value for each example, and name it in the objective"
_NOISE = "use keras.random or a layer of Keras', whose noise belongs to the step and the example here"


class Subject(NamedTuple):
    """What is checked.

    Attributes:
        model: the model.
        forward: the experiment's function.
        objective: names of the terms of the loss.
        seed: seed of the run's noise.
        split: whether the global batch is split over replicas, micro-batches or slices.
    """

    model: keras.Model
    forward: Callable
    objective: tuple[str, ...]
    seed: int
    split: bool


class Result(NamedTuple):
    """What the check of a `forward` found.

    Attributes:
        notes: lines on what only a run on one device in one piece may do, as this one.
        is_by_row: for each of Keras' random draws, whether its first dimension is that of the rows.
        slow_operation: an operation that XLA computes slowly on a CPU; may be empty.
        added: for each loss that layers add, whether it is a mean or a sum over the rows, see `added_losses`.
    """

    notes: list[str]
    is_by_row: list[bool]
    slow_operation: str
    added: tuple[str, ...] = ()


class _Trace(NamedTuple):
    function: tf.types.experimental.ConcreteFunction
    scope: "_Accesses"
    place: randomness.Scope
    rows: int


def check(subject: Subject, batches: Batches, training: bool) -> Result:
    """Refuses a `forward` that breaks a promise of the engine.

    Args:
        subject: what is checked.
        batches: gives the rows to run it on.
        training: the argument that `forward` gets.

    Raises:
        BadInput: says what breaks it, where, and what to write instead.
    """
    rows, is_padded = _rows(batches)
    if not training:
        return _check_evaluation(subject, rows)
    whole = _trace(subject, _specs(rows, _ROWS), training)
    draws = _check_randomness(subject, whole)
    _check_variables(subject, whole)
    half = _trace(subject, _specs(rows, _ROWS // 2), training)
    _check_shapes(subject, whole, half)
    sizes = zip(whole.place.first_sizes, half.place.first_sizes, strict=False)
    slow = compile_modes.slow_operation(_operations(whole.function.graph))
    result = Result([], [pair == (_ROWS, _ROWS // 2) for pair in sizes], slow)
    if draws:
        # TensorFlow's draw of a given seed, which one device may have, as may a loss of any kind.
        return result._replace(added=(added_losses.MEAN,) * len(whole.function.structured_outputs["added"]))
    result = result._replace(added=_added_losses(subject, whole, half, rows, is_padded))
    dependent = _dependent_terms(subject, whole, half, rows)
    if dependent:
        # A permutation takes any rows, also copies.
        is_padded = is_padded and not whole.place.mixes_rows
        result.notes.append(_row_dependence(subject, dependent, is_padded))
    return result


def _check_evaluation(subject: Subject, rows: Mapping[str, np.ndarray]) -> Result:
    """An evaluation has batches of its own, so its terms may depend on them."""
    one = _trace(subject, _specs(rows, _EVALUATION_ROWS), training=False)
    _check_randomness(subject, one)
    _check_variables(subject, one)
    sizes = [size == _EVALUATION_ROWS for size in one.place.first_sizes]
    if any(_EVALUATION_ROWS in values.shape[1:] for values, _ in one.function.structured_outputs["terms"].values()):
        _check_shapes(subject, one, _trace(subject, _specs(rows, _ROWS), training=False))
    else:
        _check_shapes(subject, one, one)
    # A mean of the batches', as Keras has it: an evaluation only reports them.
    added = (added_losses.MEAN,) * len(one.function.structured_outputs["added"])
    return Result([], sizes, compile_modes.slow_operation(_operations(one.function.graph)), added)


class _Accesses(keras.StatelessScope):
    """Records the Keras variables that are read or assigned inside, and assigns none."""

    def __init__(self):
        super().__init__(collect_losses=True)
        self.read: dict[int, keras.Variable] = {}
        self.assigned: dict[int, keras.Variable] = {}

    def get_current_value(self, variable):
        self.read[id(variable)] = variable
        return super().get_current_value(variable)

    def add_update(self, update):
        self.assigned[id(update[0])] = update[0]
        super().add_update(update)


def _rows(batches: Batches) -> tuple[dict[str, np.ndarray], bool]:
    """`_ROWS` rows of the first batch, repeated where it has fewer; whether some batch is padded."""
    batch, weights = batches.at(0)
    index = np.resize(np.flatnonzero(weights), _ROWS)
    is_padded = batches.lengths is not None or batches.examples % batches.batch_size > 0
    return {name: column[index] for name, column in batch.items()}, is_padded


def _specs(rows: Mapping[str, np.ndarray], count: int) -> dict[str, tf.TensorSpec]:
    return {name: tf.TensorSpec([count, *column.shape[1:]], column.dtype) for name, column in rows.items()}


def _trace(subject: Subject, specs: Mapping[str, tf.TensorSpec], training: bool) -> _Trace:
    scopes = []

    def values(batch, first_row, row_weights):
        count = row_weights.shape[0]
        # In groups of two rows a deep network would turn float noise into anything.
        options = {"uses_moving_statistics": True}
        place = randomness.scope(subject.seed, tf.constant(0), first_row, row_weights, **options)
        with place as scope, _Accesses() as accesses, xla_islands.uncompiled():
            results = forward_call.call(subject.forward, subject.model, batch, training)
        scopes.append((accesses, scope))
        found = {name: _weighed(name, term, count) for name, term in results.items() if isinstance(term, Term)}
        return {"terms": found, "added": [tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in accesses.losses]}

    traced, count = tf.function(values, autograph=False), next(iter(specs.values())).shape[0]
    function = traced.get_concrete_function(specs, tf.TensorSpec([], tf.int32), tf.TensorSpec([count], tf.float32))
    return _Trace(function, *scopes[-1], count)


def _weighed(name: str, term: Term, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Values times weights, as a value of weight 0 may be anything, and the weights."""
    values = tf.convert_to_tensor(term.values)
    if values.shape.rank in (0, None) or values.shape[0] != count:
        # Refused by its shape.
        return values, tf.ones_like(values)
    try:
        return terms.weigh(name, term, tf.ones([count]))
    except ValueError as error:
        raise BadInput(str(error)) from error


def _check_randomness(subject: Subject, trace: _Trace) -> bool:
    """Refuses draws from a state of TensorFlow's own; returns whether there are draws of Keras' or a given seed."""
    stateless = False
    for operation in _operations(trace.function.graph):
        if _draws_from_state(operation):
            raise BadInput(
                f"forward draws random numbers by {operation.type}{forward_call.place(operation.traceback)}, which "
                f"differ after a resume and with the number of devices; {_NOISE}"
            )
        if operation.type.startswith("StatelessRandom") and subject.split:
            raise BadInput(
                f"forward draws random numbers by {operation.type}{forward_call.place(operation.traceback)}, the same "
                f"ones for each replica and micro-batch; {_NOISE}"
            )
        stateless |= operation.type.startswith("StatelessRandom")
    return stateless


def _draws_from_state(operation: tf.Operation) -> bool:
    kind = operation.type
    if kind == "StatefulPartitionedCall":
        # A call of a tf.function, such as Keras' grouped convolution; its operations are looked at by themselves.
        return False
    by_seed = operation.op_def.is_stateful and "seed2" in operation.node_def.attr
    return by_seed or kind.startswith(("Stateful", "Rng", "NonDeterministicInts"))


def _operations(graph: tf.Graph) -> Iterator[tf.Operation]:
    yield from graph.get_operations()
    for inner in inner_graphs(graph):
        yield from _operations(inner)


def _check_variables(subject: Subject, trace: _Trace) -> None:
    own = {id(variable) for variable in subject.model.variables}
    scope = trace.scope
    for key, variable in scope.assigned.items():
        if key not in own:
            raise BadInput(
                f"forward changes the variable {variable.path!r}, which the model does not own, so that it is not "
                "saved, and counts each micro-batch and replica: a metric or a layer outside of the model? Return the "
                "values of a metric as a zoo.Term; make the layer a part of the model"
            )
    for key, variable in scope.read.items():
        if key not in own and variable.trainable:
            raise BadInput(
                f"forward reads the variable {variable.path!r}, which the model does not own, so that it is neither "
                "trained nor saved; make it a weight of the model, or freeze it with trainable=False"
            )
    _check_counters(subject, scope)
    _check_plain_variables(subject, trace)


def _check_counters(subject: Subject, scope: _Accesses) -> None:
    weights = {id(variable) for variable in subject.model.weights}
    changed = [variable for key, variable in scope.assigned.items() if key in weights]
    if changed and subject.split:
        raise BadInput(
            f"forward changes the variable {changed[0].path!r}, once for each replica and micro-batch; measure what it "
            "follows as a zoo.Term, or train on one device with --accumulate=1"
        )


def _check_plain_variables(subject: Subject, trace: _Trace) -> None:
    """Refuses tf.Variables, which Keras neither trains nor saves, unless they are frozen and only read."""
    graph = trace.function.graph
    of_keras = [*subject.model.variables, *trace.scope.read.values()]
    handles = {id(handle) for variable in of_keras for handle in _handles(variable.value)}
    by_handle = {id(handle): variable for variable in graph.variables for handle in _handles(variable)}
    for outside, inside in graph.captures:
        data = getattr(outside, "_handle_data", None)
        if outside.dtype != tf.resource or id(outside) in handles or data is None or not data.is_set:
            continue
        variable = by_handle.get(id(outside))
        changes = _changes(inside)
        if variable is None or variable.trainable or changes:
            name = "" if variable is None else f" {variable.name!r}"
            places = [forward_call.place(operation.traceback) for operation in inside.consumers()]
            raise BadInput(
                f"forward {'changes' if changes else 'reads'} a tf.Variable{name}{next(filter(None, places), '')}, "
                "which no model owns, so that it is neither trained nor saved; make it a weight of a layer "
                "(add_weight), or, if it never changes, a constant"
            )


def _changes(resource: tf.Tensor) -> bool:
    """Whether an operation assigns to a variable, also inside a loop or a branch."""
    for operation in resource.consumers():
        if operation.type.startswith(("Assign", "ResourceScatter", "ResourceApply")):
            return True
        for inner in inner_graphs(operation.graph):
            called = inner.name in str(operation.node_def.attr)
            if called and any(each.type.startswith("Assign") for each in _operations(inner)):
                return True
    return False


def _handles(variable) -> list[tf.Tensor]:
    """The resources of a variable, one for each replica."""
    return [each.handle for each in getattr(variable, "values", [variable]) if hasattr(each, "handle")]


def _check_shapes(subject: Subject, whole: _Trace, half: _Trace) -> None:
    """Refuses terms that grow with the square of the rows: labels [n, 1] against answers [n]."""
    for name, (values, _) in whole.function.structured_outputs["terms"].items():
        other, _ = half.function.structured_outputs["terms"][name]
        for found, rows in ((values, whole.rows), (other, half.rows)):
            if found.shape.rank in (0, None) or found.shape[0] != rows:
                where = forward_call.defined(subject.forward)
                raise BadInput(
                    f"term {name!r} of forward{where} has values of shape {found.shape} for {rows} examples: expected "
                    f"one entry per example, [{rows}, ...]; return unreduced losses, the engine adds them up"
                )
        if values.shape[1:] != other.shape[1:]:
            shown = [f"[{', '.join(map(str, each.shape))}]" for each in (values, other)]
            raise BadInput(
                f"term {name!r} of forward{forward_call.defined(subject.forward)} has values of shape {shown[0]} for "
                f"{whole.rows} examples and {shown[1]} for {half.rows}: expected [examples, ...]. Were labels of shape "
                "[examples, 1] compared with answers of shape [examples]? Then use labels[:, 0]"
            )


def _dependent_terms(subject: Subject, whole: _Trace, half: _Trace, rows: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the terms whose values differ between one slice of four rows and two of two."""
    run = functools.partial(_run, rows=rows)
    together = run(whole, 0, _ROWS)
    apart = [run(half, first, _ROWS // 2) for first in range(0, _ROWS, _ROWS // 2)]
    tolerance = _tolerance(subject.model)
    # The rounding of coarse numbers turns a close decision over, such as the class of an untrained model.
    names = together if tolerance != _COARSE else [name for name in together if name in subject.objective]
    return [name for name in names if _differ(together[name], [each[name] for each in apart], tolerance)]


def _tolerance(model: keras.Model) -> tuple[float, float]:
    """Relative and absolute, for the coarsest numbers that a layer computes with."""
    types = {tf.as_dtype(layer.compute_dtype or "float32") for layer in all_layers(model)}
    if any(each.is_floating and each.size < 4 for each in types):
        return _COARSE
    on_gpu = tf.config.experimental.tensor_float_32_execution_enabled() and tf.config.list_logical_devices("GPU")
    return _TENSOR_FLOAT_32 if on_gpu else _EXACT


def _run(trace: _Trace, first: int, count: int, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weighted values and weights of each term, `[count, ..., 2]`."""
    batch = {name: tf.constant(column[first : first + count]) for name, column in rows.items()}
    results = trace.function(batch, tf.constant(first), tf.ones([count]))["terms"]
    return {name: np.stack([each.numpy() for each in both], axis=-1) for name, both in results.items()}


def _added_losses(
    subject: Subject, whole: _Trace, half: _Trace, rows: Mapping[str, np.ndarray], is_padded: bool
) -> tuple[str, ...]:
    """Of each loss that a layer adds whether it is a mean or a sum over the rows."""
    count = _ROWS // 2

    def run(trace: _Trace, index: list[int], first: int, weights: list[float]) -> list[np.ndarray]:
        batch = {name: tf.constant(column[index]) for name, column in rows.items()}
        return [each.numpy() for each in trace.function(batch, tf.constant(first), tf.constant(weights))["added"]]

    if not whole.function.structured_outputs["added"]:
        return ()
    together, left = run(whole, [0, 1, 2, 3], 0, [1.0] * _ROWS), run(half, [0, 1], 0, [1.0] * count)
    right = run(half, [2, 3], count, [1.0] * count)
    # As short batches are: filled up with copies of the first row, which must not count.
    padded = run(whole, [0, 1, 0, 0], 0, [1.0, 1.0, 0.0, 0.0])
    kinds = [added_losses.kind(value, halves) for value, *halves in zip(together, left, right, strict=True)]
    if subject.split and any(not value.any() for value in together):
        # A later run, resumed with other weights, could find another answer.
        raise BadInput(f"{_ADDED} 0 at first, so whether it is a sum or a mean over the rows is open; {_ADDED_REMEDY}")
    if subject.split and None in kinds:
        raise BadInput(f"{_ADDED} neither a sum nor a mean over the rows of a slice; {_ADDED_REMEDY}")
    if is_padded and any(added_losses.kind(value, [one, one]) != added_losses.MEAN for value, one in zip(padded, left)):
        raise BadInput(
            f"{_ADDED} also of the copies of rows that short batches are filled up with; choose a --batch_size that "
            f"divides the number of examples, or {_ADDED_REMEDY}"
        )
    return tuple(kind or added_losses.MEAN for kind in kinds)


def _differ(together: np.ndarray, apart: list[np.ndarray], tolerance: tuple[float, float]) -> bool:
    values = np.concatenate(apart)
    both = np.isfinite(together) & np.isfinite(values)
    difference = np.abs(np.where(both, together - values, 0.0)).max(initial=0)
    relative, absolute = tolerance
    return bool(difference > relative * np.abs(np.where(both, values, 0.0)).max(initial=0) + absolute)


def _row_dependence(subject: Subject, names: list[str], is_padded: bool) -> str:
    which = f"the term{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))} of forward"
    what = f"{which}{forward_call.defined(subject.forward)}: an example's value depends on the other rows of the slice"
    if subject.split:
        raise BadInput(
            f"{what}, which replicas and micro-batches cut differently; compute each example's loss from its own row, "
            "or train on one device with --accumulate=1"
        )
    if is_padded:
        raise BadInput(
            f"{what}, and short batches are padded with copies of a row; choose a --batch_size that divides the "
            "number of examples"
        )
    return f"{what}, so this run is the same only on one device, in batches of this size"
