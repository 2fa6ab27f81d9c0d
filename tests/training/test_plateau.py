"""--plateau_patience: the rate falls where Keras' callback would lower it, and resumes with the run."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from tests.helpers.small import SmallConfig, build
from zoo.engine import devices
from zoo.errors import BadInput
from zoo.training.plateau import Plateau, lowered
from zoo.training.run import make_engine


class Model:
    """What Keras' callback needs of a model."""

    def __init__(self):
        self.optimizer = keras.optimizers.SGD(1.0)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from(["min", "max"]),
)
@settings(max_examples=60, deadline=None)
def test_the_rule_is_that_of_keras(values, patience, cooldown, delta, mode):
    theirs = keras.callbacks.ReduceLROnPlateau(
        "loss", 0.5, patience, mode=mode, min_delta=delta, cooldown=cooldown, min_lr=0.1
    )
    theirs.set_model(Model())
    theirs.on_train_begin()
    config = SmallConfig(
        plateau_patience=patience, plateau_factor=0.5, plateau_cooldown=cooldown, plateau_min_delta=delta,
        plateau_floor=0.1, metric_mode=mode,
    )  # fmt: skip
    plateau, level = Plateau(), 1.0
    for epoch, value in enumerate(values):
        theirs.on_epoch_end(epoch, {"loss": float(value)})
        if plateau.is_over(float(value), config) and lowered(level, config) < level:
            level = lowered(level, config)
            plateau.restart(config)
        assert level == pytest.approx(float(theirs.model.optimizer.learning_rate.numpy()), rel=1e-6)


CONFIG = SmallConfig(
    epochs=0, steps=12, eval_every=2, log_every=1, learning_rate=0.5, optimizer="sgd", schedule="linear",
    plateau_patience=1, plateau_factor=0.25, plateau_min_delta=100.0, checkpoint_every=2, show="none", graph=False,
)  # fmt: skip


def test_the_rate_of_any_schedule_falls(tmp_path, capsys):
    result = zoo.run(build, CONFIG, tmp_path / "run")
    # The first evaluation sets the best value; the five after it lower the rate, the last of them after the last step.
    assert result["train/learning_rate"] == pytest.approx(0.5 * (1 - 11 / 12) * 0.25**4, rel=1e-4)
    assert "0.25 times the learning rate of the schedule: loss has not become better than" in capsys.readouterr().err


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_run_ends_with_the_same_bits(optimizer, tmp_path):
    config = CONFIG.replace(optimizer=optimizer, learning_rate=0.05)
    whole = zoo.run(build, config, tmp_path / "whole")
    for steps in (5, 9, 12):
        part = zoo.run(build, config.replace(steps=steps, decay_steps=12), tmp_path / "parts")
    same = zoo.run(build, config.replace(decay_steps=12), tmp_path / "at once")
    for name in ("train/loss", "test/loss", "train/learning_rate"):
        assert part[name] == same[name] == pytest.approx(whole[name], rel=1e-6)


def test_two_devices_lower_it_alike(tmp_path):
    results = []
    for replicas in (1, 2):
        strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
        with strategy.scope():
            keras.utils.set_random_seed(0)
            experiment = build(CONFIG)
        engine = make_engine(strategy, CONFIG.replace(compile="none"), experiment, 12)
        engine.train(experiment.train, 0, 4)
        engine.rate_level.assign(0.125)
        found = engine.train(experiment.train, 4, 2)
        assert found["learning_rate"] == pytest.approx(0.5 * (1 - np.array([4, 5]) / 12) * 0.125)
        results.append(engine.state())
    for name, value in results[0].items():
        np.testing.assert_allclose(value, results[1][name], atol=1e-5)


def test_it_needs_an_evaluation(tmp_path):
    with pytest.raises(BadInput, match="--plateau_patience=1: the experiment has no data set to evaluate"):
        zoo.run(lambda config: build(config)._replace(evals={}), CONFIG, tmp_path / "run")
