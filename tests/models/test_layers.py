"""Batch normalisation by groups: Keras' own where one group is the batch, and the moving statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.small import SmallConfig, data, train
from zoo import randomness
from zoo.errors import BadInput
from zoo.models.layers import BatchNorm, Dropout


@pytest.mark.parametrize("shape", [(8, 5), (4, 3, 5)])
def test_one_group_is_keras_batch_normalisation(shape):
    x = tf.constant(np.random.default_rng(0).normal(2.0, 3.0, shape), tf.float32)
    ours, theirs = BatchNorm(group=shape[0]), keras.layers.BatchNormalization()
    ours.build(shape)
    theirs.build(shape)
    for layer in (ours, theirs):
        layer.gamma.assign(np.linspace(1, 2, 5))
        layer.beta.assign(np.linspace(-1, 1, 5))
    gradients = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = layer(x, training=True)
            loss = tf.reduce_sum(out**3)
        gradients.append((out, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-5)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_padding_counts_for_nothing():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    layer = BatchNorm(group=4)
    layer.build(x.shape)
    outputs = []
    for filler in (0.0, 1e6):
        padded = np.concatenate([x, np.full((2, 3), filler, np.float32)])
        weights = tf.constant([1.0] * 6 + [0.0] * 2)
        with randomness.scope(0, tf.constant(0), tf.constant(0), weights) as where:
            outputs.append(layer(padded, training=True).numpy()[:6])
        np.testing.assert_allclose(where.statistics[0].numerator, x[:4].mean(0) + x[4:].mean(0), rtol=1e-4)
        assert float(where.statistics[0].weight) == 2.0
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-6)
    groups = [(part - part.mean(0)) / np.sqrt(part.var(0) + 1e-3) for part in (x[:4], x[4:])]
    np.testing.assert_allclose(outputs[0], np.concatenate(groups), rtol=1e-4, atol=1e-5)


def test_padding_does_not_grow_through_a_deep_network():
    """Row 0 is an example; the rest of its group and the whole second group are padding that repeats it."""
    layers = [keras.Input((6,))]
    for _ in range(8):
        layers += [keras.layers.Dense(6, kernel_initializer="he_normal"), BatchNorm(group=4), Dropout(0.3)]
    model = keras.Sequential(layers)
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 6)), 8, axis=0).astype(np.float32)
    weights = tf.constant([1.0] + [0.0] * 7)
    variables = [variable.value for variable in model.trainable_variables]
    with randomness.scope(0, tf.constant(0), tf.constant(0), weights), tf.GradientTape() as tape:
        outputs = model(x, training=True)
        loss = tf.reduce_sum(tf.square(outputs) * weights[:, None])
    assert float(tf.reduce_max(tf.abs(outputs))) < 10
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, variables))


def test_padding_that_is_not_a_number_stays_outside():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    layer = BatchNorm(group=4)
    layer.build(x.shape)
    x[3] = np.nan
    inputs = tf.constant(x)
    with randomness.scope(0, tf.constant(0), tf.constant(0), tf.constant([1.0, 1.0, 1.0, 0.0])) as scope:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(outputs[:3] ** 3)
    expected = (x[:3] - x[:3].mean(0)) / np.sqrt(x[:3].var(0) + 1e-3)
    np.testing.assert_allclose(outputs, np.concatenate([expected, np.zeros((1, 3))]), rtol=1e-4, atol=1e-5)
    assert np.isfinite(scope.statistics[1].numerator).all()
    assert all(np.isfinite(slope).all() for slope in tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value]))


def test_moving_statistics_follow_the_global_batch_once_a_step():
    """With weights that stay, 1 % a step of the mean over the groups, in any number of micro-batches."""
    config = SmallConfig(norm="batch", epochs=0, steps=1, learning_rate=0.0, compile="none", batch_size=16, examples=16)
    columns = data(16)
    for accumulate in (1, 4):
        state, _ = train(config.replace(accumulate=accumulate))
        hidden = np.tanh(columns["x"] @ state["model/0000/dense/kernel"] + state["model/0001/dense/bias"])
        np.testing.assert_allclose(
            state["model/0004/batch_norm/moving_mean"], 0.01 * hidden.mean(0), rtol=1e-4, atol=1e-7
        )


def test_groups_must_not_be_torn():
    with pytest.raises(BadInput, match="groups of 2 cannot split the batch in slices of 7 rows"):
        train(SmallConfig(norm="batch", batch_size=13, compile="none"), 2)


def test_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((3,)), BatchNorm(group=4), keras.layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((9, 2)), epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.layers[0].group == 4 and np.abs(loaded.layers[0].moving_mean).max() > 0
