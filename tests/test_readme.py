"""The README's own text runs; the README, docs/tree.md and docs/dependencies.md are complete."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
README = "README.md"
# What people search for who need this project.
TERMS = (
    "test-time adaptation",
    "distribution shift",
    "label shift",
    "gradient accumulation",
    "KV cache",
    "early exit",
    "calibration",
    "Hugging Face",
    "ONNX",
    "LiteRT",
)


def read(name):
    return (ROOT / name).read_text(encoding="utf8")


def blocks(name, language):
    return re.findall(rf"```{language}\n(.*?)```", read(name), re.DOTALL)


def test_your_own_model(tmp_path, monkeypatch, capsys):
    (text,) = blocks(README, "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "README.md", "exec"), {"__name__": "readme"})
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0.9
    assert (tmp_path / "runs" / "your_model" / "model.keras").exists()


def run(lines, folder):
    """Runs commands as they stand, one after the other; what the last one said."""
    assert len(lines) == 3
    for line in lines:
        words = [sys.executable if word == "python" else word for word in shlex.split(line)]
        if words[0] == "zoo":
            words[:1] = [sys.executable, "-m", "zoo.cli"]
        # XLA's flags are those of a user.
        environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "ZOO_CACHE": str(folder)}
        environment.pop("XLA_FLAGS", None)
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands(tmp_path):
    """The README's block of commands, but for the server that would not end."""
    np.save(tmp_path / "digits.npy", np.zeros((3, 28, 28), np.uint8))
    (text,) = blocks(README, "sh")
    said = run([line for line in text.splitlines() if "tensorboard" not in line], tmp_path)
    assert len(said.splitlines()) == 3 and "digits.npy[2]" in said


def test_reading_commands(tmp_path):
    (text,) = blocks("docs/text.md", "sh")
    said = run(text.splitlines(), tmp_path)
    found = json.loads(said.splitlines()[-1])
    assert found["accuracy"] > 0.7 and found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]


def test_the_chinese_readme_has_the_same_code_and_figures():
    """Commands, code without its comments, and every number of the tables."""
    both = README, "README.zh-CN.md"
    english, chinese = (re.sub(r'""".*?"""', "", blocks(name, "python")[0]) for name in both)
    assert english == chinese and blocks(both[0], "sh") == blocks(both[1], "sh")
    rows = [
        [re.findall(r"\d(?:[\d.,e-]*\d)?", row) for row in re.findall(r"^\|.*\|$", read(name), re.MULTILINE)]
        for name in both
    ]
    assert len(rows[0]) > 20 and rows[0] == rows[1]


@pytest.mark.parametrize("term", TERMS)
def test_a_search_finds_the_readme(term):
    assert term.lower() in " ".join(read(README).lower().split())


@pytest.mark.parametrize("name", [README, "README.zh-CN.md"])
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(name))
    assert len(links) > 15 and [link for link in links if not (ROOT / link).exists()] == []


def sections(text):
    """Sections of docs/tree.md by the folder that their title names."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.split("\n", 1)[0].rstrip("/"): part for part in parts}


def test_tree_names_every_module():
    """Each module in the section of its room, each folder in it as a path of its own; and nothing that is gone."""
    tree, expected = sections(read("docs/tree.md")), {}
    for path in (ROOT / "zoo").rglob("*.py"):
        parts = path.relative_to(ROOT).parts
        if path.stem not in ("__init__", "__main__"):
            names = expected.setdefault("/".join(parts[:-1][:2]), set())
            names |= {path.name, *(f"{folder}/" for folder in parts[2:-1])}
    assert tree.keys() == expected.keys()
    for room, names in expected.items():
        assert [name for name in sorted(names) if f"`{name}`" not in tree[room]] == [], room
        # An export has an example.py.
        named = set(re.findall(r"`(\w+\.py)`", tree[room])) - {"example.py"}
        assert named <= names, room


def test_tree_names_every_experiment_and_benchmark():
    intro = read("docs/tree.md").split("\n## ")[0]
    for room in ("experiments", "benchmarks"):
        entries = [path for path in (ROOT / room).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
        names = [path.name if path.suffix else f"{path.name}/" for path in entries if path.name != "__init__.py"]
        assert [name for name in sorted(names) if f"`{name}`" not in intro] == [], room


def test_every_dependency_is_explained():
    setup, page = read("setup.py"), read("docs/dependencies.md")
    required, extras = setup[setup.index("install_requires") :].split("extras_require")
    names = re.findall(r'"([A-Za-z0-9_-]+)[~<>=]', required)
    assert len(names) > 8 and [name for name in names if name not in page] == []
    extras = re.findall(r'^ {8}"(\w+)": \[?', extras.split("entry_points")[0], re.MULTILINE)
    assert len(extras) > 5 and [name for name in extras if f"| `{name}` |" not in page] == []
