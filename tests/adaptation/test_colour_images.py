"""Prediction in several steps with a convolutional network on colour images: statistics, poses, and the export."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import zoo
from experiments import cnn_classifier
from experiments.cnn_classifier import CnnConfig
from tests.helpers.digits import batches, bright, error
from zoo.adaptation import plans
from zoo.adaptation.refiner import refine
from zoo.adaptation.stages import normalization
from zoo.adaptation.stages.statistics import BatchStatistics
from zoo.cli import main
from zoo.data.datasets.image_corruptions import corrupted
from zoo.errors import BadInput
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import loading
from zoo.predict.predictors.cloning import copied


def tinted(x, seed):
    """Grey digits in random colours, uint8 `[examples, 8, 8, 3]`."""
    tint = np.random.default_rng(seed).uniform(0.3, 1.0, (len(x), 1, 1, 3))
    return np.rint(x[..., None] * tint).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that reads colour digits, what it knows of its source, and 400 digits that it has not seen."""
    folder = tmp_path_factory.mktemp("colour")
    x, y = load_digits(return_X_y=True)
    x = tinted(x.reshape(-1, 8, 8) * 15, 0)
    np.savez(folder / "digits.npz", x=x[400:], y=y[400:])
    config = CnnConfig(
        dataset=str(folder / "digits.npz"), width=8, epochs=0, steps=150, batch_size=64, learning_rate=0.01,
        show="none", graph=False,
    )  # fmt: skip
    zoo.run(cnn_classifier.build, config, folder / "run")
    found = loading.load(folder / "run")
    return folder / "run", found, held_out.load(folder / "run", found), (x[:400], y[:400])


def plain_error(found, x, y):
    return float((found.logits(x).argmax(axis=1) != y).mean())


def test_statistics_of_convolutions_are_those_of_numpy(trained):
    _, found, known, (x, _) = trained
    copy = copied(found)
    fit = normalization.NormalizationFit(copy, known.examples, known.labels)
    shares = np.bincount(known.labels, minlength=10) / len(known.labels)
    shifted = bright(x)
    fit.set(shifted, shares)
    first = fit.layers[0]
    inputs = keras.Model(found.model.inputs, found.model.get_layer(first.name).input)
    # Weighed by their classes' own shares, all examples of the validation split count once.
    source, present = (inputs.predict(part, verbose=0).astype(np.float64) for part in (known.examples, shifted))
    scale = present.std((0, 1, 2)) / source.std((0, 1, 2))
    offset = present.mean((0, 1, 2)) - scale * source.mean((0, 1, 2))
    trained_mean, trained_variance = found.model.get_layer(first.name).get_weights()[2:]
    np.testing.assert_allclose(first.moving_mean.numpy(), scale * trained_mean + offset, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(first.moving_variance.numpy(), scale**2 * trained_variance, rtol=1e-3)
    fit.load(fit._trained)
    np.testing.assert_array_equal(copy.logits(x), found.logits(x))


def test_a_shift_of_colours_is_mended(trained):
    _, found, known, (x, y) = trained
    refined = refine(found, batches(bright(x), 200), [BatchStatistics()], known)
    assert plain_error(found, bright(x), y) > 0.5
    assert error(refined, y) < plain_error(found, x, y) + 0.15
    assert refined.trace[0].accepted


def test_what_did_not_shift_is_left_alone(trained):
    _, found, known, (x, _) = trained
    refined = refine(found, batches(x, 200), [BatchStatistics()], known)
    assert not any(line.accepted for line in refined.trace)


def test_auto_leaves_convolutions_as_they_are_and_says_so(trained):
    workdir, found, known, (x, y) = trained
    turned = corrupted(x, "rotation", 3)
    refined = refine(found, batches(turned, 200), plans.stages(["auto"], found, workdir), known)
    assert {line.stage for line in refined.trace} >= {"statistics", "pose"}
    reasons = {line.reason for line in refined.trace if line.stage == "statistics"}
    assert reasons == {"convolutions are fitted by --refine=statistics only"}
    assert error(refined, y) <= plain_error(found, turned, y) + 0.02


@pytest.mark.parametrize("names", [["parameters"], ["views"], ["perturbation"], ["input", "output"]])
def test_every_stage_takes_colour_images(trained, names):
    workdir, found, known, (x, _) = trained
    damaged = corrupted(x[:40], "noise", 3)
    refined = refine(found, batches(damaged, 40), plans.stages(names, found, workdir), known)
    assert refined.probabilities.shape == (40, 10) and refined.trace
    np.testing.assert_allclose(refined.probabilities.sum(axis=1), 1.0, rtol=1e-5)


def test_layers_that_cannot_be_fitted_are_refused():
    inputs = keras.Input((8, 8, 3))
    channels_first = keras.layers.BatchNormalization(axis=1)(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(channels_first))
    assert not normalization.can_fit(keras.Model(inputs, outputs))


def test_the_command_refines_and_exports(trained, tmp_path, capsys):
    workdir, _, _, (x, y) = trained
    np.save(tmp_path / "bright.npy", bright(x))
    assert main.main(["predict", str(workdir), str(tmp_path / "bright.npy"), "--refine=statistics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(x)
    right = [line.split("\t")[1] == str(label) for line, label in zip(lines, y, strict=True)]
    assert np.mean(right) > 0.7
    assert main.main(["export", str(workdir), "--format=keras", f"--out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out" / "example.py").exists()


def test_an_unknown_stage_is_refused(trained):
    workdir, found, _, _ = trained
    with pytest.raises(BadInput, match="expected auto, or some of"):
        plans.stages(["colour"], found, workdir)
