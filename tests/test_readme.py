"""The README's own text runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_your_own_model(tmp_path, monkeypatch, capsys):
    (text,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "README.md", "exec"), {"__name__": "readme"})
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0.9
    assert (tmp_path / "runs" / "spiral" / "model.keras").exists()


def run(lines, folder):
    """Runs commands as they stand, one after the other; what the last one said."""
    assert len(lines) == 3
    for line in lines:
        words = [sys.executable if word == "python" else word for word in shlex.split(line)]
        if words[0] == "zoo":
            words[:1] = [sys.executable, "-m", "zoo.cli"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "ZOO_CACHE": str(folder)}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands(tmp_path):
    """The first block of commands, but for the server that would not end."""
    np.save(tmp_path / "digits.npy", np.zeros((3, 28, 28), np.uint8))
    said = run([line for line in blocks("sh")[0].splitlines() if "tensorboard" not in line], tmp_path)
    assert len(said.splitlines()) == 3 and "digits.npy[2]" in said


def test_reading_commands(tmp_path):
    said = run(blocks("sh")[1].splitlines(), tmp_path)
    found = json.loads(said.splitlines()[-1])
    assert found["accuracy"] > 0.7 and found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]


def test_tree_names_every_module():
    tree = README[README.index("## The tree") : README.index("## What each dependency")]
    modules = [path.name for path in (ROOT / "zoo").rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert [name for name in modules if name not in tree] == []


def test_every_dependency_is_explained():
    setup = (ROOT / "setup.py").read_text()
    block = setup[setup.index("install_requires") : setup.index("extras_require")]
    names = re.findall(r'"([A-Za-z0-9_-]+)[~<>=]', block)
    assert len(names) > 8 and [name for name in names if name not in README] == []
