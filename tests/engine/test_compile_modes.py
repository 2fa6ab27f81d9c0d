"""Operations that XLA lacks, examples of weight 0 that hold anything, and other precisions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.engine.test_engine import engine_for
from tests.engine.test_forward_check import cross_entropy, experiment_with
from tests.helpers.small import CLASSES, WIDTH, SmallConfig, build, data, furthest
from zoo import Batches, Experiment, Term
from zoo.engine.inspection import Inspection
from zoo.errors import BadInput

CONFIG = SmallConfig(epochs=0, steps=2, compile="auto")


def as_string(x):
    return tf.strings.to_number(tf.strings.as_string(x))


def counted(x):
    """A histogram whose size is a tensor."""
    bins = tf.cast(tf.abs(x), tf.int32)
    return x + tf.cast(tf.math.bincount(tf.reshape(bins, [-1]))[0], tf.float32) * 0.0


def projected(x):
    images = tf.reshape(x, [-1, 2, 3, 1])
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.constant([[1.0, 0, 0, 0, 1, 0, 0, 0]]),
        output_shape=tf.constant([2, 3]),
        fill_value=0.0,
        interpolation="NEAREST",
    )
    return tf.reshape(turned, [-1, WIDTH])


LACKING = {"AsString": as_string, "DenseBincount": counted, "ImageProjective": projected}


def with_features(function):
    def forward(model, batch, training):
        return {"loss": Term(cross_entropy(model(function(batch["x"]), training=training), batch))}

    return forward


@pytest.mark.parametrize(
    ("name", "replicas", "slower"),
    [
        ("AsString", 1, "islands"),
        ("AsString", 2, "none"),
        ("DenseBincount", 1, "step"),
        ("ImageProjective", 1, "islands"),
        ("ImageProjective", 2, "none"),
    ],
)
def test_operations_that_xla_lacks(name, replicas, slower):
    """The same weights as without XLA."""
    forward, states = with_features(LACKING[name]), {}
    for compile in ("auto", "none"):
        config = CONFIG.replace(compile=compile, batch_size=14)
        engine, experiment = engine_for(config, lambda c: experiment_with(c, forward=forward), replicas)
        engine.train(experiment.train, 0, 2)
        engine.evaluate(experiment.train)
        assert Inspection(engine).gradients(experiment.train, 0), "histograms are computed in the same way"
        states[compile] = engine.state()
        shown = [f"--compile={slower}, which is slower" in note and name in note for note in engine.notes]
        assert shown == ([True, True] if compile == "auto" else []), engine.notes
    assert furthest(states["auto"], states["none"]) < 1e-6


def images(layers, *shape):
    """A model of some layers on images or sequences."""

    def make(config):
        model = keras.Sequential([keras.Input(shape), *layers(), keras.layers.Flatten(), keras.layers.Dense(CLASSES)])
        draw = np.random.default_rng(0)
        columns = {"x": draw.random((16, *shape), np.float32), "y": draw.integers(0, CLASSES, 16).astype(np.int32)}

        def forward(model, batch, training):
            return {"loss": Term(cross_entropy(model(batch["x"], training=training), batch))}

        return Experiment(model, forward, Batches(columns, 8, seed=0))

    return make


SLOW = {
    "Conv2D": lambda: [keras.layers.Conv2D(2, 3)],
    "DepthwiseConv2dNative": lambda: [keras.layers.DepthwiseConv2D(3)],
    "MaxPool": lambda: [keras.layers.MaxPooling2D()],
}


@pytest.mark.parametrize("operation", SLOW)
def test_operations_at_which_xla_is_slow(operation):
    """TensorFlow's kernels compute the same."""
    states = {}
    for compile in ("auto", "loop"):
        engine, experiment = engine_for(CONFIG.replace(compile=compile), images(SLOW[operation], 6, 6, 1))
        engine.train(experiment.train, 0, 2)
        engine.evaluate(experiment.train)
        assert engine.compile == ("islands" if compile == "auto" else "loop")
        states[compile] = engine.state()
        assert len(engine.notes) == (2 if compile == "auto" else 0), engine.notes
        assert all(f"XLA is slow at {operation} on a CPU: " in note for note in engine.notes)
    assert furthest(states["auto"], states["loop"]) < 1e-6


def test_convolutions_of_sequences_are_fast():
    engine, experiment = engine_for(CONFIG, images(lambda: [keras.layers.Conv1D(2, 3)], 6, 1))
    engine.train(experiment.train, 0, 2)
    assert engine.compile == "loop" and not engine.notes


class Vocabulary(keras.layers.Layer):
    """Looks integers up in a table of TensorFlow's."""

    def __init__(self):
        super().__init__()
        keys = tf.range(CLASSES)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, keys + 1), 0)

    def call(self, inputs):
        return inputs + tf.cast(self.table.lookup(tf.cast(inputs, tf.int32)), tf.float32)


def test_lookup_tables():
    engine, experiment = engine_for(CONFIG, lambda c: experiment_with(c, [Vocabulary]))
    engine.train(experiment.train, 0, 2)
    assert "training runs with --compile=islands" in engine.notes[0]


def texts(config):
    """A model that reads texts."""
    words = np.array(["good film", "bad film", "a good one", "the bad one"] * 4)
    vectors = keras.layers.TextVectorization(vocabulary=["good", "bad", "film"], output_mode="multi_hot")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    def forward(model, batch, training):
        return {"loss": Term(cross_entropy(model(vectors(batch["text"]), training=training), batch))}

    columns = {"text": words, "y": np.array([1, 0] * 8, np.int32)}
    return Experiment(model, forward, Batches(columns, 8, seed=0))


def test_texts_inside_of_the_model():
    engine, experiment = engine_for(CONFIG, texts)
    scalars = engine.train(experiment.train, 0, 60)
    assert scalars["loss/numerator"][-1] < scalars["loss/numerator"][0]


def test_a_mode_that_was_asked_for_is_kept():
    config = CONFIG.replace(compile="loop")
    engine, experiment = engine_for(config, lambda c: experiment_with(c, forward=with_features(as_string)))
    with pytest.raises(BadInput, match="--compile=loop: XLA cannot compile AsString; use --compile=islands, or auto"):
        engine.train(experiment.train, 0, 1)


def test_errors_of_the_operations_themselves():
    """They are no reason for a slower mode."""
    wrong = with_features(lambda x: tf.debugging.check_numerics(x * np.inf, "wrong"))
    config = CONFIG.replace(compile="none")
    with pytest.raises(tf.errors.InvalidArgumentError, match="wrong"):
        engine, experiment = engine_for(config, lambda c: experiment_with(c, forward=wrong))
        engine.train(experiment.train, 0, 1)


def weighted(model, batch, training):
    logits = model(batch["x"], training=training)
    return {"loss": Term(cross_entropy(logits, batch), batch["weight"])}


@pytest.mark.parametrize("compile", ["loop", "none"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_examples_of_weight_0_may_hold_anything(value, compile):
    """The same weights as with numbers in them, bit for bit."""

    def experiment(wrong):
        columns = data(29, weighted=True)
        columns["weight"][::3] = 0.0
        columns["x"][::3] = wrong
        return lambda c: build(c)._replace(forward=weighted, train=Batches(columns, 13, seed=0))

    states = []
    for wrong in (value, 0.5):
        engine, made = engine_for(CONFIG.replace(compile=compile), experiment(wrong))
        engine.train(made.train, 0, 6)
        assert all(np.isfinite(each).all() for each in Inspection(engine).gradients(made.train, 6).values())
        states.append(engine.state())
    assert furthest(*states) < 1e-7
    assert all(np.isfinite(each).all() for each in states[0].values())


def test_labels_of_weight_0_may_be_missing():
    """A regression with NaN where there is no answer; a slice with no living row trains nothing."""
    columns = {"x": data(28)["x"], "y": np.where(np.arange(28) % 2, np.nan, 1.0).astype(np.float32)}
    columns["y"][:14] = np.nan

    def forward(model, batch, training):
        error = tf.square(model(batch["x"], training=training)[:, 0] - batch["y"])
        return {"loss": Term(error, tf.cast(tf.math.is_finite(batch["y"]), tf.float32))}

    engine, made = engine_for(CONFIG, lambda c: build(c)._replace(forward=forward, train=Batches(columns, 14)))
    scalars = engine.train(made.train, 0, 4)
    assert scalars["loss/weight"].tolist() == [0, 7, 0, 7]
    assert all(np.isfinite(each).all() for each in engine.state().values())
    assert scalars["loss/numerator"][3] < scalars["loss/numerator"][1]


def of_policy(policy):
    def experiment(config):
        keras.config.set_dtype_policy(policy)
        try:
            return experiment_with(config)
        finally:
            keras.config.set_dtype_policy("float32")

    return experiment


@pytest.mark.parametrize(
    ("policy", "optimizer"), [("float64", "adamw"), ("float16", "adamw"), ("bfloat16", "momentum")]
)
@pytest.mark.parametrize("compile", ["loop", "none"])
def test_pure_policies(policy, optimizer, compile):
    """Weights of another type are trained, clipped, averaged and saved in it."""
    options = {"clip_norm": 1.0, "ema": 0.9, "l2": 1e-4, "accumulate": 2, "optimizer": optimizer}
    engine, made = engine_for(CONFIG.replace(compile=compile, steps=8, **options), of_policy(policy))
    before = engine.evaluate(made.train)["loss"]
    engine.train(made.train, 0, 8)
    assert engine.evaluate(made.train)["loss"] < before
    weights = [value for name, value in engine.state().items() if name.startswith(("model/", "average/"))]
    assert {value.dtype.name for value in weights} == {policy}
    engine.load(engine.state())


def test_adam_cannot_move_bfloat16_weights():
    with pytest.raises(BadInput, match=r"is bfloat16, in which AdamW's decay of 0\.999 rounds to 1"):
        engine_for(CONFIG.replace(optimizer="adamw"), of_policy("bfloat16"))
