"""The loop of a sweep with trials that cost nothing: what is tried, kept, resumed, ended early and refused."""

import json
import math
import signal

import numpy as np
import optuna
import pytest
import sqlalchemy
from scipy import stats
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from zoo.errors import BadInput, Stopped, ZooError
from zoo.studies import space, sweep, sweep_summary
from zoo.studies.sweep import Plan

KINDS = {"learning_rate": float, "units": int, "optimizer": str}
SPACE = "learning_rate=log:1e-4..1e-1 optimizer=adamw|sgd"


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk():
    """A sweep commits some twenty times a trial, which costs nothing beside one that trains."""

    def connected(connection, _):
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", connected)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", connected)


def loss(values):
    """Least at a learning rate of 0.01, with adamw."""
    distance = abs(math.log10(float(values["learning_rate"])) + 2)
    return distance + (0.5 if values.get("optimizer") == "sgd" else 0.0)


class Trials:
    """Trials without training; `objective(values, shall_end)` returns the last reply."""

    def __init__(self, objective=None, metric="loss", larger=False, **config):
        self.objective = objective or (lambda values, shall_end: {"metric": "eval/loss", "values": [loss(values)]})
        self.metric, self.larger, self.config = metric, larger, config
        self.begun, self.tested = [], []

    def check(self, words, text, sampler):
        dimensions = space.checked(space.parse(text), KINDS, {}, sampler)
        found = {"metric": self.metric, "larger": self.larger, "config": self.config}
        return found | {"space": [json.loads(json.dumps(each._asdict())) for each in dimensions]}

    def trial(self, words, folder, shall_end):
        values = dict(word.removeprefix("--").split("=") for word in words)
        self.begun.append((folder.name, values))
        return self.objective(values, shall_end)

    def test(self, words, folder):
        self.tested.append(folder.name)
        return {
            "result": {"eval/loss": 1.0, "test/accuracy": 0.75, "test/accuracy_low": 0.5, "test/accuracy_high": 1.0}
        }


def plan(**changes):
    return Plan(**{"experiment": "mine", "flags": ("--steps=3",), "space": SPACE, "trials": 4} | changes)


def test_the_best_trial_by_validation_is_tested_once(tmp_path, capsys):
    trials = Trials()
    found = sweep.run(plan(trials=6), tmp_path, trials)
    losses = [loss(values) for _, values in trials.begun]
    assert [name for name, _ in trials.begun] == [f"trial_00{k}" for k in range(6)]
    assert all(values["steps"] == "3" for _, values in trials.begun)
    assert [each.number for each in found.ranked] == np.argsort(losses).tolist()
    assert trials.tested == [f"trial_00{int(np.argmin(losses))}"]
    saved = json.loads((tmp_path / "sweep.json").read_text())
    assert saved["metric"] == "eval/loss" and saved["best"] == int(np.argmin(losses))
    assert [each["mean"] for each in saved["trials"]] == sorted(losses)
    assert saved["test"]["result"]["test/accuracy"] == 0.75 and "eval/loss" not in saved["test"]["result"]
    text = sweep_summary.report(found)
    assert text.splitlines()[1].split()[:2] == [str(int(np.argmin(losses))), f"{min(losses):.4f}"]
    assert "one seed tells nothing" in text and "accuracy  0.7500  0.5000 .. 1.0000" in text
    # Optuna itself, and so its dashboard, reads the same.
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    assert study.best_value == min(losses) and study.best_trial.number == int(np.argmin(losses))
    again = Trials()
    assert sweep.run(plan(trials=6), tmp_path, again) == found and not again.begun and not again.tested


def test_a_stopped_sweep_goes_on_as_if_it_had_not_been_stopped(tmp_path):
    # The last two are not random any more.
    count = 12
    whole = Trials()
    sweep.run(plan(trials=count), tmp_path / "whole", whole)
    tried = [float(values["learning_rate"]) for _, values in whole.begun]
    assert len(set(tried)) == count and min(tried) >= 1e-4 and max(tried) <= 0.1
    stops = {count - 2}

    def stopping(values, shall_end):
        if len(parts.begun) - 1 in stops:
            raise Stopped("SIGTERM: saved at step 2", signal.SIGTERM)
        return {"metric": "eval/loss", "values": [loss(values)]}

    parts = Trials(stopping)
    with pytest.raises(Stopped, match="saved at step 2"):
        sweep.run(plan(trials=count), tmp_path / "parts", parts)
    assert json.loads((tmp_path / "parts" / "sweep.json").read_text())["test"] is None
    rest = Trials()
    sweep.run(plan(trials=count), tmp_path / "parts", rest)
    # The interrupted trial is begun again, with its values.
    assert parts.begun[:-1] + rest.begun == whole.begun and rest.begun[0] == parts.begun[-1]
    assert rest.tested == whole.tested
    more = Trials()
    sweep.run(plan(trials=count + 1), tmp_path / "parts", more)
    assert [name for name, _ in more.begun] == [f"trial_{count:03d}"]


def test_a_grid_is_gone_through_in_order(tmp_path):
    trials = Trials()
    grid = plan(space="learning_rate=log:0.001..0.1/3 units=1..2", sampler="grid", trials=None)
    sweep.run(grid, tmp_path, trials)
    tried = [(values["learning_rate"], values["units"]) for _, values in trials.begun]
    assert tried == [(rate, units) for rate in ("0.001", "0.01", "0.1") for units in ("1", "2")]


def test_a_trial_that_fails_is_recorded_and_the_sweep_goes_on(tmp_path):
    def failing(values, shall_end):
        if values["optimizer"] == "sgd":
            return {"failed": "loss not finite at step 3", "kind": "NonFinite"}
        return {"metric": "eval/loss", "values": [loss(values)]}

    grid = plan(space="optimizer=sgd|adamw learning_rate=0.1|0.01", sampler="grid", trials=None)
    found = sweep.run(grid, tmp_path, Trials(failing))
    assert [(each.state, each.error) for each in found.trials] == [("failed", "loss not finite at step 3")] * 2 + [
        ("complete", "")
    ] * 2
    assert found.best.number == 3
    lines = sweep_summary.report(found).splitlines()
    assert lines[3].endswith("failed: loss not finite at step 3")
    saved = json.loads((tmp_path / "sweep.json").read_text())["trials"]
    assert [each["number"] for each in saved] == [3, 2, 0, 1]
    with pytest.raises(ZooError, match="none of 2 trials has finished; trial 1: loss not finite"):
        sweep.run(
            plan(space="optimizer=sgd|adamw learning_rate=0.1|0.01", sampler="grid", trials=2),
            tmp_path / "b",
            Trials(failing),
        )


def test_bad_input_of_the_first_trial_ends_the_sweep_and_later_only_the_trial(tmp_path):
    refused = {"failed": "--dataset is 'x'", "kind": "BadInput"}
    with pytest.raises(BadInput, match=r"trial 0 \(learning_rate=.*\) is refused.*--dataset is 'x'"):
        sweep.run(plan(), tmp_path, Trials(lambda *_: refused))
    # The flags are mended in the data, and the trial is begun again.
    trials = Trials(lambda values, _: refused if len(trials.begun) == 2 else {"metric": "eval/loss", "values": [1.0]})
    found = sweep.run(plan(), tmp_path, trials)
    assert [each.state for each in found.trials] == ["complete", "failed", "complete", "complete"]
    assert [name for name, _ in trials.begun] == [f"trial_00{k}" for k in range(4)]


def test_the_median_pruner_ends_what_is_behind(tmp_path):
    def evaluations(values, shall_end):
        # From the seventh trial on worse than all before.
        level = 2.0 if len(trials.begun) > 6 else 1.0
        for number in range(1, 4):
            # As the process of the trials sends it.
            if json.loads(json.dumps(shall_end(number, level / number))):
                return {"pruned": f"pruned after evaluation {number}"}
        return {"metric": "eval/loss", "values": [level / 3]}

    trials = Trials(evaluations)
    found = sweep.run(plan(sampler="random", pruner="median", trials=8), tmp_path, trials)
    assert [each.state for each in found.trials] == ["complete"] * 6 + ["pruned"] * 2
    assert found.trials[6].evaluations == {1: 2.0} and found.trials[0].evaluations == {1: 1.0, 2: 0.5, 3: 1 / 3}
    assert sweep_summary.report(found).splitlines()[7].endswith("pruned after evaluation 1")


def test_intervals_over_seeds_and_which_trials_lie_in_that_of_the_best(tmp_path):
    scores = {"a": [0.90, 0.92, 0.94], "b": [0.91, 0.92, 0.90], "c": [0.5, 0.6, 0.7]}
    trials = Trials(
        lambda values, _: {"metric": "eval/accuracy", "values": scores[values["optimizer"]]}, "accuracy", True
    )
    found = sweep.run(plan(space="optimizer=a|b|c", sampler="grid", trials=None), tmp_path, trials)
    low, high = stats.t.interval(0.95, 2, 0.92, stats.sem(scores["a"]))
    assert found.best.number == 0 and np.allclose(found.best.interval, (low, high))
    assert [found.is_near(each) for each in found.trials] == [True, True, False]
    lines = sweep_summary.report(found).splitlines()
    assert lines[0].split("  ")[0] == "trial" and "95 % interval, 3 seeds" in lines[0]
    assert lines[1].endswith("best") and lines[2].endswith("in its interval") and "0.6000" in lines[3]
    saved = json.loads((tmp_path / "sweep.json").read_text())["trials"]
    assert np.allclose([saved[0]["low"], saved[0]["high"]], (low, high)) and saved[1]["near_the_best"]


def test_no_trial_starts_after_the_budget_and_restarts_count(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(sweep.time, "monotonic", lambda: now[0])

    def slow(values, shall_end):
        now[0] += 10.0
        return {"metric": "eval/loss", "values": [loss(values)]}

    found = sweep.run(plan(seconds=15.0, trials=9), tmp_path, Trials(slow))
    assert [each.seconds for each in found.trials] == [10.0, 10.0]
    assert len(sweep.run(plan(seconds=25.0, trials=9), tmp_path, Trials(slow)).trials) == 3
    # A longer sweep has another best trial only where there is a better one.
    assert len(sweep.run(plan(seconds=1.0, trials=9), tmp_path, Trials(slow)).trials) == 3


def test_a_second_look_at_the_test_split_is_said(tmp_path):
    grid = plan(space="learning_rate=0.1|0.05|0.01", sampler="grid", trials=2)
    assert sweep.run(grid, tmp_path, Trials()).test["earlier"] == []
    longer = Trials()
    found = sweep.run(plan(space="learning_rate=0.1|0.05|0.01", sampler="grid"), tmp_path, longer)
    assert longer.tested == ["trial_002"] and found.test["earlier"] == [1]
    assert "the test split was measured before, for trial 1" in sweep_summary.report(found)


def test_a_folder_takes_one_sweep(tmp_path):
    sweep.run(plan(trials=1), tmp_path / "sweep", Trials(steps=3))
    for changes, config, said in (
        ({"space": "units=1..2"}, {"steps": 3}, "--space was learning_rate=.* is units=1..2"),
        ({"sampler": "random"}, {"steps": 3}, "--sampler was tpe, is random"),
        ({"seed": 1}, {"steps": 3}, "--sampler_seed was 0, is 1"),
        ({"experiment": "other"}, {"steps": 3}, "experiment was mine, is other"),
        ({}, {"steps": 4}, "--steps was 3, is 4"),
    ):
        with pytest.raises(BadInput, match=f"belongs to another sweep: {said}"):
            sweep.run(plan(**changes), tmp_path / "sweep", Trials(**config))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(BadInput, match="belongs to a run"):
        sweep.run(plan(), tmp_path / "run", Trials())
    with pytest.raises(BadInput, match="--metric is not set"):
        sweep.run(plan(), tmp_path / "new", Trials(metric=None))
    assert not (tmp_path / "new").exists()


def test_the_hparams_tab_has_a_session_for_each_trial(tmp_path):
    def objective(values, shall_end):
        if values["optimizer"] == "8,8":
            return {"failed": "not finite", "kind": "NonFinite"}
        return {"metric": "eval/loss", "values": [0.25]}

    sweep.run(
        plan(space="optimizer=8|8,8 learning_rate=0.1|0.01", sampler="grid", trials=3), tmp_path, Trials(objective)
    )
    table = tmp_path / "tensorboard"
    # A column of texts, although some of them are numbers.
    columns = hparams(table)["_hparams_/experiment"].experiment
    assert [each.name for each in columns.hparam_infos] == ["optimizer", "learning_rate"]
    assert list(columns.hparam_infos[0].domain_discrete) == ["8", "8,8"]
    assert columns.hparam_infos[1].domain_interval.min_value == 0.01
    assert [each.name.tag for each in columns.metric_infos] == ["eval/loss", "seconds"]
    for number, optimizer, status in ((1, "8", api_pb2.STATUS_SUCCESS), (2, "8,8", api_pb2.STATUS_FAILURE)):
        found = hparams(table / f"trial_00{number}")
        start = found["_hparams_/session_start_info"].session_start_info
        assert start.hparams["optimizer"].string_value == optimizer
        assert found["_hparams_/session_end_info"].session_end_info.status == status
        assert ("eval/loss" in found) == (status == api_pb2.STATUS_SUCCESS)
    assert found.keys() >= {"seconds"} and hparams(table / "trial_000")["eval/loss"] == 0.25


def hparams(folder):
    """Values of the event files of a folder by tag, without TensorFlow."""
    (path,) = folder.glob("events.out.tfevents.*")
    result = {}
    for record in RawEventFileLoader(str(path)).Load():
        for value in Event.FromString(record).summary.value:
            content = plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
            is_scalar = value.metadata.plugin_data.plugin_name == "scalars"
            result[value.tag] = value.tensor.float_val[0] if is_scalar else content
    return result
