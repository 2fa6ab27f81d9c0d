"""Limited-memory BFGS with a strong-Wolfe line search (`--optimizer=lbfgs`).

Nocedal and Wright, "Numerical optimization", 2006, algorithms 7.4 and 7.5: the inverse Hessian is approximated from the
last steps and the changes of the gradient along them. Both gradients of such a pair come from the same batch, so that
its change is that of the weights alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.engine.line_search import search
from zoo.engine.vectors import Proposal, choose, dot, plus, times

# More evaluations than this find no better point: SciPy's search ends after 20.
EVALUATIONS = 20
# Least curvature of a pair that is kept, relative to the fall that the slope promised: the precision of float32.
_LEAST_CURVATURE = 1e-7
_STEPS, _CHANGES = "steps/", "changes/"


class Lbfgs(NamedTuple):
    """Settings, and what is remembered from step to step: each device's own copies.

    Attributes:
        variables: by name, for each weight the last steps and the changes of its gradient, `[pairs, ...]`, the newest
            last; zeros where there is none yet.
    """

    variables: dict[str, tf.Variable]


def initial(pairs: int, variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    """The variables' values at the start of a run."""
    return {
        f"{kind}{number:04d}": np.zeros([pairs, *variable.shape], variable.dtype)
        for kind in (_STEPS, _CHANGES)
        for number, variable in enumerate(variables)
    }


def propose(
    state: dict[str, tf.Tensor],
    loss: tf.Tensor,
    gradient: Sequence[tf.Tensor],
    evaluate: Callable[[Sequence[tf.Tensor]], tuple[tf.Tensor, Sequence[tf.Tensor]]],
    clip_norm: float,
) -> Proposal:
    """One step.

    Args:
        state: values of the variables.
        loss: scalar, the loss at the weights, with the penalty.
        gradient: its gradient, one tensor for each variable.
        evaluate: function of a change of the weights that returns loss and gradient there.
        clip_norm: largest norm of the step; 0: any.
    """
    steps, changes = _history(state, _STEPS), _history(state, _CHANGES)
    direction = times(-1.0, descent(steps, changes, gradient))
    norm = tf.sqrt(dot(direction, direction))
    longest = clip_norm / norm if clip_norm else tf.constant(1e10, norm.dtype)
    point, there, evaluations = search(
        lambda length: evaluate(times(length, direction)), direction, loss, gradient, longest, EVALUATIONS
    )
    # False where a number is not finite, too.
    is_better = point.change < 0.0
    step = choose(is_better, times(point.length, direction), [tf.zeros_like(each) for each in direction])
    change = plus(there, times(-1.0, gradient))
    is_curved = dot(step, change) > -_LEAST_CURVATURE * point.length * dot(gradient, direction)
    remembered = {}
    for kind, history, newest in ((_STEPS, steps, step), (_CHANGES, changes, change)):
        for number, (rows, row) in enumerate(zip(history, newest, strict=True)):
            shifted = tf.where(is_curved, tf.concat([rows[1:], row[None]], axis=0), rows)
            # Without a step the pairs are no guide: the next one follows the gradient.
            remembered[f"{kind}{number:04d}"] = tf.where(is_better, shifted, tf.zeros_like(rows))
    scalars = {"step_length": point.length, "line_search_evaluations": evaluations, "rejected": ~is_better}
    return Proposal(
        times(-1.0, step), remembered, {name: tf.cast(value, tf.float32) for name, value in scalars.items()}
    )


def descent(steps: Sequence[tf.Tensor], changes: Sequence[tf.Tensor], gradient: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The approximate inverse Hessian times the gradient, by the two loops of algorithm 7.4.

    Args:
        steps: for each variable the last steps, `[pairs, ...]`, the newest last; zeros have no effect.
        changes: the changes of the gradient along them.
        gradient: one tensor for each variable.
    """
    pairs = steps[0].shape[0]

    def pair(number) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
        step, change = [rows[number] for rows in steps], [rows[number] for rows in changes]
        return step, change, tf.math.reciprocal_no_nan(dot(step, change))

    def backward(number, vector, shares):
        step, change, inverse = pair(number)
        share = inverse * dot(step, vector)
        shares = tf.tensor_scatter_nd_update(shares, [[number]], [share])
        return number - 1, plus(vector, times(-share, change)), shares

    def forward(number, vector):
        step, change, inverse = pair(number)
        return number + 1, plus(vector, times(shares[number] - inverse * dot(change, vector), step))

    square = dot(gradient, gradient)
    start = tf.constant(pairs - 1), list(gradient), tf.zeros([pairs], square.dtype)
    _, vector, shares = tf.while_loop(lambda number, *_: number >= 0, backward, start, parallel_iterations=1)
    step, change, _ = pair(pairs - 1)
    curvature = dot(step, change)
    # The first step is no longer than 1, and no longer than the gradient.
    scale = tf.where(
        curvature > 0.0,
        tf.math.divide_no_nan(curvature, dot(change, change)),
        tf.math.reciprocal_no_nan(tf.maximum(tf.sqrt(square), 1.0)),
    )
    start = tf.constant(0), times(scale, vector)
    return tf.while_loop(lambda number, *_: number < pairs, forward, start, parallel_iterations=1)[1]


def _history(state: Mapping[str, tf.Tensor], kind: str) -> list[tf.Tensor]:
    return [state[name] for name in sorted(state) if name.startswith(kind)]
