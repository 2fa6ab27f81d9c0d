"""JAX with Optax in the LSTM race."""

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.harness.worker import Metrics, Training
from benchmarks.lstm import data

_OPTIMIZER = optax.adam(data.LEARNING_RATE)


class _Call(NamedTuple):
    """Reviews of a call, int32 `[steps, batch_size]`, and their padded width."""

    index: np.ndarray
    width: int


def scan(batch_size: int, alike: bool, steps_per_call: int, unroll: int = 1) -> Training:
    """Several steps in one program.

    Args:
        batch_size: examples per step.
        alike: whether batches have about one length, padded to the next of five widths, or any, padded to 200.
        steps_per_call: steps of a program; fewer for the remainder of a width.
        unroll: time steps in one iteration of the loop over time.
    """
    reviews = data.load()
    columns = [jnp.asarray(column) for column in reviews]
    order = data.Order(reviews.lengths, batch_size, alike)

    @functools.partial(jax.jit, donate_argnums=0, static_argnames="width")
    def loop(state, tokens, lengths, labels, index, width: int):
        def body(state, row):
            return _step(state, tokens[row, :width], lengths[row], labels[row], unroll), None

        return jax.lax.scan(body, state, index)[0]

    state = _state()

    def run(calls: Iterable[_Call]) -> Metrics:
        nonlocal state
        steps = 0
        for index, width in calls:
            state = loop(state, *columns, index, width=width)
            steps += len(index)
        state, metrics = _metrics(state, steps)
        return metrics

    def calls(epochs: int) -> Iterator[_Call]:
        for _ in range(epochs):
            yield from _calls(order.epoch(), reviews.lengths, steps_per_call)

    return Training(
        first=lambda: run(itertools.islice(calls(1), 1)),
        train=lambda steps: run(calls(steps // order.steps)),
        quantum=order.steps,
    )


def _calls(epoch: np.ndarray, lengths: np.ndarray, steps: int) -> list[_Call]:
    """Groups batches of one width, at most `steps` each; in the order of each group's first batch."""
    widths = np.asarray(data.WIDTHS)
    width = widths[np.searchsorted(widths, lengths[epoch].max(axis=1))]
    steps_of_width = [np.flatnonzero(width == one) for one in np.unique(width)]
    calls = [group[i : i + steps] for group in steps_of_width for i in range(0, len(group), steps)]
    # The epoch is shuffled, and so are the calls.
    return [_Call(epoch[call], int(width[call[0]])) for call in sorted(calls, key=lambda call: call[0])]


def _state():
    """Initial weights as in Keras, Adam's moments, sums of loss and accuracy."""
    width = data.WIDTH
    embed, kernel, recurrent, head = jax.random.split(jax.random.key(0), 4)
    initialize = jax.nn.initializers
    weights = {
        "embed": jax.random.uniform(embed, (data.TOKENS, width), minval=-0.05, maxval=0.05),
        "kernel": initialize.glorot_uniform()(kernel, (width, 4 * width)),
        "recurrent": initialize.orthogonal()(recurrent, (width, 4 * width)),
        # Input, forget, cell, output: the forget gates start open.
        "bias": jnp.zeros((4, width)).at[1].set(1.0).reshape(-1),
        "head": (initialize.glorot_uniform()(head, (width, 1)), jnp.zeros(1)),
    }
    return weights, _OPTIMIZER.init(weights), jnp.zeros(2)


def _step(state, tokens: jax.Array, lengths: jax.Array, labels: jax.Array, unroll: int):
    weights, moments, sums = state
    gradient = jax.value_and_grad(_loss, has_aux=True)
    (loss, accuracy), gradients = gradient(weights, tokens, lengths, labels, unroll)
    updates, moments = _OPTIMIZER.update(gradients, moments)
    return optax.apply_updates(weights, updates), moments, sums + jnp.stack([loss, accuracy])


def _loss(weights, tokens: jax.Array, lengths: jax.Array, labels: jax.Array, unroll: int):
    kernel, bias = weights["head"]
    logits = (_last(weights, tokens, lengths, unroll) @ kernel + bias)[:, 0]
    loss = optax.sigmoid_binary_cross_entropy(logits, labels).mean()
    return loss, ((logits > 0) == (labels > 0)).mean()


def _last(weights, tokens: jax.Array, lengths: jax.Array, unroll: int) -> jax.Array:
    """The state `[batch, width]` at each review's end; padding after it has no effect."""
    # All time steps in one matrix product.
    inputs = weights["embed"][tokens.T] @ weights["kernel"] + weights["bias"]  # [time, batch, 4 * width]

    def cell(carry, inputs):
        h, c = carry
        i, f, g, o = jnp.split(inputs + h @ weights["recurrent"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((len(lengths), data.WIDTH))
    states = jax.lax.scan(cell, (zeros, zeros), inputs, unroll=unroll)[1]
    return states[lengths - 1, jnp.arange(len(lengths))]


def _metrics(state, steps: int):
    """The state with sums reset to 0, and the means so far; waits until they are computed."""
    weights, moments, sums = state
    loss, accuracy = (sums / steps).tolist()
    return (weights, moments, jnp.zeros(2)), Metrics(loss, accuracy)
