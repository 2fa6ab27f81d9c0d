"""Folders that Hugging Face's datasets saved, as the library itself wrote them (`tests/fixtures`)."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zoo.cli.main import main as command
from zoo.data.datasets import images, saved_datasets, text_classification, text_columns, text_files
from zoo.data.folds import Fold
from zoo.errors import BadInput

SAVED = Path(__file__).parents[1] / "fixtures" / "saved_dataset"
CLASSES = ("zero stars", "one star", "five stars")


def frame(first, count):
    """The rows that `record_saved_datasets.py` writes, and their class as its name."""
    numbers = np.arange(first, first + count)
    table = pd.DataFrame(
        {
            "text": [f"{('dull', 'fine', '很好')[i % 3]} story {i}" for i in numbers],
            "length": numbers / 4 + 10 * (numbers % 3),
            "seen": numbers % 2 == 0,
            "label": [CLASSES[i % 3] for i in numbers],
        }
    )
    table.loc[0, "label"] = None
    return table


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet")
    for name, *rows in (("train", 0, 60), ("validation", 100, 12), ("test", 200, 15)):
        frame(*rows).to_parquet(folder / f"{name}.parquet")
    return {name: str(folder / f"{name}.parquet") for name in ("train", "validation", "test")}


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(SAVED, tmp_path / "saved"))


def same(one, other):
    assert one.classes == other.classes == tuple(sorted(CLASSES))
    for part in ("train", "validation", "test"):
        for name, column in getattr(other, part).items():
            np.testing.assert_array_equal(getattr(one, part)[name], column)


def test_the_splits_of_a_table_are_those_given(parquet):
    flags = {"drop_unlabelled": True, "ignore_columns": "text"}
    given = {"eval_file": parquet["validation"], "test_file": parquet["test"]}
    expected = images.load(parquet["train"], **given, **flags)
    read = images.load(str(SAVED), **flags)
    same(read, expected)
    assert [len(part["y"]) for part in (read.train, read.validation, read.test)] == [59, 11, 14]
    same(images.load(str(SAVED / "train"), **flags), images.load(parquet["train"], **flags))
    # A file that a flag names goes before the folder's own split.
    other = images.load(str(SAVED), eval_file=str(SAVED / "test"), **flags)
    np.testing.assert_array_equal(other.validation["y"], expected.test["y"])


def test_folds_are_of_the_training_split():
    read = images.load(str(SAVED), drop_unlabelled=True, ignore_columns="text", fold=Fold(1, 3))
    assert sum(len(part["y"]) for part in (read.train, read.validation, read.test)) == 59
    assert saved_datasets.LEFT_OUT in read.notes


def test_the_splits_of_texts_are_those_given(parquet):
    given = {"eval_file": parquet["validation"], "test_file": parquet["test"], "drop_unlabelled": True}
    expected = text_classification.load("", train_file=parquet["train"], **given)
    read = text_classification.load("", train_file=str(SAVED), drop_unlabelled=True)
    assert read.classes == expected.classes == tuple(sorted(CLASSES))
    for part in ("train", "validation", "test"):
        assert getattr(read, part).texts == getattr(expected, part).texts
        np.testing.assert_array_equal(getattr(read, part).labels, getattr(expected, part).labels)
    assert read.test.texts == frame(200, 15)["text"].tolist()[1:]


def test_a_label_of_minus_one_is_missing():
    with pytest.raises(BadInput, match=re.escape(f"{SAVED / 'train'} row 1")):
        text_files.read(SAVED / "train", "text", "label")
    table = text_columns.read(SAVED / "train")
    assert table.texts("label") == frame(0, 60)["label"].fillna("").tolist() and table.place(59).endswith("row 60")


def test_it_is_inspected(capsys):
    assert command(["inspect", str(SAVED / "train"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == {"five stars": 20, "one star": 20, "zero stars": 19}
    assert command(["inspect", str(SAVED)]) == 2
    assert f"expected the folder of one, such as {SAVED / 'train'}" in capsys.readouterr().err
    assert command(["inspect", str(SAVED / "train"), "--delimiter=tab"]) == 2
    assert "--delimiter is for delimited files" in capsys.readouterr().err


def edited(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "name, values, said",
    [
        ("dataset_dict.json", {"splits": ["train", "extra"]}, "has the split 'extra': expected train, validation"),
        ("dataset_dict.json", {"splits": ["test"]}, "has no split 'train'"),
        ("dataset_dict.json", {"splits": None}, "lacks 'splits'"),
        ("train/state.json", {"_data_files": []}, "train is empty"),
        ("train/state.json", {"_data_files": [{"filename": "../gone.arrow"}]}, "train cannot be read"),
        ("train/dataset_info.json", {"features": None}, "lacks 'features'"),
        (
            "train/dataset_info.json",
            {"features": {"label": {"_type": "ClassLabel", "names": ["a"]}}},
            "column 'label': 1 is none of its 1 classes",
        ),
    ],
)
def test_what_does_not_fit_is_refused(copy, name, values, said):
    edited(copy / name, **values)
    with pytest.raises(BadInput, match=re.escape(said)):
        images.load(str(copy))


def test_a_torn_file(copy):
    file = copy / "train" / "data-00001-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(BadInput, match="train cannot be read"):
        images.load(str(copy))


def test_indices_of_old_versions_are_refused(copy):
    """They pick rows from the files, which would be read as a whole."""
    edited(copy / "train" / "state.json", _indices_files=[{"filename": "indices.arrow"}])
    with pytest.raises(BadInput, match="has indices beside its rows"):
        text_columns.read(copy / "train")
