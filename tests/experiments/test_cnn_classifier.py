"""The convolutional network: on folders of images, with every augmentation on any number of devices, and afterwards."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from experiments import cnn_classifier, mlp_classifier
from experiments.cnn_classifier import CnnConfig
from experiments.mlp_classifier import MlpConfig
from tests.helpers import pictures
from zoo import randomness
from zoo.cli import main
from zoo.engine import devices
from zoo.errors import BadInput
from zoo.models import convnet, image_augmentation
from zoo.models.image_augmentation import Augmentation
from zoo.predict.evaluation.evaluate import evaluate
from zoo.training.run import make_engine, total_steps

QUIET = {"show": "none", "graph": False, "compile": "none"}
AUGMENTATIONS = {
    "flip, shift": {"flip": True, "shift": 0.2},
    "crop, cutout": {"crop": 0.3, "cutout": 0.5},
    "mixup": {"mixup": 0.5},
    "cutmix": {"cutmix": 1.0},
    "all": {
        "augment": "photos",
        "mixup": 0.4,
        "cutmix": 1.0,
        "label_smoothing": 0.1,
        "imbalance": "logit_adjusted",
        "r_drop": 1.0,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(root / "cache"))
        yield pictures.folder(root / "own", 30, shape=(9, 8, 3))


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A finished run on the folder, its images brought to another size."""
    workdir = tmp_path_factory.mktemp("run") / "run"
    config = CnnConfig(
        dataset=str(folder), image_size=(8,), width=4, epochs=0, steps=30, batch_size=16, augment="photos", **QUIET
    )
    result = zoo.run(cnn_classifier.build, config, workdir)
    return workdir, result


def test_run_on_a_folder_learns_and_its_files_tell_how_to_read_images(folder, run):
    workdir, result = run
    assert result["test/accuracy"] == 1.0
    about = json.loads((workdir / "model.json").read_text())
    assert about["resize"] == "crop" and about["classes"] == list(pictures.CLASSES)
    found = evaluate(workdir, str(folder))
    assert found["examples"] == 6 and found["accuracy"] == 1.0


def test_images_of_any_size_are_predicted(run, tmp_path, capsys):
    workdir, _ = run
    predictor = zoo.load(workdir)
    large = pictures.draw(3, (40, 60, 3), 0, 100)
    paths = [pictures.save(tmp_path / name, large) for name in ("a.png", "b.jpg", "c.JPEG")]
    for path in paths:
        examples = predictor.read(path)
        assert examples.shape == (1, 8, 8, 3) and examples.dtype == np.uint8
        assert predictor.probabilities(examples)[0].argmax() == 1
    assert main.main(["predict", str(workdir), *map(str, paths)]) == 0
    assert capsys.readouterr().out.count("dark") == 3
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    with pytest.raises(BadInput, match=r"b\.jpg cannot be read as PNG or JPEG"):
        predictor.read(paths[1])


def test_other_folder_is_evaluated_in_the_shape_of_the_model(run, tmp_path, capsys):
    workdir, _ = run
    other = pictures.folder(tmp_path / "other", 4, shape=(20, 30), suffixes=(".png",), seed=7)
    assert main.main(["evaluate", str(workdir), f"--dataset={other}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["examples"] == 8 and found["accuracy"] == 1.0
    (other / "dark").rename(other / "cat")
    with pytest.raises(BadInput, match="the class 'cat' that the model does not know"):
        evaluate(workdir, str(other))


def test_run_resumes_while_its_folder_is_the_same(folder, run, tmp_path):
    workdir, result = run
    killed = tmp_path / "killed"
    shutil.copytree(workdir, killed)
    config = CnnConfig(
        dataset=str(folder), image_size=(8,), width=4, epochs=0, steps=30, batch_size=16, augment="photos", **QUIET
    )
    assert zoo.run(cnn_classifier.build, config, killed)["test/loss"] == result["test/loss"]
    with pytest.raises(BadInput, match="--resize was crop, is stretch"):
        zoo.run(cnn_classifier.build, config.replace(resize="stretch"), killed)


def test_perceptron_reads_folders_too(folder, tmp_path):
    config = MlpConfig(dataset=str(folder), hidden=(8,), epochs=0, steps=100, learning_rate=0.01, **QUIET)
    assert zoo.run(mlp_classifier.build, config, tmp_path / "run")["test/accuracy"] > 0.9
    assert zoo.load(tmp_path / "run").resize == "crop"


def trained(config, replicas=1, steps=2):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = cnn_classifier.build(config)
    engine = make_engine(strategy, experiment.config, experiment, total_steps(experiment.config, experiment))
    engine.train(experiment.train, 0, steps)
    return engine.state()


def small(folder, **flags):
    """48 training examples in batches of 32: the second one is short."""
    return CnnConfig(
        dataset=str(folder), width=2, dropout=0.1, epochs=0, steps=2, batch_size=32, batch_norm_group=8,
        optimizer="sgd", learning_rate=0.1, schedule="constant", compile="none", **flags,
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(folder):
    tf.config.list_logical_devices()
    return trained(small(folder))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_devices_and_micro_batches_end_with_the_same_weights(folder, plain, name):
    config = small(folder, **AUGMENTATIONS[name])
    whole, cut = trained(config), trained(config.replace(accumulate=2), replicas=2)
    assert all(np.allclose(value, cut[key], rtol=1e-3, atol=1e-4) for key, value in whole.items())
    assert any(not np.allclose(value, plain[key], rtol=1e-3, atol=1e-4) for key, value in whole.items())


def augmented(x, weights=None, first=0, **changes):
    with randomness.scope(0, tf.constant(3), tf.constant(first), tf.ones([len(x)]), split=True):
        return image_augmentation.augment(tf.constant(x), Augmentation(**changes), weights)


def test_what_augmentations_do():
    x = pictures.draw(0, (32, 8, 8))
    assert augmented(x).x.numpy() is not None and np.array_equal(augmented(x).x, x)
    flipped = augmented(x, flip=True).x.numpy()
    is_flipped = (flipped == x[:, :, ::-1]).all(axis=(1, 2))
    assert ((flipped == x).all(axis=(1, 2)) ^ is_flipped).all() and 8 < is_flipped.sum() < 24
    shifted = augmented(x, shift=0.25).x.numpy()
    # Whole pixels: the middle is found again, at most two places away.
    for before, after in zip(x, shifted):
        places = [before[i : i + 4, j : j + 4] for i in range(5) for j in range(5)]
        assert any(np.array_equal(after[2:6, 2:6], place) for place in places)
    constant = np.full((32, 8, 8, 3), 77, np.uint8)
    assert np.array_equal(augmented(constant, crop=0.2, shift=0.3, flip=True, cutout=0.4).x, constant)
    ramp = np.broadcast_to(np.arange(0, 256, 8, dtype=np.uint8), (32, 32, 32))
    cropped = augmented(ramp, crop=0.25).x.numpy().astype(int)
    assert (np.diff(cropped, axis=2) >= 0).all() and (cropped[:, 0, -1] - cropped[:, 0, 0] < 240).mean() > 0.5
    cut = augmented(x, cutout=0.5).x.numpy()
    assert 5 < (cut != x).any(axis=(1, 2)).sum() < 24
    floats = augmented(x.astype(np.float32) / 7, mixup=1.0).x
    assert floats.dtype == tf.float32


@pytest.mark.parametrize("changes", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}])
def test_mixtures_are_of_neighbouring_rows_by_their_shares(changes):
    values = np.arange(16, dtype=np.float32) ** 2
    x = np.ones((16, 30, 30, 1), np.float32) * values[:, None, None, None]
    mixed = augmented(x, **changes)
    share, partner = mixed.share.numpy(), mixed.partner.numpy()
    assert np.array_equal(partner, np.arange(16) ^ 1)
    expected = share * values + (1 - share) * values[partner]
    assert np.allclose(mixed.x.numpy().mean(axis=(1, 2, 3)), expected, atol=1e-3)
    assert (share < 0.99).any() and len(np.unique(share)) > 8
    # Rows of weight 0 reach no other.
    weights = tf.constant([1.0, 0.0] * 8)
    assert (augmented(x, weights, **changes).share.numpy()[::2] == 1).all()
    halves = [augmented(x[first : first + 8], first=first, **changes).x for first in (0, 8)]
    assert np.array_equal(np.concatenate(halves), mixed.x)
    with pytest.raises(BadInput, match="slices of 3 rows"):
        augmented(x[:3], **changes)


@pytest.mark.parametrize("shape", [(8, 8), (9, 7, 3), (70, 70, 1), (130, 130, 3)])
def test_residual_network_takes_images_of_any_size(shape):
    model = convnet.residual_network(shape, 5, 4, 1, dtype="uint8", preprocessing=keras.layers.Rescaling(1 / 255))
    assert model(np.zeros((2, *shape), np.uint8)).shape == (2, 5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(32, 32), (40, 32, 3)])
def test_network_of_keras_applications_is_saved_and_loaded(tmp_path, shape):
    model = convnet.application("MobileNetV2", shape, 3, dropout=0.1)
    model.save(tmp_path / "model.keras")
    x = pictures.draw(0, (2, *shape))
    again = keras.models.load_model(tmp_path / "model.keras")
    assert np.allclose(model(x, training=False), again(x, training=False), atol=1e-5)


def test_errors(folder, tmp_path):
    for flags, message in (
        ({"network": "MobileNetV9"}, "did you mean MobileNetV"),
        ({"network": "InceptionV3"}, "cannot be made for images of 9 x 8"),
        ({"network": "MobileNetV2", "width": 8}, "--width is 8: --network=MobileNetV2 has its own"),
        ({"weights": "imagenet"}, "set --network as well"),
    ):
        with pytest.raises(BadInput, match=message):
            cnn_classifier.build(CnnConfig(dataset=str(folder), **flags))
    (tmp_path / "table.csv").write_text("a,label\n" + "".join(f"{i}.5,{'xy'[i % 2]}\n" for i in range(40)))
    with pytest.raises(BadInput, match="takes tables"):
        cnn_classifier.build(CnnConfig(dataset=str(tmp_path / "table.csv")))
    # What the run says of a file that has another name than its content.
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif")
    with pytest.raises(BadInput, match="is no folder of images"):
        cnn_classifier.build(CnnConfig(dataset=str(folder), test_file=str(tmp_path / "a.gif")))
