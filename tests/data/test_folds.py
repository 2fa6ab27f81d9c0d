"""Folds: every example is tested once, copies and groups are whole, classes are spread evenly."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from tests.helpers import pictures
from zoo.data import folds
from zoo.data.datasets import images, text_classification
from zoo.data.folds import Fold
from zoo.errors import BadInput

RNG = np.random.default_rng(0)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=120),
    st.integers(2, 6),
)
@settings(deadline=None)
def test_groups_are_whole_and_every_example_has_a_part(pairs, count):
    groups = folds.numbered([group for group, _ in pairs])
    kinds = np.array([kind for _, kind in pairs])
    found = folds.assign(groups, kinds, count)
    assert found.min() >= 0 and found.max() < count
    for group in range(groups.max() + 1):
        assert len(set(found[groups == group])) == 1


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_classes_are_spread_as_by_scikit_learn(count):
    kinds = RNG.choice(4, 211, p=[0.6, 0.25, 0.1, 0.05])
    found = folds.assign(np.arange(211), kinds, count)
    expected = [np.bincount(kinds[test], minlength=4) for _, test in StratifiedKFold(count).split(kinds, kinds)]
    counts = [np.bincount(kinds[found == part], minlength=4) for part in range(count)]
    assert np.array_equal(np.sort(counts, axis=0), np.sort(expected, axis=0))
    # Not only each class: the folds are of one size, too.
    assert np.ptp(np.sum(counts, axis=1)) <= 1


def test_large_groups_are_spread_by_their_classes():
    # Ten patients with one class, ten with the other, of sizes from 1 to 10.
    groups = np.repeat(np.arange(20), np.tile(np.arange(1, 11), 2))
    kinds = (groups >= 10).astype(int)
    found = folds.assign(groups, kinds, 5)
    counts = np.array([np.bincount(kinds[found == part], minlength=2) for part in range(5)])
    assert counts.sum() == 110 and np.abs(counts - 11).max() <= 1


def test_the_parts_of_all_runs_test_each_example_once_and_share_no_group():
    groups = folds.numbered(RNG.integers(0, 60, 200).tolist())
    kinds = RNG.integers(0, 3, 200)
    tested = np.zeros(200, int)
    for number in range(1, 6):
        part = folds.parts(groups, kinds, Fold(number, 5), ("a", "b", "c"), "data")
        tested += part == folds.TEST
        sets = [set(groups[part == each]) for each in (folds.TRAIN, folds.VALIDATION, folds.TEST)]
        assert all(sets) and not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
        assert abs((part == folds.TEST).sum() - 40) <= 4 and abs((part == folds.VALIDATION).sum() - 18) <= 4
    assert (tested == 1).all()


def test_two_folds_leave_examples_to_learn_from():
    for number in (1, 2):
        part = folds.parts(np.arange(20), np.arange(20) % 2, Fold(number, 2), ("a", "b"), "data")
        assert np.bincount(part, minlength=3).tolist() == [8, 2, 10]


def test_copies_are_in_one_group_and_join_named_groups():
    x = RNG.normal(size=(40, 5)).astype(np.float32)
    x[20:30] = x[:10]
    alone = folds.linked(x)
    assert np.array_equal(alone[20:30], alone[:10]) and len(set(alone)) == 30
    names = np.array([f"p{place // 10}" for place in range(40)])
    joined = folds.linked(x, names)
    assert len(set(joined)) == 3 and joined[0] == joined[29] and joined[0] != joined[10]


def test_rows_that_chance_makes_equal_are_no_copies():
    x = RNG.integers(0, 2, (300, 3)).astype(np.float32)
    assert len(set(folds.linked(x))) == 300


def test_values_are_spread_by_their_tenths():
    y = RNG.normal(size=100) ** 3
    part = folds.parts(np.arange(100), folds.strata(y, ()), Fold(1, 5), (), "data")
    ranks = np.argsort(np.argsort(y))
    assert np.bincount(ranks[part == folds.TEST] // 10, minlength=10).tolist() == [2] * 10


@pytest.mark.parametrize(
    "kinds, count, said",
    [
        ([0, 1], 2, "2 examples"),
        ([0, 1] * 2, 5, "expected 5 or more"),
        ([0] * 20 + [1], 5, "1 examples of the class 'rare'"),
    ],
)
def test_too_few_examples_are_refused_by_every_fold(kinds, count, said):
    for number in range(1, count + 1):
        with pytest.raises(BadInput, match=said):
            folds.parts(np.arange(len(kinds)), np.array(kinds), Fold(number, count), ("often", "rare"), "data")


def test_three_examples_of_a_class_are_enough():
    kinds = np.array([0] * 20 + [1] * 3)
    for number in range(1, 6):
        part = folds.parts(np.arange(23), kinds, Fold(number, 5), ("often", "rare"), "data")
        assert (kinds[part == folds.TRAIN] == 1).any()


def test_the_rows_of_a_table_keep_their_lines_groups_and_labels(tmp_path):
    path = tmp_path / "visits.csv"
    rows = [
        (f"p{RNG.integers(0, 12)}", float(RNG.normal()), RNG.choice(["yes", "no", ""], p=[0.5, 0.4, 0.1]))
        for _ in range(90)
    ]
    path.write_text("patient,a,label\n\n" + "".join(f"{name},{a!r},{label}\n" for name, a, label in rows))
    lines = {}
    for number in (1, 2, 3):
        data = images.load(str(path), split="group:patient", drop_unlabelled=True, fold=Fold(number, 3))
        assert data.origins.kind == "line"
        held = {rows[line - 3][0] for line in data.origins.values.tolist()}
        learned = {np.float32(a): name for name, a, label in rows}
        assert held.isdisjoint(learned[value] for value in data.train["x"][:, 0])
        for line, x, y in zip(data.origins.values.tolist(), data.test["x"], data.test["y"]):
            assert np.float32(rows[line - 3][1]) == x[0] and rows[line - 3][2] == data.classes[y]
            lines[line] = lines.get(line, 0) + 1
    assert lines == {place + 3: 1 for place, row in enumerate(rows) if row[2]}


@pytest.mark.parametrize("kind, first", [(".parquet", 1), (".jsonl", 1), (".npz", 0)])
def test_other_files_have_rows_or_indices(tmp_path, kind, first):
    import pandas as pd

    x, y = RNG.normal(size=(40, 2)).astype(np.float32), np.arange(40) % 2
    path = tmp_path / f"table{kind}"
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "label": np.where(y, "one", "zero")})
    if kind == ".npz":
        np.savez(path, x=x, y=y)
    elif kind == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    found = [images.load(str(path), fold=Fold(number, 4)) for number in range(1, 5)]
    places = np.concatenate([data.origins.values for data in found])
    assert sorted(places) == list(range(first, 40 + first))
    assert {data.origins.kind for data in found} == {"index" if kind == ".npz" else "row"}
    assert np.allclose(found[0].test["x"], x[found[0].origins.values - first], atol=1e-6)


def test_the_test_split_of_a_file_is_in_no_fold(tmp_path):
    path = tmp_path / "own.npz"
    x = RNG.normal(size=(30, 2)).astype(np.float32)
    np.savez(path, x=x, y=np.arange(30) % 2, x_test=x[:4] + 9, y_test=np.arange(4) % 2)
    data = images.load(str(path), fold=Fold(1, 3))
    assert len(data.train["y"]) + len(data.validation["y"]) + len(data.test["y"]) == 30
    assert any("x_test" in note for note in data.notes)


def test_data_on_disk_and_named_data_sets(tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    np.save(folder / "x.npy", RNG.normal(size=(30, 2)).astype(np.float32))
    np.save(folder / "y.npy", np.arange(30) % 2)
    with pytest.raises(BadInput, match="fit in memory"):
        images.load(str(folder), fold=Fold(1, 3))
    parts = [images.load("digits", fold=Fold(number, 5)) for number in range(1, 6)]
    assert sorted(np.concatenate([data.origins.values for data in parts])) == list(range(1797))
    with pytest.raises(BadInput, match="phrases"):
        text_classification.load("glue/sst2", fold=Fold(1, 5))


def test_images_of_a_folder_keep_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    root = pictures.folder(tmp_path / "root", 12)
    # A copy under another name is in the fold of the first.
    (root / "dark" / "copy.png").write_bytes((root / "dark" / "0.png").read_bytes())
    names, parts = [], {}
    for number in (1, 2, 3):
        data = images.load(str(root), fold=Fold(number, 3))
        assert data.origins.kind == "file"
        for name, y in zip(data.origins.values.tolist(), data.test["y"]):
            assert name.startswith(f"{data.classes[y]}/") and (root / name).is_file()
            parts[name] = number
        names += data.origins.values.tolist()
    assert len(names) == len(set(names)) == 25
    assert parts["dark/copy.png"] == parts["dark/0.png"]


def texts_file(path, count=60, pairs=False):
    words = ["good", "bad", "film", "book", "long", "short", "很好", "день"]
    rows = [(" ".join(RNG.choice(words, 6)), "yes" if place % 3 else "no") for place in range(count)]
    rows += [(text.upper() + " ", label) for text, label in rows[:10]]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "other", "label"] if pairs else ["text", "label"])
        for place, (text, label) in enumerate(rows):
            writer.writerow((text, f"answer {place}", label) if pairs else (text, label))
    return [text for text, _ in rows]


@pytest.mark.parametrize("pairs", [False, True])
def test_texts_that_differ_in_case_alone_are_in_one_fold(tmp_path, pairs):
    path = tmp_path / "texts.csv"
    texts = texts_file(path, pairs=pairs)
    fold_of = {}
    for number in (1, 2, 3):
        options = {"pair_column": "other"} if pairs else {}
        data = text_classification.load("", train_file=str(path), fold=Fold(number, 3), **options)
        trained = {text.split("\ue000")[0].casefold().split("answer")[0].strip() for text in data.train.texts}
        for line, text in zip(data.origins.values.tolist(), data.test.texts):
            assert text.startswith(texts[line - 2]) and line not in fold_of
            assert pairs or text.casefold().strip() not in trained
            fold_of[line] = number
    assert sorted(fold_of) == list(range(2, 72))
    assert all(fold_of[line] == fold_of[line + 60] for line in range(2, 12))
