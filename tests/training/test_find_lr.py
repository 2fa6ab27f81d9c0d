"""--find_lr: a rate near the best of a grid, and a run that has lost nothing by it."""

import re

import keras
import numpy as np
import pytest

import zoo
from tests.helpers.small import SmallConfig, build, forward
from zoo import Batches, Term
from zoo.engine import devices, optimizers
from zoo.errors import BadInput
from zoo.training import find_lr
from zoo.training.find_lr import RATES, RangeTest
from zoo.training.run import make_engine

CONFIG = SmallConfig(compile="none", dropout=0.2, optimizer="adamw", find_lr=True)


def curve(losses):
    return RangeTest(RATES, np.array(losses), find_lr.smooth(losses))


def test_the_suggestion_is_where_the_loss_falls_most():
    fall = 1 / (1 + np.exp(-3 * np.log(RATES / 1e-3)))
    rise = np.maximum(0, np.log(RATES / 0.1))
    tested = curve(2.0 - fall + rise)
    # The smoothed loss lags behind by up to its memory, a decade.
    assert 1e-3 < tested.suggestion < 1e-2 and 0.03 < tested.rates[tested.lowest] < 0.3
    assert curve(2.0 + rise + np.linspace(0, 1, len(RATES))).suggestion is None


def test_smoothing_by_numpy():
    losses = np.random.default_rng(0).normal(size=30)
    for count in (1, 7, 30):
        weights = 0.95 ** np.arange(count)[::-1]
        assert find_lr.smooth(losses)[count - 1] == pytest.approx(np.sum(weights * losses[:count]) / weights.sum())


def test_the_state_is_that_of_before_and_groups_keep_their_proportions():
    strategy = devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        experiment = build(CONFIG)
    config = find_lr.without_schedule(CONFIG.replace(layer_decay=0.5, schedule="cosine", warmup_steps=3, ema=0.9))
    engine = make_engine(strategy, config, experiment, len(RATES))
    before, rates, train = engine.state(), [], engine.train

    def recorded(*arguments):
        scalars = train(*arguments)
        rates.append({name: value[0] for name, value in scalars.items() if name.startswith("learning_rate/")})
        return scalars

    engine.train = recorded
    tested = find_lr.measure(engine, experiment.train)
    after = engine.state()
    assert all(np.array_equal(before[name], after[name]) for name in before | after)
    assert 0 < len(tested.rates) <= len(rates)
    for rate, groups in zip(RATES, rates, strict=False):
        assert list(groups.values()) == pytest.approx([rate / 4, rate / 2, rate], rel=1e-5)


def test_the_command_writes_only_its_curve(tmp_path, capsys):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2000, 6)).astype(np.float32)
    batches = Batches({"x": x, "y": np.argmax(x[:, :3], axis=1).astype(np.int32)}, 50)
    found = zoo.run(lambda config: build(config)._replace(train=batches), CONFIG, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learning_rates.csv", "learning_rates.png"]
    assert f"\n--learning_rate={found['learning_rate']:.2g}\n" in capsys.readouterr().err
    table = np.genfromtxt(tmp_path / "learning_rates.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["learning_rate"], RATES[: len(table)], rtol=1e-5)
    assert (tmp_path / "learning_rates.png").read_bytes()[:4] == b"\x89PNG"
    # Adam learns such a task best at 0.02 to 0.05.
    assert 0.005 < found["learning_rate"] < 0.15


def test_a_loss_that_falls_nowhere_has_a_curve_and_no_suggestion(tmp_path):
    def constant(model, batch, training):
        terms = forward(model, batch, training)
        return {"loss": Term(0.0 * terms["loss"].values + 1.0, 1.0)}

    picture = re.escape(str(tmp_path / "learning_rates.png"))
    with pytest.raises(BadInput, match=f"the loss falls at no learning rate up to 10 \\({picture}\\)"):
        zoo.run(lambda config: build(config)._replace(forward=constant), CONFIG, tmp_path)
    assert (tmp_path / "learning_rates.png").read_bytes()[:4] == b"\x89PNG"
    table = np.genfromtxt(tmp_path / "learning_rates.csv", delimiter=",", names=True)
    assert len(table) == len(RATES) and np.all(table["loss"] == 1)


def test_refused_where_there_is_no_one_rate(tmp_path):
    with pytest.raises(BadInput, match="--find_lr with --seeds or all folds"):
        zoo.run(build, CONFIG.replace(seeds=2), tmp_path)
    own = optimizers.make("sgd", 0.1, None)
    with pytest.raises(BadInput, match="optimizers of its own, which do not read --learning_rate"):
        zoo.run(lambda config: build(config)._replace(optimizer=own), CONFIG, tmp_path)
    with pytest.raises(BadInput, match="--find_lr with --optimizer=lbfgs, whose steps have their own length"):
        zoo.run(build, CONFIG.replace(optimizer="lbfgs"), tmp_path)
