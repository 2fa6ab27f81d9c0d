"""JAX with Optax in the MLP race."""

import functools
import itertools

import jax
import jax.numpy as jnp
import optax

from benchmarks.harness.worker import Metrics, Training
from benchmarks.mlp import data

_OPTIMIZER = optax.adam(data.LEARNING_RATE)


def scan(batch_size: int) -> Training:
    """1,000 steps in one program."""
    x, y = (jnp.asarray(column) for column in data.load())
    order = data.Order(batch_size)
    quantum = data.STEPS_PER_LOOP

    @functools.partial(jax.jit, donate_argnums=0)
    def loop(state, x, y, index):
        return jax.lax.scan(lambda state, row: (_step(state, x[row], y[row]), None), state, index)[0]

    state = _state()

    def train(steps: int) -> Metrics:
        nonlocal state
        for _ in range(steps // quantum):
            state = loop(state, x, y, order.take(quantum))
        state, metrics = _metrics(state, steps)
        return metrics

    return Training(first=lambda: train(quantum), train=train, quantum=quantum)


def step(batch_size: int) -> Training:
    """One step in a program, called from Python."""
    x, y = (jnp.asarray(column) for column in data.load())
    order = data.Order(batch_size)

    @functools.partial(jax.jit, donate_argnums=0)
    def call(state, x, y, row):
        return _step(state, x[row], y[row])

    state = _state()

    def train(steps: int) -> Metrics:
        nonlocal state
        for row in order.take(steps):
            state = call(state, x, y, row)
        state, metrics = _metrics(state, steps)
        return metrics

    return Training(first=lambda: train(1), train=train)


def _state():
    """Initial weights, Adam's moments, sums of loss and accuracy."""
    widths = [data.FEATURES, data.HIDDEN, data.HIDDEN, data.CLASSES]
    initialize = jax.nn.initializers.he_normal()
    keys = jax.random.split(jax.random.key(0), len(widths) - 1)
    weights = [(initialize(key, shape), jnp.zeros(shape[1])) for key, shape in zip(keys, itertools.pairwise(widths))]
    return weights, _OPTIMIZER.init(weights), jnp.zeros(2)


def _step(state, x: jax.Array, y: jax.Array):
    weights, moments, sums = state
    (loss, accuracy), gradients = jax.value_and_grad(_loss, has_aux=True)(weights, x, y)
    updates, moments = _OPTIMIZER.update(gradients, moments)
    return optax.apply_updates(weights, updates), moments, sums + jnp.stack([loss, accuracy])


def _loss(weights, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    *hidden, (kernel, bias) = weights
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    logits = x @ kernel + bias
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return loss, (logits.argmax(-1) == y).mean()


def _metrics(state, steps: int):
    """The state with sums reset to 0, and the means so far; waits until they are computed."""
    weights, moments, sums = state
    loss, accuracy = (sums / steps).tolist()
    return (weights, moments, jnp.zeros(2)), Metrics(loss, accuracy)
