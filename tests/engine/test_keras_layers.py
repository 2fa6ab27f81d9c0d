"""Keras' own layers in the engine: the same run on any number of devices, resumed or not; right distributions."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tests.engine.test_engine import engine_for
from tests.helpers.small import CLASSES, SmallConfig, data, furthest
from zoo import Batches, Experiment, Term, randomness
from zoo.engine import keras_layers
from zoo.errors import BadInput
from zoo.models.layers import BatchNorm, Dropout

CONFIG = SmallConfig(epochs=0, steps=3, batch_size=32, compile="none", optimizer="momentum", learning_rate=0.01)
SIZE = 8
layers = keras.layers


@pytest.fixture(autouse=True)
def _installed():
    keras_layers.install()


class WeightNoise(layers.Layer):
    """Noise on a weight whose first dimension is the size of a slice by chance."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(32, shape[-1]), name="kernel")

    def call(self, inputs, training=False):
        noise = keras.random.normal((32, inputs.shape[-1])) if training else 0.0
        return inputs + keras.ops.sum(self.kernel * (1.0 + noise), axis=0)


class Recurrent(layers.Layer):
    """An LSTM with both dropouts over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.lstm = layers.LSTM(4, dropout=0.3, recurrent_dropout=0.3)

    def call(self, inputs, training=False):
        return self.lstm(keras.ops.squeeze(inputs, -1), training=training)


class Attention(layers.Layer):
    def __init__(self):
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 4, dropout=0.3)

    def call(self, inputs, training=False):
        rows = keras.ops.squeeze(inputs, -1)
        return self.attention(rows, rows, training=training)


# Layers by name, before a flattened Dense.
MODELS = {
    "dropouts": lambda: [layers.Dropout(0.3), layers.GaussianDropout(0.2), layers.GaussianNoise(0.1)],
    "AlphaDropout": lambda: [layers.AlphaDropout(0.2)],
    "a seed": lambda: [layers.Dropout(0.3, seed=5), layers.GaussianNoise(0.1, seed=5)],
    # Keras calls a tf.function for it on a CPU.
    "grouped convolution": lambda: [layers.Conv2D(4, 3), layers.Conv2D(4, 3, groups=2)],
    "SpatialDropout": lambda: [layers.Conv2D(4, 3), layers.SpatialDropout2D(0.4)],
    "batch normalisation": lambda: [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()],
    "another axis": lambda: [layers.BatchNormalization(axis=1), layers.Flatten(), layers.BatchNormalization()],
    "nested": lambda: [keras.Sequential([layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Dropout(0.2)])],
    "recurrent": lambda: [Recurrent()],
    "attention": lambda: [Attention()],
    "weight noise": lambda: [layers.Flatten(), WeightNoise()],
    "flips": lambda: [layers.RandomFlip("horizontal"), layers.RandomTranslation(0.2, 0.2)],
    "turns": lambda: [layers.RandomRotation(0.2), layers.RandomZoom(0.2)],
    "light": lambda: [layers.RandomBrightness(0.3, value_range=(0, 1)), layers.RandomContrast(0.3, value_range=(0, 1))],
    "crops": lambda: [layers.RandomErasing(value_range=(0, 1))],
}


def images(examples=80):
    draw = np.random.default_rng(5)
    return {
        "x": draw.random((examples, SIZE, SIZE, 1)).astype(np.float32),
        "y": draw.integers(0, CLASSES, examples).astype(np.int32),
    }


def experiment_of(make, examples=80):
    def experiment(config):
        stack = [keras.Input((SIZE, SIZE, 1)), *make(), layers.Flatten(), layers.Dense(CLASSES)]
        model = keras.Sequential(stack)

        def forward(model, batch, training):
            logits = model(batch["x"], training=training)
            return {"loss": Term(tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits))}

        return Experiment(model, forward, Batches(images(examples), config.batch_size, seed=0))

    return experiment


def state_after(config, make, replicas=1, examples=80):
    engine, experiment = engine_for(config, experiment_of(make, examples), replicas)
    engine.train(experiment.train, 0, config.steps)
    assert engine.notes == []
    return {name: value for name, value in engine.state().items() if not name.startswith("seed/")}


# The neighbours of these cover the same.
_THOROUGH = ("AlphaDropout", "a seed", "another axis", "turns", "light", "crops")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough) if name in _THOROUGH else name for name in MODELS]
)
def test_the_same_run_on_two_replicas_and_in_micro_batches(name):
    """Three batches of 64, of which the last is half empty."""
    config = CONFIG.replace(batch_size=64)
    one = state_after(config, MODELS[name], examples=160)
    assert furthest(one, state_after(config, MODELS[name], 2, examples=160)) < 3e-6
    assert furthest(one, state_after(config.replace(accumulate=2), MODELS[name], examples=160)) < 3e-6


def test_noise_differs_by_step_and_by_row():
    scopes = [(0, 0), (0, 4), (1, 0)]
    drawn = []
    for step, first in scopes:
        with randomness.scope(7, tf.constant(step), tf.constant(first), tf.ones([4])):
            drawn.append(keras.random.uniform((4, 1000)).numpy())
    flat = np.concatenate(drawn)
    assert np.abs(np.corrcoef(flat) - np.eye(12)).max() < 0.2
    with randomness.scope(7, tf.constant(0), tf.constant(0), tf.ones([8])):
        np.testing.assert_array_equal(keras.random.uniform((8, 1000)).numpy(), np.concatenate(drawn[:2]))


def test_a_given_seed_is_the_same_at_each_step():
    def drawn(step, seed):
        with randomness.scope(7, tf.constant(step), tf.constant(0), tf.ones([4])):
            return [keras.random.normal((4, 3), seed=seed).numpy() for _ in range(2)]

    first, second = drawn(0, 3), drawn(1, 3)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[0], first[1])
    assert (drawn(0, 4)[0] != first[0]).all()
    generator = keras.random.SeedGenerator(3)
    ours = drawn(0, generator)
    assert (ours[0] != ours[1]).all() and (drawn(1, generator)[0] != ours[0]).all()
    assert generator.state.numpy().tolist() == [3, 0], "its own state is left alone"


ROWS, COLUMNS = 200, 200
DISTRIBUTIONS = {
    "uniform": (lambda shape: keras.random.uniform(shape, -1.0, 3.0), scipy.stats.uniform(-1, 4)),
    "normal": (lambda shape: keras.random.normal(shape, 2.0, 0.5), scipy.stats.norm(2, 0.5)),
    "truncated": (lambda shape: keras.random.truncated_normal(shape, 1.0, 2.0), scipy.stats.truncnorm(-2, 2, 1, 2)),
    "gamma": (lambda shape: keras.random.gamma(shape, 2.5), scipy.stats.gamma(2.5)),
    "small gamma": (lambda shape: keras.random.gamma(shape, 0.3), scipy.stats.gamma(0.3)),
    "beta": (lambda shape: keras.random.beta(shape, 0.4, 1.5), scipy.stats.beta(0.4, 1.5)),
}


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions(name, by_row):
    """Kolmogorov and Smirnov's test against SciPy's distribution, and no correlation of neighbours."""
    draw, expected = DISTRIBUTIONS[name]
    with randomness.scope(1, tf.constant(0), tf.constant(0), tf.ones([ROWS if by_row else 3])):
        values = draw((ROWS, COLUMNS)).numpy()
    assert scipy.stats.kstest(values.ravel(), expected.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 0.02


def test_counts_and_classes():
    with randomness.scope(1, tf.constant(0), tf.constant(0), tf.ones([ROWS])):
        integers = keras.random.randint((ROWS, COLUMNS), -3, 4).numpy()
        large = keras.random.randint((ROWS, COLUMNS), 0, 2**31 - 1).numpy()
        successes = keras.random.binomial((ROWS, COLUMNS), 9.0, 0.3).numpy()
        classes = keras.random.categorical(np.log([[0.1, 0.2, 0.7]] * ROWS), COLUMNS).numpy()
        order = keras.random.shuffle(np.arange(ROWS)).numpy()
        kept = keras.random.dropout(np.ones((ROWS, COLUMNS), np.float32), 0.25).numpy()
    assert set(integers.ravel()) == set(range(-3, 4))
    assert scipy.stats.chisquare(np.unique(integers, return_counts=True)[1]).pvalue > 1e-3
    assert abs(large.mean() / 2**30 - 1) < 0.01
    assert scipy.stats.kstest(large.ravel() / 2.0**31, "uniform").pvalue > 1e-3
    expected = scipy.stats.binom(9, 0.3).pmf(range(10)) * successes.size
    counts = np.bincount(successes.ravel().astype(int), minlength=10)
    assert scipy.stats.chisquare(counts[:8], expected[:8] * counts[:8].sum() / expected[:8].sum()).pvalue > 1e-3
    assert scipy.stats.chisquare(np.bincount(classes.ravel()), np.array([0.1, 0.2, 0.7]) * classes.size).pvalue > 1e-3
    assert sorted(order) == list(range(ROWS)) and (order != np.arange(ROWS)).any()
    assert abs((kept > 0).mean() - 0.75) < 0.01 and np.allclose(kept[kept > 0], 1 / 0.75)


def test_batch_normalisation_is_keras_own_in_one_group():
    """Values, moving statistics and gradients of one batch of 32, against Keras' layer outside of the engine."""
    x = np.random.default_rng(0).normal(2.0, 3.0, (32, 5, 3)).astype(np.float32)
    ours, theirs = (layers.BatchNormalization(momentum=0.9) for _ in range(2))
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.gamma.assign([0.5, 1.0, 2.0])
        layer.beta.assign([0.0, 1.0, -1.0])

    def outputs(layer, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            total = tf.reduce_sum(y**3)
        return y, tape.gradient(total, [x, *(variable.value for variable in layer.trainable_variables)])

    expected = outputs(theirs, tf.constant(x))
    with randomness.scope(0, tf.constant(0), tf.constant(0), tf.ones([32]), batch_rows=32) as scope:
        found = outputs(ours, tf.constant(x))
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-3)
    for statistic in scope.statistics:
        statistic.variable.assign(randomness.moving_average(statistic.variable.value, statistic))
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, atol=1e-5)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-5)


def test_groups_are_a_function_of_the_batch_size():
    groups = {size: keras_layers.batch_normalization_group(size) for size in (8, 13, 32, 48, 64, 96, 100, 128, 97)}
    assert groups == {8: 8, 13: 13, 32: 32, 48: 24, 64: 32, 96: 32, 100: 25, 128: 32, 97: 97}


def test_a_group_that_would_be_split_is_refused():
    def normalised():
        return [layers.BatchNormalization()]

    assert state_after(CONFIG.replace(batch_size=40, batch_norm_group=40), normalised)
    with pytest.raises(BadInput, match=r"in groups of 32 rows cannot split the batch in slices of 16"):
        state_after(CONFIG.replace(accumulate=2), normalised)
    with pytest.raises(BadInput, match=r"in groups of 40 rows cannot split the batch in slices of 20"):
        state_after(CONFIG.replace(batch_size=40, batch_norm_group=40, accumulate=2), normalised)
    with pytest.raises(BadInput, match="renorm"):
        state_after(CONFIG, lambda: [layers.BatchNormalization(renorm=True)])


def test_the_zoos_own_layers_give_the_same_bits():
    """Which to use is then a question of what a saved model needs to be loaded."""
    config = CONFIG.replace(batch_size=64)

    def stack(dropout, norm):
        return lambda: [layers.Flatten(), layers.Dense(8), norm(), dropout(0.3), layers.Dense(8), dropout(0.2)]

    ours = state_after(config, stack(Dropout, lambda: BatchNorm(name="norm")), examples=160)
    keras_own = state_after(config, stack(layers.Dropout, lambda: layers.BatchNormalization(name="norm")), examples=160)
    assert ours.keys() == keras_own.keys()
    assert [name for name in ours if not np.array_equal(ours[name], keras_own[name])] == []
    other = state_after(config, stack(layers.Dropout, layers.LayerNormalization), examples=160)
    first = next(name for name in ours if name.endswith("kernel"))
    assert not np.array_equal(ours[first], other[first]), "the layers matter here"


def test_masked_positions_are_left_out():
    x = np.random.default_rng(0).normal(size=(16, 4, 3)).astype(np.float32)
    mask = np.arange(4)[None] < np.random.default_rng(1).integers(1, 5, (16, 1))
    layer, plain = layers.BatchNormalization(), layers.BatchNormalization()
    layer.build(x.shape), plain.build(x.shape)
    with randomness.scope(0, tf.constant(0), tf.constant(0), tf.ones([16]), batch_rows=16):
        found = layer(x, training=True, mask=tf.constant(mask)).numpy()
    expected = plain(x, training=True, mask=tf.constant(mask)).numpy()
    np.testing.assert_allclose(found[mask], expected[mask], atol=1e-4)


def test_mixing_rows_needs_a_whole_batch():
    """MixUp permutes the rows; of a short batch it may take copies, which are real examples."""
    mixed = lambda: [layers.MixUp()]  # noqa: E731
    engine, experiment = engine_for(CONFIG, mixing(mixed))
    engine.train(experiment.train, 0, 3)
    assert ["depends on the other rows" in note for note in engine.notes] == [True]
    with pytest.raises(BadInput, match="an example's value depends on the other rows"):
        engine, experiment = engine_for(CONFIG.replace(accumulate=2), mixing(mixed))
        engine.train(experiment.train, 0, 1)


def mixing(make):
    def experiment(config):
        (mixer,) = make()
        model = keras.Sequential([keras.Input((SIZE, SIZE, 1)), layers.Flatten(), layers.Dense(CLASSES)])

        def forward(model, batch, training):
            both = {"images": batch["x"], "labels": tf.one_hot(batch["y"], CLASSES)}
            both = mixer(both, training=training)
            logits = model(both["images"], training=training)
            return {"loss": Term(tf.nn.softmax_cross_entropy_with_logits(both["labels"], logits))}

        return Experiment(model, forward, Batches(images(), config.batch_size, seed=0))

    return experiment


def test_a_resumed_run_draws_what_the_whole_one_drew():
    whole, experiment = engine_for(CONFIG, experiment_of(MODELS["dropouts"]))
    whole.train(experiment.train, 0, 6)
    first, experiment = engine_for(CONFIG, experiment_of(MODELS["dropouts"]))
    first.train(experiment.train, 0, 2)
    second, experiment = engine_for(CONFIG, experiment_of(MODELS["dropouts"]))
    second.load(first.state())
    second.train(experiment.train, 2, 4)
    left, right = whole.state(), second.state()
    assert all(np.array_equal(left[name], right[name]) for name in left if not name.startswith("seed/"))


def test_outside_of_the_engine_keras_answers():
    assert keras.random.uniform((3,), seed=1).numpy() == pytest.approx(
        tf.random.stateless_uniform([3], seed=[1, 0]).numpy()
    )
    model = keras.Sequential([keras.Input((6,)), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.layers[0].moving_mean.numpy()
    model.fit(data(32)["x"], data(32)["y"], verbose=0)
    assert (model.layers[0].moving_mean.numpy() != before).any()
