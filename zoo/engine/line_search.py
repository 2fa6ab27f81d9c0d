"""Line search to a point that satisfies the strong Wolfe conditions, and how a loss changes along a line.

Nocedal and Wright, "Numerical optimization", 2006, algorithms 3.5 and 3.6: lengths grow until an interval must hold
such a point, which is then narrowed by cubic interpolation. Both are one loop here, with one evaluation per iteration.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from zoo.engine.vectors import choose, dot

# Changes of the loss below this share of it are within the rounding of a float32 sum over thousands of examples.
_ROUNDING = 1e-5
# Share of a step's first-order fall that it has to bring, and share of the first slope that may be left: section 3.1,
# where 0.9 is for quasi-Newton methods.
DECREASE, CURVATURE = 1e-4, 0.9
# Factor from one length to the next before there is an interval, and how near to its ends the next point may be.
_GROWTH, _MARGIN = 2.0, 0.1


class Point(NamedTuple):
    """A point of the line.

    Attributes:
        length: scalar, distance from the start in directions.
        change: scalar, loss less that of the start.
        slope: scalar, derivative of the loss along the direction.
    """

    length: tf.Tensor
    change: tf.Tensor
    slope: tf.Tensor


class _State(NamedTuple):
    """The search so far: `low` is the best point with a sufficient decrease, and `gradient` the gradient there."""

    evaluations: tf.Tensor
    is_done: tf.Tensor
    has_interval: tf.Tensor
    length: tf.Tensor
    low: Point
    high: Point
    gradient: list[tf.Tensor]


def search(
    evaluate: Callable[[tf.Tensor], tuple[tf.Tensor, Sequence[tf.Tensor]]],
    direction: Sequence[tf.Tensor],
    loss: tf.Tensor,
    gradient: Sequence[tf.Tensor],
    longest: tf.Tensor,
    most: int,
) -> tuple[Point, list[tf.Tensor], tf.Tensor]:
    """A point that satisfies the strong Wolfe conditions, or the best one with a sufficient decrease.

    Args:
        evaluate: function of a length that returns the loss and the gradient there.
        direction: a direction of descent, one tensor for each variable.
        loss: scalar, loss at the start.
        gradient: gradient at the start.
        longest: scalar, longest length; 1 is tried first where it is allowed.
        most: most evaluations.

    Returns:
        The point, whose length is 0 where none has a sufficient decrease; the gradient there; the evaluations.
    """
    slope = dot(gradient, direction)
    zero = tf.zeros_like(slope)
    start = Point(zero, zero, slope)

    def one(*fields) -> _State:
        state = _State(*fields)
        at_length, there = evaluate(state.length)
        own = dot(there, direction)
        change = difference(loss, at_length, state.length * slope, state.length * own)
        is_finite = tf.math.is_finite(change) & tf.math.is_finite(own)
        return _next(state, Point(state.length, change, own), is_finite, list(there), slope, longest)

    no, first = tf.constant(False), tf.minimum(tf.ones_like(slope), longest)
    state = _State(tf.constant(0), ~(slope < 0.0), no, first, start, start, list(gradient))
    state = tf.while_loop(
        lambda *fields: ~_State(*fields).is_done & (_State(*fields).evaluations < most),
        one,
        state,
        parallel_iterations=1,
    )
    return state.low, state.gradient, state.evaluations


def difference(loss: tf.Tensor, other: tf.Tensor, slope: tf.Tensor, other_slope: tf.Tensor) -> tf.Tensor:
    """`other - loss` of two points; where rounding hides it, from the slopes at both.

    The slopes of losses that are nearly equal still say which is lower (Hager and Zhang, "A new conjugate gradient
    method with guaranteed descent and an efficient line search", 2005, section 4).

    Args:
        loss: loss of the first point.
        other: loss of the second.
        slope: derivative at the first point along the line from it to the second, times the distance.
        other_slope: the same at the second.
    """
    plain = tf.cast(other - loss, slope.dtype)
    by_slopes = 0.5 * (slope + other_slope)
    return tf.where(tf.abs(plain) <= _ROUNDING * tf.cast(tf.abs(loss), slope.dtype), by_slopes, plain)


def _next(
    state: _State, point: Point, is_finite: tf.Tensor, gradient: list[tf.Tensor], slope: tf.Tensor, longest: tf.Tensor
) -> _State:
    """The search after an evaluation; `slope` is that of the start."""
    is_low = is_finite & (point.change <= DECREASE * point.length * slope) & (point.change < state.low.change)
    is_flat = is_low & (tf.abs(point.slope) <= -CURVATURE * slope)
    # The minimum lies between the point and the one before where the loss rises at it, away from that one.
    side = tf.where(state.has_interval, state.high.length - state.low.length, 1.0)
    has_turned = point.slope * side >= 0.0
    high = _chosen(is_low, _chosen(has_turned, state.low, state.high), point)
    low = _chosen(is_low, point, state.low)
    has_interval = state.has_interval | ~is_low | has_turned
    is_at_end = ~has_interval & (point.length >= longest)
    length = tf.where(has_interval, _between(low, high), tf.minimum(_GROWTH * point.length, longest))
    kept = choose(is_low, gradient, state.gradient)
    return _State(state.evaluations + 1, is_flat | is_at_end, has_interval, length, low, high, kept)


def _between(low: Point, high: Point) -> tf.Tensor:
    """The minimum of the cubic through two points (equation 3.59), or the middle where there is none near it."""
    width = high.length - low.length
    one = low.slope + high.slope - 3.0 * (high.change - low.change) / width
    two = tf.sign(width) * tf.sqrt(one * one - low.slope * high.slope)
    share = 1.0 - (high.slope + two - one) / (high.slope - low.slope + 2.0 * two)
    is_inside = (share >= _MARGIN) & (share <= 1.0 - _MARGIN)
    return low.length + tf.where(is_inside, share, 0.5) * width


def _chosen(condition: tf.Tensor, one: Point, other: Point) -> Point:
    return Point(*(tf.where(condition, *pair) for pair in zip(one, other, strict=True)))
