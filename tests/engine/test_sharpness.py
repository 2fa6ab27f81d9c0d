"""Sharpness-aware minimization: the weights at which the gradient is taken, and the step that follows from it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.small import SmallConfig, build, data, furthest, train
from zoo.engine import sharpness
from zoo.engine.task import Sharpness

RATE, STEPS = 0.05, 3


def by_hand(adaptive, radius):
    """SGD on whole batches as in the papers' algorithms, in a loop of Keras and NumPy."""
    keras.utils.set_random_seed(0)
    model = build(SmallConfig()).model
    columns = data(29)

    def gradients():
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(columns["y"], model(columns["x"]), from_logits=True)
            loss = tf.reduce_mean(losses)
        return [g.numpy().astype(np.float64) for g in tape.gradient(loss, model.trainable_variables)]

    for _ in range(STEPS):
        weights = [w.numpy() for w in model.trainable_variables]
        first = gradients()
        size = [np.abs(w) + 0.01 if adaptive else np.ones_like(w) for w in weights]
        norm = np.sqrt(sum(np.sum((s * g) ** 2) for s, g in zip(size, first, strict=True)))
        for v, w, s, g in zip(model.trainable_variables, weights, size, first, strict=True):
            v.assign(w + radius * s * s * g / norm)
        second = gradients()
        for v, w, g in zip(model.trainable_variables, weights, second, strict=True):
            v.assign(w - RATE * g)
    return [w.numpy() for w in model.trainable_variables]


@pytest.mark.parametrize(("kind", "radius"), [("sam", 0.5), ("asam", 2.0)])
def test_steps_are_those_of_the_papers(kind, radius):
    config = SmallConfig(
        epochs=0, steps=STEPS, batch_size=29, optimizer="sgd", learning_rate=RATE, sam=kind, sam_radius=radius
    )
    state, _ = train(config)
    found = [value for name, value in sorted(state.items()) if name.startswith("model/")]
    expected = by_hand(kind == "asam", radius)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    plain, _ = train(config.replace(sam="none"))
    assert furthest(state, plain) > 1e-4


@pytest.mark.parametrize("kind", ["sam", "asam"])
@pytest.mark.parametrize(("replicas", "accumulate"), [(2, 1), (2, 2), (4, 1)])
def test_any_devices_and_micro_batches(kind, replicas, accumulate):
    """With noise, clipping, penalties, averages and weights; batches of 13 and one of 3."""
    config = SmallConfig(
        sam=kind, sam_radius=0.5, optimizer="momentum", weight_decay=0.1, dropout=0.3, clip_norm=0.5, l2=0.01, ema=0.9,
        label_smoothing=0.1, weighted=True, norm="layer", compile="none",
    )  # fmt: skip
    whole, _ = train(config)
    parts, _ = train(config.replace(accumulate=accumulate), replicas)
    # Not Adam: it divides by the size of gradients, and makes of the rounding of a gradient near 0 what it likes.
    assert furthest(whole, parts) < 1e-6


def test_exact_runs_are_the_same_bits():
    config = SmallConfig(sam="sam", batch_size=16, examples=32, exact=True, compile="none", dropout=0.2)
    one, _ = train(config)
    two, _ = train(config, 2)
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("compile", ["loop", "step"])
def test_compilation_changes_nothing(compile):
    config = SmallConfig(sam="sam", dropout=0.2, compile="none")
    assert furthest(train(config)[0], train(config.replace(compile=compile))[0]) < 1e-5


def test_reported_loss_is_that_of_the_weights():
    config = SmallConfig(epochs=0, steps=1, batch_size=29)
    _, plain = train(config)
    _, found = train(config.replace(sam="sam", sam_radius=3.0))
    assert found["loss/numerator"][0] == pytest.approx(plain["loss/numerator"][0], rel=1e-6)
    assert found["gradient_norm"][0] != pytest.approx(plain["gradient_norm"][0], rel=1e-3)


def test_a_gradient_of_zero_goes_nowhere():
    values = [tf.constant([1.0, -2.0]), tf.constant([[3.0]])]
    zeros = [tf.zeros_like(value) for value in values]
    for found, value in zip(sharpness.worst(Sharpness(0.5, True), values, zeros), values, strict=True):
        np.testing.assert_array_equal(found, value)


def test_defaults_are_those_of_the_papers():
    assert sharpness.make("none", None) is None
    assert sharpness.make("sam", None) == (0.05, False) and sharpness.make("asam", None) == (0.5, True)
    assert sharpness.make("sam", 0.2) == (0.2, False)
