"""What can be asked of a run between two calls of the engine; nothing here changes the run or any of its programs."""

import contextlib
import re
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from zoo.data.batches import Batches
from zoo.engine import regularization
from zoo.engine import step as steps_of
from zoo.engine.engine import Engine
from zoo.engine.state import array
from zoo.engine.step import LocalSums, MicroBatch

# Larger constants of a graph are left out of it: a picture does not show them.
_CONSTANT_BYTES = 1024


class Inspection:
    """Looks at an engine's weights, gradients and graph, on one device and without the other workers.

    Args:
        engine: whose run it is.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._names = names(engine.model)
        compiled = engine.compile in ("loop", "step", "cores")
        self._gradients = tf.function(self._slice, jit_compile=compiled, autograph=False)
        self._weights = tf.function(self._slice_weights, jit_compile=compiled, autograph=False)

    def squares(self) -> dict[str, float]:
        """The sum of the squares of each layer's weights, by the layer's name."""
        found: dict[str, float] = {}
        for variable, name in zip(self._engine.model.trainable_variables, self._names, strict=True):
            layer = name.partition("/")[0]
            # In NumPy, which is faster here than to call three operations; its sum is the same every time.
            squares = np.sum(np.square(variable.numpy()), dtype=np.float64)
            found[layer] = found.get(layer, 0.0) + float(squares)
        return found

    def weights(self) -> dict[str, np.ndarray]:
        """The trained variables by name."""
        return dict(zip(self._names, map(array, self._engine.model.trainable_variables), strict=True))

    def gradients(self, batches: Batches, step: int) -> dict[str, np.ndarray]:
        """The gradient that a step would take with the present weights, before it is clipped, by the variables' names.

        Of the whole global batch, in as many slices as the engine has parts, one after the other: as the noise belongs
        to the examples' places it is the same gradient, whatever the devices.
        """
        task = self._engine.task
        with self._unchanged():
            values = self._values()
            slices = list(self._slices(batches, step))
            scales = {}
            if len(task.objective) > 1:
                weights = _total([self._weights(*each, values) for each in slices])
                scales = {name: tf.math.reciprocal_no_nan(weight) for name, weight in weights.items()}
            local = _total([self._gradients(*each, values, scales) for each in slices])
            extra = None
            if task.penalty is not None:
                plain = [variable.value for variable in self._engine.model.trainable_variables]
                extra = regularization.gradients(task.penalty, plain)[1]
            found = steps_of.global_gradients(task, local, extra)
        return {name: gradient.numpy() for name, gradient in zip(self._names, found, strict=True)}

    def graph(self, batches: Batches) -> bytes:
        """The forward and backward pass of one slice of a batch as a GraphDef, by a trace that is never run."""
        task = self._engine.task
        batch, weights, _, _ = next(self._slices(batches, 0))
        specs = {name: tf.TensorSpec(values.shape, values.dtype, name=name) for name, values in batch.items()}

        def one_step(batch, weights):
            rows = MicroBatch(batch, weights, tf.constant(0))
            scales = dict.fromkeys(task.objective, tf.constant(1.0)) if len(task.objective) > 1 else {}
            with tf.name_scope("variables"):
                values = self._values()
            found = steps_of.gradients(task, rows, values, scales, tf.constant(0)).gradients
            with tf.name_scope("gradients"):
                return [tf.identity(gradient) for gradient in found]

        traced = tf.function(one_step, autograph=False).get_concrete_function(
            specs, tf.TensorSpec(weights.shape, tf.float32, name="weights")
        )
        found = traced.graph.as_graph_def()
        for nodes in (found.node, *(function.node_def for function in found.library.function)):
            for node in nodes:
                if node.op == "Const" and node.ByteSize() > _CONSTANT_BYTES:
                    node.attr["value"].tensor.tensor_content = b""
        return found.SerializeToString()

    def _slices(self, batches: Batches, step: int) -> Iterator[tuple]:
        """The rows of each part of a step's batch: columns, weights, first row, step."""
        batch, weights = batches.at(step)
        size = -(-len(weights) // self._engine.parts)
        missing = size * self._engine.parts - len(weights)
        batch = {name: np.concatenate([values, values[:1].repeat(missing, axis=0)]) for name, values in batch.items()}
        weights = np.pad(weights, (0, missing))
        for first in range(0, len(weights), size):
            part = slice(first, first + size)
            columns = {name: tf.constant(values[part]) for name, values in batch.items()}
            yield columns, tf.constant(weights[part]), tf.constant(first), tf.constant(step)

    def _values(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(_local(variable.value)) for variable in self._engine.model.trainable_variables]

    def _slice(self, batch, weights, first_row, step, values, scales) -> LocalSums:
        return steps_of.gradients(self._engine.task, MicroBatch(batch, weights, first_row), values, scales, step)

    def _slice_weights(self, batch, weights, first_row, step, values) -> dict[str, tf.Tensor]:
        return steps_of.weights(self._engine.task, MicroBatch(batch, weights, first_row), values, step)

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Keras' own random layers advance a seed in a forward pass: it is set back."""
        known = {id(variable) for variable in self._engine.model.weights}
        seeds = [variable for variable in self._engine.model.variables if id(variable) not in known]
        before = [np.array(array(variable)) for variable in seeds]
        try:
            yield
        finally:
            for variable, value in zip(seeds, before, strict=True):
                variable.assign(value)


def names(model: keras.Model) -> list[str]:
    """Of each trained variable `00_layer/variable`: unique, in the order of the layers, without Keras' counters."""
    layers: dict[str, str] = {}
    found = []
    for variable in model.trainable_variables:
        layer, _, rest = variable.path.removeprefix(f"{model.name}/").partition("/")
        if layer not in layers:
            layers[layer] = f"{len(layers):02d}_{re.sub(r'_[0-9]+$', '', layer)}"
        found.append(f"{layers[layer]}/{rest}" if rest else layers[layer])
    return found


def _total(found: list):
    return found[0] if len(found) == 1 else tf.nest.map_structure(lambda *values: tf.add_n(list(values)), *found)


def _local(value):
    """One replica's copy of a variable, read outside any replica."""
    return value.values[0] if hasattr(value, "values") else value
