"""What breaks the promise of a run is refused before its first step, in words that say what to write instead."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.engine.test_engine import engine_for
from tests.helpers.small import CLASSES, WIDTH, SmallConfig, build, data
from zoo import Batches, Dropout, Term
from zoo.engine.private_apis import inner_graphs
from zoo.errors import BadInput

CONFIG = SmallConfig(compile="none", epochs=0, steps=2)
SPLIT = CONFIG.replace(accumulate=2, batch_size=14)


def cross_entropy(logits, batch):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)


def experiment_with(config, layers=(), forward=None, examples=28):
    model = keras.Sequential([keras.Input((WIDTH,)), *(layer() for layer in layers), keras.layers.Dense(CLASSES)])

    def plain(model, batch, training):
        return {"loss": Term(cross_entropy(model(batch["x"], training=training), batch))}

    train = Batches(data(examples), config.batch_size, seed=0)
    return build(config)._replace(model=model, forward=forward or plain, train=train)


def steps(config, layers=(), forward=None, examples=28):
    """The notes of an engine that has trained two steps and evaluated."""
    engine, experiment = engine_for(config, lambda c: experiment_with(c, layers, forward, examples))
    engine.train(experiment.train, 0, 2)
    engine.evaluate(experiment.train)
    return engine.notes


def with_noise(noise):
    """A forward that adds `noise` to the features."""

    def noisy(model, batch, training):
        features = batch["x"] + noise(batch["x"]) if training else batch["x"]
        return {"loss": Term(cross_entropy(model(features, training=training), batch))}

    return noisy


class TensorFlowNoise(keras.layers.Layer):
    def call(self, inputs, training=False):
        return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs


@functools.cache
def generator():
    return tf.random.Generator.from_seed(1)


@functools.cache
def outside(kind):
    return {"dropout": lambda: keras.layers.Dropout(0.5), "seed": lambda: keras.random.SeedGenerator(1)}[kind]()


STATEFUL = {
    "normal": lambda x: tf.random.normal(tf.shape(x)),
    "dropout": lambda x: tf.nn.dropout(x, 0.5),
    "shuffle": lambda x: tf.random.shuffle(x),
    "in a loop": lambda x: tf.map_fn(lambda row: tf.random.uniform(tf.shape(row)), x),
    "in a function": tf.function(lambda x: tf.random.normal(tf.shape(x)), autograph=False),
    "candidates": lambda x: tf.cast(
        tf.random.uniform_candidate_sampler(tf.zeros([1, 1], tf.int64), 1, WIDTH, False, 9)[0], tf.float32
    ),
    "generator": lambda x: generator().normal(tf.shape(x)),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_noise_with_a_state_of_tensorflows(name):
    with pytest.raises(BadInput, match=r"(?s)draws random numbers by .*test_forward_check.py, line \d+.*keras.random"):
        steps(CONFIG, forward=with_noise(STATEFUL[name]))


def test_noise_of_a_layer():
    with pytest.raises(BadInput, match=r"RandomStandardNormal \(.*test_forward_check.py, line \d+\)"):
        steps(CONFIG, layers=[TensorFlowNoise])


OUTSIDE = {
    "no seed": lambda x: keras.random.normal(keras.ops.shape(x)),
    "a layer": lambda x: outside("dropout")(x, training=True),
    "a seed generator": lambda x: keras.random.normal(keras.ops.shape(x), seed=outside("seed")),
    "a given seed": lambda x: keras.random.normal(keras.ops.shape(x), seed=3),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_keras_noise_belongs_to_the_step_and_the_row(name):
    """Also without a seed, and of a layer or a generator that the model does not own."""
    assert steps(SPLIT, forward=with_noise(OUTSIDE[name])) == []
    assert set(outside("seed").state.numpy()) == {0, 1}, "its own state is left alone"


def test_noise_of_tensorflow_with_a_given_seed_is_the_same_in_each_slice():
    fixed = with_noise(lambda x: tf.random.stateless_normal(tf.shape(x), [1, 2]))
    assert steps(CONFIG, forward=fixed) == []
    with pytest.raises(BadInput, match="the same ones for each replica and micro-batch"):
        steps(SPLIT, forward=fixed)


def test_noise_by_place_is_no_state():
    assert steps(SPLIT, layers=[lambda: Dropout(0.5)]) == []
    assert steps(SPLIT, layers=[lambda: keras.layers.Dropout(0.5)]) == []


@functools.cache
def teacher(trainable):
    model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(CLASSES)])
    model.trainable = trainable
    return model


def taught(trainable):
    def forward(model, batch, training):
        expected = tf.nn.softmax(teacher(trainable)(batch["x"]))
        logits = model(batch["x"], training=training)
        return {"loss": Term(tf.nn.softmax_cross_entropy_with_logits(expected, logits))}

    return forward


def test_a_frozen_teacher_is_a_constant():
    assert steps(SPLIT, forward=taught(False)) == []
    with pytest.raises(BadInput, match=r"reads the variable .*kernel.*freeze it with trainable=False"):
        steps(CONFIG, forward=taught(True))


@functools.cache
def plain_variable(trainable):
    return tf.Variable(1.0, trainable=trainable, name="temperature")


@functools.cache
def metric():
    return keras.metrics.Mean(name="so_far")


def measured(measure):
    def forward(model, batch, training):
        loss = cross_entropy(model(batch["x"], training=training), batch)
        measure(loss)
        return {"loss": Term(loss)}

    return forward


def test_plain_variables():
    def scaled(trainable):
        return with_noise(lambda x: x * plain_variable(trainable))

    assert steps(SPLIT, forward=scaled(False)) == []
    with pytest.raises(BadInput, match=r"reads a tf.Variable 'temperature:0' \(.*, line \d+\), which no model owns"):
        steps(CONFIG, forward=scaled(True))
    with pytest.raises(BadInput, match=r"changes a tf.Variable"):
        steps(CONFIG, forward=measured(lambda loss: plain_variable(False).assign_add(1.0)))
    assert float(plain_variable(False)) == 1.0, "the check changed nothing"


def test_metrics_with_a_state():
    with pytest.raises(BadInput, match=r"changes the variable 'so_far/total'.*Return the values of a metric as a zoo"):
        steps(CONFIG, forward=measured(lambda loss: metric().update_state(loss)))
    assert float(metric().total) == 0.0, "the check changed nothing"


class Counter(keras.layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs):
        self.calls.assign(self.calls + 1.0)
        return inputs


def test_counters_of_a_layer():
    engine, experiment = engine_for(CONFIG, lambda c: experiment_with(c, [Counter]))
    engine.train(experiment.train, 0, 2)
    engine.evaluate(experiment.train)
    assert float(experiment.model.layers[0].calls) == 2.0, "steps only: an evaluation changes nothing"
    with pytest.raises(BadInput, match=r"changes the variable .*calls.*, once for each replica and micro-batch"):
        steps(SPLIT, layers=[Counter])


def contrastive(model, batch, training):
    answers = tf.math.l2_normalize(model(batch["x"], training=training), axis=1)
    similar = tf.matmul(answers, answers, transpose_b=True)  # [rows, rows]
    rows = tf.range(tf.shape(answers)[0])
    return {"loss": Term(tf.nn.sparse_softmax_cross_entropy_with_logits(rows, similar))}


def correlation(model, batch, training):
    answers = model(batch["x"], training=training)[:, 0]
    centered = answers - tf.reduce_mean(answers)
    return {"loss": Term(-centered * tf.cast(batch["y"], tf.float32))}


def already_divided(model, batch, training):
    loss = cross_entropy(model(batch["x"], training=training), batch)
    return {"loss": Term(loss / tf.cast(tf.shape(loss)[0], tf.float32))}


@pytest.mark.parametrize("forward", [contrastive, correlation, already_divided])
def test_losses_over_the_batch(forward):
    whole = CONFIG.replace(batch_size=14)
    (note,) = set(steps(whole, forward=forward))
    assert "depends on the other rows of the slice, so this run is the same only on one device" in note
    with pytest.raises(BadInput, match=r"'loss' of forward \(.*test_forward_check.py, line \d+\): an example's value"):
        steps(SPLIT, forward=forward)
    with pytest.raises(BadInput, match=r"short batches are padded.*choose a --batch_size that divides"):
        steps(CONFIG, forward=forward)


class LeakyMask(keras.layers.Layer):
    """Moves each row a little by the others, as a padding mask does that is reshaped in place of transposed."""

    def call(self, inputs):
        return inputs + 1e-3 * keras.ops.mean(inputs, axis=0, keepdims=True)


def test_a_small_dependence_on_other_rows():
    with pytest.raises(BadInput, match="an example's value depends on the other rows"):
        steps(SPLIT, layers=[LeakyMask])
    (note,) = set(steps(CONFIG.replace(batch_size=14), layers=[LeakyMask]))
    assert "depends on the other rows" in note


def test_rounding_is_no_dependence():
    """Products of many large numbers, which float32, or a layer of coarser numbers, sums with rounding."""

    def stack(dtype):
        wide = [lambda: keras.layers.Dense(2048, "relu", kernel_initializer="he_normal") for _ in range(4)]
        return [lambda: keras.layers.Rescaling(1e4), *wide, lambda: keras.layers.Dense(64, dtype=dtype)]

    for dtype in ("float32", "mixed_bfloat16", "mixed_float16"):
        assert steps(SPLIT, layers=stack(dtype)) == []


def test_losses_over_the_batch_on_replicas():
    with pytest.raises(BadInput, match="an example's value depends on the other rows"):
        engine, experiment = engine_for(
            CONFIG.replace(batch_size=14), lambda c: experiment_with(c, forward=contrastive), 2
        )
        engine.train(experiment.train, 0, 1)


def test_labels_that_broadcast():
    def square(model, batch, training):
        logits = model(batch["x"], training=training)
        labels = batch["y"][:, None]
        correct = tf.equal(tf.argmax(logits, -1, output_type=tf.int32), labels)
        return {"loss": Term(cross_entropy(logits, batch)), "accuracy": Term(tf.cast(correct, tf.float32))}

    with pytest.raises(BadInput, match=r"'accuracy' of .* \[4, 4\] for 4 examples and \[2, 2\] for 2.*labels\[:, 0\]"):
        steps(CONFIG, forward=square)


def test_labels_that_broadcast_in_evaluations_only():
    def square(model, batch, training):
        loss = cross_entropy(model(batch["x"], training=training), batch)
        return {"loss": Term(loss)} if training else {"loss": Term(loss), "both": Term(loss[:, None] - loss)}

    with pytest.raises(BadInput, match=r"'both' of .* \[7, 7\] for 7 examples and \[4, 4\] for 4"):
        steps(CONFIG, forward=square)


def test_a_term_of_evaluations_only():
    def judged(model, batch, training):
        loss = cross_entropy(model(batch["x"], training=training), batch)
        return {"loss": Term(loss)} if training else {"loss": Term(loss), "mean": Term(tf.reduce_mean(loss))}

    with pytest.raises(BadInput, match=r"'mean' of forward \(.*expected one entry per example"):
        steps(CONFIG, forward=judged)


def test_weights_that_do_not_fit():
    def wrong(model, batch, training):
        return {"loss": Term(cross_entropy(model(batch["x"]), batch), tf.ones([1, 1]))}

    with pytest.raises(BadInput, match=r"term 'loss' has weights of shape \(1, 1\): expected a number"):
        steps(CONFIG, forward=wrong)


def test_one_example_and_wide_batches():
    assert steps(CONFIG.replace(batch_size=1), examples=1) == []
    assert steps(CONFIG.replace(batch_size=64), examples=3) == []


MISTAKES = {
    "no dictionary": (lambda m, b, t: m(b["x"]), r"returned a tensor of shape \(.*expected a dictionary of zoo.Term"),
    "nothing": (lambda m, b, t: None, "returned NoneType: expected a dictionary"),
    "tensor": (lambda m, b, t: {"loss": m(b["x"])[:, 0]}, r"as 'loss': expected zoo.Term\(values, weights\)"),
    "metric": (lambda m, b, t: {"loss": metric()}, "Keras metric 'so_far' as 'loss'"),
    "column": (
        lambda m, b, t: {"loss": Term(b["labels"])},
        "there is no column 'labels' in the batch: expected one of",
    ),
    "near column": (lambda m, b, t: {"loss": Term(b["xs"])}, "no column 'xs' in the batch: did you mean x"),
    "if": (lambda m, b, t: {"loss": Term(b["x"] if tf.reduce_sum(b["x"]) > 0 else 0)}, "Python's if.*use tf.where"),
    "numpy": (lambda m, b, t: {"loss": Term(b["x"].numpy())}, "NumPy needs a value"),
    "np": (lambda m, b, t: {"loss": Term(np.log(b["x"]))}, "NumPy needs a value"),
    "shape": (lambda m, b, t: {"loss": Term(m(b["x"][:, :2])[:, 0])}, "ncompatible|expected"),
    "name": (lambda m, b, t: {"loss": Term(undefined)}, "NameError: name 'undefined'"),  # noqa: F821
    "type": (lambda m, b, t: {"loss": Term(b["x"][:, 0] + b["y"])}, "TypeError|InvalidArgumentError|ValueError"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_name_their_line(name):
    forward, said = MISTAKES[name]
    with pytest.raises(BadInput, match=rf"^forward \(.*test_forward_check.py, line \d+\).*({said})") as raised:
        steps(CONFIG, forward=forward)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_nothing_to_train():
    def frozen(config):
        experiment = experiment_with(config)
        experiment.model.trainable = False
        return experiment

    with pytest.raises(BadInput, match="no trainable weights: all 2 are frozen"):
        engine_for(CONFIG, frozen)
    with pytest.raises(BadInput, match="no trainable weights: none of its layers has any"):
        model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.ReLU()])
        engine_for(CONFIG, lambda c: experiment_with(c)._replace(model=model))


def test_upstream_lists_the_functions_of_a_graph():
    """`inner_graphs` relies on a private attribute of TensorFlow's graphs."""
    looped = tf.function(lambda x: tf.map_fn(tf.sin, x), autograph=False).get_concrete_function(tf.TensorSpec([3]))
    assert any(each.type == "Sin" for inner in inner_graphs(looped.graph) for each in inner.get_operations())


def test_what_has_no_weight_may_depend_on_anything():
    """Values at padding differ with the longest sequence of a slice."""

    def masked(model, batch, training):
        loss = cross_entropy(model(batch["x"], training=training), batch)
        count = tf.cast(tf.shape(loss)[0], tf.float32)
        values = tf.stack([loss, tf.fill(tf.shape(loss), count)], axis=1)
        return {"loss": Term(values, tf.stack([tf.ones_like(loss), tf.zeros_like(loss)], axis=1))}

    def weighted_by_share(model, batch, training):
        loss = cross_entropy(model(batch["x"], training=training), batch)
        return {"loss": Term(loss, 1.0 / tf.cast(tf.shape(loss)[0], tf.float32))}

    assert steps(SPLIT, forward=masked) == []
    with pytest.raises(BadInput, match="an example's value depends on the other rows"):
        steps(SPLIT, forward=weighted_by_share)
