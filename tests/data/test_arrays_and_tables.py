"""Data sets: what is read is right, no example stands on two sides, and what is wrong is said in one line."""

import json
import os
import re

import numpy as np
import pytest
from sklearn.datasets import load_digits

from zoo.data import splits
from zoo.data.datasets import images, tables
from zoo.errors import BadInput


def digests(columns):
    return {row.tobytes() for row in columns["x"]}


def disjoint(data):
    train, validation, test = (digests(part) for part in (data.train, data.validation, data.test))
    return not (train & validation or train & test or validation & test)


def test_mnist_5k():
    data = images.load("mnist_5k")
    assert data.train["x"].shape == (4000, 28, 28) and data.train["x"].dtype == np.uint8
    assert len(data.validation["y"]) == len(data.test["y"]) == 500
    assert disjoint(data)
    everything = np.concatenate([part["y"] for part in (data.train, data.validation, data.test)])
    assert np.bincount(everything).tolist() == [500] * 10
    assert data.train["x"].max() == 255 and 25 < data.train["x"].mean() < 40


def test_digits_are_scikit_learns():
    data = images.load("digits")
    known = {(row.astype(np.uint8).tobytes(), label) for row, label in zip(*load_digits(return_X_y=True), strict=True)}
    for part in (data.train, data.validation, data.test):
        assert {(row.tobytes(), label) for row, label in zip(part["x"], part["y"], strict=True)} <= known
    assert disjoint(data)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_tfds(name):
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not os.path.isdir(os.path.join(folder, name)):
        pytest.skip(f"{name} is not prepared: set TFDS_DATA_DIR to a folder that has it")
    data = images.load(name)
    assert len(data.test["y"]) == 10_000 and len(data.validation["y"]) >= 4_990 and len(data.train["y"]) > 54_900
    assert disjoint(data)
    assert len(data.classes) == 10


def test_splits_never_change():
    columns = {"x": np.arange(20), "y": np.arange(20)}
    parts = splits.cut(columns, 0.1, 0.2)
    assert [part["y"].tolist() for part in parts[:2]] == FROZEN
    assert sorted(np.concatenate([part["y"] for part in parts])) == list(range(20))


FROZEN = [[8, 7], [16, 13, 12, 1]]


def test_overlap_is_removed_and_said():
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    part = lambda *rows: {"x": x[list(rows)], "y": np.zeros(len(rows), np.int32)}  # noqa: E731
    data = splits.without_overlap(splits.Splits(part(0, 1, 2, 3), part(3, 4, 5), part(0, 5), ("a", "b")))
    assert data.train["x"].tolist() == x[[1, 2]].tolist()
    assert data.validation["x"].tolist() == x[[3, 4]].tolist()
    assert data.notes == ("removed 2 training and 1 validation examples that are in a later split",)


def table(rows, header="a,b,label"):
    return "\n".join([header, *rows]) + "\n"


GOOD = [f"{i},{i % 3},{'yes' if i % 2 else 'no'}" for i in range(40)]


def test_csv(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(table(GOOD))
    data = images.load(str(path))
    assert data.classes == ("no", "yes")
    assert (len(data.train["y"]), len(data.validation["y"]), len(data.test["y"])) == (32, 4, 4)
    for part in (data.train, data.validation, data.test):
        assert (part["y"] == part["x"][:, 0].astype(int) % 2).all()


def test_csv_with_numbered_classes_and_weights(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(table([f"{i},{i / 10},{[2, 10, 9][i % 3]}" for i in range(40)], "a,w,kind"))
    data = images.load(str(path), "kind", "w")
    assert data.classes == ("2", "9", "10")
    assert data.train["x"].shape == (32, 1)
    np.testing.assert_allclose(data.train["weight"], data.train["x"][:, 0] / 10, rtol=1e-6)


def test_csv_classes_have_one_order(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(table([f"{i},0,{['10', '01.50', 'not', '1.5', 'b'][i % 5]}" for i in range(40)]))
    assert images.load(str(path)).classes == ("1.5", "10", "b", "not")


def test_standardizing_is_exact_in_any_precision():
    from zoo.engine import devices
    from zoo.models import mlp

    years = np.arange(1990, 2021, dtype=np.float32)[:, None]
    with devices.precision("bfloat16"):
        layer = mlp.standardizing(np.repeat(years, 1000, axis=0))
        found = layer(years).numpy()
    np.testing.assert_allclose(found, (years - years.mean()) / years.std(), atol=1e-4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: expected a header"),
        ("a,b,label\n", "is empty: expected a header"),
        (table(GOOD, "a,b,kind"), "has no column 'label', it has a, b, kind"),
        (table([*GOOD, "1,2"]), "line 42 has 2 fields; expected 3"),
        (table([*GOOD[:5], "1,two,no", *GOOD]), "line 7, column 'b': 'two' is not a number"),
        (table([*GOOD[:7], "-inf,1,no", *GOOD]), "line 9, column 'a': '-inf' is not a finite number"),
        (table([*GOOD[:7], "1,1e300,no", *GOOD]), "line 9, column 'b': '1e300' is too large for float32"),
        (table(GOOD, "a,a,label"), "line 1 names the column 'a' twice; expected unique names"),
        (
            table(GOOD, "a,b,labels"),
            "has no column 'label', it has a, b, labels: did you mean labels? Give it with --label_co",
        ),
        ("\0".join(table(GOOD)), "line 1 has a NUL character: expected text; save the file as UTF-8"),
        (table([f"{i},1,no" for i in range(40)]), "only the class 'no'; expected two or more"),
        (table(GOOD[:3]), "no examples for"),
        (table([*GOOD, "1,2,"]), "line 42: 'label' is empty; expected a class, or --drop_unlabelled"),
        (table(["yes", "no"] * 20, "label"), "has no columns besides 'label'"),
    ],
)
def test_bad_csv(tmp_path, text, said):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        images.load(str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_csv_that_is_not_text(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,label\n\xff\xfe\xfd,1\n")
    with pytest.raises(BadInput, match=r"line 2 is not text in UTF-8 .*; save the file as UTF-8"):
        images.load(str(path))
    path.write_bytes(table(GOOD).encode("utf-16"))
    with pytest.raises(BadInput, match=r"line 1 is not text in UTF-8 .*; save the file as UTF-8"):
        images.load(str(path))


def test_a_weight_that_is_none_is_told_with_its_line(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(table([*GOOD[:7], "1,-2,no", *GOOD]))
    with pytest.raises(BadInput, match=re.escape("line 9, column 'b': -2 is negative; expected a weight of 0 or more")):
        images.load(str(path), "label", "b")


def test_lines_are_counted_as_an_editor_does(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(table(['1,2,"a\nb"', "", "1,two,no", *GOOD]))
    with pytest.raises(BadInput, match="line 5, column 'b': 'two' is not a number"):
        images.load(str(path))


def test_tsv_and_white_space(tmp_path):
    """Around names, numbers and classes it means nothing."""
    (tmp_path / "a.csv").write_text(table(GOOD))
    (tmp_path / "b.tsv").write_text(table(GOOD, "a, b ,label").replace(",", " \t "))
    one, other = (images.load(str(tmp_path / name)) for name in ("a.csv", "b.tsv"))
    assert one.classes == other.classes == ("no", "yes") and one.features == other.features == ("a", "b")
    for part in ("train", "validation", "test"):
        for name, column in getattr(one, part).items():
            np.testing.assert_array_equal(column, getattr(other, part)[name])


X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = np.arange(40) % 4


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": X}, "not y; expected x and y"),
        ({"x": X, "y": Y[:-1]}, "expected one label for each example"),
        ({"x": X, "y": Y - 1}, "label -1 at example"),
        ({"x": X, "y": Y + 0.5}, "has fractions such as 0.5: this looks like regression; expected whole numbers"),
        ({"x": X, "y": np.where(Y == 2, np.nan, Y)}, "y[2] is nan, a missing label"),
        ({"x": X, "y": np.array(["a", "", "b", "c"])[Y]}, "y[1] is '', a missing label; expected a class"),
        ({"x": X, "y": np.ones((40, 2), int)}, "y[0] has 2 classes: several labels per example (multi-label) are for"),
        ({"x": X, "y": np.eye(4)[Y] * 0.5}, "with other numbers than 0 and 1; expected class ids or names"),
        (
            {"x": X, "y": np.arange(40) ** 2},
            "40 different numbers (0, 1, 100, ...) in 40 rows: this looks like regress",
        ),
        ({"x": X.astype(str), "y": Y}, "expected numbers [examples, ...]"),
        ({"x": np.where(np.arange(40)[:, None] == 7, np.inf, X), "y": Y}, "is inf; expected finite numbers"),
        ({"x": X, "y": Y, "x_test": X[:, :2], "y_test": Y}, "x_test has examples of (2,), x of (3,)"),
        ({"x": X, "y": Y, "x_test": X + 1, "y_test": Y + 3}, "test label 4 at example 1; expected 0 to 3"),
        ({"x": X, "y": Y, "weight": -np.ones(40)}, "weights must be one finite number of 0 or more"),
        ({"x": X[:0], "y": Y[:0]}, "no examples for train"),
        ({"x": X, "y": Y, "weight": np.zeros(40)}, "and not all 0"),
        ({"x": (X > 0).astype(np.uint8), "y": Y, "x_test": X, "y_test": Y}, "x_test is float32, x is uint8"),
    ],
)
def test_bad_npz(tmp_path, arrays, said):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(BadInput, match=re.escape(said)):
        images.load(str(tmp_path / "data.npz"))


def test_torn_npz(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04torn")
    with pytest.raises(BadInput, match=r"cannot be read as \.npz"):
        images.load(str(tmp_path / "data.npz"))


def test_files_that_hold_no_arrays(tmp_path):
    """NumPy's advice to unpickle is not passed on."""
    np.savez(tmp_path / "objects.npz", x=np.full((9, 2), None), y=np.zeros(9, int))
    (tmp_path / "text.npz").write_text("a,b\n1,2\n")
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "x.npy", np.zeros((9, 2), np.float32))
    (tmp_path / "folder" / "y.npy").write_text("0\n1\n")
    for name, said in (
        ("objects.npz", "it holds no array of numbers"),
        ("text.npz", "it is not a zip file"),
        ("folder", "a .npy file cannot be read (it holds no array of numbers)"),
    ):
        with pytest.raises(BadInput, match=re.escape(said)) as error:
            images.load(str(tmp_path / name))
        assert "pickle" not in str(error.value)


def test_a_folder_without_its_files(tmp_path):
    with pytest.raises(BadInput, match=r"has nothing, not x\.npy and y\.npy; expected x\.npy and y\.npy"):
        images.load(str(tmp_path))
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(BadInput, match=r"has x\.npy, not y\.npy"):
        images.load(str(tmp_path))


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("place", [(0, 0), (17, 2), (39, 1)])
def test_what_is_not_finite_is_named_by_file_and_row(tmp_path, monkeypatch, kind, place):
    """Before anything is learned, in whatever block and split it stands."""
    monkeypatch.setattr(tables, "_BLOCK", 5 * X[:1].nbytes)
    x = X.copy()
    x[place] = np.nan
    arrays = {"x": x, "y": Y, "x_test": X + 5, "y_test": Y}
    if kind == "file":
        np.savez(tmp_path / "data.npz", **arrays)
    else:
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
    path, named = (tmp_path, "x.npy: x") if kind == "folder" else (tmp_path / "data.npz", "data.npz: x")
    with pytest.raises(BadInput, match=re.escape(f"{named}{list(place)} is nan; expected finite numbers")):
        images.load(str(path))


def test_numbers_that_float32_cannot_hold(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.where(np.arange(40)[:, None] == 7, 1e300, X.astype(np.float64)), y=Y)
    with pytest.raises(BadInput, match=re.escape("x[7, 0] is inf")):
        images.load(str(tmp_path / "data.npz"))


def test_classes_that_a_split_lacks_are_said(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", np.sort(Y))
    position, *said = images.load(str(tmp_path)).notes
    assert "split by position" in position and "shuffle x.npy and y.npy together" in position
    assert said == [
        "WARNING: no validation examples of the classes '0', '1', '2'",
        "WARNING: no test examples of the classes '0', '1', '2'",
    ]
    np.save(tmp_path / "y.npy", np.where(np.arange(40) == 39, 3, np.where(np.arange(40) == 38, 2, Y % 2)))
    assert images.load(str(tmp_path)).notes[1:] == (
        "WARNING: no training examples of the classes '2', '3'",
        "WARNING: no test examples of the classes '2', '3'",
        "WARNING: one example only of the classes '2', '3'",
    )
    path = tmp_path / "table.csv"
    path.write_text(table([*GOOD, "50,1,perhaps"]))
    assert images.load(str(path)).notes[-1] == "WARNING: one example only of the class 'perhaps'"
    path.write_text(table([f"{i},{i % 7},{'no' if i % 2 else 'yes'}" for i in range(400)]))
    assert images.load(str(path)).notes == ()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "mnits",
            r"did you mean mnist.*\? Or a table \(\.csv, \.tsv, \.parquet, .*\) or a \.npz of your own, or a folder",
        ),
        ("qqq", r"expected one of .*fashion_mnist, or a table \(\.csv"),
        ("x.csv", "no such file"),
    ],
)
def test_unknown(name, said):
    with pytest.raises(BadInput, match=said):
        images.load(name)


def test_files_on_disk_must_need_no_copy(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float64))
    np.save(tmp_path / "y.npy", Y)
    with pytest.raises(BadInput, match=r"x\.npy is float64; expected float32 or uint8"):
        images.load(str(tmp_path))


def test_own_test_split_is_used(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=Y, x_test=X + 5, y_test=Y)
    data = images.load(str(tmp_path / "data.npz"))
    np.testing.assert_array_equal(data.test["x"], X + 5)
    assert len(data.train["y"]) == 36


def test_a_folder_on_disk_trains_as_from_memory(tmp_path):
    """Streamed from .npy files: bitwise the run of the same arrays in memory."""
    import zoo
    from experiments.mlp_classifier import MlpConfig, build
    from tests.helpers.small import furthest
    from zoo.engine import checkpoints

    folder = tmp_path / "data"
    folder.mkdir()
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    config = MlpConfig(dataset=str(folder), epochs=3, batch_size=7, hidden=(4,), dropout=0.2, compile="loop")
    zoo.run(build, config, tmp_path / "disk")
    data = images.load(str(folder))
    assert isinstance(data.train["x"], np.memmap)

    def in_memory(config):
        experiment = build(config)
        columns = {name: np.array(column) for name, column in experiment.train.columns.items()}
        return experiment._replace(train=zoo.Batches(columns, 7, seed=0))

    zoo.run(in_memory, config, tmp_path / "memory")
    disk, memory = (checkpoints.restore(tmp_path / name / "checkpoints")[0] for name in ("disk", "memory"))
    assert furthest(disk.state, memory.state) == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("disk", "memory")]
    assert results[0]["eval/loss"] == results[1]["eval/loss"]
