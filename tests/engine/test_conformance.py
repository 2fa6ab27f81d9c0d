"""A sample of the conformance table, and the table itself; `python -m benchmarks.conformance` tries all models."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.conformance import checks, keras_hub_subjects, plain_keras, subjects, table
from zoo.errors import BadInput

ALL = [*subjects.applications(), *keras_hub_subjects.backbones()]
# KerasHub has a ResNet of its own.
SUBJECTS = {each.name: each for each in reversed(ALL)}
has_keras_hub = importlib.util.find_spec("keras_hub") is not None
needs_keras_hub = pytest.mark.skipif(not has_keras_hub, reason="KerasHub comes with the extra `conformance`")
SAMPLE = ["ResNet", *(pytest.param(name, marks=needs_keras_hub) for name in ("Bert", "Llama", "ViT"))]
PAGE = Path(__file__).parent.parent.parent / "docs" / "conformance.md"
KEYS = ("moved", "four", "two", "exact", "resumed", "fit")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_model_keeps_the_promises(name, tmp_path):
    row = checks.row(SUBJECTS[name], tmp_path)
    assert row["trains"] is True
    assert [key for key in KEYS if not table.is_kept(row, key)] == [], row
    assert plain_keras.difference(tmp_path / SUBJECTS[name].file) <= checks.ANSWERS_BAR


def test_a_saved_model_loads_without_the_zoo(tmp_path):
    model = SUBJECTS["MobileNet"].make()
    checks.save(model, subjects.columns(model, 4), tmp_path / "MobileNet")
    command = [sys.executable, plain_keras.__file__, str(tmp_path), subjects.APPLICATIONS, "MobileNet", "missing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    (name, difference), (_, reason) = map(json.loads, done.stdout.splitlines())
    assert name == "MobileNet" and difference <= checks.ANSWERS_BAR
    assert reason.startswith("ValueError: File not found")


@needs_keras_hub
def test_a_mask_that_leaks_between_rows_is_refused_in_slices():
    """KerasHub's XLNet; the loss of a row moves by less than a thousandth."""
    whole = checks.Trainer(SUBJECTS["XLNet"], compile="none")
    whole.step(0)
    assert ["depends on the other rows" in note for note in whole.engine.notes] == [True]
    with pytest.raises(BadInput, match=r"'loss' of forward .*: an example's value depends on the other rows"):
        checks.Trainer(SUBJECTS["XLNet"], compile="none", accumulate=2).step(0)


def test_what_fails_is_said():
    kept = {"group": subjects.APPLICATIONS, "name": "A", "noise": False, "trains": True, "trainable": 3, "moved": 3}
    kept |= {"four": 1e-7, "two": 0.0, "exact": 0.0, "resumed": 0.0, "saved": 0.0, "fit": [1.0, 1.0]}
    refused = dict.fromkeys(("four", "two"), "BadInput: split")
    rows = [kept, kept | {"name": "B", "two": 2e-6, "exact": 1e-9, "rounding": 3e-6}, kept | {"name": "C", **refused}]
    rows.append({"group": subjects.APPLICATIONS, "name": "D", "trains": "the process ended with -9"})
    shown = table.table(rows).splitlines()
    assert shown[2] == "| A | no | 3 of 3 | 1.0e-07 | 0 | 0 | 0 | 0 | 0 |"
    assert (
        shown[3]
        == "| B | no | 3 of 3 | 1.0e-07 | **2.0e-06**, above the bar | **1.0e-09**, above the bar | 0 | 0 | 0 |"
    )
    assert shown[4] == "| C | no | 3 of 3 | fails | fails | 0 | 0 | 0 | 0 |"
    assert shown[5] == "| D | | fails | | | | | | |"
    moved = "with each initial weight moved to the next float32, a step on one device differs by 3.0e-06"
    reasons = [
        f"- B (2 devices): {moved}",
        "- C (4 micro-batches, 2 devices): BadInput: split",
        "- D (trains): the process ended with -9",
    ]
    assert shown[-3:] == reasons
    assert [key for key in KEYS if not table.is_kept(rows[1], key)] == ["two", "exact"]


def test_the_page_has_every_model():
    text = PAGE.read_text(encoding="utf8").partition("\n## Compiled\n")[0]
    assert [each.name for each in ALL if text.count(f"\n| {each.name} | ") < 1] == []
    assert text.count("\n| ") == len(ALL) + len({each.group for each in ALL})
