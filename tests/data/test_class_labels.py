"""Labels as people write them: which are missing, which are one class, and what is said about doubtful ones."""

import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.datasets import class_labels
from zoo.errors import BadInput


@pytest.mark.parametrize("label", ["", " ", "nan", "NaN", "-nan", "NAN ", "null", "NULL", "<NA>", "#N/A", "NaT"])
def test_missing(label):
    assert class_labels.is_missing(label)


@pytest.mark.parametrize("label", ["None", "NA", "0", "n/a", "Nan Goldin", "nano", "-"])
def test_not_missing(label):
    assert not class_labels.is_missing(label)


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        (["1", "1.0", "0", "0.0", "+1"], ("0", "1"), ["'+1' and '1' and '1.0' are equal", "'0' and '0.0' are equal"]),
        (["1.0", "0.0"], ("0.0", "1.0"), []),
        (["10", "9", "-1"], ("-1", "9", "10"), []),
        (["01", "02"], ("01", "02"), []),
        (["10000000000000001", "10000000000000002"], ("10000000000000001", "10000000000000002"), []),
        (["1e-3", "0.001", "2"], ("1e-3", "2"), ["'0.001' and '1e-3' are equal numbers: one class"]),
        ([" yes", "yes", "no\t"], ("no", "yes"), []),
        (["Yes", "yes", "yes", "no"], ("Yes", "no", "yes"), ["the classes 'Yes' (1) and 'yes' (2) differ in case"]),
        (["caf\u00e9", "cafe\u0301", "x"], ("cafe\u0301", "caf\u00e9", "x"), ["the classes 'cafe\u0301' (1) and"]),
        (["a\u200bb", "ab"], ("ab", "a\u200bb"), ["the classes 'ab' (1) and 'a\\u200bb' (1) differ in case, blanks"]),
        (["very good", "very_good", "Very-Good"], ("Very-Good", "very good", "very_good"), ["the classes 'Very-Good'"]),
        (["A+", "A-", "A", "C#", "C++", "C"], ("A", "A+", "A-", "C", "C#", "C++"), []),
        (["1-2", "12", "-1", "1"], ("-1", "1", "1-2", "12"), []),
        (["None", "joy"], ("None", "joy"), ["'None' is read as a class of 1 examples: leave"]),
        (["infinity", "space"], ("infinity", "space"), []),
        (
            ["comedy", "drama", "comedy|drama"],
            ("comedy", "comedy|drama", "drama"),
            ["1 of 3 classes are combinations with"],
        ),
        (["a;b", "b;c", "a; c"], ("a; c", "a;b", "b;c"), ["3 of 3 classes are combinations with ';', like 'a; c'"]),
        (["a, b", "a", "b"], ("a", "a, b", "b"), ["1 of 3 classes are combinations with ','"]),
        (["Paris, Texas", "Paris, France", "Lyon, France"], ("Lyon, France", "Paris, France", "Paris, Texas"), []),
        (["news/sport", "news/world"], ("news/sport", "news/world"), []),
    ],
)
def test_classes(labels, names, said):
    found, notes = class_labels.classes(labels, "f.csv")
    assert found == names
    assert len(notes) == len(said) and all(text in note for text, note in zip(said, notes)), notes
    assert all("f.csv: " in note and "\n" not in note for note in notes)
    assert set(class_labels.indices(labels, found)) == set(range(len(found)))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["yes", " yes "], "f.csv: only the class 'yes'; expected two or more"),
        (["1", "1.0", "1.00"], "f.csv: only the class '1'; expected two or more"),
        ([], "f.csv: no labels; expected two or more"),
        (["1", "0", "Infinity"], "f.csv: the class 'Infinity' among numbers; expected finite numbers"),
    ],
)
def test_refused(labels, said):
    with pytest.raises(BadInput, match=re.escape(said)):
        class_labels.classes(labels, "f.csv")


def test_indices_by_name_then_by_number():
    assert class_labels.indices([" b", "1.0", "02", "x", "B", "3"], ["b", "2", "1"]).tolist() == [0, 2, 1, -1, -1, -1]
    # Classes of an old run that are equal numbers are told apart by their names alone.
    assert class_labels.indices(["1", "1.0", "1e0"], ["1", "1.0"]).tolist() == [0, 1, -1]
    assert "did you mean 'Yes'?" in class_labels.unknown("yes", ["No", "Yes"], "the model")


@settings(max_examples=30, deadline=None)
@given(st.integers(-(10**30), 10**30), st.integers(0, 3), st.integers(0, 3))
def test_equal_numbers_are_one_class(value, zeros, exponent):
    forms = [str(value), f"{value}.{'0' * zeros}", f"{value}{'0' * exponent}e-{exponent}", f" {value}E0"]
    assert {class_labels.number(form) for form in forms} == {Decimal(value)}
    names, _ = class_labels.classes([*forms, "other"], "f")
    assert set(names) == {str(value), "other"}
    assert len(set(class_labels.indices(forms, names))) == 1


@pytest.mark.parametrize("name", ["a\nb", "a\u200bb", "a/b", "x" * 5000, "\x1b[31mred"])
def test_names_are_data_in_messages(name):
    for said in (
        class_labels.unknown(name, [name, "other"], "the model"),
        *class_labels.classes([name, name.upper(), "none"], "f")[1],
        class_labels.missing_message("f line 3", "label", "nan"),
    ):
        assert said.isprintable() and len(said) < 400
