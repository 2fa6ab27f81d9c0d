"""Damped Newton on the Gauss-Newton matrix, solved by conjugate gradients (`--optimizer=newton_cg`).

Martens, "Deep learning via Hessian-free optimization", 2010. The step p solves (G + damping * I) p = -gradient, where G
is known by its products with vectors only. What the loss does at the end of the step, beside what the quadratic model
has predicted, says how far the model can be trusted: it sets the damping of the next step, and a step that does not
lower the loss is not made.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from zoo.engine.line_search import difference
from zoo.engine.vectors import Proposal, choose, dot, plus, times

# The rule of Nielsen (1999), in Madsen, Nielsen and Tingleff, "Methods for non-linear least squares problems", 2004,
# equation 2.21: a ratio of 1 divides the damping by 3, each step in a row that fails multiplies it by 2, 4, 8, ...
_LARGEST_FALL, _FIRST_GROWTH = 1.0 / 3.0, 2.0
# Share of the predicted fall that a step has to bring: below 1/4 in Nocedal and Wright, algorithm 4.1. A step that
# brings less mostly ends where the next one has a worse start.
_LEAST_RATIO = 0.1
# Below, float32 adds nothing to the matrix; above, no step moves a weight.
_LEAST, _MOST = 1e-12, 1e12


class NewtonCg(NamedTuple):
    """Settings, and what is remembered from step to step: each device's own copies.

    Attributes:
        iterations: most iterations of conjugate gradients in a step.
        tolerance: largest norm of the residual, relative to that of the gradient.
        variables: by name, `damping` and its next `growth`, float32 scalars.
    """

    iterations: int
    tolerance: float
    variables: dict[str, tf.Variable]


def initial(damping: float) -> dict[str, float]:
    """The variables' values at the start of a run."""
    return {"damping": damping, "growth": _FIRST_GROWTH}


def propose(
    rule: NewtonCg,
    state: dict[str, tf.Tensor],
    loss: tf.Tensor,
    gradient: Sequence[tf.Tensor],
    product: Callable[[Sequence[tf.Tensor]], Sequence[tf.Tensor]],
    evaluate: Callable[[Sequence[tf.Tensor]], tuple[tf.Tensor, Sequence[tf.Tensor]]],
    rate: tf.Tensor,
    clip_norm: float,
) -> Proposal:
    """One step.

    Args:
        rule: the settings.
        state: values of the variables.
        loss: scalar, the loss at the weights, with the penalty.
        gradient: its gradient, one tensor for each variable.
        product: multiplies a vector with the Gauss-Newton matrix.
        evaluate: function of a change of the weights that returns loss and gradient there.
        rate: scalar, factor of the step.
        clip_norm: largest norm of the step before that; 0: any.
    """
    damping = state["damping"]
    solution, residual, iterations = conjugate_gradients(
        lambda vector: plus(product(vector), times(damping, vector)), gradient, rule.iterations, rule.tolerance
    )
    norm = tf.sqrt(dot(solution, solution))
    shorter = clip_norm / tf.maximum(norm, tf.cast(clip_norm, norm.dtype)) if clip_norm else tf.ones_like(norm)
    length = tf.cast(rate, norm.dtype) * shorter
    slope = dot(gradient, solution)
    # The residual is -gradient - (G + damping I) p, from which p' G p needs no product.
    curvature = -slope - dot(residual, solution) - tf.cast(damping, norm.dtype) * norm * norm
    predicted = length * slope + 0.5 * length * length * curvature
    next_loss, next_gradient = evaluate(times(length, solution))
    actual = difference(loss, next_loss, length * slope, length * dot(next_gradient, solution))
    ratio = tf.math.divide_no_nan(actual, predicted)
    # False where a number is not finite, too.
    is_better = (actual < 0.0) & (ratio >= _LEAST_RATIO)
    # The optimizer descends along it.
    direction = choose(is_better, times(-shorter, solution), [tf.zeros_like(each) for each in solution])
    scalars = {"damping": damping, "cg_iterations": iterations, "reduction_ratio": ratio, "rejected": ~is_better}
    scalars = {name: tf.cast(value, tf.float32) for name, value in scalars.items()}
    is_still = tf.equal(predicted, 0.0)
    return Proposal(direction, _damped(state, tf.cast(ratio, tf.float32), is_better, is_still), scalars)


def conjugate_gradients(
    multiply: Callable, gradient: Sequence[tf.Tensor], most: int, tolerance: float
) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
    """Solves A p = -gradient from p = 0 on, for a positive definite A (Hestenes and Stiefel, 1952).

    It ends where the residual's norm is at most min(tolerance, sqrt(|gradient|)) times that of the gradient, with which
    Newton's method converges faster than linearly (Nocedal and Wright, 2006, algorithm 7.1). From 0 on every iterate
    lowers the quadratic model, so it may end anywhere.

    Args:
        multiply: multiplies a vector with A.
        gradient: one tensor for each variable.
        most: most iterations.
        tolerance: largest norm of the residual, relative to that of the gradient.

    Returns:
        p, the residual -gradient - A p, and the iterations.
    """
    start = times(-1.0, gradient)
    square = dot(start, start)
    bound = square * tf.square(tf.minimum(tf.cast(tolerance, square.dtype), tf.sqrt(tf.sqrt(square))))

    def is_open(number, point, residual, direction, square, is_convex):
        return (number < most) & (square > bound) & is_convex

    def one(number, point, residual, direction, square, _):
        image = multiply(direction)
        curvature = dot(direction, image)
        # Rounding, or a penalty that is not convex: the step so far is kept.
        is_convex = curvature > 0.0
        length = tf.where(is_convex, square / tf.where(is_convex, curvature, 1.0), 0.0)
        point, residual = plus(point, times(length, direction)), plus(residual, times(-length, image))
        next_square = dot(residual, residual)
        direction = plus(residual, times(next_square / square, direction))
        return number + 1, point, residual, direction, next_square, is_convex

    zeros = [tf.zeros_like(each) for each in gradient]
    state = (tf.constant(0), zeros, start, start, square, tf.constant(True))
    number, point, residual, *_ = tf.while_loop(is_open, one, state, parallel_iterations=1)
    return point, residual, number


def _damped(
    state: dict[str, tf.Tensor], ratio: tf.Tensor, is_better: tf.Tensor, is_still: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The damping of the next step, from the ratio of the real to the predicted fall of the loss."""
    damping, growth = state["damping"], state["growth"]
    fall = tf.maximum(_LARGEST_FALL, 1.0 - tf.pow(2.0 * ratio - 1.0, 3.0))
    changed = tf.clip_by_value(damping * tf.where(is_better, fall, growth), _LEAST, _MOST)
    # At a gradient of 0 there is nothing to learn.
    return {
        "damping": tf.where(is_still, damping, changed),
        "growth": tf.where(is_still, growth, tf.where(is_better, _FIRST_GROWTH, tf.minimum(2.0 * growth, _MOST))),
    }
