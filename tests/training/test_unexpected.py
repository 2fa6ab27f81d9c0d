"""An error that nobody expected, anywhere in a training command: one line, and what was trained is kept."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.helpers.small import SmallConfig, build
from zoo.engine import checkpoints
from zoo.engine.engine import Engine
from zoo.errors import BadInput

ROOT = Path(__file__).parents[2]
CONFIG = SmallConfig(epochs=0, steps=6, log_every=2, eval_every=3, steps_per_loop=1, compile="none", graph=False)

# Without TensorFlow: `run` is replaced.
MAIN = """
import os, signal, sys, types
import zoo
def run(build, config, workdir):
    {body}
sys.modules["zoo.training.run"] = types.SimpleNamespace(run=run)
zoo.main(None, zoo.Config, workdir="runs/it")
"""


def obey():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(body, *arguments, **options):
    command = [sys.executable, "-c", MAIN.format(body=body), "--steps=1", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # A suite in the background ignores some signals, and what it starts would do so, too.
    pipes = {"preexec_fn": obey, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, timeout=120, **pipes)


def test_one_line_and_exit_code_1():
    done = start("raise KeyError('x')")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == ""
    assert "unexpected KeyError: 'x'" in done.stderr and "--traceback" in done.stderr
    full = start("raise KeyError('x')", "--traceback")
    assert full.returncode == 1 and "Traceback (most recent call last)" in full.stderr
    assert "unexpected KeyError: 'x'" in full.stderr.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_run(number):
    done = start(f"os.kill(os.getpid(), {int(number)})")
    assert done.returncode == 128 + number and done.stderr.count("\n") == 1
    assert f"{number.name}: stopped at once; no step was saved" in done.stderr


def test_a_closed_stdout_loses_no_result():
    reader, writer = os.pipe()
    os.close(reader)
    done = start("return {'step': 1}", stdout=writer)
    os.close(writer)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "stdout cannot be written (Broken pipe); the result is in result.json" in done.stderr


def failing(monkeypatch, owner, name, at):
    """Replaces a function by one that fails at its call number `at`, and then never again."""
    real, calls = getattr(owner, name), []

    def wrapped(*given, **named):
        calls.append(1)
        if len(calls) == at:
            raise ZeroDivisionError("of somebody's code")
        return real(*given, **named)

    monkeypatch.setattr(owner, name, wrapped)


def same(left, right):
    left, right = (checkpoints.restore(folder / "checkpoints")[0].state for folder in (left, right))
    return all(np.array_equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, zoo.run(build, CONFIG, folder)


def test_an_error_between_two_calls_saves_a_checkpoint(whole, tmp_path, monkeypatch):
    failing(monkeypatch, Engine, "evaluate_with_outputs", at=1)
    with pytest.raises(ZeroDivisionError) as error:
        zoo.run(build, CONFIG, tmp_path)
    assert error.value.__notes__ == ["the checkpoint of step 3 is kept, the same command goes on from there"]
    result = zoo.run(build, CONFIG, tmp_path)
    assert all(result[name] == value for name, value in whole[1].items() if "per_second" not in name)
    assert same(whole[0], tmp_path)


def test_an_error_in_a_call_keeps_the_weights(tmp_path, monkeypatch):
    failing(monkeypatch, Engine, "train", at=5)
    with pytest.raises(ZeroDivisionError) as error:
        zoo.run(build, CONFIG, tmp_path)
    kept = tmp_path / "rescued.safetensors"
    assert error.value.__notes__ == [f"the weights as they were are in {kept}, for --init_from"]
    started = zoo.run(build, CONFIG.replace(init_from=str(kept), learning_rate=0.0, steps=1), tmp_path / "from")
    assert started["step"] == 1 and not (tmp_path / "checkpoints").exists()


def test_an_error_in_the_first_call_has_nothing_to_keep(tmp_path, monkeypatch):
    failing(monkeypatch, Engine, "train", at=1)
    with pytest.raises(ZeroDivisionError) as error:
        zoo.run(build, CONFIG, tmp_path)
    assert not hasattr(error.value, "__notes__") and not (tmp_path / "rescued.safetensors").exists()


def test_a_wrong_metric_loses_no_step(tmp_path):
    """Also what the user did wrong, where it shows late."""
    config = CONFIG.replace(patience=2, metric="accuracies")
    with pytest.raises(BadInput, match="--metric is 'accuracies'") as error:
        zoo.run(build, config, tmp_path)
    assert error.value.__notes__ == ["the checkpoint of step 3 is kept, the same command goes on from there"]
    assert checkpoints.restore(tmp_path / "checkpoints")[0].step == 3


def test_a_baseline_that_fails_loses_no_result(tmp_path):
    def broken(config):
        return build(config)._replace(baseline=lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError) as error:
        zoo.run(broken, CONFIG, tmp_path)
    assert "the checkpoint of step 6 is kept" in error.value.__notes__[0]
    assert {"result.json", "model.keras", "model.json"} <= {path.name for path in tmp_path.iterdir()}
