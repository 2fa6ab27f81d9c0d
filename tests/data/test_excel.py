"""Excel workbooks: the same table as Parquet, and nothing lost in silence."""

import builtins
import datetime
import re
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pytest

from zoo.cli.main import main as command
from zoo.data import audit
from zoo.data.datasets import excel, excel_cells, images, text_classification, text_columns, text_files
from zoo.data.datasets.column_schema import CATEGORY, DATE, NUMBER
from zoo.errors import BadInput

RNG = np.random.default_rng(3)
ROWS = 60


def saved(path, rows, change=lambda sheet: None):
    """A workbook with these rows."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    change(book.active)
    book.save(path)
    return path


@pytest.fixture(scope="module")
def frame():
    """Every type of column, with missing values in some."""
    table = pd.DataFrame(
        {
            "age": RNG.normal(40, 10, ROWS).round(3),
            "rooms": RNG.integers(0, 5, ROWS),
            "floor": RNG.integers(0, 9, ROWS).astype(float),
            "large": RNG.integers(-(10**12), 10**12, ROWS),
            "city": RNG.choice(["Paris", " New York, NY", "Köln", "北京"], ROWS),
            "code": [f"{i % 4:03}" for i in range(ROWS)],
            "smoker": RNG.random(ROWS) < 0.5,
            "day": pd.Timestamp("1912-02-27") + pd.to_timedelta(RNG.integers(0, 60000, ROWS), unit="D"),
            "moment": pd.Timestamp("2024-02-27") + pd.to_timedelta(RNG.integers(0, 10**7, ROWS), unit="s"),
            "empty": [None] * ROWS,
            "label": RNG.choice([1, 2, 10], ROWS),
        }
    )
    for name in ("age", "floor", "city", "day"):
        table.loc[RNG.random(ROWS) < 0.2, name] = None
    return table


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("excel")
    frame.to_excel(folder / "t.xlsx", index=False)
    frame.to_parquet(folder / "t.parquet")
    frame.to_csv(folder / "t.csv", index=False)
    return folder


def test_it_is_the_table_of_parquet_bit_for_bit(folder):
    one, other = (images.load(str(folder / name)) for name in ("t.xlsx", "t.parquet"))
    assert one.schema == other.schema and one.classes == other.classes == ("1", "2", "10")
    kinds = {column.name: column.kind for column in one.schema.columns}
    numbers, dates = ("age", "rooms", "floor", "large", "code"), ("day", "moment")
    assert kinds == dict.fromkeys(numbers, NUMBER) | dict.fromkeys(("city", "smoker"), CATEGORY) | dict.fromkeys(
        dates, DATE
    )
    for part in ("train", "validation", "test"):
        for name, column in getattr(one, part).items():
            np.testing.assert_array_equal(column, getattr(other, part)[name])


def test_splits_of_ones_own(folder, frame, tmp_path):
    for name, rows in (("dev", frame.iloc[:15]), ("test", frame.iloc[15:30])):
        rows.to_excel(tmp_path / f"{name}.xlsx", index=False)
        rows.to_parquet(tmp_path / f"{name}.parquet")
    one, other = (
        images.load(
            str(folder / f"t.{kind}"), eval_file=str(tmp_path / f"dev.{kind}"), test_file=str(tmp_path / f"test.{kind}")
        )
        for kind in ("xlsx", "parquet")
    )
    assert [len(part["y"]) for part in (one.train, one.validation, one.test)] == [30, 15, 15]
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(one, part)["x"], getattr(other, part)["x"])


def test_the_audit_is_that_of_parquet(folder):
    one, other = (audit.table(folder / name, "label", None) for name in ("t.xlsx", "t.parquet"))
    assert one.columns == other.columns and one.labels == other.labels and one.rows == ROWS


def test_values_as_texts(tmp_path):
    """A whole number is no 1.0, whatever stands beside it; the numbers of rows are those that Excel shows."""
    moment, day = datetime.datetime(2024, 1, 2, 3, 4, 5), datetime.date(2024, 1, 2)
    rows = [[2024, "mixed", "moment", "time"], [1, "x", moment, datetime.time(3, 4)], [2, 3, day, None]]
    table = text_columns.read(saved(tmp_path / "t.xlsx", [*rows, [2.5, True, None, None], [1e20, 0.5, None, None]]))
    read = {name: column.to_pylist() for name, column in table.columns.items()}
    assert read["2024"] == ["1.0", "2.0", "2.5", "1e+20"] or read["2024"] == ["1", "2", "2.5", "1e+20"]
    assert read["mixed"] == ["x", "3", "true", "0.5"] and read["time"] == ["03:04:00", "", "", ""]
    assert [text[:19] for text in read["moment"]] == ["2024-01-02 03:04:05", "2024-01-02 00:00:00", "", ""]
    assert table.numbers == {"2024"} and table.place(1) == f"{tmp_path / 't.xlsx'} row 3"
    whole = text_columns.read(saved(tmp_path / "whole.xlsx", [["n"], [7], [-3]])).columns["n"].to_pylist()
    assert whole == ["7", "-3"]


def test_what_is_empty_around_the_table(tmp_path):
    def around(sheet):
        for place in ("B9", "F2", "F9"):
            sheet[place] = " "
        sheet["H30"].font = openpyxl.styles.Font(bold=True)

    rows = [[None] * 3, [None, "a", "b"], [None, 1, None], [None, None, None], [None, 2, "x"]]
    table = text_columns.read(saved(tmp_path / "t.xlsx", rows, around))
    assert table.header == ("a", "b") and table.place(2).endswith("row 5")
    assert [column.to_pylist() for column in table.columns.values()] == [["1", "", "2"], ["", "", "x"]]
    only = text_columns.read(saved(tmp_path / "header.xlsx", [["a", "b"]]))
    assert only.header == ("a", "b") and only.rows == 0


def test_the_first_sheet_is_read_and_others_are_named(tmp_path):
    path = saved(tmp_path / "t.xlsx", [["a"], [1]], lambda sheet: sheet.parent.create_sheet("More")["A1"])
    assert text_columns.read(path).notes == [f"{path}: read the first sheet, 'Sheet', of 2"]


def put(**cells):
    def change(sheet):
        for place, value in cells.items():
            sheet[place] = value

    return change


@pytest.mark.parametrize(
    "change, said",
    [
        (put(B3="#DIV/0!"), "cell B3 is the error #DIV/0!; expected a value"),
        (put(A1="#N/A"), "cell A1 is the error #N/A"),
        (put(B2="=1+1"), "cell B2 is a formula without its value: open and save"),
        (put(B1=None), "cell B1 is empty: expected the name of the column"),
        (put(B1="  "), "cell B1 is empty"),
        (put(AB3=5), "cell C1 is empty"),
        (lambda sheet: sheet.merge_cells("A1:B1"), "cell A1 is merged"),
        (lambda sheet: sheet.merge_cells("B2:B3"), "cell B2 is merged"),
        (put(B1="a "), "names the column 'a' twice"),
    ],
)
def test_nothing_is_lost_in_silence(tmp_path, change, said):
    path = saved(tmp_path / "t.xlsx", [["a", "b"], [1, 2], [3, 4]], change)
    with pytest.raises(BadInput, match=re.escape(said)):
        text_columns.read(path)


def test_what_is_beside_the_table_does_not_matter(tmp_path):
    def beside(sheet):
        sheet.merge_cells("D1:E4")
        sheet.parent.create_sheet("More")["A1"] = "#DIV/0!"

    path = saved(tmp_path / "t.xlsx", [["a", "b"], ['<c r="A9" t="e">', "#DIV/0"]], beside)
    assert text_columns.read(path).texts("a") == ['<c r="A9" t="e">']


def test_an_error_far_down_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(excel_cells, "_BLOCK", 700)
    path = saved(tmp_path / "t.xlsx", [["a", "b"], *([i, i + 0.5] for i in range(500))], put(B444="#NAME?"))
    with pytest.raises(BadInput, match="cell B444 is the error #NAME"):
        text_columns.read(path)


def test_a_formula_whose_value_is_the_empty_text(tmp_path):
    path = saved(tmp_path / "t.xlsx", [["a", "b"], [1, "=T(1)"], [2, "x"]])
    other = tmp_path / "computed.xlsx"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            raw = source.read(name)
            if name.endswith("sheet1.xml"):
                assert b'<c r="B2"><f>' in raw
                raw = raw.replace(b'<c r="B2"><f>', b'<c r="B2" t="str"><f>')
            target.writestr(name, raw)
    assert text_columns.read(other).texts("b") == ["", "x"]


def test_names_of_cells():
    places = [(0, 0), (2, 25), (0, 26), (9, 701), (0, 702), (0, 16383)]
    expected = [f"{openpyxl.utils.get_column_letter(column + 1)}{row + 1}" for row, column in places]
    assert [excel_cells.name(*place) for place in places] == expected


@pytest.mark.parametrize("raw", [b"", b"a,b\n1,2\n", b"PK\x03\x04torn"])
def test_a_file_that_is_none(tmp_path, raw):
    (tmp_path / "t.xlsx").write_bytes(raw)
    with pytest.raises(BadInput, match=r"t\.xlsx cannot be read: .*expected a whole \.xlsx file"):
        text_columns.read(tmp_path / "t.xlsx")


def test_an_empty_sheet(tmp_path):
    with pytest.raises(BadInput, match="is empty: expected a header in the first row"):
        text_columns.read(saved(tmp_path / "t.xlsx", []))


def test_without_the_package(folder, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "python_calamine":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match=re.escape("run `pip install 'zoo-keras[excel]'`")):
        excel.read(folder / "t.xlsx")


def test_flags_of_delimited_files_are_refused(folder, capsys):
    assert command(["inspect", str(folder / "t.xlsx"), "--encoding=latin-1"]) == 2
    assert "--encoding is for delimited files" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["xlsx", "parquet"])
def test_labelled_texts(tmp_path, kind):
    """A table with types holds texts, too; places are its rows."""
    frame = pd.DataFrame({"Text": ["good", None, "007"], "label": [1, 0, 1], "other": ["a", "b", "c"]})
    path = tmp_path / f"t.{kind}"
    frame.to_excel(path, index=False) if kind == "xlsx" else frame.to_parquet(path)
    notes = []
    rows = text_files.read(path, "text", "label", notes=notes)
    first = 2 if kind == "xlsx" else 1
    assert [tuple(row[:3]) for row in rows] == [(first, "good", "1"), (first + 1, "", "0"), (first + 2, "007", "1")]
    assert notes == [f"{path}: --text_column is 'Text' there, not 'text'"]
    assert rows[1].place(str(path)) == f"{path} row {first + 1}"
    with pytest.raises(BadInput, match="has no column 'mood'"):
        text_files.read(path, "text", "mood")


def test_texts_to_learn_from_are_those_of_a_csv(tmp_path, capsys):
    texts = [f"{word} number {i}" for i, word in enumerate(RNG.choice(["good", "bad", "很好"], 90))]
    frame = pd.DataFrame({"text": texts, "label": [text.split()[0] == "bad" for text in texts]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    frame.to_feather(tmp_path / "t.arrow")
    one, *others = (
        text_classification.load("", train_file=str(tmp_path / f"t.{kind}")) for kind in ("csv", "xlsx", "arrow")
    )
    for other in others:
        assert [each.lower() for each in one.classes] == list(other.classes) == ["false", "true"]
        for part in ("train", "validation", "test"):
            assert getattr(other, part).texts == getattr(one, part).texts
            np.testing.assert_array_equal(getattr(other, part).labels, getattr(one, part).labels)
    frame.loc[1, "text"] = ""
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    assert command(["inspect", str(tmp_path / "t.xlsx")]) == 0
    assert f"{tmp_path / 't.xlsx'} row 3" in capsys.readouterr().out


def test_a_row_without_a_label_is_named(tmp_path):
    path = saved(tmp_path / "t.xlsx", [["text", "label"], ["a", "x"], ["b", None]])
    with pytest.raises(BadInput, match=r"t\.xlsx row 3"):
        text_files.read(path, "text", "label")
    notes = []
    assert len(text_files.read(path, "text", "label", drop_unlabelled=True, notes=notes)) == 1 and len(notes) == 1
