"""Steps that are skipped, not finite or with a loss that jumps: on any devices, counted, taken back bit for bit."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.helpers.small import SmallConfig, build, furthest, train
from zoo import Batches, setting
from zoo.engine import devices, health, skipping
from zoo.errors import BadInput, NonFinite
from zoo.training.run import make_engine


@dataclasses.dataclass(frozen=True)
class BadConfig(SmallConfig):
    value: str = setting("nan", "What is in the bad examples.")
    bad: int = setting(1, "Bad examples.", minimum=0)
    examples: int = setting(26, "Two batches.", minimum=1)


def build_bad(config):
    experiment = build(config)
    columns = {name: np.array(values) for name, values in experiment.train.columns.items()}
    columns["x"][: config.bad] = float(config.value)
    return experiment._replace(train=Batches(columns, config.batch_size, seed=config.seed))


def states(config, replicas=1, steps=4):
    """The state after each step, and the scalars."""
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = build_bad(config)
    engine = make_engine(strategy, config, experiment, steps)
    found, scalars = [engine.state()], []
    for step in range(steps):
        scalars.append({name: values[0] for name, values in engine.train(experiment.train, step, 1).items()})
        found.append(engine.state())
    return found, scalars


def own(state):
    return {name: value for name, value in state.items() if not name.startswith(skipping.PREFIX)}


EVERYTHING = {
    "on_nonfinite": "skip", "optimizer": "adamw", "ema": 0.9, "dropout": 0.2, "norm": "layer", "compile": "none",
}  # fmt: skip


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_skipped_step_changes_no_bit(value):
    found, scalars = states(BadConfig(value=value, **EVERYTHING))
    counts = [int(each["skipped_steps"]) for each in scalars]
    assert counts[-1] == 2  # One of the two batches of each epoch.
    for step, (before, after) in enumerate(itertools.pairwise(found)):
        is_skipped = counts[step] > (counts[step - 1] if step else 0)
        same = all(np.array_equal(own(before)[name], own(after)[name]) for name in own(before))
        assert same == is_skipped
        assert np.isfinite(scalars[step]["loss/numerator"]) and np.isfinite(scalars[step]["gradient_norm"])
        assert (scalars[step]["loss/weight"] == 0) == is_skipped
    assert all(np.isfinite(value).all() for value in found[-1].values())


def test_good_steps_are_those_of_a_run_without_it():
    config = SmallConfig(optimizer="adamw", dropout=0.2, compile="none")
    plain, _ = train(config)
    found, _ = train(config.replace(on_nonfinite="skip", skip_spikes=6.0))
    assert all(np.array_equal(plain[name], found[name]) for name in plain)


@pytest.mark.parametrize("replicas", [2, 4])
def test_all_devices_skip_the_same_steps(replicas):
    config = BadConfig(**EVERYTHING)
    one, few = states(config), states(config, replicas)
    assert furthest(one[0][-1], few[0][-1]) < 1e-5
    assert [each["skipped_steps"] for each in one[1]] == [each["skipped_steps"] for each in few[1]]


@pytest.mark.parametrize("compile", ["loop", "step"])
def test_compiled(compile):
    config = BadConfig(**EVERYTHING)
    assert furthest(states(config)[0][-1], states(config.replace(compile=compile))[0][-1]) < 1e-5


def numpy_rule(losses, deviations):
    """Which losses are jumps, by the formulas of an exponentially weighted mean and variance."""
    mean = square = good = row = 0.0
    skipped = []
    for loss in losses:
        good = good if row < 20 else 0.0
        is_spike = good >= 100 and loss > mean + deviations * np.sqrt(square)
        skipped.append(is_spike)
        row = row + 1 if is_spike else 0
        if not is_spike:
            rate = max(1 / (good + 1), 1 / 100)
            gap = loss - mean
            mean, square, good = mean + rate * gap, (1 - rate) * (square + rate * gap**2), good + 1
    return skipped


def test_losses_that_jump_are_skipped_by_the_rule():
    strategy = devices.strategy("cpu")
    rule = skipping.make(strategy, False, 6.0)
    draw = np.random.default_rng(0)
    losses = draw.normal(2.0, 0.1, 300)
    losses[[50, 120, 121, 200]] = 5.0
    losses[250:] = 4.0  # A new height: after twenty steps it is the usual one.
    found = []
    for loss in losses.astype(np.float32):
        before = float(rule.skipped.numpy())
        skipping.apply_if_good(rule, tf.constant(loss), tf.constant(1.0), [], lambda: None)
        found.append(float(rule.skipped.numpy()) > before)
    expected = numpy_rule(losses.astype(np.float32).astype(np.float64), 6.0)
    assert found == expected and sum(expected) == 23 and not expected[50]


def test_a_run_goes_on_says_so_and_may_be_resumed(tmp_path, capsys):
    config = BadConfig(
        on_nonfinite="skip", epochs=0, steps=6, log_every=2, show="none", graph=False, checkpoint_every=2
    )
    whole = zoo.run(build_bad, config, tmp_path / "whole")
    assert whole["step"] == 6 and np.isfinite(whole["train/loss"]) and whole["train/skipped_steps"] == 3
    assert "skipped step" in capsys.readouterr().err
    with pytest.raises(NonFinite, match="not finite in steps"):
        zoo.run(build_bad, config.replace(on_nonfinite="halt", steps=4), tmp_path / "part")
    zoo.run(build_bad, config.replace(steps=4, epochs=0), tmp_path / "resumed")
    resumed = zoo.run(build_bad, config, tmp_path / "resumed")
    assert resumed["test/loss"] == whole["test/loss"]


def test_a_run_that_only_skips_ends():
    scalars = {skipping.IN_A_ROW: np.arange(1.0, 61.0), "gradient_norm": np.zeros(60)}
    with pytest.raises(NonFinite, match="50 steps in a row were skipped"):
        health.check(0, scalars, None)
    assert health.skipped(7, {skipping.IN_A_ROW: np.array([0, 1, 2, 0, 1]), "gradient_norm": np.zeros(5)}) == [
        "skipped steps 8 to 9: loss or gradient not finite",
        "skipped step 11: loss or gradient not finite",
    ]


def test_refused_where_it_would_not_work():
    with pytest.raises(BadInput, match="--on_nonfinite=skip and --skip_spikes are for steps with one update"):
        strategy = devices.strategy("cpu")
        with strategy.scope():
            experiment = build(SmallConfig())._replace(batch_losses=lambda outputs, weights: {})
        make_engine(strategy, SmallConfig(on_nonfinite="skip"), experiment, 1)
