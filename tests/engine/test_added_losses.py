"""Losses that layers add: Keras' own values, and the same run on any number of devices."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import small
from tests.helpers.small import CLASSES, WIDTH, SmallConfig, furthest
from zoo import Batches, Experiment, Term
from zoo.engine import devices
from zoo.errors import BadInput
from zoo.training.run import make_engine


class Adds(keras.layers.Layer):
    """Adds a loss of its input."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def call(self, inputs):
        self.add_loss(self.loss(inputs))
        return inputs


LOSSES = {
    "a mean": lambda x: 0.3 * keras.ops.mean(keras.ops.square(x)),
    "a sum": lambda x: 0.03 * keras.ops.sum(keras.ops.square(x)),
    "one for each row": lambda x: 0.03 * keras.ops.sum(keras.ops.square(x), axis=1),
    "nothing yet": lambda x: 0.0 * keras.ops.mean(x),
    "the root of a mean": lambda x: keras.ops.sqrt(keras.ops.mean(keras.ops.square(x))),
}


def layers(name):
    activities = {"activity_regularizer": keras.regularizers.L2(0.3)} if name == "activities" else {}
    hidden = keras.layers.Dense(8, "tanh", kernel_regularizer="l2", **activities)
    return [hidden, *([Adds(LOSSES[name])] if name in LOSSES else []), keras.layers.Dense(CLASSES)]


def build(name, examples=24):
    def made(config):
        model = keras.Sequential([keras.Input((WIDTH,)), *layers(name)])
        return Experiment(model, small.forward, Batches(small.data(examples), config.batch_size, seed=None))

    return made


def train(name, steps=4, replicas=1, examples=24, **changes):
    config = SmallConfig(**{"batch_size": 8, "optimizer": "sgd", "compile": "none", **changes})
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        experiment = build(name, examples)(config)
    engine = make_engine(strategy, config, experiment, steps)
    return engine, engine.train(experiment.train, 0, steps), experiment


@pytest.mark.parametrize("name", ["activities", "a mean", "a sum", "one for each row"])
def test_as_in_fit(name):
    engine, scalars, experiment = train(name, steps=3)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((WIDTH,)), *layers(name)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02), loss)
    data = small.data(24)
    history = model.fit(data["x"], data["y"], batch_size=8, shuffle=False, verbose=0)
    for ours, theirs in zip(engine.model.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6)
    parts = [name for name in scalars if name.endswith("/numerator") and not name.startswith("accuracy")]
    means = sum(scalars[part] / scalars[part.replace("numerator", "weight")] for part in parts) + scalars["penalty"]
    np.testing.assert_allclose(means.mean(), history.history["loss"][0], rtol=1e-5)
    assert engine.evaluate(experiment.train).keys() >= {"added_loss_mean" if "mean" in parts[-1] else "added_loss_sum"}


@pytest.mark.parametrize("name", ["activities", "a mean", "a sum"])
def test_the_same_run(name):
    """With activities also where batches are short, and padded."""
    examples = 21 if name == "activities" else 24
    engine, _, experiment = train(name, examples=examples, optimizer="adam")
    one, evaluated = engine.state(), engine.evaluate(experiment.train)
    plain = train("none", examples=examples, optimizer="adam")[0].state()
    assert furthest(one, plain) > 1e-3
    for replicas, accumulate in ((2, 1), (1, 4), (2, 2)):
        engine, _, experiment = train(
            name, replicas=replicas, accumulate=accumulate, examples=examples, optimizer="adam"
        )
        assert furthest(one, engine.state()) < 1e-6
        assert engine.evaluate(experiment.train) == pytest.approx(evaluated, rel=1e-5)


def test_what_slices_would_change_is_refused():
    with pytest.raises(BadInput, match="neither a sum nor a mean over the rows"):
        train("the root of a mean", accumulate=2)
    train("the root of a mean")
    with pytest.raises(BadInput, match="0 at first, so whether it is a sum or a mean over the rows is open"):
        train("nothing yet", accumulate=2)
    train("nothing yet")
    with pytest.raises(BadInput, match="choose a --batch_size that divides the number of examples"):
        train("a mean", examples=21)


def test_terms_beside_added_losses():
    """Two terms of the objective, with weights of their own."""

    def forward(model, batch, training):
        terms = small.forward(model, batch, training)
        logits = model(batch["x"], training=training)
        return terms | {"size": Term(tf.reduce_sum(logits**2, axis=-1), tf.cast(batch["y"], tf.float32))}

    def ends(accumulate):
        config = SmallConfig(batch_size=8, accumulate=accumulate, compile="none")
        strategy = devices.strategy("cpu")
        with strategy.scope():
            keras.utils.set_random_seed(0)
            experiment = build("a mean")(config)._replace(forward=forward, objective=("loss", "size"))
        engine = make_engine(strategy, config, experiment, 4)
        engine.train(experiment.train, 0, 4)
        return engine.state()

    assert furthest(ends(1), ends(4)) < 1e-6
