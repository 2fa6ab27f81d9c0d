"""--on_nonfinite=rollback: back to a checkpoint, past the batch, the same after kills and on any devices."""

import json

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from tests.helpers.small import SmallConfig, build
from zoo import Batches
from zoo.engine import checkpoints, devices
from zoo.errors import BadInput, NonFinite
from zoo.tensorboard import event_files
from zoo.training import actions
from zoo.training.left_out import LeftOut
from zoo.training.run import make_engine

# 20 batches of 13; checkpoints at 0, 4, 8 and 12.
CONFIG = SmallConfig(
    epochs=0, steps=14, examples=260, log_every=2, eval_every=7, checkpoint_every=4, on_nonfinite="rollback",
    optimizer="momentum", dropout=0.2, compile="none", show="none", graph=False, keep=1,
)  # fmt: skip


def build_bad(*bad, **parts):
    """The small task without evaluations, in whose batches of these numbers an example is not a number."""

    def made(config):
        experiment = build(config)._replace(**{"evals": {}, "tests": {}, **parts})
        columns = {name: np.array(values) for name, values in experiment.train.columns.items()}
        for number in bad:
            columns["x"][experiment.train.indices(number, 1)[0][0]] = np.nan
        return experiment._replace(train=Batches(columns, config.batch_size, seed=config.seed))

    return made


def final(folder, step=14):
    """All variables and the record of the last checkpoint."""
    path = folder / "checkpoints" / f"step-{step:08d}"
    return load_file(path / "state.safetensors"), json.loads((path / "record.json").read_text())


def same(one, other, step=14):
    """Whether two runs have ended with the same bits, and remember the same."""
    (state, record), (others, other_record) = final(one, step), final(other, step)
    for each in (record, other_record):
        each["metrics"].pop("train/examples_per_second")
        # The run's name is a hash of all flags, of the devices as well.
        each.pop("checkpoint")
    return all(np.array_equal(state[name], others[name]) for name in state | others) and record == other_record


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that goes back from step 6 to 4, and from what is then the 11th step to 8."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, zoo.run(build_bad(6, 11), CONFIG, folder)


def test_the_run_says_so(whole):
    folder, result = whole
    assert result["step"] == 14
    assert (result["train/rollbacks"], result["train/left_out_batches"]) == (2, 2)
    assert result["train/learning_rate"] == pytest.approx(CONFIG.learning_rate / 4)
    points = [(event.step, value) for event in event_files.read(folder) for value in event.summary.value]
    told = "".join(value.tensor.string_val[0].decode() for _, value in points if value.tag == "events")
    assert "not finite in step 6: back to step 4, batch 6 is left out, 0.5 times the learning rate" in told
    assert "not finite in step 10: back to step 8, batch 11 is left out, 0.25 times" in told
    points = [(event.step, value) for event in event_files.read(folder / "train") for value in event.summary.value]
    assert [step for step, value in points if value.tag == "rollbacks"] == [2, 4, 6, 8, 10, 12, 14]


def test_the_loss_is_that_of_a_run_without_such_a_batch(tmp_path):
    """A linear model, which has one optimum: which of three numbers is the largest, a fifth of the labels is drawn."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(13000, 6)).astype(np.float32)
    y = np.where(draw.random(13000) < 0.2, draw.integers(0, 3, 13000), np.argmax(x[:, :3], axis=1)).astype(np.int32)
    tests = {"test": Batches({"x": x.copy(), "y": y.copy()}, 500)}

    def made(config):
        spoiled = x.copy()
        if config.on_nonfinite == "rollback":
            spoiled[Batches({"x": x, "y": y}, 13, seed=0).indices(150, 1)[0][0]] = np.nan
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
        train = Batches({"x": spoiled, "y": y}, 13, seed=0)
        return build(config)._replace(model=model, train=train, evals={}, tests=tests)

    config = CONFIG.replace(
        steps=1000, log_every=1000, eval_every=1000, checkpoint_every=100, dropout=0.0, schedule="cosine",
        learning_rate=0.05,
    )  # fmt: skip
    clean = zoo.run(made, config.replace(on_nonfinite="halt"), tmp_path / "clean")
    mended = zoo.run(made, config, tmp_path / "mended")
    assert mended["train/rollbacks"] == 1 and clean["test/loss"] < 0.8
    assert mended["test/loss"] == pytest.approx(clean["test/loss"], rel=0.01)


def test_without_such_numbers_nothing_changes(tmp_path):
    zoo.run(build_bad(), CONFIG, tmp_path / "rollback")
    zoo.run(build_bad(), CONFIG.replace(on_nonfinite="halt"), tmp_path / "halt")
    one, other = final(tmp_path / "rollback")[0], final(tmp_path / "halt")[0]
    assert all(np.array_equal(one[name], other[name]) for name in other)


def test_a_killed_run_does_the_same_again(whole, tmp_path, monkeypatch):
    """Killed between two rollbacks, where it has just saved, and after both, where it has not."""
    train, waiting = actions.train, [10, 5]

    def one_step(context, state, steps):
        if waiting and state.step == waiting[-1] and state.left_out.rollbacks:
            if waiting.pop() == 5:
                actions.save(context, state)
            raise KeyboardInterrupt
        # Another cut of the run into calls, too.
        train(context, state, 1)

    monkeypatch.setattr(actions, "train", one_step)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            zoo.run(build_bad(6, 11), CONFIG, tmp_path)
    zoo.run(build_bad(6, 11), CONFIG, tmp_path)
    assert not waiting and same(whole[0], tmp_path)


def test_on_two_devices_the_same_bits(tmp_path):
    config = CONFIG.replace(exact=True, steps=8)
    for count in (1, 2):
        zoo.run(build_bad(6), config.replace(cpu_devices=count), tmp_path / str(count))
    assert same(tmp_path / "1", tmp_path / "2", 8)


@pytest.mark.parametrize("optimizer", ["lbfgs", "newton_cg"])
def test_second_order_goes_on_from_the_checkpoint_and_half_as_far(optimizer, tmp_path):
    """On two devices; by hand on one: damping and pairs are the checkpoint's, too, and not those of the bad step."""
    config = CONFIG.replace(
        optimizer=optimizer, learning_rate=1.0, steps=8, dropout=0.0, exact=True, cpu_devices=2, keep=9
    )
    zoo.run(build_bad(6), config, tmp_path)
    assert final(tmp_path, 8)[1]["left_out"] == {"batches": [6], "rollbacks": 1, "anchor": 8}
    experiment = build_bad(6)(config)
    engine = make_engine(devices.strategy("cpu"), config, experiment, 8)
    engine.load(final(tmp_path, 4)[0])
    engine.rate_level.assign(0.5)
    engine.train(experiment.train, 4, 2)
    engine.train(experiment.train, 7, 2)
    state, ended = engine.state(), final(tmp_path, 8)[0]
    assert any(name.startswith("second_order/") for name in state)
    assert state.keys() == ended.keys() and all(np.array_equal(state[name], ended[name]) for name in state)


def test_it_ends_where_going_back_does_not_help(tmp_path):
    bad = build_bad(*range(5, 12))
    with pytest.raises(NonFinite, match=r"not finite in steps 5 .*the run went back 2 times \(--rollbacks\)") as raised:
        zoo.run(bad, CONFIG.replace(rollbacks=2), tmp_path)
    assert raised.value.exit_code == 3 and checkpoints.newest_step(tmp_path / "checkpoints") == 4
    # The same command does the same; more of them help.
    zoo.run(bad, CONFIG.replace(rollbacks=3), tmp_path)
    assert final(tmp_path)[1]["left_out"] == {"batches": [*range(5, 12)], "rollbacks": 3, "anchor": 12}
    with pytest.raises(BadInput, match="--on_nonfinite=halt: this run has gone back already; expected rollback"):
        zoo.run(bad, CONFIG.replace(on_nonfinite="halt", steps=15), tmp_path)


def test_weights_that_overflow_are_found_by_the_evaluation(tmp_path):
    """A finite gradient whose update is not: the batch before the evaluation is left out."""

    class Overflowing(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            is_last = keras.ops.equal(self.iterations, 6)
            factor = keras.ops.where(is_last & (learning_rate > 0.015), np.inf, 1.0)
            super().update_step(gradient, variable, learning_rate * factor)

    result = zoo.run(lambda config: build(config)._replace(optimizer=Overflowing(0.02), tests={}), CONFIG, tmp_path)
    assert final(tmp_path)[1]["left_out"] == {"batches": [6], "rollbacks": 1, "anchor": 12}
    assert np.isfinite(result["eval/loss"])


def test_infinite_numbers_in_an_evaluation_are_not_the_trainings_fault(tmp_path):
    def made(config):
        experiment = build(config)
        columns = {name: np.array(values) for name, values in experiment.evals["eval"].columns.items()}
        columns["x"][0] = np.inf
        return experiment._replace(evals={"eval": Batches(columns, 4)}, tests={})

    with pytest.raises(NonFinite, match="eval/loss not finite at step 7; look for infinite values in that data"):
        zoo.run(made, CONFIG, tmp_path)


def test_batches_are_counted_past_those_left_out():
    memory = LeftOut([3, 4, 9])
    assert [memory.batch(step) for step in range(9)] == [0, 1, 2, 5, 6, 7, 8, 10, 11]
    assert [memory.steps_until(step) for step in (0, 2, 3, 6, 7)] == [3, 1, 4, 1, None]
    again = memory.after(5, LeftOut([3, 4, 9], rollbacks=0, anchor=2))
    assert (again.batches, again.rollbacks, again.anchor) == ([3, 4, 7, 9], 1, 2)
    # Once more from the same checkpoint: step 5 reads batch 8 now; two batches, 9 is one of them already.
    assert again.after(5, LeftOut([3, 4, 9], rollbacks=0, anchor=2)).batches == [3, 4, 7, 8, 9, 10]
    assert again.after(5, again).batches == [3, 4, 7, 8, 9]


def test_not_with_the_callbacks_of_keras():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(BadInput, match="on_nonfinite='rollback' goes back, and Keras' callbacks cannot"):
        zoo.fit(model, np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32), on_nonfinite="rollback")
