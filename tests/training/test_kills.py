"""Real processes, really killed: the run ends bitwise where the uninterrupted one ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.helpers import killed_run, small
from tests.training.test_resume import points
from zoo.engine import checkpoints

ROOT = Path(__file__).parents[2]


def start(workdir, *moment):
    command = [sys.executable, "-m", "tests.helpers.killed_run", str(workdir), *moment]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, zoo.run(small.build, killed_run.CONFIG, folder)


def same(folder, whole, last_line):
    expected, found = (checkpoints.restore(path / "checkpoints")[0] for path in (whole[0], folder))
    assert found.step == 12
    assert all(np.array_equal(expected.state[name], found.state[name]) for name in expected.state)
    result = json.loads(last_line)
    assert {n: v for n, v in result.items() if "second" not in n} == {
        n: v for n, v in whole[1].items() if "second" not in n
    }
    assert points(folder) == points(whole[0])


def test_killed_again_and_again(whole, tmp_path):
    """In compilation, in training, in a save, in an evaluation, by SIGTERM; then left alone."""
    for moment, code in [
        ("compile:1", -9),
        ("training:5", -9),
        ("save:1", -9),
        ("evaluation:2", -9),
        ("term:9", 143),
    ]:
        died = start(tmp_path, moment)
        assert died.returncode == code, died.stderr
        assert not (tmp_path / "result.json").exists()
        if moment == "save:1":
            assert list((tmp_path / "checkpoints").glob(".partial-*")), "killed in the middle of a save"
    assert "SIGTERM: saved at step " in died.stderr
    last = start(tmp_path)
    assert last.returncode == 0, last.stderr
    assert "resumed at step " in last.stderr
    same(tmp_path, whole, last.stdout.splitlines()[-1])
