"""Random draws in a dataset, of which a run sees those of one reading: what is noted, and what is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.keras_task import sources

X = np.random.default_rng(0).random((12, 4, 4, 3)).astype(np.float32)
Y = np.arange(12) % 3
NOTE = "and is read once: all epochs see the same draws; put Random* layers"


def pairs():
    return tf.data.Dataset.from_tensor_slices((X, Y))


def mapped(function):
    return pairs().map(lambda x, y: (function(x), y))


def generator_of_tensorflow():
    generator = tf.random.Generator.from_seed(1)
    return mapped(lambda x: x + generator.normal([]))


def layer_of_keras():
    flip = keras.layers.RandomFlip(seed=1)
    return mapped(lambda x: flip(x, training=True))


def noise_in_a_branch():
    return mapped(lambda x: tf.cond(tf.reduce_sum(x) > 0.0, lambda: x + tf.random.uniform([]), lambda: x))


def flipped():
    return mapped(lambda x: tf.image.random_flip_left_right(x, seed=2))


RANDOM = {
    "image operation": lambda: mapped(tf.image.random_flip_left_right),
    "image operation with a seed": flipped,
    "crop": lambda: mapped(lambda x: tf.image.random_crop(x, (4, 4, 3))),
    "noise with a seed": lambda: mapped(lambda x: x + tf.random.normal([], seed=1)),
    "keras.random": lambda: mapped(lambda x: x + keras.random.normal((1,))),
    "tf.random.Generator": generator_of_tensorflow,
    "layer": layer_of_keras,
    "branch": noise_in_a_branch,
    "interleaved": lambda: tf.data.Dataset.range(2).interleave(lambda _: flipped()),
    "zipped": lambda: tf.data.Dataset.zip(flipped(), pairs()).map(lambda one, two: (one[0], two[1])),
    "filter": lambda: pairs().filter(lambda x, y: tf.random.uniform([]) < 1.0),
}
STEADY = {
    "shuffle": lambda: pairs().shuffle(5).repeat(2),
    "shuffled files": lambda: tf.data.Dataset.range(2).shuffle(2).interleave(lambda _: pairs().shuffle(3)),
    "sampled": lambda: tf.data.Dataset.sample_from_datasets([pairs(), pairs()], seed=1),
    "fixed seed": lambda: mapped(lambda x: x + tf.random.stateless_normal([], (1, 2))),
    "layer that does not train": lambda: mapped(keras.layers.Rescaling(2.0)),
    "cached": lambda: flipped().cache(),
}


def read(dataset):
    return sources.read(dataset.batch(4, drop_remainder=True).prefetch(1))


@pytest.mark.parametrize("name", RANDOM)
def test_a_random_pipeline_is_noted(name):
    (note,) = read(RANDOM[name]()).notes
    assert note.startswith("x draws at random (") and NOTE in note


@pytest.mark.parametrize("name", STEADY)
def test_an_order_is_not_noted(name):
    assert read(STEADY[name]()).notes == ()


class Rows(keras.utils.PyDataset):
    noise = 0.0

    def __init__(self):
        super().__init__()
        self.draw = np.random.default_rng(1)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return X[rows] + self.noise * self.draw.normal(), np.where(Y[rows] == 0, np.nan, Y[rows])


class Noise(Rows):
    noise = 1.0


def test_a_py_dataset_is_read_twice():
    assert sources.read(Rows()).notes == ()
    examples = sources.read(Noise())
    assert "x draws at random (batch 0 differs when it is read again)" in examples.notes[0]
    # What is trained on are the draws of the first reading.
    draw = np.random.default_rng(1)
    noise = np.repeat([draw.normal() for _ in range(3)], 4)[:, None, None, None]
    np.testing.assert_allclose(examples.x, X + noise, rtol=1e-5)


def test_grain():
    grain = pytest.importorskip("grain", reason="Grain is not installed (the extra `grain`)")

    def noisy(example, draw):
        return example[0] + draw.normal(), example[1]

    rows = grain.MapDataset.source([(X[row], Y[row]) for row in range(12)]).seed(1)
    assert sources.read(rows.shuffle().batch(4)).notes == ()
    examples = sources.read(rows.random_map(noisy).batch(4))
    assert "x draws at random (random_map)" in examples.notes[0] and NOTE in examples.notes[0]
    rng = np.random.default_rng(2)
    hidden = rows.map(lambda example: (example[0] + rng.normal(), example[1])).batch(4)
    assert "batch 0 differs when it is read again" in sources.read(hidden).notes[0]
