"""Over- and under-fitting in words: on curves whose shape is known, and at the end of real runs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from tests.helpers.small import SmallConfig, build
from zoo.training import diagnosis
from zoo.training.diagnosis import Point

CONFIG = SmallConfig(epochs=0, steps=100)


def curve(train, validation):
    return [Point(10 * number, *both) for number, both in enumerate(zip(train, validation, strict=True), 1)]


CURVES = {
    "overfits: the validation loss was lowest at step 30": ([1, 0.6, 0.4, 0.2, 0.1], [1.1, 0.8, 0.7, 0.8, 0.9]),
    "still learns: the validation loss fell from 0.5 to 0.4": ([1, 0.8, 0.6, 0.4, 0.3], [1, 0.8, 0.6, 0.5, 0.4]),
    "has levelled off": ([1, 0.5, 0.4, 0.39, 0.39], [1, 0.6, 0.5, 0.501, 0.5]),
    # Noise of a small validation split is no overfitting.
    "has levelled off: validation loss 0.51": ([1, 0.5, 0.4, 0.39, 0.38], [1, 0.6, 0.5, 0.51, 0.51]),
    "has not learned: validation loss 2.4": ([2.3, 2.3, 2.31, 2.3], [2.3, 2.35, 2.3, 2.4]),
    # Losses that are densities may be negative.
    "overfits: the validation loss was lowest at step 20": ([-1, -2, -3, -4], [-1, -2, -1.5, -1]),
}


@pytest.mark.parametrize("said", CURVES)
def test_shapes(said):
    assert diagnosis.words(curve(*CURVES[said]), CONFIG).startswith(said)


def test_advice_fits_the_flags():
    shape = curve(*CURVES["overfits: the validation loss was lowest at step 30"])
    assert "--patience=5 keeps the weights" in diagnosis.words(shape, CONFIG)
    assert "the weights of the best evaluation are kept" in diagnosis.words(shape, CONFIG.replace(patience=3))
    learning = curve(*CURVES["still learns: the validation loss fell from 0.5 to 0.4"])
    assert "more --steps" in diagnosis.words(learning, CONFIG)
    assert "more --epochs" in diagnosis.words(learning, SmallConfig())


def test_three_evaluations_say_nothing():
    assert diagnosis.words(curve([1, 0.5, 0.1], [1, 2, 3]), CONFIG) == ""


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), max_size=400))
def test_a_long_curve_is_thinned_and_keeps_its_ends(losses):
    found = []
    for number, both in enumerate(losses, 1):
        found = diagnosis.added(found, Point(number, *both))
        assert found[0].step == 1 and len(found) <= 128
    assert len(found) == len(losses) or len(losses) > 128
    assert isinstance(diagnosis.words(found, CONFIG), str)


def test_a_network_that_learns_29_examples_by_heart_overfits(tmp_path, capsys):
    config = SmallConfig(
        epochs=0, steps=300, batch_size=29, learning_rate=0.05, eval_every=15, log_every=15, checkpoint_every=100,
        show="none", graph=False,
    )  # fmt: skip
    zoo.run(build, config, tmp_path / "whole")
    said = [line for line in capsys.readouterr().err.splitlines() if "the run " in line]
    assert len(said) == 1 and "the run overfits: the validation loss was lowest at step" in said[0]
    # A run in parts knows the same curve.
    for steps in (90, 195, 300):
        zoo.run(build, config.replace(steps=steps), tmp_path / "parts")
    assert said[0] in capsys.readouterr().err

    curves = []
    for name in ("whole", "parts"):
        records = sorted((tmp_path / name / "checkpoints").glob("*/record.json"), key=lambda path: path.parent.name)
        curves.append(json.loads(records[-1].read_text())["curve"])
    assert curves[0] == curves[1] and len(curves[0]) == 20
