"""Several updates in turn in a step: a GAN as a loop of one's own would train it, on any number of devices."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.helpers.small import SmallConfig, furthest
from zoo import Batches, Experiment, Term
from zoo.engine import devices
from zoo.engine.inspection import Inspection
from zoo.engine.updates import Update
from zoo.errors import BadInput
from zoo.training import experiment_check
from zoo.training.run import make_engine

CONFIG = SmallConfig(batch_size=8, examples=21, optimizer="adam", learning_rate=0.01, compile="none")
NOISE = 3


def network(rate=0.0):
    """A generator and a discriminator in one model, with dropout in the second."""
    generator = keras.Sequential(
        [keras.Input((NOISE,)), keras.layers.Dense(6, "tanh"), keras.layers.Dense(2)], name="generator"
    )
    layers = [keras.layers.Dense(6, "tanh"), keras.layers.Dropout(rate), keras.layers.Dense(1)]
    discriminator = keras.Sequential([keras.Input((2,)), *layers], name="discriminator")
    noise = keras.Input((NOISE,))
    return keras.Model(noise, discriminator(generator(noise)))


def forward(model, batch, training, draws=True):
    """Both losses; the noise is drawn, or a column."""
    generator, discriminator = model.get_layer("generator"), model.get_layer("discriminator")
    noise = keras.random.normal((batch["x"].shape[0], NOISE)) if draws else batch["noise"]
    real = discriminator(batch["x"], training=training)[:, 0]
    fake = discriminator(generator(noise, training=training), training=training)[:, 0]
    weight = batch["weight"]
    return {
        "critic": Term(tf.nn.softplus(-real) + tf.nn.softplus(fake), weight),
        "generator": Term(tf.nn.softplus(-fake), weight),
        "certainty": Term(tf.sigmoid(real), weight),
    }


def build(config, draws=True, times=1, **options):
    model = network(config.dropout)
    draw = np.random.default_rng(3)
    columns = {
        "x": draw.normal(size=(config.examples, 2)).astype(np.float32),
        "noise": draw.normal(size=(config.examples, NOISE)).astype(np.float32),
        "weight": draw.uniform(0.5, 1.5, config.examples).astype(np.float32),
    }
    critic, generator = (model.get_layer(name).trainable_variables for name in ("discriminator", "generator"))
    updates = [
        Update("critic", critic, ("critic",), times=times),
        Update("generator", generator, ("generator",), optimizer=keras.optimizers.SGD(0.1)),
    ]
    task = (lambda *arguments: forward(*arguments, draws=False)) if not draws else forward
    train = Batches(columns, config.batch_size, seed=0)
    return Experiment(model, task, train, evals={"eval": Batches(columns, 8)}, **{"updates": updates, **options})


def engine_of(config, replicas=1, **options):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        experiment = experiment_check.built(lambda config: build(config, **options), config)
    return make_engine(strategy, config, experiment, 100), experiment.train


def train(config, replicas=1, steps=4, **options):
    made, batches = engine_of(config, replicas, **options)
    scalars = made.train(batches, 0, steps)
    return made.state(), scalars, made.evaluate(batches)


@pytest.mark.parametrize("compile", ["none", "auto"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_loop_of_ones_own(compile, times):
    """Alternating steps with two Keras optimizers, written down; no noise but the data's."""
    config = CONFIG.replace(compile=compile, schedule="cosine", clip_norm=0.5)
    state, scalars, _ = train(config, steps=3, draws=False, times=times)
    keras.utils.set_random_seed(0)
    experiment = build(config, draws=False)
    model = experiment.model
    critic, generator = keras.optimizers.Adam(), keras.optimizers.SGD(0.1)
    turns = [("discriminator", critic, "critic")] * times + [("generator", generator, "generator")]
    for step in range(3):
        batch, weights = experiment.train.at(step)
        norms = {}
        critic.learning_rate = 0.01 * 0.5 * (1 + np.cos(np.pi * step / 100))
        for layer, optimizer, name in turns:
            variables = model.get_layer(layer).trainable_variables
            with tf.GradientTape() as tape:
                term = forward(model, batch, True, draws=False)[name]
                both = batch["weight"] * weights
                loss = tf.reduce_sum(term.values * both) / tf.reduce_sum(both)
            gradients, norm = tf.clip_by_global_norm(tape.gradient(loss, variables), 0.5)
            optimizer.apply_gradients(zip(gradients, variables))
            norms[name] = norm
        for name, norm in norms.items():
            np.testing.assert_allclose(scalars[f"{name}/gradient_norm"][step], norm, rtol=1e-4)
        mean = scalars["generator/numerator"][step] / scalars["generator/weight"][step]
        # Its loss is that of its own turn, after the discriminator has moved.
        np.testing.assert_allclose(mean, loss, rtol=1e-4)
    trained = [value for name, value in state.items() if name.startswith("model/")]
    for variable, found in zip(model.trainable_variables, trained, strict=True):
        np.testing.assert_allclose(found, variable.numpy(), atol=2e-5)


@pytest.fixture(scope="module")
def whole():
    return train(CONFIG.replace(dropout=0.3, ema=0.9), times=2)


@pytest.mark.parametrize(("replicas", "accumulate"), [(2, 1), (1, 4), (2, 2)])
def test_the_same_run(whole, replicas, accumulate):
    """Drawn noise, dropout and moving averages; 21 examples in batches of 8."""
    config = CONFIG.replace(dropout=0.3, ema=0.9, accumulate=accumulate)
    state, scalars, evaluated = train(config, replicas, times=2)
    assert furthest(whole[0], state) < 1e-5
    np.testing.assert_allclose(scalars["critic/numerator"], whole[1]["critic/numerator"], rtol=1e-4)
    assert evaluated == pytest.approx(whole[2], rel=1e-4)


def test_the_same_bits():
    config = CONFIG.replace(exact=True, compile="auto", dropout=0.3)
    one, many = train(config), train(config, 4)
    assert furthest(one[0], many[0]) == 0.0 and one[2] == many[2]


def test_each_turn_has_noise_of_its_own():
    """A second turn on the noise of the first would have the same loss where nothing moves."""
    config = CONFIG.replace(learning_rate=0.0)
    _, once, _ = train(config, steps=1)
    _, twice, _ = train(config, steps=1, times=2)
    assert once["critic/numerator"][0] != twice["critic/numerator"][0]


def test_killed_and_resumed(tmp_path):
    """Two optimizers, and each of their slots."""
    config = CONFIG.replace(dropout=0.3, examples=24, log_every=1)
    through = zoo.run(build, config.replace(steps=7, epochs=0.0), tmp_path / "through")
    zoo.run(build, config.replace(steps=3, epochs=0.0, checkpoint_every=3), tmp_path / "parts")
    parts = zoo.run(build, config.replace(steps=7, epochs=0.0), tmp_path / "parts")
    del parts["train/examples_per_second"], through["train/examples_per_second"]
    assert parts == through
    assert parts["eval/loss"] == pytest.approx(parts["eval/critic"] + parts["eval/generator"])
    assert {"train/critic/gradient_norm", "train/learning_rate/critic"} <= set(parts)


def test_what_is_inspected():
    """The gradient of each update for its own variables."""
    made, batches = engine_of(CONFIG.replace(accumulate=2))
    gradients = Inspection(made).gradients(batches, 0)
    scalars = made.train(batches, 0, 1)
    norm = np.sqrt(sum(np.sum(value**2) for name, value in gradients.items() if "generator" not in name))
    np.testing.assert_allclose(scalars["critic/gradient_norm"][0], norm, rtol=1e-5)
    assert len(gradients) == 8 and b"Softplus" in Inspection(made).graph(batches)


def a(name="one", part="generator", objective=("one",), **options):
    return lambda model: Update(name, model.get_layer(part).trainable_variables, objective, **options)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        ([a(), a(part="discriminator", objective=("two",))], "'one', needs a name of its own"),
        ([a(), a("two")], "'two', minimizes the term 'one', as 'one' does"),
        ([a(objective="one")], "has the objective 'one'"),
        ([a(times=0)], "has times=0: expected 1 or more"),
        ([lambda model: Update("one", [])], "has no variables"),
        ([lambda model: "one"], "updates[0] is a str: expected zoo.Update"),
        ([a()], "no optimizer group has the variables"),
        (
            [a(), a("two", "discriminator", ("two",)), a("three", objective=("three",))],
            "a variable is in two optimizer groups",
        ),
    ],
)
def test_mistakes(made, line):
    def wrong(config):
        experiment = build(config)
        return experiment._replace(updates=[make(experiment.model) for make in made])

    with pytest.raises(BadInput, match=re.escape(line)):
        experiment = experiment_check.built(wrong, CONFIG)
        make_engine(devices.strategy("cpu"), CONFIG, experiment, 100)


def test_one_place_for_each_choice():
    def wrong(config):
        return build(config)._replace(objective=("critic",))

    with pytest.raises(BadInput, match="has updates and objective"):
        experiment_check.built(wrong, CONFIG)
    with pytest.raises(BadInput, match="--layer_decay"):
        engine_of(CONFIG.replace(layer_decay=0.5))
    with pytest.raises(BadInput, match="the objective needs"):
        made, batches = engine_of(CONFIG)
        made.tasks[0] = made.tasks[0]._replace(forward=lambda *arguments: {"other": Term(arguments[1]["weight"])})
        made.train(batches, 0, 1)
