"""--controller: what it chooses, the same run from its flags, after kills, on two devices; and what it refuses."""

import json
import os
import signal

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from tests.helpers.small import SmallConfig, build
from zoo import Batches, piecewise
from zoo.engine import devices
from zoo.engine.engine import Engine
from zoo.errors import BadInput, Stopped
from zoo.metrics.paired_blocks import Sums
from zoo.tensorboard import event_files
from zoo.training import actions, controller, look_ahead
from zoo.training.look_ahead import Choice, Judged
from zoo.training.run import make_engine

# A tenth of the rate that would be good for 60 steps; decisions at steps 0 and, if the rate does not fall yet, 42.
CONFIG = SmallConfig(
    epochs=0, steps=60, learning_rate=0.003, optimizer="adamw", weight_decays="20:0.1", controller=True, log_every=20,
    eval_every=20, checkpoint_every=15, dropout=0.1, show="none", graph=False,
)  # fmt: skip


def columns(examples, seed):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(examples, 6)).astype(np.float32)
    return {"x": x, "y": np.argmax(x[:, :3] + 0.3 * draw.normal(size=(examples, 3)), axis=1).astype(np.int32)}


def build_learnable(config):
    """The small task with labels that follow from the numbers: which of three is the largest, with noise."""
    train = Batches(columns(130, 1), config.batch_size, seed=config.seed)
    return build(config)._replace(train=train, evals={"eval": Batches(columns(200, 2), 50)})


def final(folder, step=60):
    path = folder / "checkpoints" / f"step-{step:08d}"
    return load_file(path / "state.safetensors"), json.loads((path / "record.json").read_text())


def same(one, other):
    """Whether two runs have ended with the same bits."""
    state, others = final(one)[0], final(other)[0]
    return all(np.array_equal(state[name], others[name]) for name in state | others)


def decisions(folder):
    return [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, zoo.run(build_learnable, CONFIG, folder)


def test_it_finds_a_better_rate_and_says_why(whole, tmp_path):
    folder, result = whole
    first, second = decisions(folder)
    assert [first["step"], first["steps_ahead"]] == [0, 6] and [second["step"], second["steps_ahead"]] == [0, 60]
    assert first["chosen"] == "10 times the rate"
    assert second["chosen"] == "10 times the rate, at last falling to 0"
    assert result["train/rate_factor"] == pytest.approx(0.5) and result["train/weight_decay"] == pytest.approx(0.1)
    plain = zoo.run(build_learnable, CONFIG.replace(controller=False), tmp_path)
    gain = second["tried"][1]["gain"]
    assert result["eval/loss"] == pytest.approx(plain["eval/loss"] - gain, abs=0.1) and gain > 0.2
    points = [(event.step, value) for event in event_files.read(folder) for value in event.summary.value]
    told = "".join(value.tensor.string_val[0].decode() for _, value in points if value.tag == "events")
    assert "60 steps ahead, validation loss: as before" in told
    assert "Chosen: 10 times the rate, at last falling to 0, better by" in told


def test_the_run_comes_from_its_flags_too(whole, tmp_path):
    lines = (whole[0] / "controlled_flags.txt").read_text().splitlines()
    flags = dict(line.removeprefix("--").split("=", 1) for line in lines)
    assert flags["controller"] == "False"
    assert piecewise.parse("rate_factors", flags["rate_factors"])[:2] == [(0, 10.0), (42, 9.5)]
    names = ("rate_factors", "weight_decays")
    config = CONFIG.replace(controller=False, **{name: flags[name] for name in names})
    zoo.run(build_learnable, config, tmp_path)
    assert same(whole[0], tmp_path)
    assert not (tmp_path / "decisions.jsonl").exists()


def test_a_run_that_is_good_enough_goes_on_until_its_rate_may_fall(tmp_path, monkeypatch):
    """What is tried to the end is the run that then comes: the sums of the last decision are those at its end."""
    kept, judged = [], look_ahead.judged

    def watching(context, state, interrupt, choices, steps, parts, terms):
        found = judged(context, state, interrupt, choices, steps, parts, terms)
        kept.append((context.engine, parts, dict(zip([choice.name for choice in choices], found, strict=True))))
        return found

    monkeypatch.setattr(look_ahead, "judged", watching)
    zoo.run(build_learnable, CONFIG.replace(learning_rate=0.1), tmp_path)
    made = decisions(tmp_path)
    assert [each["step"] for each in made] == [0, 0, 42] and made[1]["chosen"] == "as before"
    engine, parts, found = kept[-1]
    scalars = engine.evaluate_by_batch(parts.chooses)
    assert np.array_equal(scalars["loss/numerator"], found[made[2]["chosen"]].chooses.numerators[0].astype(np.float32))


def test_a_killed_run_decides_the_same(whole, tmp_path, monkeypatch):
    """Killed in a look ahead, and after it before the first checkpoint; with another cut of the run into calls."""
    train, of_engine, waiting = actions.train, Engine.train, ["look ahead", "run"]

    def one_step(context, state, steps):
        if waiting == ["run"] and state.step == 12:
            waiting.clear()
            raise KeyboardInterrupt
        train(context, state, 1)

    def in_a_look_ahead(self, batches, first, steps):
        if waiting and waiting[0] == "look ahead" and first <= 20 < first + steps:
            waiting.pop(0)
            raise KeyboardInterrupt
        return of_engine(self, batches, first, steps)

    monkeypatch.setattr(actions, "train", one_step)
    monkeypatch.setattr(Engine, "train", in_a_look_ahead)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            zoo.run(build_learnable, CONFIG.replace(steps_per_loop=5), tmp_path)
    zoo.run(build_learnable, CONFIG.replace(steps_per_loop=5), tmp_path)
    assert not waiting and same(whole[0], tmp_path) and decisions(whole[0]) == decisions(tmp_path)


def test_a_signal_ends_a_look_ahead(whole, tmp_path, monkeypatch):
    train, is_sent = Engine.train, []

    def sending(self, batches, first, steps):
        if first >= 10 and not is_sent:
            is_sent.append(os.kill(os.getpid(), signal.SIGTERM))
        return train(self, batches, first, steps)

    monkeypatch.setattr(Engine, "train", sending)
    with pytest.raises(Stopped, match="SIGTERM: saved at step 0"):
        zoo.run(build_learnable, CONFIG, tmp_path)
    zoo.run(build_learnable, CONFIG, tmp_path)
    assert same(whole[0], tmp_path) and decisions(whole[0]) == decisions(tmp_path)


def test_on_two_devices_the_same_bits(tmp_path):
    for count in (1, 2):
        zoo.run(build_learnable, CONFIG.replace(exact=True, cpu_devices=count), tmp_path / str(count))
    assert same(tmp_path / "1", tmp_path / "2") and decisions(tmp_path / "1") == decisions(tmp_path / "2")


def judged(values):
    """Both halves of a validation split, whose blocks have these values, as one example each."""
    return Judged(*(Sums(half[None], np.ones((1, len(half)))) for half in np.split(values, 2)))


def test_nothing_is_changed_by_chance():
    """Choices that are equally good: a sixth is better by a standard error on one half, half of these on both."""
    draw, choices = np.random.default_rng(0), [Choice(name, {}) for name in ("as before", "other")]
    found = draw.normal(size=(1000, 1, 50)) + 0.1 * draw.normal(size=(1000, 2, 50))
    changed = [controller.decided(choices, [judged(each) for each in values], False)[0] for values in found]
    assert 0.05 < np.mean(changed) < 0.11


def test_what_is_better_is_taken():
    draw, choices = np.random.default_rng(1), [Choice(name, {}) for name in ("as before", "other")]
    noise = 0.1 * draw.normal(size=(2, 50))

    def chosen(before, other, larger=False):
        values = noise + np.array([[before], [other]])
        place, evidence = controller.decided(choices, [judged(each) for each in values], larger)
        assert evidence["chosen"] == choices[place].name and len(evidence["tried"]) == 2
        return place

    assert chosen(0.5, 0.4) == chosen(0.4, 0.5, larger=True) == 1
    assert chosen(0.4, 0.5) == chosen(0.5, 0.4, larger=True) == chosen(0.5, 0.499) == 0
    # Better on one half only.
    noise[1, 25:] += 0.5
    assert chosen(0.5, 0.4) == 0
    # A loss that is no number is not taken, and whatever is one is better than a run that has none.
    assert chosen(0.5, np.nan) == 0 and chosen(np.nan, 5.0) == 1


def test_the_smallest_change_of_those_that_are_as_good():
    draw, choices = np.random.default_rng(1), [Choice(name, {}) for name in ("as before", "near", "far")]
    noise = 0.1 * draw.normal(size=(3, 50))

    def chosen(*values):
        found = [judged(each) for each in noise + np.array(values)[:, None]]
        return choices[controller.nominated(choices, found, False)[0]].name

    assert chosen(1.0, 0.5, 0.49) == "near" and chosen(1.0, 0.5, 0.1) == "far" and chosen(1.0, 0.1, 0.5) == "near"
    assert chosen(0.1, 0.5, 0.9) == "as before" and chosen(1.0, np.nan, 0.9) == "far"
    assert chosen(np.nan, 0.5, 0.9) == "near" and chosen(np.nan, np.nan, np.nan) == "as before"


def test_weight_decay_as_a_variable_is_weight_decay():
    """Decays of 0.1 to step 3 and 0.4 from there on against two engines with these decays as numbers."""
    strategy = devices.strategy("cpu")

    def engine(**changes):
        config = SmallConfig(epochs=0, steps=6, optimizer="adamw", **changes)
        keras.utils.set_random_seed(0)
        with strategy.scope():
            experiment = build(config)
        return make_engine(strategy, config, experiment, 6), experiment.train

    own, batches = engine(weight_decays="0:0.1,3:0.4")
    own.controls["weight_decay"].assign(0.1)
    own.train(batches, 0, 3)
    own.controls["weight_decay"].assign(0.4)
    own.train(batches, 3, 3)
    first, batches = engine(weight_decay=0.1)
    first.train(batches, 0, 3)
    second, batches = engine(weight_decay=0.4)
    second.load(first.state())
    second.train(batches, 3, 3)
    state, expected = own.state(), second.state()
    assert all(np.array_equal(state[name], expected[name]) for name in expected)
    undecayed, batches = engine(weight_decay=0.0)
    undecayed.train(batches, 0, 6)
    assert any(not np.array_equal(state[name], value) for name, value in undecayed.state().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 49}, "--controller: the run has 49 steps, expected 50 or more"),
        ({"plateau_patience": 1}, "--controller and --plateau_patience both lower the rate"),
        ({"optimizer": "muon"}, "set one weight decay, and muon has two"),
        ({"optimizer": "lbfgs", "weight_decays": ""}, "--controller sets the rate of one optimizer of first order"),
        ({"metric": "f1"}, "--controller: --metric is 'f1', .*: expected accuracy or loss"),
    ],
)
def test_what_cannot_be_decided_is_refused(changes, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        zoo.run(build_learnable, CONFIG.replace(**changes), tmp_path)


def test_without_enough_validation_examples(tmp_path):
    for evals in ({}, {"eval": Batches(columns(19, 0), 5)}):
        with pytest.raises(BadInput, match=r"--controller: the experiment has (0|19) validation examples, expected 20"):
            zoo.run(lambda config, evals=evals: build_learnable(config)._replace(evals=evals), CONFIG, tmp_path)
