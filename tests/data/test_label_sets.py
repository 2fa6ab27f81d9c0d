"""Several labels per example in tables and arrays: what is read, and what is refused, with its line."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from zoo.data.datasets import images, label_sets
from zoo.errors import BadInput

ROWS = 60
RNG = np.random.default_rng(0)
HAS = RNG.random((ROWS, 3)) < [0.5, 0.3, 0.6]
HAS[0] = False
X = RNG.permutation(np.linspace(-2.0, 2.0, ROWS)).round(3)
NAMES = ("red", "blue", "dark green")


def splits_of(path, label_column, separator="", empty_is_none=False, **options):
    labels = label_sets.from_flags(label_column, separator, empty_is_none)
    return images.load(str(path), labels=labels, **options)


def table_of(data):
    """All rows of the splits by their feature."""
    return {
        round(float(x), 3): tuple(y.astype(int).tolist())
        for part in (data.train, data.validation, data.test)
        for x, y in zip(part["x"][:, 0], part["y"], strict=True)
    }


EXPECTED = {float(x): tuple(row) for x, row in zip(X, HAS.astype(int).tolist())}


@pytest.mark.parametrize("words", [("1", "0"), ("true", "False"), ("Yes", "no"), ("1.0", "0.0"), ("T", "f")])
def test_a_column_for_each_label(tmp_path, words):
    frame = pd.DataFrame({"x": X, **{name: np.where(HAS[:, k], *words) for k, name in enumerate(NAMES)}})
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = splits_of(tmp_path / "t.csv", "red, blue,dark green")
    assert data.classes == NAMES and data.features == ("x",) and data.train["y"].dtype == np.float32
    assert table_of(data) == EXPECTED


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_of_names(tmp_path, kind):
    """In the order of their names, whatever their order, blanks and repetitions in a cell."""
    cells = [" | ".join(np.array(NAMES)[row][::-1]) for row in HAS]
    cells[1] = cells[1] + "|" + cells[1] if cells[1] else ""
    frame = pd.DataFrame({"x": X, "tags": cells})
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    data = splits_of(path, "tags", "|", empty_is_none=True)
    assert data.classes == ("blue", "dark green", "red")
    assert table_of(data) == {x: (row[1], row[2], row[0]) for x, row in EXPECTED.items()}


def test_an_empty_cell_is_refused_left_out_or_no_label(tmp_path):
    cells = [";".join(np.array(NAMES)[row]) or "red" for row in HAS]
    cells[7] = ""
    path = tmp_path / "t.csv"
    pd.DataFrame({"x": X, "tags": cells}).to_csv(path, index=False)
    with pytest.raises(BadInput, match=r"t.csv line 9: 'tags' is empty; expected labels .*--empty_is_none.*--drop_unl"):
        splits_of(path, "tags", ";")
    assert X[7] not in table_of(splits_of(path, "tags", ";", drop_unlabelled=True))
    assert table_of(splits_of(path, "tags", ";", empty_is_none=True))[X[7]] == (0, 0, 0)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("", r"t.csv line 5: 'blue' is empty; expected 1 or 0, .*or --drop_unlabelled"),
        ("NaN", r"t.csv line 5: 'blue' is 'NaN', a missing label"),
        ("maybe", r"t.csv line 5: 'blue' is 'maybe'; expected 1 or 0, true or false, yes or no"),
        ("2", r"t.csv line 5: 'blue' is '2'; expected 1 or 0"),
        ("-1", r"t.csv line 5: 'blue' is '-1'"),
    ],
)
def test_a_cell_that_is_no_answer(tmp_path, cell, said):
    frame = pd.DataFrame({"x": X, **{name: HAS[:, k].astype(int).astype(str) for k, name in enumerate(NAMES)}})
    frame.loc[3, "blue"] = cell
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(BadInput, match=said):
        splits_of(tmp_path / "t.csv", ",".join(NAMES))
    if cell in ("", "NaN"):
        data = splits_of(tmp_path / "t.csv", ",".join(NAMES), drop_unlabelled=True)
        assert X[3] not in table_of(data) and len(table_of(data)) == ROWS - 1
        assert any("left out 1 examples without a label" in note for note in data.notes)


@pytest.mark.parametrize(
    ("column", "separator", "empty", "said"),
    [
        ("red", "", False, "--label_column is 'red': one column; expected several.*--label_separator"),
        ("red,blue,red", "", False, "--label_column has 'red' twice"),
        ("red,bleu", "", False, "has no column 'bleu'.*did you mean blue"),
        ("red,blue", "", True, "--empty_is_none is for --label_separator"),
        ("red,blue", "\t\t", False, "--label_separator is"),
        ("red", "|", False, "only the class"),
        ("red,never", "", False, "no example has the label 'never', so there is nothing to learn"),
        ("always,red", "", False, "all 60 examples have the label 'always'"),
        ("red,x", "", False, "'x' is '.*'; expected 1 or 0"),
        ("red,blue,dark green,never,always,x", "", False, "has no columns besides"),
    ],
)
def test_mistakes(tmp_path, column, separator, empty, said):
    frame = pd.DataFrame({"x": X, **{name: HAS[:, k].astype(int) for k, name in enumerate(NAMES)}})
    frame["red"] = np.where(frame["red"] == 1, "true", "false") if separator == "" else "one"
    frame.assign(never=0, always=1).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(BadInput, match=said):
        splits_of(tmp_path / "t.csv", column, separator, empty)


def test_a_label_that_a_split_lacks_is_a_warning(tmp_path):
    has = HAS.astype(int)
    has[:, 1] = 0
    has[5, 1] = 1
    frame = pd.DataFrame({"x": X, **{name: has[:, k] for k, name in enumerate(NAMES)}})
    frame.to_csv(tmp_path / "t.csv", index=False)
    notes = splits_of(tmp_path / "t.csv", ",".join(NAMES)).notes
    assert sum("examples of the label 'blue'" in note for note in notes) == 2
    assert "WARNING: one example only of the label 'blue'" in notes


def test_a_test_file_has_the_labels_of_the_training_file(tmp_path):
    cells = ["|".join(np.array(NAMES)[row]) for row in HAS]
    pd.DataFrame({"x": X, "tags": cells}).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "test.csv").write_text("tags,x\nred,1\n,2\nblue|red,3\n")
    data = splits_of(tmp_path / "t.csv", "tags", "|", True, test_file=str(tmp_path / "test.csv"))
    assert data.test["y"].tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 1]]
    (tmp_path / "test.csv").write_text("tags,x\nred,1\nRed|blue,2\n")
    with pytest.raises(BadInput, match=r"test.csv line 3: 'tags' is 'Red'; expected a class of the model.*mean 'red'"):
        splits_of(tmp_path / "t.csv", "tags", "|", True, test_file=str(tmp_path / "test.csv"))


def test_arrays(tmp_path):
    x = RNG.normal(size=(ROWS, 2)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=HAS.astype(np.int8), x_test=x[:9] + 1, y_test=HAS[:9])
    data = splits_of(tmp_path / "d.npz", "label,label2")
    assert data.classes == ("0", "1", "2") and data.test["y"].tolist() == HAS[:9].astype(float).tolist()
    for y, said in (
        (HAS.astype(int) * 2, r"y\[\d+, \d\] is 2; expected 0 or 1"),
        (HAS[:, 0], re.escape("[examples, labels]")),
        (np.where(HAS, np.nan, 0.0), "is nan; expected 0 or 1"),
        (np.ones((ROWS, 2)), "have the label '0', '1'"),
    ):
        np.savez(tmp_path / "e.npz", x=x, y=y)
        with pytest.raises(BadInput, match=said):
            splits_of(tmp_path / "e.npz", "label")
    with pytest.raises(BadInput, match="has one class for each example"):
        splits_of("digits", "a,b")


def test_several_labels_for_a_classifier_name_the_experiment(tmp_path):
    np.savez(tmp_path / "d.npz", x=RNG.normal(size=(ROWS, 2)).astype(np.float32), y=HAS.astype(int))
    with pytest.raises(BadInput, match=re.escape("experiments.mlp_multilabel")):
        images.load(str(tmp_path / "d.npz"))
    records = [{"x": float(x), "label": "|".join(np.array(NAMES)[row]) or "none"} for x, row in zip(X, HAS)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, records)))
    notes = images.load(str(tmp_path / "t.jsonl")).notes
    assert any("experiments.mlp_multilabel --label_separator='|'" in note for note in notes)
