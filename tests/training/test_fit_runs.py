"""`zoo.fit` as a run: killed and resumed, on several devices, with an average of the weights."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from benchmarks import keras_fit
from tests.helpers import keras_models, small
from zoo.errors import BadInput, Stopped
from zoo.tensorboard import event_files

ROOT = Path(__file__).parents[2]


def fit(workdir, *arguments):
    command = [sys.executable, "-m", "tests.helpers.killed_fit", str(workdir), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_killed_and_resumed_bit_for_bit(tmp_path):
    """Killed before step 8, in the middle of the second epoch: the checkpoint is of step 6, the log of step 6."""
    whole = fit(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    killed = fit(tmp_path / "killed", "8")
    assert killed.returncode == -9
    resumed = fit(tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    expected = json.loads(whole.stdout)
    assert json.loads(resumed.stdout) == expected
    assert expected["epoch"] == [0, 1, 2, 3] and len(expected["history"]["val_accuracy"]) == 4


def test_the_folder_of_another_model(tmp_path):
    model, arguments = keras_models.make("classifier")
    zoo.fit(model, epochs=1, compile="none", workdir=tmp_path, **arguments)
    model.compile(keras.optimizers.SGD(0.5), model.loss)
    with pytest.raises(BadInput, match="belongs to another run: --compiled was SGD"):
        zoo.fit(model, epochs=1, compile="none", workdir=tmp_path, **arguments)


def test_goes_on_in_its_folder_for_more_epochs(tmp_path):
    """Also the rates of a scheduler, and the best value of a callback that keeps it."""
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.3 + 0.1 * epoch)
    whole, arguments = keras_models.make("two_outputs")
    given = {"compile": "none", **arguments}
    expected = zoo.fit(whole, epochs=4, callbacks=rates, **given)
    model, _ = keras_models.make("two_outputs")
    for epochs in (2, 4):
        kept = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
        history = zoo.fit(model, epochs=epochs, callbacks=[rates, kept], workdir=tmp_path / "run", **given)
    assert history.history == expected.history and history.epoch == [0, 1, 2, 3]
    for one, two in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    # The loss was lowest before the run was resumed.
    best = int(np.argmin(expected.history["val_loss"]))
    assert best < 2 and keras.models.load_model(tmp_path / "best.keras").optimizer.iterations == 2 * (best + 1)


def test_stopped_without_a_folder():
    model, arguments = keras_models.make("classifier")
    before = model.get_weights()
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped, match=r"^SIGINT: stopped; workdir=... would keep the run$"):
        zoo.fit(model, epochs=90, compile="none", callbacks=stop, **arguments)
    assert np.abs(model.get_weights()[0] - before[0]).max() > 0


def test_trains_again_where_it_ended():
    """The optimizer goes on, too; with accumulation, and then on two devices, whose model is a copy."""
    expected, arguments = keras_models.make("regression")
    own, _ = keras_models.make("regression")
    for flags in ({}, {"accumulate": 2}):
        expected.fit(epochs=2, **arguments)
        zoo.fit(own, epochs=2, compile="none", **arguments, **flags)
    for one, two in zip(expected.weights, own.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), atol=1e-5)
    for one, two in zip(expected.optimizer.variables, own.optimizer.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), atol=1e-5)


def test_an_average_of_the_weights():
    plain, arguments = keras_models.make("classifier")
    zoo.fit(plain, epochs=2, compile="none", **arguments)
    averaged, _ = keras_models.make("classifier")
    history = zoo.fit(averaged, epochs=2, compile="none", ema=0.9, **arguments)
    x, y = arguments["x"][20:], arguments["y"][20:]
    assert max(np.abs(a - b).max() for a, b in zip(plain.get_weights(), averaged.get_weights())) > 1e-4
    # What is evaluated and what is kept are the same weights.
    last = [history.history[f"val_{name}"][-1] for name in ("loss", "accuracy", "top2")]
    np.testing.assert_allclose(averaged.evaluate(x, y, verbose=0), last, rtol=1e-5)


TWO_DEVICES = """
import numpy as np, zoo
from zoo.engine import devices
devices.strategy("auto", 2)
from tests.helpers import keras_models, small
for name in ("two_outputs", "unbuilt"):
    one, arguments = keras_models.make(name)
    expected = one.fit(epochs=2, **arguments)
    two, _ = keras_models.make(name)
    history = zoo.fit(two, epochs=2, compile="none", cpu_devices=2, **arguments)
    for a, b in zip([*one.weights, *one.optimizer.variables], [*two.weights, *two.optimizer.variables], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5)
    np.testing.assert_allclose(history.history["loss"], expected.history["loss"], rtol=1e-5)

class Fixed(keras_models.Two):
    def __init__(self):
        super().__init__()

model = Fixed()
model.compile("sgd", "mse")
try:
    zoo.fit(model, cpu_devices=2, **arguments)
except zoo.errors.BadInput as error:
    assert "cannot be copied for several devices" in str(error) and "get_config" in str(error), error
else:
    raise AssertionError
"""


def test_two_devices_train_a_copy():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TWO_DEVICES]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_race_has_three_contenders(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["keras_fit", "--rounds=1", "--examples=256", "--epochs=3"])
    keras_fit.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["experiment", "zoo.fit", "model.fit"]
    assert "1.00 x the time" in lines[0]


def test_from_keras_in_an_experiment(tmp_path):
    """The experiment of a compiled model: a function of the config; a hook of one's own."""
    model, arguments = keras_models.make("binary")
    calls = []

    def on_log(step, metrics, writer):
        calls.append((step, sorted(metrics)))
        writer.scalar("mine", 1.5)
        writer.image("picture", np.zeros((4, 4, 3), np.uint8))

    def build(config):
        data = {name: arguments[name] for name in ("x", "y", "class_weight", "validation_data")}
        return zoo.Experiment.from_keras(model, config, **data, shuffle=False, on_log=on_log)

    result = zoo.run(build, zoo.Config(steps=4, batch_size=8, log_every=2, compile="none"), tmp_path / "run")
    expected, _ = keras_models.make("binary")
    history = expected.fit(epochs=1, **arguments)
    for name in ("loss", "accuracy", "auc", "precision", "recall", "mse"):
        np.testing.assert_allclose(result[f"eval/{name}"], history.history[f"val_{name}"][-1], rtol=1e-5)
    assert [step for step, _ in calls] == [2, 4, 4]
    assert "train/loss" in calls[0][1] and "eval/auc" in calls[2][1]
    tags = {v.tag for event in event_files.read(tmp_path / "run" / "eval") for v in event.summary.value}
    assert {"mine", "picture", "auc"} <= tags


def test_a_hook_ends_the_run(tmp_path):
    """The same command again finds it ended."""

    def on_log(step, metrics, writer):
        return step == 4 and "eval/loss" in metrics

    def build(config):
        return small.build(config)._replace(on_log=on_log)

    config = small.SmallConfig(epochs=0, steps=9, log_every=2, eval_every=2, checkpoint_every=3, compile="none")
    result = zoo.run(build, config, tmp_path / "run")
    assert result["step"] == 4 and "test/loss" in result
    assert zoo.run(build, config, tmp_path / "run") == result
