"""The notebooks run from a clean kernel, with their own assertions, and are what their texts say."""

import ast
import importlib.util
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
TEXTS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
NAMES = [text.stem for text in TEXTS]

_spec = importlib.util.spec_from_file_location("pair", ROOT / "notebooks" / "pair.py")
pair = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pair)


def first_cell(notebook):
    return next(cell.source for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("text", TEXTS, ids=NAMES)
def test_pair_is_in_step(text):
    """Else: python notebooks/pair.py."""
    made, kept = pair.notebook(text), nbformat.read(text.with_suffix(".ipynb"), as_version=4)
    parts = [[(cell.cell_type, cell.id, cell.source) for cell in notebook.cells] for notebook in (made, kept)]
    assert parts[0] == parts[1]
    assert all(not cell.get("outputs") for cell in kept.cells), "kept without outputs"
    nbformat.validate(kept)


def test_all_have_a_badge_and_one_first_cell():
    notebooks = {text: pair.notebook(text) for text in TEXTS}
    assert len(notebooks) == 7
    assert len({first_cell(notebook) for notebook in notebooks.values()}) == 1
    for text, notebook in notebooks.items():
        link = re.search(
            r"colab\.research\.google\.com/github/([^/]+/[^/]+)/blob/main/(\S+)\)", notebook.cells[0].source
        )
        assert (ROOT / link[2]).name == f"{text.stem}.ipynb"
        assert f'REPOSITORY = "{link[1]}"' in first_cell(notebook)


def test_place_on_github_is_written_everywhere():
    for text in TEXTS:
        moved = pair.place(text.read_text(encoding="utf8"), "someone/something")
        assert moved.count("someone/something") == 2
        assert pair.place(moved, "OWNER/REPO").count("OWNER/REPO") == 2


def test_every_notebook_asserts():
    for text in TEXTS:
        found = [node for node in ast.walk(ast.parse(text.read_text(encoding="utf8"))) if isinstance(node, ast.Assert)]
        assert len(found) >= 2, text.name


def test_first_cell_installs_in_colab_only(monkeypatch):
    """Without TensorFlow, and with a project that lies somewhere else than the kernel."""
    calls = []
    monkeypatch.setattr("subprocess.run", lambda words, check: calls.append(words))
    code = compile(first_cell(pair.notebook(TEXTS[0])), "first cell", "exec")
    exec(code, {})
    assert calls == []
    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setattr("sys.path", list(sys.path))
    exec(code, {})
    assert calls[0][:2] == ["git", "clone"] and "--no-deps" in calls[1]
    assert not any("tensorflow" in word for words in calls for word in words)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("text", TEXTS, ids=NAMES)
def test_notebook(text, monkeypatch):
    """With fewer steps than a user's; its own assertions hold for either."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setenv("ZOO_QUICK", "1")
    # They train for long enough that LLVM's optimization pays.
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    notebook = nbformat.read(text.with_suffix(".ipynb"), as_version=4)
    start = time.perf_counter()
    NotebookClient(notebook, timeout=900, kernel_name="python3").execute(cwd=str(text.parent))
    print(f"{text.stem}: {time.perf_counter() - start:.0f} s")
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
