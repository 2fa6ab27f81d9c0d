"""`make test` runs the files in parts: each file once, in parts of about equal length."""

import json
from pathlib import Path

import pytest

from tests import conftest

FILES = sorted(Path(__file__).parent.rglob("test_*.py"))


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_parts_are_whole_and_balanced(parts):
    found = conftest.parted(FILES, parts)
    assert sorted(file for part in found for file in part) == FILES
    lengths = [sum(map(conftest._seconds, part)) for part in found]
    assert max(lengths) - min(lengths) <= max(map(conftest._seconds, FILES))


def test_recorded_files_exist():
    """A renamed file is recorded anew: `python -m pytest --record_seconds FILE`."""
    recorded = json.loads((Path(__file__).parent / "seconds.json").read_text())
    root = Path(__file__).parents[1]
    assert [name for name in recorded if not (root / name).is_file()] == []
