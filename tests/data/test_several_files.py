"""Several files, or a pattern, are one table: that of their rows one after the other."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import zoo
from tests.helpers import finished
from zoo import files, workdir
from zoo.cli.main import main as command
from zoo.data import audit
from zoo.data.datasets import images, text_classification, text_columns, text_files
from zoo.data.folds import Fold
from zoo.errors import BadInput

RNG = np.random.default_rng(4)


@pytest.fixture(scope="module")
def frame():
    x = RNG.normal(size=90).round(4)
    city = RNG.choice(["Rome", "Oslo"], 90)
    return pd.DataFrame({"x": x, "city": city, "text": [f"text {i} of {c}" for i, c in enumerate(city)]}).assign(
        label=np.where(x > 0, "yes", "no")
    )


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """The table whole and in parts: the columns of the second are in another order."""
    folder = tmp_path_factory.mktemp("several")
    frame.to_csv(folder / "whole.csv", index=False)
    frame[:40].to_csv(folder / "part-1.csv", index=False)
    frame[40:60][["label", "text", "city", "x"]].to_csv(folder / "part-2.csv", index=False, sep=";")
    frame[60:].to_csv(folder / "part-3.csv", index=False)
    frame[60:].to_json(folder / "rest.jsonl", orient="records", lines=True)
    return folder


@pytest.mark.parametrize("names", ["part-*.csv", "part-1.csv,part-2.csv,part-3.csv", "part-[12].csv, rest.jsonl"])
def test_parts_are_the_whole(folder, names, monkeypatch):
    monkeypatch.chdir(folder)
    several = files.absolute_list(names)
    whole, joined = text_columns.read(folder / "whole.csv"), text_columns.read(several)
    assert joined.header == whole.header and joined.rows == 90
    assert {name: joined.texts(name) for name in whole.header} == {name: whole.texts(name) for name in whole.header}
    one, other = images.load("whole.csv"), images.load(names)
    for part in ("train", "validation", "test"):
        for name, column in getattr(one, part).items():
            np.testing.assert_array_equal(column, getattr(other, part)[name])
    one, other = (text_classification.load("", train_file=each) for each in ("whole.csv", names))
    assert one.train.texts == other.train.texts and one.test.labels.tolist() == other.test.labels.tolist()
    one, other = (audit.table(path).as_json() for path in (folder / "whole.csv", several))
    assert {**one, "path": "", "notes": []} == {**other, "path": "", "notes": []}


def test_splits_may_be_several_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    loaded = images.load("part-1.csv", eval_file="part-2.csv", test_file="part-[23].csv")
    # Rows of the validation split that are in the test split, too, stay where they are: few columns make them equal.
    assert len(loaded.train["y"]) == 40 and len(loaded.test["y"]) == 50
    texts = text_classification.load("", train_file="part-1.csv", test_file="part-2.csv,part-3.csv")
    assert len(texts.test.texts) == 50


def test_places_name_the_file(folder, tmp_path):
    table = text_columns.read(folder / "part-*.csv")
    assert [table.place(row) for row in (0, 39, 40, 89)] == [
        f"{folder}/part-1.csv line 2",
        f"{folder}/part-1.csv line 41",
        f"{folder}/part-2.csv line 2",
        f"{folder}/part-3.csv line 31",
    ]
    assert table.origins().kind == "row" and table.origins().values.tolist() == list(range(1, 91))
    for number, rows in enumerate(("1,a\n2,b\n", "3,a\nx,b\n", "4,\n")):
        (tmp_path / f"{number}.csv").write_text("x,label\n" + rows)
    with pytest.raises(BadInput, match=re.escape(f"{tmp_path}/1.csv line 3, column 'x': 'x' is not a number")):
        images.load(f"{tmp_path}/[01].csv")
    with pytest.raises(BadInput, match=re.escape(f"{tmp_path}/2.csv line 2: 'label' is empty")):
        images.load(f"{tmp_path}/0.csv,{tmp_path}/2.csv")
    with pytest.raises(BadInput, match=re.escape(f"{tmp_path}/2.csv line 2: 'label' is empty")):
        text_files.read(tmp_path / "[02].csv", "x", "label")
    rows = text_files.read(tmp_path / "[01].csv", "x", "label")
    with pytest.raises(BadInput, match=re.escape(f"{tmp_path}/1.csv line 3: 'label'")):
        text_classification.labelled(rows[-1:], ("a",), "[01].csv", ("x", "label", ""), "the model")


def test_columns_must_be_the_same(tmp_path):
    for name, header in (("a", "x,y,label"), ("b", "x,label"), ("c", "x,y,z,label")):
        (tmp_path / f"{name}.csv").write_text(header + "\n" + ",".join("1" * (header.count(",") + 1)) + "\n")
    for names, said in (
        ("a.csv,{0}/b.csv", "{0}/b.csv lacks the column 'y', which {0}/a.csv has; expected the same columns"),
        ("a.csv,{0}/c.csv", "{0}/c.csv has the column 'z', which {0}/a.csv lacks; expected the same columns"),
        ("a.csv,{0}/d.csv", "{0}/d.csv: no such file"),
        ("a.csv,{0}/a.csv", "has {0}/a.csv twice"),
        ("q*.csv", "{0}/q*.csv: no file matches"),
        ("a.csv,{0}/q?.csv", "{0}/q?.csv: no file matches"),
    ):
        with pytest.raises(BadInput, match=re.escape(said.format(tmp_path))):
            text_columns.read(Path(f"{tmp_path}/{names.format(tmp_path)}"))


def test_names_with_commas_and_brackets_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("1,2.csv", "a[1].csv", "b*.csv", "part-1,5.csv", "part-2,5.csv"):
        (tmp_path / name).write_text("x,label\n1,a\n")
        assert files.listed(files.absolute_list(name)) == [tmp_path / name]
        assert text_columns.read(files.absolute_list(name)).rows == 1
    assert files.listed(files.absolute_list("part-*,5.csv")) == [tmp_path / "part-1,5.csv", tmp_path / "part-2,5.csv"]
    # Of what is not there, each is a path.
    assert files.absolute_list("no,such") == Path(f"{tmp_path}/no,{tmp_path}/such")
    assert workdir.Run({"dataset": "1,2.csv"}, folder=str(tmp_path)).path("dataset") == tmp_path / "1,2.csv"
    several = workdir.Run({"dataset": "x/a.csv,b.csv"}, folder="/there").path("dataset")
    assert several == Path("/there/x/a.csv,/there/b.csv")


def test_folds_number_the_rows_of_all_files(folder):
    fold = Fold(1, 3)
    loaded = images.load(str(folder / "part-*.csv"), fold=fold)
    assert loaded.origins.kind == "row" and set(loaded.origins.values.tolist()) <= set(range(1, 91))
    texts = text_classification.load("", train_file=str(folder / "part-*.csv"), fold=fold)
    assert texts.origins.kind == "row"


def test_predictions_and_evaluations(folder, frame, tmp_path, capsys):
    run = finished.reviews(tmp_path / "run")
    predictor = zoo.load(run)
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    frame[["text"]].head(3).rename(columns={"text": predictor.text_column}).to_csv(tmp_path / "b.csv", index=False)
    several = f"{tmp_path}/a.txt,{tmp_path}/b.csv"
    assert predictor.read(several) == ["one", "two", *frame["text"].head(3)]
    assert command(["predict", str(run), f"{tmp_path}/[b].csv", f"--out={tmp_path / 'o.csv'}"]) == 0
    assert command(["predict", str(run), several]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert command(["inspect", str(folder / "part-*.csv")]) == 0
    assert "part-*.csv: 90 texts" in capsys.readouterr().out
