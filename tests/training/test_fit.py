"""`zoo.fit` beside `model.fit`: where there is no noise, the same losses, metrics and weights."""

import re
from pathlib import Path

import keras
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
    # XLA takes seconds to compile.
    ours = zoo.fit(other, epochs=3, compile="auto" if name == "classifier" else "none", **arguments)
    # Of training metrics that are no sums over the examples Keras has values of changing weights.
    running = {metric for metric in ("auc", "precision", "recall", "size_rmse") if metric in history.history}
    assert list(ours.history) == list(history.history)
    expected = {metric: values for metric, values in history.history.items() if metric not in running}
    assert_same_history({metric: ours.history[metric] for metric in expected}, expected)
    assert ours.epoch == history.epoch
    assert ours.params == {**history.params, "verbose": 0}
    for one, two in zip(weights_of(model), weights_of(other), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_the_batch_size_does_not_change_the_loss():
    """The short last batch counts by its examples; in Keras, too."""
    losses = []
    for size in (4, 29):
        model, arguments = keras_models.make("timesteps")
        model.optimizer.learning_rate = 0.0
        losses += zoo.fit(model, epochs=1, compile="none", **{**arguments, "batch_size": size}).history["loss"]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_batch_normalisation_of_whole_batches_is_keras_own():
    """In the same order of the rows: weights, moving statistics, and the validation that these decide.

    After few steps the moving statistics (momentum 0.99) are still near their first values 0 and 1, in both.
    """
    draw = np.random.default_rng(0)
    x, y = draw.normal(2.0, 3.0, (55, 6, 6, 1)).astype(np.float32), draw.integers(0, 3, 55)

    def compiled():
        keras.utils.set_random_seed(0)
        norms = [keras.layers.BatchNormalization() for _ in range(2)]
        body = [keras.layers.Conv2D(4, 3), norms[0], keras.layers.ReLU(), keras.layers.Flatten(), norms[1]]
        model = keras.Sequential([keras.Input((6, 6, 1)), *body, keras.layers.Dense(3)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"])
        return model

    # Batches of 24 and a last one of 7.
    arguments = {"batch_size": 24, "epochs": 3, "shuffle": False, "validation_data": (x, y), "verbose": 0}
    model, ours, grouped = compiled(), compiled(), compiled()
    history = model.fit(x, y, **arguments)
    found = zoo.fit(ours, x, y, batch_norm_group=24, compile="none", **arguments)
    assert_same_history(found.history, history.history)
    for one, two in zip(model.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    # Groups are other statistics, so this comparison can fail.
    zoo.fit(grouped, x, y, batch_norm_group=8, compile="none", **arguments)
    differences = [np.abs(one - two).max() for one, two in zip(model.get_weights(), grouped.get_weights(), strict=True)]
    assert max(differences) > 1e-3


def test_the_losses_of_outputs_are_means_over_the_examples():
    """Keras shows the mean of the batches' means, in which an example of a short batch counts for more."""
    model, arguments = keras_models.make("two_outputs")
    model.optimizer.learning_rate = 0.0
    rows = {"x": arguments["x"], "y": arguments["y"]}
    history = zoo.fit(model, epochs=1, compile="none", batch_size=16, verbose=0, **rows).history
    expected = model.evaluate(*rows.values(), batch_size=24, verbose=0, return_dict=True)
    for name in ("loss", "size_loss", "kind_loss", "kind_accuracy", "size_mse", "size_rmse"):
        np.testing.assert_allclose(history[name], [expected[name]], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["activities", "two_outputs", "classifier"])
def test_the_terminal_shows_the_loss_of_the_history(name, capsys):
    """With the losses that layers add and the penalties, in training as in an evaluation."""
    model, arguments = keras_models.make(name)
    if name == "classifier":
        body = keras.layers.Dense(7, "tanh", kernel_regularizer="l2", activity_regularizer="l1")
        model = keras_models.sequential(body, bias_regularizer="l1")
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    # What is evaluated is what was trained on.
    model.optimizer.learning_rate = 0.0
    rows = arguments["x"], arguments["y"]
    history = zoo.fit(model, *rows, validation_data=rows, compile="none").history
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    shown = {line.split()[2]: float(re.search(r" loss ([\d.]+)", line)[1]) for line in lines}
    assert shown.keys() >= {"train:", "eval:"}
    for loss in (*shown.values(), *history["loss"], *history["val_loss"]):
        np.testing.assert_allclose(
            loss, model.evaluate(*rows, verbose=0, batch_size=29, return_dict=True)["loss"], 1e-3
        )


def test_metrics_of_the_whole_set():
    """A function that returns one number for all examples, and a metric of several numbers."""

    def spread(y_true, y_pred):
        return keras.ops.std(y_pred)

    def compiled():
        model, arguments = keras_models.make("mean_with_sample_weight")
        f1 = keras.metrics.F1Score(name="f1")
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy", metrics=[spread, f1])
        return model, {"x": arguments["x"], "y": arguments["y"]}

    model, data = compiled()
    validation = tuple(data.values())
    history = zoo.fit(model, **data, validation_data=validation, epochs=2, compile="none", verbose=0, batch_size=8)
    # One batch: of a function Keras shows the mean over the batches.
    expected = model.evaluate(*validation, batch_size=29, verbose=0, return_dict=True)
    assert list(history.history)[:5] == ["f1_0", "f1_1", "f1_2", "loss", "spread"]
    for prefix in ("", "val_"):
        found = [history.history[f"{prefix}f1_{number}"][-1] for number in range(3)]
        np.testing.assert_allclose(found, expected["f1"], rtol=1e-5)
        np.testing.assert_allclose(history.history[f"{prefix}spread"][-1], expected["spread"], rtol=1e-5)


def test_the_page_names_tests_that_exist():
    root = Path(__file__).parents[2]
    page, tests = (root / "docs" / "fit.md").read_text(), root / "tests" / "training"
    rows = [line.split("|") for line in page.split("## Callbacks")[0].splitlines() if line.startswith("| ")][1:]
    sources = "".join(path.read_text() for path in tests.glob("test_fit*.py"))
    assert len(rows) > 30 and all(re.match(r" (same|better|different)\b", row[2]) for row in rows)
    for row in rows:
        for name in re.findall(r"`([\w/.]+)`", row[3]):
            is_file = (root / name).exists() or (tests / name).exists()
            assert is_file or name in keras_models.CASES or f"def {name}(" in sources, name
