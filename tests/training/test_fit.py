"""`zoo.fit` beside `model.fit`: where there is no noise, the same losses, metrics and weights."""

import numpy as np
import pytest

import zoo
from tests.helpers import keras_models


def weights_of(model):
    return [weight.numpy() for weight in (*model.weights, *model.optimizer.variables)]


def assert_same_history(ours, keras_history, tolerance=1e-5):
    assert list(ours) == list(keras_history)
    for name, values in keras_history.items():
        np.testing.assert_allclose(ours[name], values, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", keras_models.CASES)
def test_the_same_as_keras(name):
    model, arguments = keras_models.make(name)
    history = model.fit(epochs=3, **arguments)
    other, _ = keras_models.make(name)
    ours = zoo.fit(other, epochs=3, **arguments)
    # Of training metrics that are no sums over the examples Keras has values of changing weights.
    running = {metric for metric in ("auc", "precision", "recall", "size_rmse") if metric in history.history}
    assert list(ours.history) == list(history.history)
    expected = {metric: values for metric, values in history.history.items() if metric not in running}
    assert_same_history({metric: ours.history[metric] for metric in expected}, expected)
    assert ours.epoch == history.epoch
    assert ours.params == {**history.params, "verbose": 0}
    for one, two in zip(weights_of(model), weights_of(other), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
