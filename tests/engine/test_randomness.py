"""Noise: the same bits wherever they are computed, and good ones."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from zoo import randomness
from zoo.models.layers import Dropout


def draw(shape, seed=0, step=0, first_row=0, streams=1):
    """The bits of the last of some streams, as float in [0, 1)."""
    with randomness.scope(seed, tf.constant(step), tf.constant(first_row)) as where:
        for _ in range(streams):
            key = randomness.scope_key(where)
        return randomness.uniform(shape, key, where.first_row).numpy()


def test_reference_values():
    """Written down once: any change of these changes every run that was ever made."""
    with randomness.scope(7, tf.constant(3), tf.constant(5)) as where:
        bits = randomness.bits((2, 3), randomness.scope_key(where), where.first_row).numpy()
    expected = np.array(REFERENCE, np.uint32)
    np.testing.assert_array_equal(bits, expected)


def numpy_bits(seed, step, stream, rows, width):
    """The same hash in NumPy, written from the module's text."""
    u = np.uint32

    def mix(v):
        v = (v ^ (v >> u(16))) * u(0x85EBCA6B)
        v = (v ^ (v >> u(13))) * u(0xC2B2AE35)
        return v ^ (v >> u(16))

    step, stream, rows = np.array([step], u), np.array([stream], u), np.array(rows, u)
    start = mix(mix(np.array([seed], u) + u(0x3C6EF372)) ^ u(seed >> 32))
    first = mix(mix(start + step * u(0x9E3779B9)) ^ (stream * u(0x85EBCA77)))
    second = mix(mix(step ^ u(0x27D4EB2F)) + start + stream * u(0xC2B2AE3D))
    row = mix(mix(rows + first) ^ second)
    column = np.arange(width, dtype=u) * u(0x9E3779B9)
    return mix(mix(column[None] + row[:, None]) ^ (second + rows)[:, None])


REFERENCE = numpy_bits(7, 3, 1, [5, 6], 3)


def test_frozen_numbers():
    np.testing.assert_array_equal(REFERENCE[0], FROZEN)


FROZEN = [3698630886, 172399049, 1517295]


@pytest.mark.parametrize("jit", [True, False])
def test_same_bits_in_any_graph_and_any_cut(jit):
    whole = draw((12, 5, 3), step=9)

    @tf.function(jit_compile=jit)
    def part(first, rows):
        with randomness.scope(0, tf.constant(9), first) as where:
            return randomness.uniform((rows, 5, 3), randomness.scope_key(where), where.first_row)

    for cut in (1, 4, 7):
        parts = [part(tf.constant(0), cut), part(tf.constant(cut), 12 - cut)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_uniform():
    values = draw((500, 1000)).ravel()
    assert scipy.stats.kstest(values, "uniform").pvalue > 1e-3
    counts = np.bincount((values * 256).astype(int), minlength=256)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def pairs():
    base = draw((200, 500), step=5)
    return {
        "next step": (base, draw((200, 500), step=6)),
        "next stream": (base, draw((200, 500), step=5, streams=2)),
        "next seed": (base, draw((200, 500), seed=1, step=5)),
        "far seed": (base, draw((200, 500), seed=1 << 40, step=5)),
        "next row": (base[:-1], base[1:]),
        "next column": (base[:, :-1], base[:, 1:]),
        "step against stream": (draw((200, 500), step=6), draw((200, 500), step=5, streams=2)),
        "row against step": (draw((200, 500), step=6)[:-1], base[1:]),
    }


@pytest.mark.parametrize("pair", pairs())
def test_independent(pair):
    left, right = (values.ravel() for values in pairs()[pair])
    # 5 standard deviations of the correlation of independent numbers, and of the joint counts of an 8 x 8 grid.
    assert abs(np.corrcoef(left, right)[0, 1]) < 5 / np.sqrt(left.size)
    joint = np.histogram2d(left, right, bins=8, range=[[0, 1], [0, 1]])[0]
    assert scipy.stats.chisquare(joint.ravel()).pvalue > 1e-4


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_rate_and_scale(rate):
    layer = Dropout(rate)
    with randomness.scope(3, tf.constant(1), tf.constant(0)):
        out = layer(tf.ones((400, 500)), training=True).numpy()
    dropped = np.mean(out == 0)
    assert abs(dropped - rate) < 5 * np.sqrt(rate * (1 - rate) / out.size) + 1e-12
    np.testing.assert_allclose(out[out != 0], 1 / (1 - rate), rtol=1e-6)
    np.testing.assert_array_equal(layer(tf.ones((3, 4)), training=False), np.ones((3, 4)))


def test_dropout_refuses_a_rate_of_one():
    with pytest.raises(ValueError, match="expected 0 <= rate < 1"):
        Dropout(1.0)


def test_dropout_in_plain_keras(tmp_path):
    """Outside the engine: fresh masks at each call, trained by fit, saved and loaded."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((20,)), Dropout(0.5), keras.layers.Dense(2)])
    ones = np.ones((8, 20), np.float32)
    first, second = (model.layers[0](ones, training=True).numpy() for _ in range(2))
    assert (first != second).any()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(ones, np.zeros(8), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(ones), model(ones))
    assert loaded.layers[0].rate == 0.5


def test_streams_of_a_model_differ():
    """Two layers in one forward pass draw different masks, and a second pass in a new scope the same again."""
    layers = [Dropout(0.5), Dropout(0.5)]

    def masks():
        with randomness.scope(0, tf.constant(0), tf.constant(0)):
            return [layer(tf.ones((4, 50)), training=True).numpy() for layer in layers]

    one, two = masks()
    assert (one != two).any()
    np.testing.assert_array_equal(masks(), [one, two])
