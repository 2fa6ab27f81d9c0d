"""Trials as real runs, and `zoo sweep` killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import zoo
from experiments import mlp_classifier
from experiments.mlp_classifier import MlpConfig
from zoo.cli import main
from zoo.errors import BadInput, NonFinite, Stopped
from zoo.studies import experiment_module, trial, trial_worker

ROWS = 100


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "table.csv"
    a, b, noise = np.random.default_rng(5).normal(size=(3, ROWS))
    rows = [f"{a[i]:.6f},{b[i]:.6f},{'yes' if a[i] + noise[i] > 0 else 'no'}\n" for i in range(ROWS)]
    path.write_text("a,b,label\n" + "".join(rows))
    return path


def words(table, **changes):
    given = {"dataset": table, "recipe": "plain", "steps": 8, "eval_every": 2, "batch_size": 16, "hidden": 4}
    given |= {"learning_rate": 0.05, "metric": "loss", "compile": "none", "baseline": False, "graph": False}
    return [f"--{name}={value}" for name, value in (given | {"show": "none"} | changes).items()]


@pytest.fixture(scope="module")
def experiment():
    return experiment_module.load("experiments.mlp_classifier")


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_trial_sees_no_test_split_until_it_is_tested_and_is_then_the_run_alone(experiment, table, tmp_path):
    flags, sent = words(table, seeds=2, dropout=0.2), []

    def ask(kind):
        request = {kind: flags, "folder": str(tmp_path / "trial")}
        return trial_worker.answer(experiment, request, sent.append, lambda: False)

    reply = ask("trial")
    folders = [tmp_path / "trial" / name for name in ("seed_0", "seed_1")]
    results = [result(folder) for folder in folders]
    assert reply == {"metric": "eval/loss", "values": [each["eval/loss"] for each in results]}
    assert not any(name.startswith("test") for each in results for name in each)
    # Of the first seed alone, and the exported weights are the best of these.
    assert [each["evaluation"] for each in sent] == [1, 2, 3, 4]
    assert results[0]["eval/loss"] == pytest.approx(min(each["value"] for each in sent), rel=1e-6)
    tested = ask("test")["result"]
    assert tested["seeds"] == 2 and not sent[4:]
    alone = zoo.run(mlp_classifier.build, experiment.config(words(table, seed=1, dropout=0.2)), tmp_path / "alone")
    again = result(folders[1])
    for each in (alone, again):
        each.pop("train/examples_per_second")
    assert again == json.loads(json.dumps(alone)) and "test/accuracy" in alone
    assert tested["test/log_loss"] == pytest.approx((result(folders[0])["test/log_loss"] + again["test/log_loss"]) / 2)


def test_a_trial_is_ended_after_the_evaluation_that_is_behind(experiment, table, tmp_path):
    seen = []
    with pytest.raises(trial.Pruned, match="pruned after evaluation 2, eval/loss") as pruned:
        trial.run(
            experiment.build,
            experiment.config(words(table)),
            tmp_path,
            lambda number, value: seen.append(number) or number == 2,
        )
    assert seen == [1, 2] and not (tmp_path / "result.json").exists()
    assert trial_worker.problem(pruned.value) == {"pruned": str(pruned.value)}


def test_errors_are_replies_of_one_line():
    assert trial_worker.problem(Stopped("SIGTERM: saved", 15)) == {"stopped": "SIGTERM: saved"}
    error = NonFinite("loss is NaN")
    error.add_note("that was seed 1")
    assert trial_worker.problem(error) == {"failed": "loss is NaN; that was seed 1", "kind": "NonFinite"}
    reply = trial_worker.problem(MemoryError("too much"))
    assert reply["kind"] == "MemoryError" and reply["failed"].startswith("unexpected MemoryError: not enough memory")
    assert trial_worker.problem(SystemExit(3))["failed"] == "the experiment ended its process with code 3"


def test_flags_and_space_are_checked_before_the_first_trial(experiment, table):
    def check(flags, text, sampler="tpe"):
        return trial_worker.answer(experiment, {"check": flags, "space": text, "sampler": sampler}, print, bool)

    reply = check(words(table, metric="accuracy"), "learning_rate=log:1e-3..1")
    assert reply["larger"] and reply["metric"] == "accuracy" and reply["config"]["export"] == "best"
    assert reply["space"][0]["name"] == "learning_rate" and reply["config"]["keep"] == 1
    assert experiment.config(words(table, export="last", keep=2)).export == "last"
    for flags, text, said in (
        (["--trails=3"], "learning_rate=1|2", "--trails is not a flag: did you mean --trials"),
        (["--epochs=1"], "dropout=0..1.5", "--space has dropout=1.5: --dropout is 1.5: expected < 1"),
        (["--epochs=1"], "schedule=cosine|cosin", "--space has schedule=cosin"),
        (["--epochs=1", "x"], "dropout=0..0.5", "argument 'x' is not a flag"),
        (["--epochs=-1"], "dropout=0..0.5", "--epochs is -1"),
    ):
        with pytest.raises(BadInput) as refused:
            check(flags, text)
        assert said in str(refused.value)


def test_experiments_are_modules_or_files(tmp_path):
    assert experiment_module.load("experiments.mlp_classifier") == (mlp_classifier.build, MlpConfig)
    own = tmp_path / "own_experiment_of_a_test.py"
    own.write_text("import zoo\nclass Mine(zoo.Config): pass\ndef build(config): pass\n")
    assert experiment_module.load(str(own)).config_class.__name__ == "Mine"
    own.write_text("def build(config): pass\n")
    empty = tmp_path / "empty_module_of_a_test.py"
    empty.write_text("")
    for name, said in (
        (str(own), "does not say its config's type"),
        (str(empty), "has no function build"),
        (str(tmp_path / "none.py"), "is not a file"),
        ("experiments.mlp_clasifier", "there is no module 'experiments.mlp_clasifier'"),
        (".x", "is not the name of a module"),
    ):
        with pytest.raises(BadInput, match=said):
            experiment_module.load(name)


def test_killed_in_the_second_trial_the_same_command_goes_on(table, tmp_path, capfd, monkeypatch):
    space = ["--space", "learning_rate=0.05|0.02", "--sampler=grid", f"--workdir={tmp_path / 'sweep'}"]
    shared = [word for word in words(table) if not word.startswith("--learning_rate")]
    command = ["sweep", "experiments.mlp_classifier", *space, *shared]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    process = subprocess.Popen([sys.executable, "-m", "zoo.cli", *command], stderr=subprocess.PIPE, text=True)
    second = tmp_path / "sweep" / "trial_001"
    deadline = time.monotonic() + 300
    while not (second / "run.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, error
    assert "zoo: SIGTERM: " in error.splitlines()[-1] and "the same command" in error.splitlines()[-1]
    before = (tmp_path / "sweep" / "trial_000" / "result.json").stat().st_mtime_ns
    assert not (second / "result.json").exists()
    assert main.main([*command, "--json"]) == 0
    out, error = capfd.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert [each["state"] for each in found["trials"]] == ["complete"] * 2
    assert "trial 1 of 2" in error and "trial 0 of 2" not in error
    best = found["best"]
    assert found["test"]["trial"] == best and "test/accuracy" in result(tmp_path / "sweep" / f"trial_00{best}")
    other = tmp_path / "sweep" / f"trial_00{1 - best}"
    assert not any(name.startswith("test/") for name in result(other))
    assert best == 0 or (tmp_path / "sweep" / "trial_000" / "result.json").stat().st_mtime_ns == before
    # What trials print is in their folders, and a flagfile repeats its trial alone.
    assert "eval: loss" in (second / trial_worker.LOG).read_text() and "eval: loss" not in error
    flags = (second / "flags.txt").read_text().splitlines()
    assert "--learning_rate=0.02" in flags and f"--workdir={second}" in flags
