"""Newton's method on the Gauss-Newton matrix: the products, the steps, the damping, and the engine's promises."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from tests.helpers.small import CLASSES, SmallConfig, build, data, furthest, train
from zoo import Batches, Experiment, Term
from zoo.config import SECOND_ORDER, Config
from zoo.engine import devices, gauss_newton, newton_cg, second_order
from zoo.engine.task import MicroBatch
from zoo.errors import BadInput
from zoo.models import xla_islands
from zoo.training.run import make_engine

CONFIG = SmallConfig(optimizer="newton_cg", epochs=0, steps=4, batch_size=29, compile="none")


def engine_of(config, make=build):
    strategy = devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = make(config)
    return make_engine(strategy, config, experiment, config.steps), experiment.train


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def test_products_are_those_of_finite_differences():
    """J' H J v with the Jacobian from central differences in float64 and the Hessian of the softmax by its formula."""
    columns = {"x": data(9)["x"].astype(np.float64), "y": data(9)["y"]}

    def make(config):
        layers = [keras.layers.Dense(5, "tanh", dtype="float64"), keras.layers.Dense(CLASSES, dtype="float64")]
        model = keras.Sequential([keras.Input((6,), dtype="float64"), *layers])
        return build(config)._replace(model=model, train=Batches(columns, 9))

    engine, _ = engine_of(CONFIG.replace(batch_size=9), make)
    model, draw = engine.model, np.random.default_rng(0)
    values = [variable.numpy() for variable in model.trainable_variables]
    vector = [draw.normal(size=value.shape) for value in values]
    weights = draw.integers(0, 2, 9).astype(np.float32)

    def outputs(flat):
        parts = np.split(flat, np.cumsum([value.size for value in values])[:-1])
        for variable, part in zip(model.trainable_variables, parts, strict=True):
            variable.assign(part.reshape(variable.shape))
        return model(columns["x"]).numpy()

    flat = np.concatenate([value.ravel() for value in values])
    steps = 1e-5 * np.eye(flat.size)
    jacobian = np.stack([(outputs(flat + step) - outputs(flat - step)) / 2e-5 for step in steps], axis=-1)
    chances = softmax(outputs(flat))
    hessian = chances[:, :, None] * np.eye(CLASSES) - chances[:, :, None] * chances[:, None, :]
    along = jacobian @ np.concatenate([each.ravel() for each in vector])  # [rows, classes]
    expected = np.einsum("r,rci,rcd,rd->i", weights, jacobian, hessian, along)

    rows = MicroBatch({name: tf.constant(column) for name, column in columns.items()}, weights, tf.constant(0))
    given = [[tf.constant(each) for each in many] for many in (values, vector)]
    products = gauss_newton.product(engine.task, rows, *given, {}, tf.constant(0))
    np.testing.assert_allclose(np.concatenate([each.numpy().ravel() for each in products]), expected, rtol=1e-6)


def test_one_step_solves_a_quadratic():
    """Ridge regression with two losses, each with weights of its own, against the normal equations."""
    draw = np.random.default_rng(1)
    columns = {name: draw.normal(size=(29, width)).astype(np.float32) for name, width in {"x": 6, "y": 2}.items()}
    columns["w"] = draw.uniform(0.5, 2.0, 29).astype(np.float32)

    def forward(model, batch, training):
        errors = tf.square(model(batch["x"]) - batch["y"])
        return {"first": Term(errors[:, 0], batch["w"]), "second": Term(errors[:, 1])}

    def make(config):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2, use_bias=False)])
        return Experiment(model, forward, Batches(columns, 29), objective=("first", "second"))

    config = CONFIG.replace(steps=1, l2=0.03, weight_decay=0.1, newton_damping=0.0, cg_tolerance=1e-7)
    engine, batches = engine_of(config, make)
    scalars = engine.train(batches, 0, 1)
    assert scalars["reduction_ratio"][0] == pytest.approx(1.0, rel=1e-3) and scalars["learning_rate"][0] == 1.0
    kernel = next(value for name, value in engine.state().items() if name.startswith("model/"))
    x, y = columns["x"].astype(np.float64), columns["y"]
    for output, weights in enumerate((columns["w"] / columns["w"].sum(), np.full(29, 1 / 29))):
        # Weight decay of 0.1 is the gradient of 0.05 times the sum of squares.
        matrix = x.T @ (weights[:, None] * x) + (0.03 + 0.05) * np.eye(6)
        expected = np.linalg.solve(matrix, x.T @ (weights * y[:, output]))
        np.testing.assert_allclose(kernel[:, output], expected, atol=1e-5)


def test_softmax_regression_ends_in_fifteen_steps():
    """The gradient's norm after 15 steps in float32, computed in float64 by NumPy."""
    x, y = load_digits(return_X_y=True)
    x, l2 = (x / 16).astype(np.float32), 1e-3

    def forward(model, batch, training):
        return {"loss": Term(tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], model(batch["x"])))}

    def make(config):
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        return Experiment(model, forward, Batches({"x": x, "y": y.astype(np.int32)}, len(x)))

    engine, batches = engine_of(CONFIG.replace(batch_size=len(x), steps=15, l2=l2), make)
    scalars = engine.train(batches, 0, 15)
    kernel, bias = (value.numpy().astype(np.float64) for value in engine.model.trainable_variables)
    errors = (softmax(x @ kernel + bias) - np.eye(10)[y]) / len(x)
    norm = np.sqrt(np.sum((x.T @ errors + 2 * l2 * kernel) ** 2) + np.sum(errors.sum(axis=0) ** 2))
    assert norm < 1e-6 and scalars["gradient_norm"][0] > 0.1


def test_steps_that_do_not_lower_the_loss_are_not_made():
    engine, batches = engine_of(CONFIG.replace(newton_damping=1e-6, cg_tolerance=1e-3))
    losses, was_rejected = [], []
    for step in range(12):
        before = engine.state()
        scalars = engine.train(batches, step, 1)
        after = engine.state()
        losses.append(scalars["loss/numerator"][0])
        was_rejected.append(scalars["rejected"][0] == 1.0)
        model = [name for name in before if name.startswith("model/")]
        assert was_rejected[-1] == all(np.array_equal(before[name], after[name]) for name in model)
        if was_rejected[-1]:
            assert after["second_order/damping"] == before["second_order/damping"] * before["second_order/growth"]
    assert any(was_rejected) and not all(was_rejected)
    # The rows come in another order in each epoch, which rounds otherwise.
    assert np.all(np.diff(losses) <= 1e-5)


def test_conjugate_gradients_are_those_of_numpy():
    draw = np.random.default_rng(2)
    root = draw.normal(size=(7, 7))
    matrix, gradient = root @ root.T + np.eye(7), draw.normal(size=7)
    multiply = lambda vector: [tf.linalg.matvec(tf.constant(matrix), vector[0])]  # noqa: E731
    point, residual, number = newton_cg.conjugate_gradients(multiply, [tf.constant(gradient)], 50, 1e-9)
    np.testing.assert_allclose(point[0], np.linalg.solve(matrix, -gradient), rtol=1e-6)
    np.testing.assert_allclose(residual[0], -gradient - matrix @ point[0].numpy(), atol=1e-8)
    assert int(number) <= 9
    # A matrix that is not positive definite ends them, with what they have.
    point, _, number = newton_cg.conjugate_gradients(lambda v: [-v[0]], [tf.constant(gradient)], 50, 1e-9)
    assert int(number) == 1 and not np.any(point[0])


class Island(keras.layers.Layer):
    """A layer with a gradient of its own in a compiled function."""

    def call(self, x):
        return xla_islands.island(tf.tanh)(x)


def test_islands_keep_their_gradient():
    def make(config):
        layers = [keras.Input((6,)), keras.layers.Dense(4), Island(), keras.layers.Dense(CLASSES)]
        return build(config)._replace(model=keras.Sequential(layers), train=Batches(data(7), 7))

    engine, batches = engine_of(CONFIG.replace(batch_size=7), make)
    rows = MicroBatch(dict(batches.columns), tf.ones(7), tf.constant(0))
    values = [tf.constant(variable.numpy()) for variable in engine.model.trainable_variables]
    draw = np.random.default_rng(3)
    left, right = ([draw.normal(size=value.shape).astype(np.float32) for value in values] for _ in range(2))

    def form(one, two):
        products = gauss_newton.product(engine.task, rows, values, list(map(tf.constant, two)), {}, tf.constant(0))
        return sum(float(np.sum(each * product)) for each, product in zip(one, products, strict=True))

    # Symmetric only if forward mode and the backward pass are of the same function.
    assert form(left, right) == pytest.approx(form(right, left), rel=1e-4)
    assert np.any(gauss_newton.product(engine.task, rows, values, list(map(tf.constant, left)), {}, tf.constant(0))[0])


@pytest.fixture(scope="module")
def whole():
    """With noise, a bounded step, a penalty, averages and weights; batches of 13 and one of 3."""
    options = {"dropout": 0.2, "clip_norm": 0.5, "l2": 0.01, "ema": 0.9, "weighted": True, "batch_size": 13}
    config = CONFIG.replace(**options, exact=True)
    return config, train(config)[0]


def test_exact_runs_are_the_same_bits(whole):
    config, one = whole
    two = train(config.replace(accumulate=2), 2)[0]
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert one["second_order/damping"] != config.newton_damping


@pytest.mark.parametrize("options", [{"accumulate": 3}, {"compile": "loop"}])
def test_micro_batches_and_compilation_change_nothing(whole, options):
    config, state = whole
    assert furthest(state, train(config.replace(exact=False, **options))[0]) < 1e-4


def test_clip_norm_bounds_the_step():
    engine, batches = engine_of(CONFIG.replace(clip_norm=0.01, learning_rate=0.5))
    before = [value.numpy() for value in engine.model.trainable_variables]
    engine.train(batches, 0, 1)
    squares = [np.sum((v.numpy() - b) ** 2) for v, b in zip(engine.model.trainable_variables, before, strict=True)]
    assert np.sqrt(sum(squares)) == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_a_step_whose_loss_is_not_finite_is_skipped_whole():
    def make(config):
        columns = data(29)
        columns["x"][20] = np.nan
        return build(config)._replace(train=Batches(columns, 15))

    engine, batches = engine_of(CONFIG.replace(batch_size=15, on_nonfinite="skip"), make)
    engine.train(batches, 0, 1)
    before = engine.state()
    assert engine.train(batches, 1, 1)["skipped_in_a_row"][0] == 1.0
    after = engine.state()
    assert all(np.array_equal(before[name], after[name]) for name in before if not name.startswith("skipping/"))


def test_what_cannot_be_combined_is_refused():
    for options, name in (
        ({"sam": "sam"}, "--sam=sam"),
        ({"l1": 0.1}, r"--l1=0\.1"),
        ({"gradient_noise": 0.3}, "--gradient_noise"),
        ({"precision": "bfloat16"}, "--precision=bfloat16"),
        ({"layer_decay": 0.5}, "--layer_decay"),
    ):
        with pytest.raises(BadInput, match=f"--optimizer=newton_cg cannot be combined with {name}"):
            engine_of(CONFIG.replace(**options))


@pytest.mark.parametrize("kind", ["twice", "beside"])
def test_losses_must_be_a_function_of_one_call_of_the_model(kind):
    def make(config):
        experiment = build(config)
        kernel = experiment.model.layers[0].kernel

        def forward(model, batch, training):
            terms = experiment.forward(model, batch, training)
            if kind == "twice":
                return terms | experiment.forward(model, batch, training)
            return terms | {"loss": Term(terms["loss"].values + tf.reduce_sum(tf.square(kernel.value)))}

        return experiment._replace(forward=forward)

    engine, batches = engine_of(CONFIG, make)
    expected = {"twice": "calls the model 2 times", "beside": "depend on weights by another way"}[kind]
    with pytest.raises(BadInput, match=expected):
        engine.train(batches, 0, 1)


def test_the_rate_is_one_unless_it_is_set():
    assert Config(steps=1, optimizer="newton_cg").learning_rate == 1.0
    for rate in (0.5, 1e-3):
        assert Config(steps=1, optimizer="newton_cg", learning_rate=rate).learning_rate == rate
    assert Config(steps=1).learning_rate == 1e-3
    # Another optimizer has another rate, unless it is set.
    first, second = Config(steps=1), Config(steps=1, optimizer="lbfgs")
    assert first.replace(optimizer="lbfgs") == second == second.replace(steps=1)
    assert second.replace(optimizer="adam") == first
    # A copy cannot tell whether the default was given; another rate stays, and so does one given with the optimizer.
    assert Config(steps=1, learning_rate=2e-3).replace(optimizer="lbfgs").learning_rate == 2e-3
    given = Config(steps=1, optimizer="lbfgs", learning_rate=1e-3)
    assert given.replace(steps=2).learning_rate == 1e-3 and type(given)(**vars(given)) == given
    # A default of an experiment's own is for the usual optimizers, too.
    assert SmallConfig(optimizer="lbfgs").learning_rate == 1.0 and SmallConfig().learning_rate == 0.02
    assert SECOND_ORDER == second_order.KINDS
