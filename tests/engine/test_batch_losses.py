"""Contrastive losses over the whole batch: the plain gradient, on any number of devices."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import small
from tests.helpers.small import WIDTH, SmallConfig, furthest
from zoo import Batches, Dropout, Experiment, Output, Term
from zoo.engine import devices
from zoo.engine.inspection import Inspection
from zoo.errors import BadInput
from zoo.training import experiment_check
from zoo.training.run import make_engine

CONFIG = SmallConfig(batch_size=8, examples=21, dropout=0.3, optimizer="adam", compile="none")


def model_of(rate):
    layers = [keras.layers.Dense(8, "tanh"), Dropout(rate), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((WIDTH,)), *layers])


def forward(model, batch, training):
    one, other = model(batch["x"], training=training), model(batch["x"] + 0.1, training=training)
    size = tf.reduce_sum(one**2, axis=-1)
    return {"one": Output(one), "other": Output(other), "size": Term(0.01 * size, batch.get("weight", 1.0))}


def contrast(outputs, weights):
    """InfoNCE: each row's two views belong together, apart from those of all other rows."""
    logits = tf.matmul(outputs["one"], outputs["other"], transpose_b=True)  # [batch, batch]
    logits += tf.where(weights > 0, 0.0, -1e9)[None, :]
    labels = tf.range(tf.shape(logits)[0])
    return {"contrast": Term(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))}


def build(config, objective):
    columns = small.data(config.examples, config.weighted)
    train = Batches(columns, config.batch_size, seed=0)
    options = {"objective": objective, "batch_losses": contrast}
    return Experiment(model_of(config.dropout), forward, train, **options)


def engine_of(config, replicas=1, objective=("contrast", "size")):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        experiment = build(config, objective)
    return make_engine(strategy, config, experiment, 100), experiment.train


def train(config, replicas=1, steps=4, **options):
    made, batches = engine_of(config, replicas, **options)
    scalars = made.train(batches, 0, steps)
    return made.state(), scalars, made.evaluate(batches)


@pytest.mark.parametrize("compile", ["none", "auto"])
@pytest.mark.parametrize("objective", [("contrast",), ("contrast", "size")])
def test_the_plain_gradient(compile, objective):
    """One step of gradient descent on the whole batch, written down."""
    config = CONFIG.replace(optimizer="sgd", dropout=0.0, compile=compile, examples=24)
    state, scalars, _ = train(config, steps=1, objective=objective)
    keras.utils.set_random_seed(0)
    model = model_of(0.0)
    batch, weights = build(config, objective).train.at(0)
    with tf.GradientTape() as tape:
        results = forward(model, {"x": tf.constant(batch["x"])}, True)
        values = {"size": results["size"].values}
        outputs = {name: results[name].values for name in ("one", "other")}
        values["contrast"] = contrast(outputs, tf.constant(weights))["contrast"].values
        loss = tf.add_n([tf.reduce_mean(values[name]) for name in objective])
    gradients = tape.gradient(loss, model.trainable_variables)
    weights = [value for name, value in state.items() if name.startswith("model/")]
    for variable, gradient, found in zip(model.trainable_variables, gradients, weights, strict=True):
        np.testing.assert_allclose(found, variable.numpy() - config.learning_rate * gradient, atol=1e-6)
    mean = scalars["contrast/numerator"][0] / scalars["contrast/weight"][0]
    np.testing.assert_allclose(mean, np.mean(values["contrast"]), rtol=1e-5)


@pytest.fixture(scope="module")
def whole():
    return train(CONFIG)


@pytest.mark.parametrize(("replicas", "accumulate"), [(2, 1), (1, 4), (2, 2)])
def test_the_same_run(whole, replicas, accumulate):
    """Dropout included, and short batches: 21 examples in batches of 8."""
    state, scalars, evaluated = train(CONFIG.replace(accumulate=accumulate), replicas)
    assert furthest(whole[0], state) < 1e-6
    np.testing.assert_allclose(scalars["contrast/numerator"], whole[1]["contrast/numerator"], rtol=1e-5)
    assert evaluated == pytest.approx(whole[2], rel=1e-5)


def test_the_same_bits():
    config = CONFIG.replace(exact=True, compile="auto")
    one, many = train(config), train(config, 4)
    assert furthest(one[0], many[0]) == 0.0 and one[2] == many[2]


def test_other_options_of_a_step():
    """Weights, clipping, and what TensorBoard shows of the gradient."""
    config = CONFIG.replace(weighted=True, clip_norm=0.1, accumulate=2)
    made, batches = engine_of(config)
    gradients = Inspection(made).gradients(batches, 0)
    norm = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients.values()))
    np.testing.assert_allclose(made.train(batches, 0, 1)["gradient_norm"][0], norm, rtol=1e-5)


def test_the_graph():
    """Also where no loss is one of the rows alone."""
    made, batches = engine_of(CONFIG, objective=("contrast",))
    assert b"SparseSoftmaxCrossEntropyWithLogits" in Inspection(made).graph(batches)


def test_what_is_no_function_is_refused():
    def wrong(config):
        return build(config, ("contrast",))._replace(batch_losses={})

    with pytest.raises(BadInput, match="whose batch_losses is dict: expected a function"):
        experiment_check.built(wrong, CONFIG)
