"""Tables as they are: any file of the same table is the same table; kinds of columns; missing values."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.data import audit
from zoo.data.datasets import (
    column_kinds,
    column_schema,
    delimited,
    delimited_columns,
    images,
    labelled_tables,
    text_columns,
)
from zoo.data.datasets.column_kinds import ColumnOptions
from zoo.data.datasets.column_schema import CATEGORY, DATE, NUMBER, TableSchema
from zoo.data.datasets.labelled_tables import ModelSchema, TableOptions
from zoo.errors import BadInput

RNG = np.random.default_rng(0)
ROWS = 80


@pytest.fixture(scope="module")
def frame():
    """A table with every kind of column, and missing values in each."""
    table = pd.DataFrame(
        {
            "age": RNG.normal(40, 10, ROWS).round(3),
            "rooms": RNG.integers(0, 5, ROWS),
            "city": RNG.choice(["Paris", "New York, NY", "Köln"], ROWS),
            "smoker": RNG.random(ROWS) < 0.5,
            "day": pd.Timestamp("2024-02-27") + pd.to_timedelta(RNG.integers(0, 400, ROWS), unit="D"),
            "story": [f"told by number {i}" for i in range(ROWS)],
            "label": RNG.choice(["yes", "no"], ROWS),
        }
    )
    for name in ("age", "city", "day"):
        table.loc[RNG.random(ROWS) < 0.2, name] = None
    return table


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """The table in every kind of file."""
    folder = tmp_path_factory.mktemp("tables")
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_csv(folder / "semicolons.csv", index=False, sep=";", na_rep="NA")
    frame.to_csv(folder / "t.tsv.gz", index=False, sep="\t", quoting=1)
    frame.to_parquet(folder / "t.parquet")
    frame.astype({"city": "category"}).to_parquet(folder / "categories.parquet")
    frame.to_feather(folder / "t.arrow")
    frame.to_json(folder / "t.jsonl", orient="records", lines=True, date_format="iso")
    with pa.OSFile(str(folder / "stream.arrow"), "wb") as file, pa.ipc.new_stream(file, pa.table(frame).schema) as out:
        out.write_table(pa.table(frame))
    return folder


FILES = (
    "semicolons.csv",
    "t.tsv.gz",
    "t.parquet",
    "categories.parquet",
    "t.arrow",
    "t.jsonl",
    "stream.arrow",
)


def test_kinds(folder, frame):
    data = images.load(str(folder / "t.csv"))
    kinds = {column.name: column.kind for column in data.schema.columns}
    assert kinds == {"age": NUMBER, "rooms": NUMBER, "city": CATEGORY, "smoker": CATEGORY, "day": DATE}
    assert data.features == ("age", "rooms", "city", "smoker", "day", "day:month", "day:weekday")
    counts = frame["city"].value_counts()
    assert counts[list(data.schema.columns[2].levels)].tolist() == sorted(counts, reverse=True)
    said = "\n".join(data.notes)
    assert "left out the column 'story', 80 different texts in 80 rows" in said and "--categorical=story" in said
    assert "numbers: age, rooms; categories: city, smoker; dates: day" in said


@pytest.mark.parametrize("name", FILES)
def test_any_file_of_a_table_is_the_table(folder, name):
    expected, found = images.load(str(folder / "t.csv")), images.load(str(folder / name))
    # One program writes midnight as a day, another with its time.
    assert found.schema == expected.schema
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(found, part)["x"], getattr(expected, part)["x"])
        np.testing.assert_array_equal(getattr(found, part)["y"], getattr(expected, part)["y"])


def test_values(folder, frame):
    """Against pandas."""
    table = text_columns.read(folder / "t.csv")
    schema = images.load(str(folder / "t.csv")).schema
    x = column_schema.encoded(table, schema)
    np.testing.assert_array_equal(x[:, 0], frame["age"].astype(np.float32))
    np.testing.assert_array_equal(np.isnan(x[:, 2]), frame["city"].isna())
    there = frame["city"].notna().to_numpy()
    levels = np.array(schema.columns[2].levels)
    assert (levels[x[there, 2].astype(int)] == frame["city"][there]).all()
    days = (frame["day"] - pd.Timestamp("1970-01-01")).dt.days
    for column, expected in ((4, days), (5, frame["day"].dt.month), (6, frame["day"].dt.day_of_week)):
        np.testing.assert_array_equal(x[:, column], expected.astype(np.float32))


def test_the_schema_survives_a_file(folder):
    schema = images.load(str(folder / "t.csv")).schema
    assert TableSchema.from_json(schema.as_json()) == schema


def test_another_file_of_the_same_kind(folder, frame):
    """Unseen categories and missing values of complete columns are read; what is no number is refused."""
    schema = images.load(str(folder / "t.csv")).schema
    other = frame.drop(columns=["story", "label"]).head(3).astype({"city": object, "rooms": object})
    other.loc[0, ["city", "rooms"]] = ["Oslo", None]
    other.iloc[:, ::-1].to_csv(folder / "other.csv", index=False)
    x = column_schema.encoded(text_columns.read(folder / "other.csv"), schema)
    assert x[0, 2] == column_schema.UNSEEN and np.isnan(x[0, 1]) and x.shape == (3, 7)
    other.loc[1, "rooms"] = "two"
    other.to_csv(folder / "other.csv", index=False)
    with pytest.raises(BadInput, match=r"other.csv line 3, column 'rooms': 'two' is not a number"):
        column_schema.encoded(text_columns.read(folder / "other.csv"), schema)
    frame.drop(columns="day").to_parquet(folder / "other.parquet")
    with pytest.raises(BadInput, match=r"other.parquet lacks the column 'day'; expected the columns age, rooms, city"):
        column_schema.encoded(text_columns.read(folder / "other.parquet"), schema)


def inferred(tmp_path, values, notes=None, **options):
    path = tmp_path / "t.csv"
    pd.DataFrame({"v": values}).to_csv(path, index=False, quoting=1)
    notes = [] if notes is None else notes
    return column_kinds.infer(text_columns.read(path), ["v"], ColumnOptions(**options), notes).columns[0]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", "-3e2", "+4"], NUMBER),
        (["1", "", "NA", "?"], NUMBER),
        (["yes", "no"], CATEGORY),
        (["True", "False"], CATEGORY),
        (["none", "small", "large"], CATEGORY),
        (["2024-01-31", "", "2023-12-01"], DATE),
        (["2024-01-31 12:30", "2023-12-01 00:00"], DATE),
        (["2024-01-31T12:30:00Z", "2023-12-01T00:00:00+01:00"], DATE),
        (["31.12.2024", "01.02.2023"], DATE),
        (["12/31/2024", "02/01/2023"], DATE),
        (["31/12/2024 23:59", "01/02/2023 00:01"], DATE),
        (["3 Feb 2024", "31 Dec 2023"], DATE),
    ],
)
def test_kinds_of_values(tmp_path, values, kind):
    assert inferred(tmp_path, values * 5).kind == kind


def test_flags_decide(tmp_path):
    assert inferred(tmp_path, ["1", "2"] * 5, categorical=("v",)).levels == ("1", "2")
    assert inferred(tmp_path, ["1,5", "1.000,25"] * 5, decimal=",").kind == NUMBER
    assert inferred(tmp_path, ["31.12.2024", "01.02.2023"] * 5, decimal=",").kind == DATE
    texts = ["1,5", "1.000,25", "-12.345.678", "", "1.5", "1.0000"]
    numbers = column_schema.numbers(pa.chunked_array([texts]), ",")
    np.testing.assert_array_equal(numbers, [1.5, 1000.25, -12345678, np.nan, np.nan, np.nan])
    with pytest.raises(BadInput, match=r"line 12, column 'v': '1.5' has a decimal point; expected a comma"):
        inferred(tmp_path, [*["1,5"] * 10, "1.5"], decimal=",")
    with pytest.raises(BadInput, match=r"line 2, column 'v': 'a' is not a number"):
        inferred(tmp_path, ["a", "b"] * 5, numeric=("v",))
    with pytest.raises(BadInput, match="both name 'v'"):
        inferred(tmp_path, ["a", "b"] * 5, numeric=("v",), categorical=("v",))


def test_what_could_be_two_things_is_said(tmp_path):
    notes = []
    column = inferred(tmp_path, ["01/02/2024", "03/04/2024"] * 5, notes)
    assert column.format == "%d/%m/%Y" and "could be %d/%m/%Y or %m/%d/%Y" in notes[0] and "WARNING" in notes[0]


def test_columns_without_information_are_left_out(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": [1, 2] * 5, "nothing": [""] * 10, "each": list("abcdefghij")}).to_csv(path, index=False)
    notes = []
    table = text_columns.read(path)
    assert column_kinds.infer(table, table.header, ColumnOptions(), notes).names == ("a",)
    assert "'nothing', which has no values" in notes[0] and "10 different texts in 10 rows" in notes[1]
    with pytest.raises(BadInput, match="has no column to learn from"):
        column_kinds.infer(table, ["each"], ColumnOptions(), notes)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.parquet", b"PAR1 and then nothing", "cannot be read: .*expected a whole .parquet file"),
        ("t.arrow", b"ARROW1 and then nothing", "cannot be read: .*expected a whole .arrow file"),
        ("t.jsonl", b'{"a": 1}\n{"a": [1]}\n', "line 2: 'a' is nested"),
        ("t.jsonl", b'{"a": 1}\n[1]\n', "line 2: expected an object"),
        ("t.jsonl", b"", "is empty: expected an object in each line"),
        ("t.csv", b"", "is empty: expected a header and at least one row"),
    ],
)
def test_damaged_files(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=re.escape(str(tmp_path / name)) + ".*" + said):
        text_columns.read(tmp_path / name)


def test_nested_and_binary_columns_are_refused(tmp_path):
    pd.DataFrame({"a": [[1], [2]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(BadInput, match=r"column 'a' has values of .*list.*: expected numbers, texts"):
        text_columns.read(tmp_path / "t.parquet")


FIELD = st.text(st.sampled_from('ab1 ,;"\n\u00e9.'), max_size=4)


@given(
    rows=st.lists(st.lists(FIELD, min_size=3, max_size=3), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([0, 1]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pyarrow_reads_as_we_do(tmp_path, rows, delimiter, quoting):
    """Any table that pandas writes: PyArrow's columns are Python's, or it is not used."""
    path = tmp_path / "t.csv"
    pd.DataFrame(rows, columns=["one", "two", "three"]).to_csv(path, index=False, sep=delimiter, quoting=quoting)
    try:
        table = delimited.read(path)
        slow = delimited_columns.slow(dataclasses.replace(table, notes=[]))
    except BadInput:
        # A table that has no one reading, such as one with delimiters in unquoted texts.
        return
    fast = delimited_columns.fast(table)
    if fast is not None:
        one, other = ({name: texts.to_pylist() for name, texts in each.columns().items()} for each in (fast, slow))
        assert one == other


def test_pyarrow_is_used(folder):
    for name in ("t.csv", "semicolons.csv", "t.tsv.gz"):
        assert delimited_columns.fast(delimited.read(folder / name)) is not None


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl"])
def test_numbers_of_a_file_have_no_decimal_mark(tmp_path, kind):
    """--decimal is about texts: floats beside them are taken as they are, of missing ones and labels, too."""
    frame = pd.DataFrame({"text": ["1,5", "1.234,5", "3"], "x": [1.5, None, -0.25], "n": [1, 2, 3]}).assign(y=[0.5] * 3)
    path = tmp_path / f"t.{kind}"
    if kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        (frame.to_parquet if kind == "parquet" else frame.to_feather)(path)
    table = text_columns.read(path)
    schema = column_kinds.infer(table, ["text", "x", "n"], ColumnOptions(decimal=","), [])
    assert [column.kind for column in schema.columns] == ["number"] * 3
    expected = [[1.5, 1.5, 1], [1234.5, np.nan, 2], [3, -0.25, 3]]
    np.testing.assert_array_equal(column_schema.encoded(table, schema), np.array(expected, np.float32))
    row = text_columns.of_records([{"text": "1,5", "x": 1.5, "n": None}], ("text", "x", "n"))
    np.testing.assert_array_equal(column_schema.encoded(row, schema), np.array([[1.5, 1.5, np.nan]], np.float32))
    facts = {fact.name: fact.range for fact in audit.table(path, "y", options=ColumnOptions(decimal=",")).columns}
    assert facts["x"] == "-0.25 .. 0.625 .. 1.5"
    labelled = labelled_tables.read(
        path, ModelSchema(()), TableOptions("y", values=True, columns=ColumnOptions(decimal=","))
    )[0]
    assert labelled["y"].tolist() == [0.5] * 3
    # Texts with a decimal point are still refused.
    frame.assign(text=["1.5", "2,5", "3"]).to_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(BadInput, match=r"row 1, column 'text': '1\.5' has a decimal point"):
        column_kinds.infer(text_columns.read(tmp_path / "wrong.parquet"), ["text"], ColumnOptions(decimal=","), [])
