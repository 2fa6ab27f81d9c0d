"""Imports point down and never in a circle; each room says what lives there."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("zoo", "experiments", "benchmarks")
ROOMS = sorted(path.parent for path in (ROOT / "zoo").rglob("__init__.py") if path.parent.name != "zoo")


def lint(folder):
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True, timeout=60)


def draw(folder, *arguments):
    # The program draws the tree that it lies in.
    command = [sys.executable, folder / "docs" / "import_graph.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copied(tmp_path):
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "import_graph.py", tmp_path / "docs")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_arrows_point_down():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "module, line, broken",
    [
        ("zoo/engine/step.py", "from zoo.predict.predictors import loading", "zoo.engine.step -> zoo.predict"),
        ("zoo/predict/predictors/litert.py", "from zoo.predict.evaluation import evaluate", "zoo.predict.predictors"),
        ("zoo/metrics/logits.py", "from experiments import mlp_classifier", "zoo.metrics.logits -> experiments"),
    ],
)
def test_an_arrow_upwards_is_found(copied, module, line, broken):
    path = copied / module
    path.write_text(path.read_text(encoding="utf8") + f"\n{line}\n", encoding="utf8")
    done = lint(copied)
    assert done.returncode == 1 and broken in " ".join(done.stdout.split())


def test_the_drawing_has_no_circle_and_finds_one(copied):
    whole = draw(copied)
    assert "modules in a circle: 0" in whole and "rooms in a circle: none" in whole
    path = copied / "zoo" / "errors.py"
    path.write_text(path.read_text(encoding="utf8") + "\nfrom zoo import files\n", encoding="utf8")
    found = draw(copied)
    assert "circle: zoo.errors zoo.files" in found and "modules in a circle: 2" in found
    assert "rooms in a circle: " in found and "rooms in a circle: none" not in found


def test_the_drawing_of_one_room_and_of_markdown(copied):
    assert "predictors" in draw(copied, "zoo.predict").splitlines()[-4]
    picture = draw(copied, "--mermaid")
    assert picture.startswith("flowchart TD\n") and "    predict --> engine\n" in picture


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_says_what_lives_there(room):
    lines = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf8"))).splitlines()
    assert len(lines) == 4 and not lines[1], "a title, an empty line, what it may import, where to start"
    assert lines[3].startswith("Start at ")
    named = lines[3].removeprefix("Start at ").replace(";", " ").replace(",", " ").split()
    assert all((room / name.rstrip(".")).exists() for name in named if name.rstrip(".").endswith(".py"))
