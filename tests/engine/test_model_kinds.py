"""Kinds of Keras models and of tasks, by their usual names: a step as by hand, on two replicas, in micro-batches."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.engine.test_engine import engine_for
from tests.helpers.small import CLASSES, WIDTH, SmallConfig, data
from zoo import Batches, Experiment, Term

ROWS, RATE = 16, 0.1
CONFIG = SmallConfig(epochs=0, steps=1, batch_size=ROWS, optimizer="sgd", learning_rate=RATE, compile="none")
layers = keras.layers


def sequential() -> keras.Model:
    return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(8, "tanh"), layers.Dense(CLASSES)])


def functional() -> keras.Model:
    x = keras.Input((WIDTH,))
    hidden = layers.Dense(8, "tanh")(x)
    hidden = layers.Add()([hidden, layers.Dense(8, "tanh")(hidden)])
    return keras.Model(x, layers.Dense(CLASSES)(layers.Concatenate()([hidden, x])))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(8, "tanh") for _ in range(2)]
        self.head = layers.Dense(CLASSES)

    def call(self, x, training=False):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, WIDTH), np.float32))
    return model


def several_inputs() -> keras.Model:
    """A dictionary of two inputs."""
    inputs = {"x": keras.Input((WIDTH,), name="x"), "y": keras.Input((), dtype="int32", name="y")}
    embedded = layers.Embedding(CLASSES, 2)(inputs["y"])
    both = layers.Concatenate()([layers.Dense(8, "tanh")(inputs["x"]), embedded])
    return keras.Model(inputs, layers.Dense(CLASSES)(both))


def several_outputs() -> keras.Model:
    x = keras.Input((WIDTH,))
    hidden = layers.Dense(8, "tanh")(x)
    return keras.Model(x, {"logits": layers.Dense(CLASSES)(hidden), "x": layers.Dense(WIDTH)(hidden)})


def shared_layer() -> keras.Model:
    """Two towers with the same weights."""
    x, tower = keras.Input((WIDTH,)), layers.Dense(8, "tanh")
    difference = layers.Subtract()([tower(x), tower(keras.ops.flip(x, axis=1))])
    return keras.Model(x, layers.Dense(CLASSES)(difference))


def nested() -> keras.Model:
    x = keras.Input((WIDTH,))
    return keras.Model(x, keras.Sequential([layers.Dense(7), subclassed_block(), layers.Dense(CLASSES)])(x))


def subclassed_block() -> keras.Model:
    inner = keras.Input((7,))
    return keras.Model(inner, layers.LayerNormalization()(layers.Dense(7, "tanh")(inner)))


def lora() -> keras.Model:
    model = sequential()
    model.layers[0].enable_lora(2)
    # It starts at 0, where its partner has no gradient.
    model.layers[0].lora_kernel_b.assign(np.full((2, 8), 0.3, np.float32))
    return model


def frozen_batch_normalization() -> keras.Model:
    """Transfer learning: the features and their statistics stay."""
    features = keras.Sequential([keras.Input((WIDTH,)), layers.Dense(8), layers.BatchNormalization()])
    features.layers[-1].moving_mean.assign(np.linspace(-1, 1, 8))
    features.trainable = False
    return keras.Sequential([keras.Input((WIDTH,)), features, layers.Dense(CLASSES)])


def classification(model, batch, training) -> dict[str, Term]:
    return {"loss": cross_entropy(batch, model(batch["x"], training=training))}


def cross_entropy(batch, logits) -> Term:
    return Term(tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], tf.cast(logits, tf.float32)))


def of_a_dictionary(model, batch, training) -> dict[str, Term]:
    return {"loss": cross_entropy(batch, model({"x": batch["x"], "y": batch["y"]}, training=training))}


def two_losses(model, batch, training) -> dict[str, Term]:
    outputs = model(batch["x"], training=training)
    error = tf.reduce_mean(tf.square(outputs["x"] - batch["x"]), axis=1)
    return {"loss": cross_entropy(batch, outputs["logits"]), "reconstruction": Term(error)}


def gradient_penalty(model, batch, training) -> dict[str, Term]:
    """Second-order gradients: the slope of each example's loss by its own features (Gulrajani et al., 2017)."""
    x = batch["x"]
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = cross_entropy(batch, model(x, training=training)).values
    slope = tape.gradient(loss, x)
    norm = tf.sqrt(tf.reduce_sum(tf.square(slope), axis=1) + 1e-12)
    return {"loss": Term(loss + tf.square(norm - 1.0))}


class Distillation:
    """Soft targets of a frozen teacher that the model does not own (Hinton et al., 2015)."""

    def __init__(self):
        self.teacher = None

    def __call__(self, model, batch, training) -> dict[str, Term]:
        targets = tf.nn.softmax(self.teacher(batch["x"], training=False))
        return {"loss": Term(tf.nn.softmax_cross_entropy_with_logits(targets, model(batch["x"], training=training)))}


KINDS: dict[str, tuple[Callable[[], keras.Model], Callable]] = {
    "Sequential": (sequential, classification),
    "functional": (functional, classification),
    "subclassed": (subclassed, classification),
    "several inputs": (several_inputs, of_a_dictionary),
    "several outputs": (several_outputs, two_losses),
    "a shared layer": (shared_layer, classification),
    "nested": (nested, classification),
    "LoRA": (lora, classification),
    "frozen batch normalisation": (frozen_batch_normalization, classification),
    "gradient penalty": (sequential, gradient_penalty),
    "frozen teacher": (sequential, Distillation),
}


def experiment_of(name: str) -> Callable[[Any], Experiment]:
    make, forward = KINDS[name]

    def experiment(config):
        task = forward
        if isinstance(forward, type):
            task = forward()
            task.teacher = functional()
            task.teacher.trainable = False
        objective = ("loss", "reconstruction") if task is two_losses else ("loss",)
        return Experiment(make(), task, Batches(data(ROWS), config.batch_size, seed=0), objective=objective)

    return experiment


def weights_of(model: keras.Model) -> list[np.ndarray]:
    return [np.array(variable.value) for variable in model.weights]


def after_a_step(name: str, replicas: int = 1, **flags: Any) -> list[np.ndarray]:
    engine, experiment = engine_for(CONFIG.replace(**flags), experiment_of(name), replicas)
    engine.train(experiment.train, 0, 1)
    assert engine.notes == []
    return weights_of(experiment.model)


def by_hand(name: str) -> tuple[list[np.ndarray], list[np.ndarray], list[bool]]:
    """Weights before and after a step of gradient descent without the engine; which of them are trained."""
    keras.utils.set_random_seed(CONFIG.seed)
    experiment = experiment_of(name)(CONFIG)
    model = experiment.model
    before = weights_of(model)
    batch = {key: tf.constant(column) for key, column in experiment.train.at(0)[0].items()}
    with tf.GradientTape() as tape:
        terms = experiment.forward(model, batch, True)
        loss = tf.add_n([tf.reduce_mean(terms[each].values) for each in experiment.objective])
    trained = [variable.value for variable in model.trainable_variables]
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, trained), strict=True):
        variable.assign_sub(RATE * tf.convert_to_tensor(gradient))
    return before, weights_of(model), [variable.trainable for variable in model.weights]


@pytest.mark.parametrize("name", KINDS)
def test_a_step_is_that_of_a_tape_on_any_number_of_devices(name):
    before, expected, is_trained = by_hand(name)
    runs = [after_a_step(name), after_a_step(name, 2), after_a_step(name, accumulate=4)]
    for found in runs:
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-6)
    moved = [bool(np.abs(one - other).max() > 1e-4) for one, other in zip(runs[0], before, strict=True)]
    assert moved == is_trained, "what is trained moves, and nothing else"


@pytest.mark.parametrize(("replicas", "accumulate"), [(1, 1), (2, 1), (1, 4)])
def test_mixed_bfloat16(replicas, accumulate):
    """Policies of Keras' own: float32 weights, and the step of float32 up to bfloat16's 8 bits."""
    _, expected, _ = by_hand("functional")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = after_a_step("functional", replicas, accumulate=accumulate)
    finally:
        keras.config.set_dtype_policy("float32")
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=2e-3)
