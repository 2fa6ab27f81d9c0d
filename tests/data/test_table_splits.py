"""Splits of tables by group and by time: nothing of a group or a moment is on both sides."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from experiments.mlp_classifier import MlpConfig, build
from zoo.data import splits
from zoo.data.datasets import images
from zoo.errors import BadInput
from zoo.predict.evaluation import evaluate, held_out

RNG = np.random.default_rng(0)
ROWS = 300


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Visits of patients, in no order."""
    path = tmp_path_factory.mktemp("splits") / "visits.csv"
    table = pd.DataFrame(
        {
            "patient": RNG.integers(0, 40, ROWS),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.integers(0, 200, ROWS), unit="D"),
            "a": RNG.normal(size=ROWS).round(6),
            "label": RNG.choice(["yes", "no"], ROWS),
        }
    )
    table.to_csv(path, index=False)
    return path


def where(data, path, column):
    """The values of a column in each part, found by the rows' numbers."""
    table = pd.read_csv(path)
    of = dict(zip(table["a"].astype(np.float32), table[column]))
    place = data.features.index("a")
    return [[of[a] for a in part["x"][:, place]] for part in (data.train, data.validation, data.test)]


def test_groups_stay_together(path):
    data = images.load(str(path), split="group:patient")
    assert "patient" not in data.features and any("'patient' splits the rows" in note for note in data.notes)
    train, validation, test = (set(part) for part in where(data, path, "patient"))
    assert not train & validation and not train & test and not validation & test
    assert sum(len(part["y"]) for part in (data.train, data.validation, data.test)) == ROWS
    assert all(0.04 * ROWS < len(part["y"]) < 0.16 * ROWS for part in (data.validation, data.test))


def test_the_last_rows_are_the_test(path):
    data = images.load(str(path), split="time:day")
    assert "day" in data.features
    train, validation, test = where(data, path, "day")
    assert max(train) < min(validation) and max(validation) < min(test)
    assert all(0.05 * ROWS < len(part["y"]) < 0.16 * ROWS for part in (data.validation, data.test))


@given(st.lists(st.integers(0, 12), min_size=20, max_size=80), st.sampled_from([(0.1, 0.1), (0.1,), (0.2, 0.3)]))
def test_any_groups(groups, shares):
    names, columns = [str(group) for group in groups], {"i": np.arange(len(groups))}
    if len(set(names)) <= len(shares):
        with pytest.raises(BadInput, match="groups cannot be split"):
            splits.cut_by_group(columns, names, *shares)
        return
    parts = [part["i"] for part in splits.cut_by_group(columns, names, *shares)]
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    found = [{names[i] for i in part} for part in parts]
    assert all(found) and sum(map(len, found)) == len(set(names))


@given(st.lists(st.integers(0, 12), min_size=20, max_size=80), st.sampled_from([(0.1, 0.1), (0.1,), (0.2, 0.3)]))
def test_any_times(times, shares):
    try:
        parts = [part["t"] for part in splits.cut_by_time({"t": np.array(times)}, np.array(times), *shares)]
    except BadInput:
        # So many rows of one time that a part would be empty.
        assert max(np.bincount(times)) >= min(shares) * len(times) - 1
        return
    assert sum(map(len, parts)) == len(times)
    assert all(one.max() < other.min() for one, other in itertools.pairwise(parts))


def test_a_run_finds_its_split_again(path, tmp_path):
    config = MlpConfig(dataset=str(path), split="group:patient", epochs=0, steps=20, baseline=False)
    result = zoo.run(build, config, tmp_path / "run")
    source = held_out.load(tmp_path / "run", zoo.load(tmp_path / "run"))
    assert np.mean(source.logits.argmax(axis=1) == source.labels) == pytest.approx(result["eval/accuracy"])
    test = len(images.load(str(path), split="group:patient").test["y"])
    # Under another name, too; a file without the column is evaluated whole.
    other = tmp_path / "other.csv"
    other.write_bytes(path.read_bytes())
    assert evaluate.evaluate(tmp_path / "run", str(other))["examples"] == test
    pd.read_csv(path).drop(columns="patient").head(50).to_csv(other, index=False)
    assert evaluate.evaluate(tmp_path / "run", str(other))["examples"] == 50


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("groups:patient", "expected random, group:COLUMN or time:COLUMN"),
        ("group:", "expected random, group:COLUMN or time:COLUMN"),
        ("group:patients", "has no column 'patients'.*did you mean patient"),
        ("time:label", "--split=time:label: the column has categories; expected dates or numbers"),
    ],
)
def test_mistakes(path, split, said):
    with pytest.raises(BadInput, match=said):
        images.load(str(path), split=split)


def test_what_has_no_columns(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((20, 2), np.float32), y=np.arange(20) % 2)
    for name in (str(tmp_path / "d.npz"), "digits"):
        with pytest.raises(BadInput, match="--split=group:a"):
            images.load(name, split="group:a")
    pd.DataFrame({"t": ["2024-01-01", ""] * 10, "label": ["a", "b"] * 10}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(BadInput, match=r"t.csv line 3: --split=time:t: the row has no time"):
        images.load(str(tmp_path / "t.csv"), split="time:t")
