"""Tables as people have them: delimiters, row numbers, labels in several forms, fields that are no numbers."""

import gzip
import re

import numpy as np
import pytest

from zoo.data.datasets import images
from zoo.errors import BadInput

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2)).round(3)
Y = np.where(X[:, 0] > 0, "yes", "no")


def text(columns, delimiter=","):
    """A file of named columns."""
    rows = zip(*columns.values(), strict=True)
    return "\n".join(delimiter.join(map(str, row)) for row in [list(columns), *rows]) + "\n"


def load(folder, columns, name="table.csv", **options):
    (folder / name).write_text(columns if isinstance(columns, str) else text(columns))
    return images.load(str(folder / name), **options)


BASE = {"a": X[:, 0], "b": X[:, 1], "label": Y}


def same(one, other):
    assert (one.classes, one.features) == (other.classes, other.features)
    for part in ("train", "validation", "test"):
        for column in ("x", "y"):
            np.testing.assert_array_equal(getattr(one, part)[column], getattr(other, part)[column])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("T.CSV", text(BASE)),
        ("t.csv", text(BASE, ";")),
        ("t.csv", text(BASE, "\t")),
        ("t.csv", text(BASE, "|")),
        ("t.csv", "sep=;\n" + text(BASE, ";")),
        ("t.TSV", text(BASE, "\t")),
        ("t.txt", text(BASE)),
        ("t.csv", "\ufeff" + text(BASE)),
        ("t.csv", text(BASE).replace("label", " Label")),
        ("t.csv", text(BASE) + ",,\n,,\n"),
        ("t.csv.gz", text(BASE)),
    ],
    ids=["upper case", "semicolons", "tabs", "bars", "sep", "tsv", "txt", "mark", "header", "empty rows", "gz"],
)
def test_one_table_in_many_forms(tmp_path, name, content):
    expected = load(tmp_path, BASE, "plain.csv")
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    same(images.load(str(tmp_path / name)), expected)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("", range(60)),
        ("Unnamed: 0", range(60)),
        ("", RNG.permutation(600)[:60]),
        ("", [f"row {i}" for i in range(60)]),
        ("", [""] * 60),
        ("Unnamed: 0.1", range(1, 61)),
        ("id", range(60)),
        ("PassengerId", range(1, 61)),
    ],
)
def test_row_indices_are_no_features(tmp_path, name, values):
    data = load(tmp_path, {name: values} | BASE)
    assert data.features == ("a", "b") and data.train["x"].shape[1] == 2
    assert f"left out the column {name!r}" in data.notes[0] and "to keep it" in data.notes[0]


def test_other_columns_without_a_name_or_with_numbers_stay(tmp_path):
    assert load(tmp_path, {"": X[:, 1]} | BASE).features == ("", "a", "b")
    counted = load(tmp_path, {"time": range(60)} | BASE)
    assert counted.features == ("time", "a", "b") and not counted.notes
    ordered = load(tmp_path, {"time": range(60)} | BASE | {"label": np.sort(Y)})
    assert ordered.features == ("time", "a", "b") and "--ignore_columns=time" in ordered.notes[0]
    assert load(tmp_path, {"time": range(60)} | BASE, ignore_columns="time, a").features == ("b",)
    with pytest.raises(BadInput, match=r"has no column 'tme'.*did you mean time.*--ignore_columns"):
        load(tmp_path, {"time": range(60)} | BASE, ignore_columns="tme")


@pytest.mark.parametrize("prices", [np.arange(300) * 7 + 1000, np.arange(300) / 8, RNG.normal(size=300)])
def test_values_to_predict_are_no_classes(tmp_path, prices):
    columns = {"a": RNG.normal(size=300), "label": prices}
    with pytest.raises(BadInput, match=r"300 different numbers .* in 300 rows: this looks like regression.*quartiles"):
        load(tmp_path, columns)


@pytest.mark.parametrize("labels", [np.arange(300) % 60, np.arange(300) % 20 * 5, ["1.5", "2.5", "10.5"] * 100])
def test_numbered_classes_are_classes(tmp_path, labels):
    data = load(tmp_path, {"a": RNG.normal(size=300), "label": labels})
    assert len(data.classes) == len(set(labels)) and list(data.classes) == sorted(data.classes, key=float)


def test_equal_numbers_are_one_class_and_missing_labels_are_none(tmp_path):
    labels = [["1", "1.0", "2", "2.0"][i % 4] for i in range(60)]
    assert load(tmp_path, BASE | {"label": labels}).classes == ("1", "2")
    labels[7] = "nan"
    with pytest.raises(BadInput, match=r"line 9: 'label' is 'nan', a missing label.*--drop_unlabelled"):
        load(tmp_path, BASE | {"label": labels})
    dropped = load(tmp_path, BASE | {"label": labels}, drop_unlabelled=True)
    assert sum(len(part["y"]) for part in (dropped.train, dropped.validation, dropped.test)) == 59
    assert any("left out 1 examples without a label" in note for note in dropped.notes)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ('"1,5"', "decimal comma; write 1.5"),
        ('"1,234.5"', "thousands separators"),
        ("1 234", "thousands separators"),
        ("12 %", "write percentages as numbers, 12"),
        ("True", "write yes and no as 1 and 0"),
        ("2024-03-01", "it seems to be a date"),
        ("$12", "without a currency"),
        ("red", "write categories as numbers"),
    ],
)
def test_fields_that_are_no_numbers_say_what_to_do(tmp_path, field, said):
    columns = BASE | {"b": [*X[:30, 1], field, *X[31:, 1]]}
    with pytest.raises(BadInput, match=re.escape("table.csv line 32, column 'b': ")) as error:
        load(tmp_path, columns)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert "--categorical=b" in str(error.value) and "--ignore_columns=b" in str(error.value)
    assert load(tmp_path, columns, ignore_columns="b").features == ("a",)


def npz(folder, y, **more):
    np.savez(folder / "data.npz", x=X.astype(np.float32), y=y, **more)
    return images.load(str(folder / "data.npz"))


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (Y, ("no", "yes")),
        (Y.astype("S"), ("no", "yes")),
        (np.where(Y == "yes", 7, 3), ("3", "7")),
        (np.where(Y == "yes", 1, -1), ("-1", "1")),
        (Y == "yes", ("0", "1")),
        ((Y == "yes").astype(float), ("0", "1")),
        ((Y == "yes").astype(np.int8)[:, None], ("0", "1")),
        (np.eye(2)[(Y == "yes").astype(int)], ("0", "1")),
        (np.where(Y == "yes", 10**12, 5), ("5", "1000000000000")),
    ],
    ids=["names", "bytes", "gaps", "signs", "bool", "float", "column", "one-hot", "far"],
)
def test_labels_of_arrays(tmp_path, y, classes):
    data = npz(tmp_path, y)
    assert data.classes == classes
    for part in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(part["y"], part["x"][:, 0] > 0)


def test_files_for_validation_and_test(tmp_path):
    for name, start in (("dev.csv", 0), ("test.csv", 20)):
        (tmp_path / name).write_text(text({"b": X[start:, 1] + 9, "a": X[start:, 0], "label": Y[start:]}))
    data = load(tmp_path, BASE, eval_file=str(tmp_path / "dev.csv"), test_file=str(tmp_path / "test.csv"))
    assert [len(part["y"]) for part in (data.train, data.validation, data.test)] == [60, 20, 40]
    np.testing.assert_allclose(data.test["x"][:, 1], X[20:, 1] + 9, rtol=1e-6)
    alone = load(tmp_path, BASE, test_file=str(tmp_path / "test.csv"))
    assert [len(part["y"]) for part in (alone.train, alone.validation, alone.test)] == [54, 6, 40]
    with pytest.raises(BadInput, match=r"--test_file is 'a.csv' without --train_file: expected both"):
        images.load("digits", test_file="a.csv")
    (tmp_path / "test.csv").write_text(text(BASE).replace("yes", "perhaps"))
    with pytest.raises(BadInput, match="has the class 'perhaps' that the model does not know"):
        load(tmp_path, BASE, test_file=str(tmp_path / "test.csv"))
