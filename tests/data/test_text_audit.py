"""What `zoo inspect` says of texts: each finding where it is, and none where it is not."""

import csv
import json

import numpy as np
import pytest

from zoo.cli.main import main as command
from zoo.data import text_audit
from zoo.errors import BadInput

RNG = np.random.default_rng(0)
WORDS = np.array([f"word{number}" for number in range(500)])
ROWS = 120


def clean(rows=ROWS):
    """Texts without a finding."""
    return [(" ".join(RNG.choice(WORDS, RNG.integers(8, 40))), ["yes", "no"][place % 2]) for place in range(rows)]


def file(path, rows, header=("text", "label")):
    with path.open("w", newline="", encoding="utf8") as opened:
        csv.writer(opened).writerows([header, *rows])
    return path


def inspected(folder, rows, **options):
    return text_audit.texts(file(folder / "t.csv", rows), **options)


def test_clean_texts(tmp_path):
    rows = clean()
    found = inspected(tmp_path, rows)
    assert found.warnings == () and found.texts == ROWS and found.labels == {"yes": 60, "no": 60}
    words = np.array([len(text.split()) for text, _ in rows])
    assert found.words == f"{words.min()} .. {int(np.median(words))} .. {words.max()}"


def long_and_short(rows):
    return [(text if label == "yes" else " ".join([text] * 9), label) for text, label in rows]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [*rows, (" ", "yes")], "1 texts are empty, the first in line 122"),
        (lambda rows: [*rows, ("caf\u00c3\u00a9 au lait", "no")], "1 texts have signs of a wrong encoding"),
        (lambda rows: [*rows, ("caf\ufffd au lait", "no")], "the first in line 122"),
        (
            lambda rows: [*rows, *((f"<br />{text}", label) for text, label in clean(5))],
            "5 texts (4.0%) have HTML tags",
        ),
        (lambda rows: [*rows, (rows[3][0].upper(), "no")], "1 texts (0.8%) repeat an earlier one, such as lines 5 and"),
        (lambda rows: [*rows, (rows[3][0], "yes")], "1 groups of equal texts have different labels"),
        (
            lambda rows: [*rows, (rows[3][0] + " end", "no")],
            "1 texts (0.8%) are nearly the same as an earlier one (Jaccard similarity of 0.8 or more), such as lines 5",
        ),
        (lambda rows: [*rows, (rows[3][0] + " end", "yes")], "1 groups of nearly equal texts have different labels"),
        (lambda rows: [*rows, ("without", "")], "1 rows have no label"),
        (lambda rows: [(text, "yes") for text, _ in rows], "all rows have the label 'yes'"),
        (lambda rows: [*rows, *((text, "yes") for text, _ in clean(900))], "the largest class has 16 times the rows"),
        (
            lambda rows: [(f"{text} {'positive' if label == 'yes' else ''}", label) for text, label in rows],
            "the word 'positive' alone tells the class 'yes': it is in 100% of its texts and in 0% of the others",
        ),
        (long_and_short, "the length of a text alone tells the label"),
    ],
)
def test_each_finding(tmp_path, change, said):
    found = inspected(tmp_path, change(clean()))
    assert any(said in warning for warning in found.warnings), found.warnings
    kinds = [warning for warning in found.warnings if said not in warning]
    # What follows from the same change, and nothing else.
    assert len(kinds) <= 2, found.warnings


def test_a_test_file_with_texts_of_the_first(tmp_path):
    rows = clean()
    test = [(rows[0][0].title(), "yes"), (rows[1][0] + " end", "no"), *clean(10)]
    found = inspected(tmp_path, rows, test_file=file(tmp_path / "test.csv", test))
    said = "\n".join(found.warnings)
    assert f"1 of 12 texts of {tmp_path / 'test.csv'} are in" in said and "the first in line 2" in said
    assert "1 of 12 texts" in said and "are nearly the same as one in" in said and "the first in line 3" in said
    unlabelled = file(tmp_path / "plain.csv", [(text,) for text, _ in test], ("text",))
    assert len(inspected(tmp_path, rows, test_file=unlabelled).warnings) == 2


def test_chinese_texts_have_words_of_characters(tmp_path):
    letters = list("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏")
    rows = [("".join(RNG.choice(letters, 30)) + ("好" if place % 2 else ""), f"c{place % 2}") for place in range(60)]
    found = inspected(tmp_path, rows)
    assert any("the word '好' alone tells the class 'c1'" in warning for warning in found.warnings)


def test_values_and_files_without_labels(tmp_path):
    rows = [(text, f"{RNG.normal():.4f}") for text, _ in clean()]
    found = inspected(tmp_path, rows)
    assert found.labels == {} and ".." in found.values and found.warnings == ()
    plain = text_audit.texts(file(tmp_path / "plain.csv", [(text,) for text, _ in rows], ("text",)))
    assert plain.labels == {} and plain.values == "" and plain.texts == ROWS


def test_one_text_and_json_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"text": "alone", "label": 1}) + "\n")
    found = text_audit.texts(path)
    assert found.texts == 1 and found.characters == "5 .. 5 .. 5" and found.labels == {"1": 1}
    assert text_audit.header(path) == ["text", "label"]


def test_the_command_takes_texts_by_their_column(tmp_path, capsys):
    path = file(tmp_path / "t.csv", clean())
    assert command(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"{path}: 120 texts" in out and "yes  60 (50.0%)" in out
    assert command(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["texts"] == ROWS
    other = file(tmp_path / "o.csv", clean(), ("review", "stars"))
    assert command(["inspect", str(other), "--text_column=review", "--label_column=stars"]) == 0
    assert "120 texts" in capsys.readouterr().out
    # Without a column `text`, or with a flag of tables, it is a table.
    for words in ([str(other), "--label_column=stars"], [str(path), "--categorical=text"]):
        assert command(["inspect", *words]) == 0
        assert "120 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--text_column=text", "--numeric=a"], "--numeric with --text_column"),
        (["--text_column=review"], "has no column 'review'"),
        (["--label_column=stars"], "has no column 'stars'"),
        (["--test_file=missing.csv"], "missing.csv"),
    ],
)
def test_refusals(tmp_path, capsys, words, said):
    path = file(tmp_path / "t.csv", clean(12))
    assert command(["inspect", str(path), *words]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_file_and_other_encodings(tmp_path):
    with pytest.raises(BadInput, match=r"has no texts|is empty"):
        inspected(tmp_path, [])
    from zoo.data.datasets import delimited_format

    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\ncafé au lait,a\nthé vert,b\n".encode("latin-1"))
    found = text_audit.texts(path, form=delimited_format.of_flags(encoding="latin-1"))
    assert found.texts == 2 and found.warnings == ()


def test_several_files_are_one_set_of_texts(tmp_path, capsys):
    rows = clean(20)
    first, second = (
        file(tmp_path / "part-1.csv", rows),
        file(tmp_path / "part-2.csv", [rows[4], *clean(9), (" ", "no")]),
    )
    assert command(["inspect", str(tmp_path / "part-*.csv")]) == 0
    out = capsys.readouterr().out
    assert "31 texts" in out and "no  15 (48.4%)" in out
    assert f"1 texts (3.2%) repeat an earlier one, such as {first} line 6 and {second} line 2" in out
    assert f"1 texts are empty, the first in {second} line 12" in out
