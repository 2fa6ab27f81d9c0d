"""Delimited files of all dialects: read back as they were written, no row lost, and what was assumed said."""

import csv
import gzip
import io
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.datasets import delimited, delimited_records
from zoo.errors import BadInput


def opened(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return delimited.read(path)


def contents(folder, name, content):
    found = opened(folder, name, content)
    return found.header, [fields for _, fields in found.rows()], [note.split(": ", 1)[1] for note in found.notes]


def written(rows, **dialect):
    file = io.StringIO(newline="")
    csv.writer(file, **dialect).writerows([["text", "label"], *rows])
    return file.getvalue()


CHARACTERS = st.one_of(st.sampled_from(" \"'\t\n\r,;|#a1\u2028"), st.characters(exclude_categories=["Cs"]))
FIELDS = st.text(CHARACTERS.filter(lambda character: character != "\0"), max_size=6)
# A row of empty cells at the end is no row.
ROWS = st.lists(st.tuples(FIELDS, FIELDS), max_size=6).map(lambda rows: [*rows, ("x", "y")])


@settings(max_examples=40, deadline=None)
@given(
    ROWS,
    st.sampled_from(",;|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_csv_writer_writes_is_read_back(tmp_path_factory, rows, delimiter, quoting, end):
    if end == "\n":
        # Before Python 3.13 its writer did not quote a carriage return.
        rows = [tuple(field.replace("\r", " ") for field in row) for row in rows]
    content = written(rows, delimiter=delimiter, quoting=quoting, lineterminator=end)
    header, found, _ = contents(tmp_path_factory.getbasetemp(), "rows.csv", content)
    assert header == ("text", "label") and found == [list(row) for row in rows]


# With tabs and line ends in one text, each of its lines may look like a row.
TSV_ROWS = ROWS.filter(
    lambda rows: not any("\t" in field and re.search(r"[\r\n]", field) for row in rows for field in row)
)


@settings(max_examples=40, deadline=None)
@given(TSV_ROWS, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_a_quoted_tsv_is_read_back(tmp_path_factory, rows, quoting):
    content = written(rows, delimiter="\t", quoting=quoting, lineterminator="\r\n")
    assert contents(tmp_path_factory.getbasetemp(), "rows.tsv", content)[1] == [list(row) for row in rows]


LITERAL = st.text(st.sampled_from('"" ,ab'), max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(LITERAL, LITERAL), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_a_tsv_without_quoting_is_read_literally(tmp_path_factory, rows, end):
    """As GLUE writes it; one text with a quote inside disproves quoting."""
    rows = [*rows, ('5" disk', "y")]
    content = "".join(f"{text}\t{label}{end}" for text, label in [("text", "label"), *rows])
    assert contents(tmp_path_factory.getbasetemp(), "rows.tsv", content)[1] == [list(row) for row in rows]


def test_a_quote_at_the_begin_of_a_text_swallows_no_rows(tmp_path):
    texts = [f"text {i}" for i in range(60)]
    texts[20], texts[30] = '"But why', 'she said "'
    header, rows, notes = contents(
        tmp_path, "a.tsv", "sentence\tlabel\n" + "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts))
    )
    assert [text for text, _ in rows] == texts and header == ("sentence", "label")
    assert notes == ["quotes are read as part of the texts (first at line 22), each line as a row: 60 rows"]


# Written by pandas 3.1.
PANDAS = {
    "tabs": 'text\tlabel\n"He said ""no"""\t1.0\nplain\t1.0\na, b\t0.0\n',
    "lines": 'text\tlabel\n"He said ""no"""\t1.0\n"two\nlines"\t\n"tab\there"\t0.0\nplain\t1.0\na, b\t0.0\n',
    "all": '"text"\t"label"\n"He said ""no"""\t1.0\n"plain"\t1.0\n"a, b"\t0.0\n',
    "semicolons": 'text;label\n"He said ""no""";1,0\n"two\nlines";\ntab\there;0,0\nplain;1,0\na, b;0,0\n',
}


@pytest.mark.parametrize(("name", "content"), PANDAS.items())
def test_what_pandas_writes(tmp_path, name, content):
    suffix = "csv" if name == "semicolons" else "tsv"
    _, rows, notes = contents(tmp_path, f"{name}.{suffix}", content)
    texts = [text for text, _ in rows]
    long = ['He said "no"', "two\nlines", "tab\there", "plain", "a, b"]
    assert texts == (long if name in ("lines", "semicolons") else ['He said "no"', "plain", "a, b"])
    said = {
        "tabs": ["fields in double quotes are read without them, in 3 rows"],
        "lines": [],
        "all": ["fields in double quotes are read without them, in 3 rows"],
        "semicolons": ["the columns are separated by semicolons"],
    }
    assert notes == said[name]


TWO = [["a", "1"], ["b", "2"]]


@pytest.mark.parametrize(
    ("name", "content", "rows", "said"),
    [
        ("A.CSV", "text,label\na,1\nb,2\n", TWO, ""),
        ("a.Tsv", "text\tlabel\na\t1\nb\t2\n", TWO, ""),
        ("a.csv.gz", gzip.compress(b"text,label\na,1\nb,2\n", mtime=0), TWO, ""),
        ("a.CSV.GZ", gzip.compress(b"text,label\na,1\nb,2\n", mtime=0), TWO, ""),
        ("a.txt", "text\tlabel\na\t1\nb\t2\n", TWO, ""),
        ("a.txt", "text|label\na|1\nb|2\n", TWO, "the columns are separated by pipes"),
        ("a.csv", "text\tlabel\na\t1\nb\t2\n", TWO, "the columns are separated by tabs"),
        ("a.tsv", "text,label\na,1\nb,2\n", TWO, "the columns are separated by commas"),
        ("a.csv", "text;label\na;1\nb, c;2\n", [["a", "1"], ["b, c", "2"]], "the columns are separated by semicolons"),
        ("a.csv", "sep=;\r\ntext;label\r\na;1\r\nb;2\r\n", TWO, ""),
        ("a.csv", '\ufeff"sep=|"\ntext|label\na|1\nb|2\n', TWO, ""),
        (
            "a.csv",
            "# written today\n# by hand\ntext,label\na,1\nb,2\n",
            TWO,
            "left out 2 lines of comment before the header",
        ),
        ("a.csv", 'text, label\n"a", "1"\n"b", "2"\n', TWO, "blanks before quotes are ignored"),
        ("a.csv", 'text, label\n"a, c", "1"\n', [["a, c", "1"]], "blanks before quotes are ignored"),
        ("a.csv", 'text,label\n"a",""" ""1"""\n', [["a", '" "1"']], ""),
        ("a.csv", "text,label\na,1\nb,2\n,\n,,,\n", TWO, "left out 2 rows of empty cells at the end"),
        ("a.csv", "text,label\na,1\n,\nb,2\n", [TWO[0], ["", ""], TWO[1]], ""),
        ("a.csv", "text,label,,\na,1,,\nb,2,, \n", TWO, ""),
        ("a.csv", "text,label\r\ra,1\rb,2\r", TWO, ""),
        ("a.csv", "text,label\n\na,1\n  \nb,2\n\n", TWO, ""),
        (
            "a.csv",
            'text,label\n"a" b,1\n',
            [['"a" b', "1"]],
            "quotes are read as part of the texts (first at line 2), each",
        ),
        ("a.csv", 'text,label\n"a\nc,d",2\n', [["a\nc,d", "2"]], ""),
        (
            "a.csv",
            'text,label\n"a,1\nb",2\n',
            [["a,1\nb", "2"]],
            "WARNING: the quoted field at line 2 is read as one of",
        ),
        ("a.csv", 'text\n"c" d\ne; f\n', [['"c" d'], ["e; f"]], "quotes are read as part of the texts"),
        ("a.csv", "text\na\nb; c\nd; e\n", [["a"], ["b; c"], ["d; e"]], ""),
    ],
)
def test_dialects(tmp_path, name, content, rows, said):
    _, found, notes = contents(tmp_path, name, content)
    assert found == rows
    assert len(notes) == bool(said) and all(note.startswith(said) for note in notes)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "is empty: expected a header"),
        ("a.csv", "a, b,a \n1,2,3\n", "line 1 names the column 'a' twice; expected unique names"),
        ("a.csv", 'a,b\n"x" y,"1, 2"\n', "line 2 cannot be read (',' expected after '\"'); expected quotes doubled"),
        ("a.csv", 'text\n"a\nb"\n"c" d\n', "line 4 cannot be read (',' expected after '\"')"),
        ("a.csv", 'a,b\n"x, y,1\nz,2\n', "line 2 cannot be read (unexpected end of data)"),
        ("a.tsv", 'a\tb\n"x\t1\ny\n', "line 3 has 1 fields; expected 2"),
        ("a.csv", "a,b\n1,2\n3\n", "line 3 has 1 fields; expected 2 as in the header (quote a text"),
        ("a.csv", "a,b\n1,2\n,,\n3,4\n", "line 3 has 3 fields; expected 2 as in the header"),
        ("a.csv", "a,b\n1,2\n# end of part one\n3,4\n", "expected 2 as in the header (take the comment out)"),
        ("a.csv", "a,b,,\n1,2,,x\n", "line 2 has 'x' in column 4, which has no name"),
        ("a.csv", "a,b\n1,2\r\n3,\0\n", "line 3 has a NUL character"),
        ("a.csv", b"a,b\n1,2\n3,\xe9\n", "line 3 is not text in UTF-8"),
        ("a.csv", b"a,b\r1,2\r3,\xe9\r", "line 3 is not text in UTF-8"),
        ("a.csv.gz", b"a,b\n", "cannot be read: Not a gzipped file"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "cannot be read: Compressed file ended"),
    ],
)
def test_one_line_about_what_is_wrong(tmp_path, name, content, said):
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        list(opened(tmp_path, name, content).rows())
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(BadInput, match="is not a regular file"):
        delimited.read(tmp_path)


def test_long_fields_are_documents_and_endless_ones_are_not(tmp_path, monkeypatch):
    rows = [["x" * 500_000, "1"], ['"' * 200_000, "2"]]
    assert contents(tmp_path, "a.csv", written(rows))[1] == rows
    monkeypatch.setattr(delimited_records, "LONGEST_FIELD", 1000)
    with pytest.raises(BadInput, match=r"line 2 cannot be read .*field larger than field limit"):
        contents(tmp_path, "a.csv", written(rows))
    monkeypatch.setattr(delimited_records, "LONGEST_LINE", 1000)
    with pytest.raises(BadInput, match="line 2 has more than 1,000 bytes; expected lines of text"):
        contents(tmp_path, "a.csv", "text,label\n" + "x" * 1001)


def test_lines_of_rows(tmp_path):
    found = opened(tmp_path, "a.csv", 'sep=,\ntext,label\n"a\r\nb",1\n\nc,2\n')
    assert [line for line, _ in found.rows()] == [3, 6] == [line for line, _ in found.rows()]


def test_rows_are_read_as_they_are_asked_for(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w") as file:
        file.write("a,b\n")
        file.writelines(itertools.repeat("1,2\n", 20_000))
        file.write("3\n")
    rows = delimited.read(path).rows()
    assert next(rows) == (2, ["1", "2"])
    with pytest.raises(BadInput, match="line 20002 has 1 fields"):
        list(rows)


@pytest.mark.parametrize(
    ("header", "name", "index", "said"),
    [
        ("text,label", "label", 1, ""),
        ("Text, Label", "label", 1, "--label_column is 'Label' there, not 'label'"),
        ("#label,text", "label", 0, "--label_column is '#label' there, not 'label'"),
        ("LABEL,label", "label", 1, ""),
        ("true_label,the label", "the_label ", None, "did you mean"),
        ("LABEL,Label", "label", None, "has no column 'label', it has LABEL, Label:"),
    ],
)
def test_columns_by_name(tmp_path, header, name, index, said):
    found = opened(tmp_path, "a.csv", header + "\n1,2\n")
    if index is None:
        with pytest.raises(BadInput, match=said):
            found.column(name, "label_column")
    else:
        assert found.column(name, "label_column") == found.column(name, "label_column") == index
        assert [note.split(": ", 1)[1] for note in found.notes] == ([said] if said else [])
