"""Keras callbacks in `zoo.fit`: those that watch see what Keras shows them, those that steer are flags or refused."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.helpers import keras_models
from zoo.errors import BadInput
from zoo.keras_task import sources, task
from zoo.training import fit_callbacks

# XLA would take seconds to compile.
FITS = (lambda model, **given: model.fit(**given), functools.partial(zoo.fit, compile="none"))


class Recorder(keras.callbacks.Callback):
    """Records the calls with the keys of their logs, and the sum of the weights at the end of an epoch."""

    def __init__(self):
        super().__init__()
        self.calls, self.sums = [], []

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("epoch", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch", batch, sorted(logs)))

    def on_test_end(self, logs=None):
        self.calls.append(("test", sorted(logs)))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("end", epoch, list(logs)))
        self.sums.append([float(np.sum(weight)) for weight in self.model.get_weights()])

    def on_train_end(self, logs=None):
        self.calls.append(("done", list(logs)))


def append(lines, epoch, logs):
    lines.append(epoch)


class StopAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == self.epoch


def test_watchers_see_what_keras_shows_them(tmp_path):
    """Also CSVLogger, LambdaCallback, ModelCheckpoint's files, and a callback that ends the run."""
    seen = []
    for fit in FITS:
        model, arguments = keras_models.make("classifier")
        recorder, folder = Recorder(), tmp_path / f"run{len(seen)}"
        folder.mkdir()
        callbacks = [
            recorder,
            keras.callbacks.CSVLogger(folder / "log.csv"),
            keras.callbacks.LambdaCallback(on_epoch_end=functools.partial(append, lines := [])),
            keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras", save_best_only=True, monitor="val_accuracy"),
            StopAt(2),
        ]
        history = fit(model, epochs=6, callbacks=callbacks, **arguments)
        rows = np.genfromtxt(folder / "log.csv", delimiter=",", names=True)
        seen.append((recorder, sorted(path.name for path in folder.iterdir()), rows, lines, history.history))
        assert model.history is history and history.epoch == [0, 1, 2]
    (keras_recorder, keras_files, keras_rows, *keras_rest), (recorder, files, rows, *rest) = seen
    # The batches at the pace of the log: here the last of each epoch.
    assert recorder.calls == [each for each in keras_recorder.calls if each[0] != "batch" or each[1] == 2]
    np.testing.assert_allclose(recorder.sums, keras_recorder.sums, atol=1e-5)
    assert files == keras_files and rows.dtype == keras_rows.dtype and len(files) > 1
    np.testing.assert_allclose(rows["val_loss"], keras_rows["val_loss"], rtol=1e-5)
    assert rest[0] == keras_rest[0] == [0, 1, 2]
    saved = keras.models.load_model(tmp_path / "run1" / files[0])
    assert saved.optimizer.iterations.numpy() == 3 * int(files[0][0])


def test_the_last_epoch_is_evaluated_and_ends_once():
    """In `fit`, an epoch without validation ends without; here the run ends with an evaluation."""
    ends = []
    for fit in FITS:
        model, arguments = keras_models.make("nested")
        recorder = Recorder()
        fit(model, epochs=3, callbacks=recorder, **arguments)
        ends.append([each for each in recorder.calls if each[0] in ("end", "test", "done", "epoch")])
    assert ends[0] == ends[1]


def test_batches_at_the_pace_of_the_log():
    model, arguments = keras_models.make("classifier")
    recorder = Recorder()
    history = zoo.fit(model, epochs=2, callbacks=recorder, log_every=1, compile="none", **arguments)
    assert [each[1] for each in recorder.calls if each[0] == "batch"] == [0, 1, 2, 0, 1, 2]
    other, _ = keras_models.make("classifier")
    expected = other.fit(epochs=2, **arguments)
    for name, values in expected.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-5)


@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping_is_keras_own(restore):
    ends = []
    for fit in FITS:
        model, arguments = keras_models.make("two_outputs")
        stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=restore)
        history = fit(model, epochs=30, callbacks=[stopping], **arguments)
        ends.append((history.epoch, stopping.best_epoch, stopping.stopped_epoch, stopping.best, model.get_weights()))
    keras_end, end = ends
    assert end[:3] == keras_end[:3] and 0 < end[1] < end[2] < 29
    np.testing.assert_allclose(end[3], keras_end[3], rtol=1e-4)
    for one, two in zip(end[4], keras_end[4], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_learning_rate_scheduler_is_a_schedule():
    def rate(epoch, before):
        return before if epoch < 1 else before * 0.3

    ends = []
    for fit in FITS:
        model, arguments = keras_models.make("classifier")
        history = fit(model, epochs=3, callbacks=[keras.callbacks.LearningRateScheduler(rate)], **arguments)
        ends.append((history.history, model.get_weights()))
    assert list(ends[0][0]) == list(ends[1][0])
    np.testing.assert_allclose(ends[1][0]["learning_rate"], ends[0][0]["learning_rate"], rtol=1e-6)
    for one, two in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_plateau_lowers_the_rate_where_keras_would():
    ends = []
    for fit in FITS:
        model, arguments = keras_models.make("classifier")
        # Only a change of 0.05 counts: the rate is lowered in most epochs, down to the bound.
        plateau = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, min_delta=0.05, cooldown=1, min_lr=3e-4)
        history = fit(model, epochs=8, callbacks=[plateau], **arguments)
        ends.append((history.history, model.get_weights(), float(model.optimizer.learning_rate)))
    (keras_logs, keras_weights, keras_rate), (logs, weights, rate) = ends
    assert list(keras_logs) == list(logs) and len(set(keras_logs["learning_rate"])) > 2
    np.testing.assert_allclose(logs["learning_rate"], keras_logs["learning_rate"], rtol=1e-6)
    assert rate == pytest.approx(keras_rate, rel=1e-6)
    for one, two in zip(keras_weights, weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


class Saves(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1 / (1.0 + tf.cast(step, tf.float32))


REFUSED = {
    "plateau": (keras.callbacks.ReduceLROnPlateau("loss"), r"ReduceLROnPlateau\(monitor='loss'\).*a monitor 'val_"),
    "backup": (keras.callbacks.BackupAndRestore("/nowhere"), "BackupAndRestore .*give workdir="),
    "board": (keras.callbacks.TensorBoard("/nowhere"), "TensorBoard is always on: give workdir="),
    "average": (keras.callbacks.SwapEMAWeights(), "SwapEMAWeights .*use ema=0.999"),
    "batches": (
        keras.callbacks.ModelCheckpoint("x.keras", save_freq=7),
        r"ModelCheckpoint\(save_freq=7\) counts batches",
    ),
    "training": (keras.callbacks.EarlyStopping("loss"), r"EarlyStopping\(monitor='loss'\).*expected a monitor 'val_"),
    "delta": (keras.callbacks.EarlyStopping(min_delta=0.1), r"EarlyStopping\(min_delta=...\) has no flag"),
    "baseline": (keras.callbacks.EarlyStopping(baseline=0.1), r"EarlyStopping\(baseline=...\) has no flag"),
    "unknown": (keras.callbacks.EarlyStopping("val_f1"), "whether more is better is unknown.*the model has loss, acc"),
    "no callback": (print, "callbacks has a builtin_function_or_method: expected keras.callbacks.Callback"),
    "rate": (keras.callbacks.LearningRateScheduler(lambda epoch: 1), "returned 1 for epoch 0; expected a float"),
}


@pytest.fixture(scope="module")
def classifier():
    model, arguments = keras_models.make("classifier")
    return model, task.make(model, sources.read(arguments["x"], arguments["y"]))


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_engine_would_not_repeat_is_refused(name, classifier):
    callback, said = REFUSED[name]
    with pytest.raises(BadInput, match=said) as error:
        fit_callbacks.sort(classifier[0], [callback], classifier[1], has_validation=True, epochs=range(2))
    assert "\n" not in str(error.value)


def test_needs_validation_data(classifier):
    stopping = keras.callbacks.EarlyStopping()
    with pytest.raises(BadInput, match=r"expected a monitor 'val_...', and validation_data"):
        fit_callbacks.sort(classifier[0], stopping, classifier[1], has_validation=False, epochs=range(2))


def test_a_schedule_and_a_scheduler(classifier):
    model, _ = keras_models.make("classifier")
    model.compile(keras.optimizers.SGD(Saves()), "mse")
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    with pytest.raises(BadInput, match="the optimizer has a schedule already"):
        fit_callbacks.sort(model, scheduler, classifier[1], has_validation=True, epochs=range(2))
