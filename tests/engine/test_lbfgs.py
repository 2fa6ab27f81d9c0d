"""Limited-memory BFGS: the direction, the line search, SciPy's optimum, and the engine's promises."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize, rosen, rosen_der
from sklearn.datasets import load_digits

from tests.engine.test_newton_cg import engine_of, softmax
from tests.helpers.small import SmallConfig, train
from zoo import Batches, Experiment, Term
from zoo.engine import lbfgs, line_search, second_order
from zoo.errors import BadInput

CONFIG = SmallConfig(optimizer="lbfgs", epochs=0, steps=4, batch_size=29, lbfgs_pairs=3, compile="none")


def test_objective_is_scipys():
    x, y = load_digits(return_X_y=True)
    x, y, l2 = (x[:300] / 16).astype(np.float32), y[:300].astype(np.int32), 0.01

    def forward(model, batch, training):
        return {"loss": Term(tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], model(batch["x"])))}

    def make(config):
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        return Experiment(model, forward, Batches({"x": x, "y": y}, 300))

    engine, batches = engine_of(CONFIG.replace(batch_size=300, steps=60, l2=l2, lbfgs_pairs=10, compile="loop"), make)
    engine.train(batches, 0, 60)

    def objective(flat):
        kernel, bias = flat[:640].reshape(64, 10), flat[640:]
        chances = softmax(x.astype(np.float64) @ kernel + bias)
        errors = (chances - np.eye(10)[y]) / len(x)
        loss = -np.mean(np.log(chances[np.arange(len(x)), y])) + l2 * np.sum(kernel**2)
        return loss, np.concatenate([(x.T @ errors + 2 * l2 * kernel).ravel(), errors.sum(axis=0)])

    best = minimize(objective, np.zeros(650), jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-8})
    own = np.concatenate([value.numpy().ravel() for value in engine.model.trainable_variables]).astype(np.float64)
    assert best.success and objective(own)[0] == pytest.approx(best.fun, rel=1e-6)


def test_direction_is_that_of_the_dense_update():
    """Nocedal and Wright, equation 7.16, on matrices; a pair of zeros has no effect."""
    draw = np.random.default_rng(0)
    steps, gradient = draw.normal(size=(4, 6)), draw.normal(size=6)
    changes = steps @ np.diag(draw.uniform(0.5, 3.0, 6))
    steps[0] = changes[0] = 0.0
    inverse = np.eye(6) * (steps[-1] @ changes[-1]) / (changes[-1] @ changes[-1])
    for step, change in zip(steps[1:], changes[1:], strict=True):
        factor = np.eye(6) - np.outer(change, step) / (step @ change)
        inverse = factor.T @ inverse @ factor + np.outer(step, step) / (step @ change)
    split = lambda rows: [tf.constant(rows[..., :2]), tf.constant(rows[..., 2:])]  # noqa: E731
    found = lbfgs.descent(split(steps), split(changes), split(gradient))
    np.testing.assert_allclose(np.concatenate(found), inverse @ gradient, rtol=1e-9)


# Functions 1 and 2 of Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease", 1994, one that is
# flat and rises late, and one that is infinite beyond 0.3.
FUNCTIONS = {
    "quotient": lambda a: -a / (a * a + 2.0),
    "power": lambda a: (a + 0.004) ** 5 - 2.0 * (a + 0.004) ** 4,
    "far": lambda a: (a / 40.0 - 1.0) ** 2,
    "barrier": lambda a: -tf.math.log(0.3 - a) - 20.0 * a,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_line_search_ends_at_strong_wolfe_points(name):
    def evaluate(length):
        with tf.GradientTape() as tape:
            tape.watch(length)
            value = FUNCTIONS[name](length)
        return value, [tape.gradient(value, length)[None]]

    loss, gradient = evaluate(tf.constant(0.0, tf.float64))
    longest = tf.constant(1e10, tf.float64)
    point, there, evaluations = line_search.search(
        evaluate, [tf.ones([1], tf.float64)], loss, gradient, longest, lbfgs.EVALUATIONS
    )
    value, slope = evaluate(point.length)
    assert value - loss <= 1e-4 * point.length * gradient[0] and abs(slope[0]) <= 0.9 * abs(gradient[0])
    assert there[0] == slope[0] and 1 <= evaluations <= 15


def test_rosenbrock_is_solved():
    @tf.function
    def one(point, state):
        def evaluate(change):
            return tf.numpy_function(
                lambda x: (rosen(x).astype(np.float64), rosen_der(x)), [point + change[0]], [tf.float64, tf.float64]
            )

        def shaped(change):
            loss, gradient = evaluate(change)
            return tf.ensure_shape(loss, []), [tf.ensure_shape(gradient, [5])]

        loss, gradient = shaped([tf.zeros_like(point)])
        proposal = lbfgs.propose(state, loss, gradient, shaped, 0.0)
        return point - proposal.direction[0], proposal.state

    point = tf.constant([-1.2, 1.0, -1.2, 1.0, 0.5], tf.float64)
    state = {name: tf.zeros([6, 5], tf.float64) for name in ("steps/0000", "changes/0000")}
    for _ in range(60):
        point, state = one(point, state)
    np.testing.assert_allclose(point, np.ones(5), atol=1e-6)


def test_a_search_that_fails_changes_nothing_and_forgets():
    """The loss rises wherever the gradient says that it falls."""
    state = {name: tf.ones([2, 3]) for name in ("steps/0000", "changes/0000")}
    gradient = [tf.constant([1.0, -2.0, 0.5])]
    proposal = lbfgs.propose(state, tf.constant(1.0), gradient, lambda change: (tf.constant(2.0), gradient), 0.0)
    assert not np.any(proposal.direction[0]) and proposal.scalars["rejected"] == 1.0
    assert not any(np.any(value) for value in proposal.state.values())


def test_exact_runs_are_the_same_bits():
    """With noise, a bounded step, a penalty, averages and weights; batches of 13 and one of 3."""
    options = {"dropout": 0.2, "clip_norm": 0.5, "l2": 0.01, "ema": 0.9, "weighted": True, "batch_size": 13}
    config = CONFIG.replace(**options, exact=True)
    one, two = train(config)[0], train(config.replace(accumulate=2), 2)[0]
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert np.any(one["second_order/steps/0000"])


def test_clip_norm_bounds_the_step():
    engine, batches = engine_of(CONFIG.replace(clip_norm=0.01))
    before = [value.numpy() for value in engine.model.trainable_variables]
    engine.train(batches, 0, 1)
    squares = [np.sum((v.numpy() - b) ** 2) for v, b in zip(engine.model.trainable_variables, before, strict=True)]
    assert np.sqrt(sum(squares)) == pytest.approx(0.01, rel=1e-3)


def test_recurrent_layers_are_for_lbfgs_only():
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.LSTM(3)])
    second_order.check(model, "lbfgs", {})
    with pytest.raises(BadInput, match="--optimizer=newton_cg cannot be combined with recurrent layers"):
        second_order.check(model, "newton_cg", {})


def test_memory_of_the_pairs_is_bounded(monkeypatch):
    monkeypatch.setattr(second_order.memory, "total", lambda: 2_000)
    with pytest.raises(BadInput, match=r"--lbfgs_pairs is 3: .* for 119 weights, and this machine has 2"):
        engine_of(CONFIG)
