"""Canaries: what TensorFlow and Keras do today and the engine works around. One that fails is good news."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.engine import devices


def replicas_of(strategy, function):
    values = strategy.run(tf.function(function, autograph=False))
    return [value.numpy() for value in strategy.experimental_local_results(values)]


def test_keras_dropout_draws_the_same_mask_on_every_replica():
    strategy = devices.mirrored_cpus(2)
    with strategy.scope():
        layer = keras.layers.Dropout(0.5, seed=1)
        layer.build((4, 50))
    one, two = replicas_of(strategy, lambda: layer(tf.ones((4, 50)), training=True))
    np.testing.assert_array_equal(one, two)


def test_keras_clips_before_the_reduction():
    """Gradients (3, 0) and (-3, 4) with a norm of at most 1: right is a step of (0, -1)."""
    strategy = devices.mirrored_cpus(2)
    with strategy.scope():
        variable = keras.Variable(np.zeros(2, np.float32))
        optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
        optimizer.build([variable])

    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradient = tf.constant([[3.0, 0.0], [-3.0, 4.0]])[replica]
        optimizer.apply([gradient], [variable])
        return variable.value + 0.0

    np.testing.assert_allclose(replicas_of(strategy, step)[0], [-0.4, -0.8], atol=1e-6)


def test_keras_accumulation_fails_under_a_strategy():
    strategy = devices.mirrored_cpus(2)
    with strategy.scope():
        variable = keras.Variable(np.zeros(2, np.float32))
        optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
        optimizer.build([variable])

    def step():
        optimizer.apply([tf.ones(2)], [variable])
        return tf.constant(0)

    with pytest.raises(RuntimeError, match="merge_call"):
        replicas_of(strategy, step)


def test_keras_optimizers_add_up_gradients_without_a_switch():
    strategy = devices.mirrored_cpus(2)
    with strategy.scope():
        variable = keras.Variable(np.zeros(1, np.float32))
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build([variable])

    def step():
        optimizer.apply([tf.ones(1)], [variable])
        return variable.value + 0.0

    np.testing.assert_allclose(replicas_of(strategy, step)[0], [-2.0])
