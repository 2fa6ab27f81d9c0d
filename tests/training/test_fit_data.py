"""What `zoo.fit` reads: arrays, tables, datasets; all become the same columns, and the same run."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.helpers import keras_models
from zoo import memory
from zoo.errors import BadInput
from zoo.keras_task import columns, sources

ROOT = Path(__file__).parents[2]
X, Y, WEIGHT = keras_models.draw(29, 5), keras_models.labels(29), np.abs(keras_models.draw(29, seed=4))


class Batched(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = slice(8 * index, 8 * index + 8)
        return X[rows], Y[rows], WEIGHT[rows]


class Shuffled(Batched):
    def on_epoch_end(self):
        raise AssertionError("the engine shuffles")


def batches():
    return tf.data.Dataset.from_tensor_slices((X, Y, WEIGHT)).batch(8)


def assert_same(examples):
    for one, two in zip(examples[:3], (X, Y, WEIGHT), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dataset", [batches, Batched, lambda: batches().prefetch(2)])
def test_datasets_are_read_once(dataset):
    examples = sources.read(dataset())
    assert_same(examples)
    assert (examples.batch_size, examples.notes) == (8, ())


def test_grain():
    grain = pytest.importorskip("grain", reason="Grain is not installed (the extra `grain`)")

    class Rows:
        def __len__(self):
            return 29

        def __getitem__(self, row):
            return X[row], Y[row], WEIGHT[row]

    rows = grain.MapDataset.source(Rows())
    assert_same(sources.read(rows.batch(8)))
    with pytest.raises(BadInput, match=r"x has batches of ndarray \(5,\), int64 \(\), .*: expected .* x.batch\(32\)"):
        sources.read(rows)
    with pytest.raises(BadInput, match="x is a Grain IterDataset: expected the MapDataset"):
        sources.read(rows.batch(8).to_iter_dataset())
    with pytest.raises(BadInput, match="x is an endless dataset"):
        sources.read(rows.batch(8).repeat())
    runs = []
    for x in (rows.batch(8), batches()):
        model, _ = keras_models.make("classifier")
        zoo.fit(model, x, epochs=2, compile="none", verbose=0)
        runs.append(model.get_weights())
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_a_reader_should_know_of_a_dataset():
    assert "Shuffled.on_epoch_end is not called" in sources.read(Shuffled()).notes[0]
    repeated = sources.read(batches().repeat(2))
    assert repeated.count == 58 and "batches of 5 to 8 examples: cut into batches of 8" in repeated.notes[0]
    assert sources.read(batches().repeat(), steps=3).count == 24


def test_arrays_of_all_kinds():
    nested = {"b": [X.astype(np.float64), tf.constant(X)], "a": X.astype(np.float16)}
    examples = sources.read(nested, Y.astype(np.int8))
    assert {name: column.dtype.name for name, column in columns.columns(examples).items()} == {
        "x/a": "float16",
        "x/b/0": "float32",
        "x/b/1": "float32",
        "y": "int8",
    }
    batch = columns.columns(examples)
    rebuilt = columns.layout(examples).inputs(batch)
    assert rebuilt["a"] is batch["x/a"] and rebuilt["b"][1] is batch["x/b/1"]
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame(X)
    examples = sources.read(table, table[0])
    assert examples.x.shape == (29, 5) and examples.y.shape == (29, 1)


def test_files_stay_on_the_disk(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(sources.read(mapped, Y).x, np.memmap)
    runs = []
    for x in (X, mapped):
        model, arguments = keras_models.make("classifier")
        zoo.fit(model, epochs=2, compile="none", **{**arguments, "x": x})
        runs.append(model.get_weights())
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_large_dataset_trains_as_a_small_one(monkeypatch, tmp_path, capsys):
    """In files, and read by a validation with metrics of the whole set; a run goes on with more memory than before."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    runs = {}
    for free in (10**9, 100):
        monkeypatch.setattr(memory, "available", lambda free=free: free)
        model, arguments = keras_models.make("binary")
        x, y = arguments["x"], arguments["y"]
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        given = {"validation_data": data, "class_weight": arguments["class_weight"], "compile": "none"}
        history = zoo.fit(model, data, epochs=3, workdir=tmp_path / str(free), **given)
        assert ("x takes 812 B, more than 1/8" in capsys.readouterr().err) == (free == 100)
        runs[free] = model.get_weights(), history.history
    for one, two in zip(runs[100][0], runs[10**9][0], strict=True):
        np.testing.assert_array_equal(one, two)
    assert runs[100][1] == runs[10**9][1]
    # The data are the same: the run has ended.
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    model, _ = keras_models.make("binary")
    assert zoo.fit(model, data, epochs=3, workdir=tmp_path / "100", **given).history == runs[100][1]


def test_memory_stays_flat():
    """A GB that would take four in memory, in a process of its own; its files are gone at the end."""
    command = [sys.executable, "-m", "benchmarks.fit_memory", "--gigabytes=1", "--free=0.4", "--epochs=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["growth_mb"] < 700 and figures["left_over"] == 0


def test_class_weights():
    one_hot = np.eye(3, dtype=np.float32)[Y]
    expected = np.where(Y == 2, 5.0, np.where(Y == 0, 0.5, 1.0))
    for y in (Y, Y[:, None], one_hot, Y.astype(np.float32)):
        weighed = sources.weigh_classes(sources.read(X, y), {0: 0.5, 2: 5.0, 7: 9.0})
        np.testing.assert_allclose(weighed.sample_weight, expected)


def test_a_dataset_trains_as_arrays_do():
    """Also with steps_per_epoch and validation_steps, as with `model.fit`."""
    keras_model, _ = keras_models.make("classifier")
    own, _ = keras_models.make("classifier")
    given = {"epochs": 3, "steps_per_epoch": 2, "validation_data": batches(), "validation_steps": 1, "verbose": 0}
    expected = keras_model.fit(batches().take(2).repeat(), shuffle=False, **given)
    history = zoo.fit(own, batches().repeat(), shuffle=False, compile="none", **given)
    for name, values in expected.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-5)
    for one, two in zip(keras_model.get_weights(), own.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_shuffling_is_a_function_of_the_seed():
    runs = []
    for seed in (0, 0, 1):
        model, arguments = keras_models.make("classifier")
        zoo.fit(model, epochs=1, seed=seed, compile="none", **{**arguments, "shuffle": True})
        runs.append(model.get_weights())
    for one, two, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)
        assert np.abs(one - other).max() > 0
