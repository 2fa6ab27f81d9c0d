"""Mistakes in an experiment of one's own: one line with its file and line, exit code 2; the Python API raises it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.helpers.small import SmallConfig, build
from zoo.errors import BadInput

ROOT = Path(__file__).parents[2]
CONFIG = SmallConfig(epochs=0, steps=2, compile="none", graph=False)

BUILDS = {
    "a model": (lambda e: e.model, r"returned Sequential: expected zoo.Experiment\(model="),
    "nothing": (lambda e: None, "returned nothing: expected zoo.Experiment"),
    "a tuple": (tuple, "returned tuple: expected zoo.Experiment"),
    "arrays": (lambda e: e._replace(train=np.ones(3)), "whose train is ndarray: expected zoo.Batches"),
    "one data set": (lambda e: e._replace(evals=e.train), "whose evals is Batches: expected a dictionary"),
    "no batches": (lambda e: e._replace(tests={"test": 3}), "returned int as the data set 'test'"),
    "one name": (lambda e: e._replace(objective="loss"), r"whose objective is 'loss': expected names, as \('loss',\)"),
    "no forward": (lambda e: e._replace(forward=None), "whose forward is nothing: expected a function"),
}


@pytest.mark.parametrize("name", BUILDS)
def test_build_returns_something_else(name, tmp_path):
    change, said = BUILDS[name]

    def wrong(config):
        return change(build(config))

    with pytest.raises(BadInput, match=rf"^build \(.*test_mistakes.py, line \d+\) .*{said}"):
        zoo.run(wrong, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists(), "nothing was claimed"


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (lambda *_: {"f1": np.array([0.5, 0.25])}, r"returned an array of shape \(2,\) as 'f1': expected a number"),
        (lambda *_: {"f1": "good"}, "returned str as 'f1': expected a number"),
        (lambda *_: {"f1": [[1], [2, 3]]}, "returned list as 'f1'"),
        (lambda *_: 0.5, "returned float: expected a dictionary of numbers"),
    ],
)
def test_metrics_that_are_no_numbers(metrics, said, tmp_path):
    with pytest.raises(BadInput, match=rf"^compute_metrics \(.*test_mistakes.py, line \d+\) {said}"):
        zoo.run(lambda config: build(config)._replace(compute_metrics=metrics), CONFIG, tmp_path)


def test_one_number_in_an_array_is_a_metric(tmp_path):
    numbers = {"a": np.float32(0.5), "b": np.array([2]), "c": True}
    result = zoo.run(lambda config: build(config)._replace(compute_metrics=lambda *_: numbers), CONFIG, tmp_path)
    assert (result["eval/a"], result["eval/b"], result["eval/c"]) == (0.5, 2, True)


EXPERIMENT = """
import dataclasses
import tensorflow as tf
import zoo
from tests.helpers.small import SmallConfig, build as good

def forward(model, batch, training):
    logits = model(batch["x"], training=training)
    if tf.reduce_mean(logits) > 0:
        logits = -logits
    return {"loss": zoo.Term(logits[:, 0])}

def build(config):
    return good(config)._replace(forward=forward)

if __name__ == "__main__":
    zoo.main(build, SmallConfig, workdir="runs/mistake")
"""


def test_a_command_ends_with_one_line(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(EXPERIMENT)
    command = [sys.executable, str(script), "--steps=2", f"--workdir={tmp_path / 'run'}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}

    def start(*more):
        options = {"capture_output": True, "text": True, "timeout": 240, "cwd": tmp_path}
        return subprocess.run([*command, *more], env=environment, **options)

    done = start()
    assert done.returncode == 2 and done.stdout == ""
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("mine: ")]
    assert line.startswith("mine: forward (mine.py, line 9): Python's if"), line
    assert "Traceback" not in done.stderr
    full = start("--traceback")
    assert full.returncode == 2 and "Traceback (most recent call last)" in full.stderr
    assert "if tf.reduce_mean(logits) > 0:" in full.stderr
