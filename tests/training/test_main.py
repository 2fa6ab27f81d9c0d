"""The command line of an experiment, in real processes: one line and an exit code, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(*arguments, cwd, **environment):
    command = [sys.executable, "-m", "experiments.mlp_classifier", *arguments]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"} | environment
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)


def last(text):
    return text.rstrip().splitlines()[-1]


def test_bad_input_is_one_line_and_code_2(tmp_path):
    done = start(
        "--dataset=fashion_mnist", "--workdir=run", cwd=tmp_path, TFDS_DATA_DIR=str(tmp_path / "none"), **NOWHERE
    )
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert last(done.stderr).startswith("mlp_classifier: --dataset=fashion_mnist ")
    assert str(tmp_path / "none") in last(done.stderr)


# A proxy that is not there: also where there is a network, nothing is downloaded. The probe itself needs no proxy.
NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


def test_unknown_flag(tmp_path):
    done = start("--learning_rat=0.1", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "Unknown command line flag 'learning_rat'. Did you mean: learning_rate" in last(done.stderr)


def test_what_the_system_refuses_is_one_line(tmp_path):
    """Closed streams are no harm either."""
    words = [sys.executable, "-m", "experiments.mlp_classifier", f"--dataset={'x' * 300}", "--steps=1"]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    command = ["bash", "-c", 'exec "$@" <&- >&-', "bash", *words]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert last(done.stderr).startswith("mlp_classifier: ") and "File name too long" in last(done.stderr)


def test_two_devices_and_a_flag_file(tmp_path):
    """A run on two logical CPUs, repeated from its flag file in another folder on one: the same numbers."""
    options = ["--dataset=digits", "--steps=20", "--dropout=0.2", "--hidden=16", "--batch_size=33"]
    done = start(*options, "--cpu_devices=2", "--workdir=two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    two = json.loads(last(done.stdout))
    again = start("--flagfile=two/flags.txt", "--cpu_devices=1", "--workdir=one", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    one = json.loads(last(again.stdout))
    for name in ("train/loss", "eval/loss", "test/loss"):
        assert abs(one[name] - two[name]) < 1e-4
    assert one["step"] == two["step"] == 20


def test_not_finite_is_code_3(tmp_path):
    done = start("--dataset=digits", "--optimizer=sgd", "--learning_rate=1e38", "--steps=30", cwd=tmp_path)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "not finite in steps " in last(done.stderr)
