"""The demo, with fewer steps: three models, one table, refinement, and a second call that only reads."""

import re

import pytest

import zoo
from experiments import demo

_STEPS = {"mlp": 150, "lstm": 60, "encoder": 20}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture
def small(monkeypatch):
    """Few uncompiled steps, no linear model of texts, which takes half a minute, and short streams."""
    few = {
        name: {"epochs": 0, "steps": steps, "baseline": name == "mlp", "compile": "none"}
        for name, steps in _STEPS.items()
    }
    members = [each._replace(config=each.config.replace(**few[each.name])) for each in demo.members()]
    monkeypatch.setattr(demo, "members", lambda: members)
    monkeypatch.setattr(demo, "_STREAM", 200)


def test_first_call_trains(workdir, small, capsys):
    assert demo.main(["--workdir", str(workdir)]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.strip().split("\n\n")[0].splitlines()[2:]}
    assert set(rows) == {"mlp", "lstm", "encoder"}
    # Three matrices, the last one's biases, and four numbers for each normalised feature.
    assert f"{784 * 256 + 256 * 128 + 128 * 10 + 10 + 4 * 384:,}" in rows["mlp"]
    wrong = [
        [float(part) for part in pair] for pair in re.findall(r"wrong: ([\d.]+) % as trained, ([\d.]+) % refined", said)
    ]
    assert len(wrong) == 3 and all(0 <= share <= 100 for pair in wrong for share in pair)
    assert wrong[0][1] < wrong[0][0], "damaged digits: refinement helps"
    assert (workdir / "mlp" / "damaged.npy").exists()
    for name in ("zoo predict", "tensorboard", "notebooks/", "docs/test_time_adaptation.md"):
        assert name in said


def test_second_call_reads(workdir, small, monkeypatch):
    def refuse(*given):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(zoo, "run", refuse)
    for member in demo.members():
        found = demo.trained(member, workdir)
        assert found["step"] == _STEPS[member.name] and found["seconds"] > 0 and "test/accuracy" in found


def test_result_of_another_config_is_not_taken(workdir, small):
    mlp = demo.members()[0]
    more = mlp._replace(config=mlp.config.replace(epochs=0, steps=mlp.config.steps + 10))
    with pytest.raises(zoo.errors.BadInput, match="schedule's length"):
        demo.trained(more, workdir)


def test_table():
    assert demo.table([("a", "bb"), ("ccc", "d")]) == "a    bb\n---  --\nccc  d"
