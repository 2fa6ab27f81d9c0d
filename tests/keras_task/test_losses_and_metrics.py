"""Every loss of Keras, and every metric that is a mean, as a term: the number that Keras' own object returns."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import keras_models
from zoo import terms
from zoo.engine import private_apis
from zoo.errors import BadInput
from zoo.keras_task import losses, metrics
from zoo.keras_task.compiled import LossPart, MetricPart

ROWS, TIME, CLASSES = 7, 4, keras_models.CLASSES
# Over all examples, unless they get an axis.
WHOLE = {"Dice", "Tversky"}
# The base class; and targets of another kind.
NO_LOSSES = {"Loss", "CTC"}
INTEGERS = {"SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy", "Circle"}
LOSSES = [
    name
    for name, value in vars(keras.losses).items()
    if inspect.isclass(value) and issubclass(value, keras.losses.Loss) and name not in NO_LOSSES
]
MEANS = [
    name
    for name, value in vars(keras.metrics).items()
    if inspect.isclass(value) and issubclass(value, keras.metrics.MeanMetricWrapper) and name != "MeanMetricWrapper"
]


def probabilities(*shape):
    return tf.nn.softmax(keras_models.draw(*shape, CLASSES, seed=3))


def targets(name, *shape):
    labels = keras_models.labels(*shape)
    is_integer = name.startswith("Sparse") or name in INTEGERS
    return labels if is_integer else np.eye(CLASSES, dtype=np.float32)[labels]


def ratio(term):
    weighted, weights = terms.weigh("loss", term, tf.ones([ROWS]))
    return float(tf.reduce_sum(weighted) / tf.reduce_sum(weights))


def mask():
    return tf.constant(np.arange(TIME) < keras_models.labels(ROWS, 1, classes=TIME, seed=2) + 1)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_number_that_keras_returns(name):
    loss = getattr(keras.losses, name)()
    part = LossPart(name, loss, 1.0, "y", 0, None)
    y_true, y_pred = targets(name, ROWS), probabilities(ROWS)
    weights = np.abs(keras_models.draw(ROWS, seed=5))
    if name in WHOLE:
        with pytest.raises(BadInput, match=r"returns one number for all examples.*give Dice and Tversky an axis"):
            losses.term(part, y_true, y_pred, None)
        loss = getattr(keras.losses, name)(axis=-1)
        part = part._replace(loss=loss)
    for given in (None, weights):
        expected = float(loss(y_true, y_pred, given))
        np.testing.assert_allclose(ratio(losses.term(part, y_true, y_pred, given)), expected, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
@pytest.mark.parametrize("has_mask", [False, True])
@pytest.mark.parametrize("weight", [None, (ROWS, TIME)])
def test_time_steps(reduction, has_mask, weight):
    """Also labels that are ignored, which Keras masks by itself."""
    for options in ({}, {"ignore_class": 1}):
        loss = keras.losses.SparseCategoricalCrossentropy(reduction=reduction, **options)
        y_true, y_pred = keras_models.labels(ROWS, TIME), probabilities(ROWS, TIME)
        if has_mask:
            private_apis.set_mask(y_pred, mask())
        weights = None if weight is None else np.abs(keras_models.draw(*weight, seed=5))
        expected = float(loss(y_true, y_pred, weights))
        found = ratio(losses.term(LossPart("loss", loss, 1.0, "y", 0, None), y_true, y_pred, weights))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_weights_of_examples_count_for_their_time_steps():
    """Keras multiplies `[rows, time]` by `[rows]` from the last axis on, which fails or mixes the examples."""
    loss = keras.losses.MeanSquaredError()
    y_true, y_pred = keras_models.draw(ROWS, TIME, 2), keras_models.draw(ROWS, TIME, 2, seed=3)
    weights = np.abs(keras_models.draw(ROWS, seed=5))
    with pytest.raises(tf.errors.InvalidArgumentError):
        loss(y_true, y_pred, weights)
    found = ratio(losses.term(LossPart("loss", loss, 1.0, "y", 0, None), y_true, y_pred, weights))
    expected = np.mean(np.mean(np.square(y_true - y_pred), axis=(1, 2)) * weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", MEANS)
def test_a_metric_is_the_number_that_keras_returns(name):
    metric = getattr(keras.metrics, name)()
    assert metrics.is_mean(metric)
    part = MetricPart(name, metric, "y", 0, None)
    y_true, y_pred = targets(name, ROWS, TIME), probabilities(ROWS, TIME)
    if name == "Accuracy":
        y_true, y_pred = keras_models.labels(ROWS, TIME), tf.constant(keras_models.labels(ROWS, TIME, seed=4))
    for given in (None, np.abs(keras_models.draw(ROWS, seed=5))):
        for masked in (False, True):
            if masked:
                private_apis.set_mask(y_pred, mask())
            if masked and given is not None:
                continue
            metric.reset_state()
            metric.update_state(y_true, y_pred, given)
            found = ratio(metrics.term(part, y_true, y_pred, given))
            np.testing.assert_allclose(found, float(metric.result()), rtol=1e-5, atol=1e-6)
        y_pred = tf.identity(y_pred)


def test_metrics_that_are_no_means():
    for name in ("AUC", "Precision", "F1Score", "RootMeanSquaredError", "Mean", "R2Score", "FalsePositives"):
        assert not metrics.is_mean(getattr(keras.metrics, name)()), name
