"""MNIST-C and CIFAR-10-C: their folders, what is wrong with them, the yardstick that reads them, and its cost."""

import json
import sys

import numpy as np
import pytest

from benchmarks.multi_step import cost, public
from tests.helpers.digits import run, unseen
from zoo.cli import main
from zoo.data.datasets import corruption_benchmarks
from zoo.data.datasets.corruption_benchmarks import MNIST_CORRUPTIONS, for_shape, labelled_file, load
from zoo.data.datasets.image_corruptions import corrupted
from zoo.errors import BadInput


@pytest.fixture(scope="module")
def digits():
    x, y = unseen()
    return x[:60], y[:60]


@pytest.fixture(scope="module")
def cifar_c(tmp_path_factory, digits):
    """A folder in the form of CIFAR-10-C, of grey digits: two corruptions in five severities."""
    folder, (x, y) = tmp_path_factory.mktemp("made") / "CIFAR-10-C", digits
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(y, 5).astype(np.int64))
    for name in ("noise", "rotation"):
        np.save(folder / f"{name}.npy", np.concatenate([corrupted(x, name, each) for each in range(1, 6)])[..., None])
    return folder


@pytest.fixture(scope="module")
def mnist_c(tmp_path_factory, digits):
    """A folder in the form of MNIST-C as it is unpacked."""
    folder, (x, y) = tmp_path_factory.mktemp("zenodo") / "mnist_c", digits
    for name in ("identity", "fog"):
        (folder / name).mkdir(parents=True)
        for part in ("train", "test"):
            images = x if name == "identity" else corrupted(x, name, 3)
            np.save(folder / name / f"{part}_images.npy", images[..., None])
            np.save(folder / name / f"{part}_labels.npy", y.astype(np.int64))
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return run(tmp_path_factory.mktemp("run") / "tiny", hidden=(32,), steps=60)


def test_cifar_c_has_five_severities_one_after_the_other(cifar_c, digits):
    parts = list(load(str(cifar_c)))
    assert [part[:2] for part in parts] == [(name, each) for name in ("noise", "rotation") for each in range(1, 6)]
    for part in parts:
        assert isinstance(part.images, np.memmap)
        np.testing.assert_array_equal(part.labels, digits[1])
        np.testing.assert_array_equal(part.images[..., 0], corrupted(digits[0], part.corruption, part.severity))


def test_mnist_c_is_read_from_its_folder_and_from_tfds(mnist_c, digits, tmp_path, monkeypatch):
    by_folder = {part.corruption: part for part in load(str(mnist_c))}
    assert list(by_folder) == ["fog", "identity"] and {part.severity for part in by_folder.values()} == {0}
    import tensorflow_datasets as tfds

    # TFDS prepares what it would have downloaded.
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda *_: str(mnist_c.parent))
    make = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: make(name, data_dir=tmp_path))
    monkeypatch.setattr(corruption_benchmarks, "MNIST_CORRUPTIONS", ("identity", "fog"))
    for name in ("identity", "fog"):
        tfds.builder(f"mnist_corrupted/{name}").download_and_prepare()
    for part in load("mnist_corrupted"):
        own = by_folder[part.corruption]
        # TFDS shuffles, the same way each time.
        pairs = [sorted(map(repr, zip(each.images.tolist(), each.labels.tolist()))) for each in (part, own)]
        assert pairs[0] == pairs[1] and part.labels.dtype == np.int32


def test_what_tfds_lacks_is_said_in_one_line(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    make = tfds.builder
    assert set(make("mnist_corrupted/identity", data_dir=tmp_path).builder_configs) == set(MNIST_CORRUPTIONS)
    monkeypatch.setattr(tfds, "builder", lambda name: make(name, data_dir=tmp_path))
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(BadInput, match=r"mnist_corrupted/identity is not prepared .*files from Zenodo") as error:
        next(load("mnist_corrupted"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither labels.npy beside NAME.npy"),
        ({"labels": np.zeros(10, int)}, "no other .npy file"),
        ({"labels": np.zeros(7, int), "fog": np.zeros((7, 4, 4), np.uint8)}, "same images five times"),
        ({"labels": np.arange(10), "fog": np.zeros((10, 4, 4), np.uint8)}, "same images five times"),
        ({"labels": np.zeros(10), "fog": np.zeros((10, 4, 4), np.uint8)}, "whole numbers from 0"),
        ({"labels": np.zeros(10, int), "fog": np.zeros((10, 4, 4))}, r"has float64 \[10, 4, 4\]: expected uint8"),
        ({"labels": np.zeros(10, int), "fog": np.zeros((9, 4, 4), np.uint8)}, "an image for each label"),
        ({"labels": np.zeros(10, int), "fog": None}, "fog.npy cannot be read"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, files, message):
    for name, values in files.items():
        if values is None:
            (tmp_path / f"{name}.npy").write_bytes(b"\x93NUMPY torn")
        else:
            np.save(tmp_path / f"{name}.npy", values)
    with pytest.raises(BadInput, match=message) as error:
        list(load(str(tmp_path)))
    assert "\n" not in str(error.value)


def test_unknown_names_missing_labels_and_other_sizes_are_refused(cifar_c, tmp_path):
    with pytest.raises(BadInput, match="did you mean mnist_corrupted"):
        load("mnist_corupted")
    np.save(tmp_path / "fog.npy", np.zeros((5, 4, 4), np.uint8))
    with pytest.raises(BadInput, match=r"fog.npy has no labels: expected them in labels.npy"):
        labelled_file(tmp_path / "fog.npy")
    with pytest.raises(BadInput, match=r"has images \[32, 32, 3\], the model takes \[28, 28\]"):
        for_shape(np.zeros((2, 32, 32, 3), np.uint8), (28, 28), "CIFAR-10-C")


def test_the_commands_take_a_file_of_either(workdir, cifar_c, mnist_c, digits, tmp_path, capsys):
    for file, images, labels in (
        (cifar_c / "noise.npy", np.concatenate([corrupted(digits[0], "noise", each) for each in range(1, 6)]), 5),
        (mnist_c / "fog" / "test_images.npy", corrupted(digits[0], "fog", 3), 1),
    ):
        # As if it were an array without an axis of channels.
        np.save(tmp_path / "plain.npy", images)
        answers = []
        for path in (file, tmp_path / "plain.npy"):
            assert main.main(["predict", str(workdir), str(path)]) == 0
            answers.append([line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()])
        assert answers[0] == answers[1] and len(answers[0]) == len(images)
        assert main.main(["evaluate", str(workdir), f"--dataset={file}", "--json"]) == 0
        right = np.mean([row[0] == str(label) for row, label in zip(answers[0], np.tile(digits[1], labels))])
        metrics = json.loads(capsys.readouterr().out)
        assert metrics["examples"] == len(images) and metrics["accuracy"] == pytest.approx(right)


def test_the_yardstick_writes_a_table(workdir, cifar_c, tmp_path, monkeypatch, capsys):
    arguments = ["public", str(tmp_path), str(workdir), f"--dataset={cifar_c}", "--examples=20"]
    monkeypatch.setattr(sys, "argv", arguments)
    public.main()
    text = (tmp_path / "section-public-CIFAR-10-C.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 10 + 1 and rows[1].startswith("| noise | 1 |") and rows[-1].startswith("| **mean** |")
    assert {row.count("|") for row in rows} == {9} and "20 images" in text
    # Measured once: the figures of a run are kept.
    monkeypatch.setattr(public, "measured", None)
    public.main()
    assert capsys.readouterr().out.count("**mean**") == 2


def test_the_cost_of_a_plan_stands_beside_plain_prediction(workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cost, "_EXAMPLES", {200: 20, 1: 3})
    monkeypatch.setattr(sys, "argv", ["cost", str(tmp_path), str(workdir), "--plans=output", "--streams=clean"])
    cost.main()
    text = (tmp_path / "section-cost.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == "| run | stream | batch | plain | output |" and len(rows) == 4
    assert rows[1].startswith("| tiny, compiled | clean | 200 |") and rows[2].endswith("times |")
    assert rows[3].startswith("| tiny, litert | clean | 1 |")
    cells = [cell for path in tmp_path.glob("cost-*.json") for cell in json.loads(path.read_text())]
    assert [len(cell["wall"]["plain"]) for cell in cells] == [5, 5, 5]
    assert all(value > 0 for cell in cells for times in cell["processor"].values() for value in times)
    assert capsys.readouterr().out.endswith(text + "\n")
