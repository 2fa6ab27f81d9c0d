"""Products of the Gauss-Newton matrix with a vector, on one slice of a batch; the matrix itself is never made.

With the model's outputs z, their Jacobian J with respect to the weights, and the Hessian H of the losses with respect
to z, the matrix is J' H J: the Hessian of the losses with the model replaced by its linear part. It has no negative
eigenvalues where the losses are convex in z. Schraudolph, "Fast curvature matrix-vector products for second-order
gradient descent", 2002, section 3.
"""

import contextlib
from typing import Any

import keras
import tensorflow as tf

from zoo.engine import forward_call, slice_pass
from zoo.engine.task import MicroBatch, Task, Values
from zoo.errors import BadInput, ZooError
from zoo.models import xla_islands

_ZERO = tf.UnconnectedGradients.ZERO
_REMEDY = "use --optimizer=lbfgs or one of first order"


def product(
    task: Task,
    rows: MicroBatch,
    values: Values,
    vector: Values,
    scales: dict[str, tf.Tensor],
    step: tf.Tensor,
) -> Values:
    """The product with a vector, in the shapes of the weights, summed over a slice as `slice_pass.gradients` is.

    One forward pass carries the tangent J v along (forward mode); the losses' gradient with respect to z is
    differentiated along it (forward over reverse), which gives H J v; and a backward pass through the model multiplies
    that with J'.

    Args:
        task: model and losses.
        rows: the slice.
        values: values of the trainable variables.
        vector: what is multiplied, one tensor for each variable.
        scales: factors of the losses by name; 1 for others.
        step: scalar int32.

    Raises:
        BadInput: the losses are not a function of the outputs of one call of the model, or TensorFlow cannot
            differentiate the model in forward mode.
    """
    if task.has_dead_rows:
        rows = slice_pass.without_dead_rows(task, rows, values, step)
    with contextlib.ExitStack() as stack:
        stand_in = _StandIn(task.model, values, vector, stack)
        with tf.GradientTape(watch_accessed_variables=False) as around:
            around.watch(values)
            with slice_pass.replaced(values, task) as scope:
                sums, *_ = slice_pass.forward(
                    task._replace(model=stand_in), rows, step, training=True, added=scope.losses
                )
            loss = tf.add_n([sums[name].numerator * scales.get(name, 1.0) for name in task.losses if name in sums])
        _check(task, stand_in.calls, around.gradient(loss, values))
        slopes = stand_in.loss_tape.gradient(loss, stand_in.seen, unconnected_gradients=_ZERO)
        curved = [stand_in.along.jvp(slope, unconnected_gradients=_ZERO) for slope in slopes]
    products = stand_in.model_tape.gradient(stand_in.outputs, values, curved, unconnected_gradients=_ZERO)
    return [tf.convert_to_tensor(each) for each in products]


class _StandIn:
    """Called in the model's place: its outputs are watched, but what comes behind them does not see the weights.

    Args:
        model: the model; all other attributes are its own.
        values: values of its trainable variables.
        vector: direction in which they move.
        stack: closes what is open until the losses are differentiated.

    Attributes:
        calls: how often it was called.
        outputs: float outputs of the model.
        seen: the same, for the losses.
        model_tape: tape from the values to `outputs`.
        loss_tape: tape from `seen` to the losses.
        along: forward mode from `seen` on, along the outputs' tangents.
    """

    def __init__(self, model: keras.Model, values: Values, vector: Values, stack: contextlib.ExitStack):
        self._model, self._values, self._vector, self._stack = model, values, vector, stack
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *arguments, **options) -> Any:
        self.calls += 1
        if self.calls > 1:
            return self._model(*arguments, **options)
        outputs, tangents = self._outputs(arguments, options)
        flat = keras.tree.flatten(outputs)
        floats = [number for number, each in enumerate(flat) if each.dtype.is_floating]
        self.outputs = [flat[number] for number in floats]
        self.seen = [tf.stop_gradient(each) for each in self.outputs]
        self.along = self._stack.enter_context(tf.autodiff.ForwardAccumulator(self.seen, [tangents[n] for n in floats]))
        self.loss_tape = self._stack.enter_context(tf.GradientTape(watch_accessed_variables=False))
        self.loss_tape.watch(self.seen)
        for number, each in zip(floats, self.seen, strict=True):
            flat[number] = each
        return keras.tree.pack_sequence_as(outputs, flat)

    def _outputs(self, arguments, options) -> tuple[Any, list[tf.Tensor]]:
        """The model's outputs, and the tangents of the flat ones."""
        try:
            with tf.autodiff.ForwardAccumulator(self._values, self._vector) as forward_mode:
                with tf.GradientTape(watch_accessed_variables=False) as self.model_tape:
                    self.model_tape.watch(self._values)
                    # An island that is traced in forward mode first loses its gradient, there and in later passes.
                    with xla_islands.uncompiled():
                        outputs = self._model(*arguments, **options)
                flat = keras.tree.flatten(outputs)
                return outputs, [forward_mode.jvp(each, unconnected_gradients=_ZERO) for each in flat]
        except Exception as error:
            # The model alone was tried before: it is forward mode that TensorFlow lacks, with errors of many types.
            if isinstance(error, ZooError):
                raise
            raise BadInput(
                f"--optimizer=newton_cg: TensorFlow cannot differentiate the model in forward mode "
                f"({type(error).__name__}: {str(error).splitlines()[0][:160]}); {_REMEDY}"
            ) from error


def _check(task: Task, calls: int, direct: list[tf.Tensor | None]) -> None:
    """Refuses losses that are not a function of the outputs of one call."""
    where = forward_call.defined(task.forward)
    if calls != 1:
        raise BadInput(
            f"--optimizer=newton_cg: forward{where} calls the model {calls} times in training, expected once, as the "
            f"matrix is made of its outputs; {_REMEDY}"
        )
    if any(slope is not None for slope in direct):
        raise BadInput(
            f"--optimizer=newton_cg: the losses of forward{where} depend on weights by another way than the model's "
            f"outputs, as a loss that a layer adds does; {_REMEDY}"
        )
