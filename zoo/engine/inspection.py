"""Weight norms, gradients and the graph of a run, read between two calls of the engine without changing the run."""

import contextlib
import functools
import re
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from zoo.data.batches import Batches
from zoo.engine import batch_losses, regularization, slice_pass, updates
from zoo.engine import step as step_functions
from zoo.engine.engine import Engine
from zoo.engine.state import array
from zoo.engine.task import LocalSums, MicroBatch, Task

# Larger constants are removed from the graph: TensorBoard's picture does not show them.
_CONSTANT_BYTES = 1024


class Inspection:
    """Reads an engine's weights, gradients and graph, on one device and without the other workers.

    Args:
        engine: engine of the run.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._names = names(engine.model)

    @functools.cached_property
    def _updates(self) -> list["_UpdateGradients"]:
        # Not in __init__: the engine may learn at its first call that XLA lacks an operation.
        compiled = self._engine.compile in ("loop", "step", "cores")
        return [_UpdateGradients(task, compiled) for task in self._engine.tasks]

    def squares(self) -> dict[str, float]:
        """Sum of squares of each layer's weights, by the layer's name."""
        sums: dict[str, float] = {}
        for variable, name in zip(self._engine.model.trainable_variables, self._names, strict=True):
            layer = name.partition("/")[0]
            # In NumPy, faster here than three TensorFlow operations, and deterministic.
            squares = np.sum(np.square(variable.numpy()), dtype=np.float64)
            sums[layer] = sums.get(layer, 0.0) + float(squares)
        return sums

    def weights(self) -> dict[str, np.ndarray]:
        """The trainable variables by name."""
        return dict(zip(self._names, map(array, self._engine.model.trainable_variables), strict=True))

    def gradients(self, batches: Batches, step: int) -> dict[str, np.ndarray]:
        """The gradient of a step with the current weights, before clipping, by the variables' names.

        It is that of the whole global batch, computed in the engine's slices one after the other; as an example's noise
        depends on its position in the batch only, the gradient is the same on all devices. Of several updates in a step
        each one's is computed with the weights before the first.
        """
        engine, found = self._engine, {}
        options = engine.has_dead_rows(batches), batches.batch_size
        with self._unchanged():
            for number, update in enumerate(self._updates):
                turn = updates.noise_step(step, engine.turns, engine.turns.index(number))
                slices = list(self._slices(batches, step, turn))
                found |= {id(v): g for v, g in zip(update.task.variables, update.gradients(slices, *options))}
        variables = engine.model.trainable_variables
        return {name: found[id(variable)].numpy() for name, variable in zip(self._names, variables, strict=True)}

    def graph(self, batches: Batches) -> bytes:
        """The forward and backward pass of a slice of a batch as a serialized GraphDef, by a trace that is not run."""
        tasks = [task._replace(batch_rows=batches.batch_size) for task in self._engine.tasks]
        batch, weights, _, _ = next(self._slices(batches, 0, 0))
        specs = {name: tf.TensorSpec(values.shape, values.dtype, name=name) for name, values in batch.items()}

        def one_step(batch, weights):
            rows = MicroBatch(batch, weights, tf.constant(0))
            return [one_update(task, rows, weights) for task in tasks]

        def one_update(task, rows, weights):
            scales = dict.fromkeys(task.losses, tf.constant(1.0)) if not task.has_one_weight else {}
            with tf.name_scope("variables"):
                values = _values(task)
            pulls = {}
            if task.batch_losses is not None:
                outputs = slice_pass.outputs(task, rows, values, tf.constant(0))
                pulls = batch_losses.slopes(task, outputs, weights)[1]
            gradients = slice_pass.gradients(task, rows, values, scales, tf.constant(0), pulls).gradients
            with tf.name_scope("gradients"):
                return [tf.identity(gradient) for gradient in gradients]

        traced = tf.function(one_step, autograph=False).get_concrete_function(
            specs, tf.TensorSpec(weights.shape, tf.float32, name="weights")
        )
        definition = traced.graph.as_graph_def()
        for nodes in (definition.node, *(function.node_def for function in definition.library.function)):
            for node in nodes:
                if node.op == "Const" and node.ByteSize() > _CONSTANT_BYTES:
                    node.attr["value"].tensor.tensor_content = b""
        return definition.SerializeToString()

    def _slices(self, batches: Batches, step: int, turn: int) -> Iterator[tuple]:
        """The slices of a step's batch: columns, weights, first row, number that the noise depends on."""
        batch, weights = batches.at(step)
        size = -(-len(weights) // self._engine.cut.slices)
        missing = size * self._engine.cut.slices - len(weights)
        batch = {name: np.concatenate([values, values[:1].repeat(missing, axis=0)]) for name, values in batch.items()}
        weights = np.pad(weights, (0, missing))
        for first in range(0, len(weights), size):
            part = slice(first, first + size)
            columns = {name: tf.constant(values[part]) for name, values in batch.items()}
            yield columns, tf.constant(weights[part]), tf.constant(first), tf.constant(turn)

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Restores the seeds that Keras' own random layers advance in a forward pass."""
        weights = {id(variable) for variable in self._engine.model.weights}
        seeds = [variable for variable in self._engine.model.variables if id(variable) not in weights]
        before = [np.array(array(variable)) for variable in seeds]
        try:
            yield
        finally:
            for variable, value in zip(seeds, before, strict=True):
                variable.assign(value)


class _UpdateGradients:
    """The gradients of an update, slice after slice."""

    def __init__(self, task: Task, compiled: bool):
        self.task = task
        compile = functools.partial(tf.function, jit_compile=compiled, autograph=False)
        self._slice = compile(self._slice_gradients)
        self._weights = compile(functools.partial(self._slice_values, slice_pass.weights))
        self._outputs = compile(functools.partial(self._slice_values, slice_pass.outputs))

    def gradients(self, slices: list[tuple], has_dead_rows: bool, batch_rows: int) -> list[tf.Tensor]:
        """The gradient of each variable, from the slices of the global batch."""
        task, values, scales = self.task, _values(self.task), {}
        if not task.has_one_weight:
            weights = _total([self._weights(*each, values, batch_rows) for each in slices])
            scales = {name: tf.math.reciprocal_no_nan(weight) for name, weight in weights.items()}
        pulls = self._pulls(slices, values, batch_rows)
        local = _total([self._slice(*each, values, scales, pulls, has_dead_rows, batch_rows) for each in slices])
        extra = None
        if task.penalty is not None:
            extra = regularization.gradients(task.penalty, [variable.value for variable in task.variables])[1]
        return step_functions.global_gradients(task, local, extra)

    def _pulls(self, slices: list[tuple], values: list[tf.Tensor], batch_rows: int) -> dict[str, tf.Tensor]:
        """The gradient of losses over the whole batch for each output, `[global batch, ...]`."""
        if self.task.batch_losses is None:
            return {}
        parts = [self._outputs(*each, values, batch_rows) for each in slices]
        outputs = {name: tf.concat([part[name] for part in parts], axis=0) for name in parts[0]}
        weights = tf.concat([weights for _, weights, *_ in slices], axis=0)
        return batch_losses.slopes(self.task, outputs, weights)[1]

    def _slice_gradients(
        self, batch, weights, first_row, step, values, scales, pulls, has_dead_rows, batch_rows
    ) -> LocalSums:
        task = self.task._replace(has_dead_rows=has_dead_rows, batch_rows=batch_rows)
        own = batch_losses.of_slice(pulls, first_row, weights.shape[0])
        return slice_pass.gradients(task, MicroBatch(batch, weights, first_row), values, scales, step, own)

    def _slice_values(self, function, batch, weights, first_row, step, values, batch_rows) -> dict[str, tf.Tensor]:
        task = self.task._replace(batch_rows=batch_rows)
        return function(task, MicroBatch(batch, weights, first_row), values, step)


def names(model: keras.Model) -> list[str]:
    """Unique names `00_layer/variable` of the trainable variables, by the layers' order, without Keras' counters."""
    layers: dict[str, str] = {}
    unique = []
    for variable in model.trainable_variables:
        layer, _, rest = variable.path.removeprefix(f"{model.name}/").partition("/")
        if layer not in layers:
            layers[layer] = f"{len(layers):02d}_{re.sub(r'_[0-9]+$', '', layer)}"
        unique.append(f"{layers[layer]}/{rest}" if rest else layers[layer])
    return unique


def _total(structures: list):
    return structures[0] if len(structures) == 1 else tf.nest.map_structure(lambda *x: tf.add_n(list(x)), *structures)


def _values(task: Task) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(_local(variable.value)) for variable in task.variables]


def _local(value):
    """One replica's copy of a variable, read outside any replica."""
    return value.values[0] if hasattr(value, "values") else value
