"""What `zoo inspect` says of a table: each finding where it is, and none where it is not."""

import json

import numpy as np
import pandas as pd
import pytest

from zoo.cli.main import main as command
from zoo.data import audit

RNG = np.random.default_rng(0)
ROWS = 200


def clean():
    """A table without a finding."""
    table = pd.DataFrame({"a": RNG.normal(size=ROWS).round(6), "b": RNG.choice(["x", "y", "z"], ROWS)})
    return table.assign(label=np.where(RNG.random(ROWS) < 0.5, "yes", "no"))


def inspected(folder, table, **options):
    path = folder / "t.csv"
    table.to_csv(path, index=False)
    return audit.table(path, **options)


def test_a_clean_table(tmp_path):
    found = inspected(tmp_path, clean())
    assert found.warnings == () and found.rows == ROWS
    assert [(fact.name, fact.kind) for fact in found.columns] == [("a", "number"), ("b", "category")]
    assert sum(found.labels.values()) == ROWS and list(found.labels.values()) == sorted(found.labels.values())[::-1]


def leaking(table):
    return table.assign(code=np.where(table["label"] == "yes", 3, 1))


def rare(table):
    return table.assign(label=["rare"] * 8 + ["usual"] * (ROWS - 8))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.assign(c=1), "column 'c' is constant"),
        (lambda table: table.assign(c=[1.5] * 20 + [None] * (ROWS - 20)), "column 'c' has no value in 90% of the rows"),
        (lambda table: table.assign(c=np.arange(ROWS)), "'c' is another whole number in each row: an identity?"),
        (lambda table: pd.concat([table, table[:10]]), "10 rows (4.8%) repeat the columns of an earlier row"),
        (
            lambda table: pd.concat([table, table[:1].assign(label="other")]),
            "1 groups of equal rows have different labels",
        ),
        (lambda table: table.assign(label=["", *table["label"][1:]]), "1 rows have no label: --drop_unlabelled"),
        (lambda table: table.assign(label="yes"), "all rows have the label 'yes'"),
        (rare, "the largest class has 24 times the rows of the smallest"),
        (leaking, "column 'code' alone tells the label (balanced accuracy 1.00)"),
        (lambda table: table.assign(a=[*table["a"][1:], "oops"]), "line 201, column 'a': 'oops' is not a number"),
    ],
)
def test_findings(tmp_path, change, said):
    found = inspected(tmp_path, change(clean()))
    assert sum(said in line for line in found.warnings) == 1, found.warnings


def test_values_to_predict(tmp_path):
    table = clean().assign(label=lambda table: table["a"] * 2 + 0.001 * RNG.normal(size=ROWS))
    found = inspected(tmp_path, table)
    assert found.labels == {} and " .. " in found.values
    assert any("column 'a' alone tells the label (r2 " in line for line in found.warnings)


def test_rows_of_the_test_file(tmp_path):
    table = clean()
    table[:7].to_csv(tmp_path / "test.csv", index=False)
    found = inspected(tmp_path, table, test_file=tmp_path / "test.csv")
    assert any(line.startswith("7 of 7 rows of ") for line in found.warnings)


def test_the_command(tmp_path, capsys):
    leaking(clean()).assign(story=[f"row {i}" for i in range(ROWS)]).to_csv(tmp_path / "t.csv", index=False)
    assert command(["inspect", str(tmp_path / "t.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["columns"][-1] == {**found["columns"][-1], "name": "story", "kind": "left out", "different": ROWS}
    assert command(["inspect", str(tmp_path / "t.csv")]) == 0
    said = capsys.readouterr().out
    assert "WARNING: column 'code' alone tells the label" in said and "left out the column 'story'" in said
    assert command(["inspect", str(tmp_path / "t.csv"), "--label_column=lable"]) == 2
    assert "did you mean label" in capsys.readouterr().err
    assert command(["inspect", str(tmp_path / "none.csv")]) == 2


def test_rows_that_are_nearly_those_of_the_test_file(tmp_path):
    train = pd.DataFrame(RNG.normal(size=(ROWS, 5)), columns=list("abcde")).assign(label="x")
    train.loc[::2, "label"] = "y"
    test = pd.DataFrame(RNG.normal(size=(50, 5)), columns=list("abcde")).assign(label="x")
    # Three rounded copies, one exact one.
    test.iloc[:3] = train.iloc[:3].round(3)
    test.iloc[3] = train.iloc[3]
    test.to_csv(tmp_path / "test.csv", index=False)
    found = inspected(tmp_path, train, test_file=tmp_path / "test.csv")
    (exact, near) = [warning for warning in found.warnings if "test.csv" in warning]
    assert exact.startswith("1 of 50 rows") and near.startswith("3 of 50 rows") and "rounded copies?" in near


def test_rows_of_few_states_are_no_rounded_copies():
    train, test = (RNG.integers(0, 3, (rows, 3)).astype(np.float32) for rows in (300, 80))
    assert not audit.nearly_shared(train, test).any()
    assert audit.nearly_shared(train, np.zeros((0, 3), np.float32)).shape == (0,)
    lacking = RNG.normal(size=(60, 4)).astype(np.float32)
    lacking[::3, 1] = np.nan
    assert audit.nearly_shared(lacking, lacking[:20] * np.float32(1.00001)).sum() >= 15
