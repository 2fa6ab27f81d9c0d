"""`--find_label_errors`: wrong labels of a table are found, with their lines, and finished folds are used."""

import csv
import json

import numpy as np
import pytest

import zoo
from experiments import bert_finetune, lstm_sentiment, mlp_classifier
from experiments.bert_finetune import FinetuneConfig
from experiments.mlp_classifier import MlpConfig
from tests.helpers import pictures
from zoo.engine.engine import Engine
from zoo.errors import BadInput
from zoo.metrics import label_errors
from zoo.training import doubtful_labels
from zoo.training.lstm_config import LstmConfig

RNG = np.random.default_rng(1)
ROWS, WRONG = 240, (7, 40, 41, 99)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "flowers.csv"
    x = RNG.normal(size=(ROWS, 2))
    kind = np.arange(ROWS) % 3
    x[:, 0] += 8 * (kind == 1)
    x[:, 1] += 8 * (kind == 2)
    given = kind.copy()
    given[list(WRONG)] = (given[list(WRONG)] + 1) % 3
    names = np.array(["rose", "lily, white", "tulip"])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["wide", "tall", "label"])
        writer.writerows([f"{a:.4f}", f"{b:.4f}", names[label]] for (a, b), label in zip(x, given))
    return path, names[kind]


def config(table, **changes):
    options = {
        "recipe": "plain",
        "epochs": 0,
        "steps": 60,
        "batch_size": 32,
        "learning_rate": 0.01,
        "graph": False,
        "compile": "none",
    }
    return MlpConfig(dataset=str(table), **{**options, "show": "none", "baseline": False, "folds": 2, **changes})


@pytest.fixture(scope="module")
def found(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    result = zoo.run(mlp_classifier.build, config(table[0], find_label_errors=True), folder)
    with (folder / "label_errors.csv").open(newline="", encoding="utf8") as file:
        return folder, result, list(csv.DictReader(file))


def test_the_wrong_labels_are_found_with_what_they_should_be(found, table):
    rows = found[2]
    lines = [int(row["line"]) - 2 for row in rows]
    assert set(WRONG) <= set(lines) and len(lines) <= len(WRONG) + 3
    assert all(row["suggested_label"] == table[1][line] for row, line in zip(rows, lines) if line in WRONG)
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins) and margins[0] < 0
    assert found[1]["label_errors"] == len(rows)


def test_each_has_the_columns_of_its_row(found, table):
    with table[0].open(newline="") as file:
        source = list(csv.DictReader(file))
    for row in found[2]:
        own = source[int(row["line"]) - 2]
        assert {f"column {name}": value for name, value in own.items()} == {
            name: value for name, value in row.items() if name.startswith("column ")
        }
        assert row["label"] == own["label"]


def test_the_probabilities_are_those_of_runs_that_have_not_seen_the_row(found):
    with (found[0] / "predictions.csv").open(newline="", encoding="utf8") as file:
        predictions = list(csv.DictReader(file))
    names = ["lily, white", "rose", "tulip"]
    probabilities = np.array([[float(row[f"probability {name}"]) for name in names] for row in predictions])
    labels = np.array([names.index(row["label"]) for row in predictions])
    expected = label_errors.find(labels, probabilities)
    assert [int(row["line"]) for row in found[2]] == [int(predictions[row]["line"]) for row in expected.rows]
    assert np.allclose([float(row["self_confidence"]) for row in found[2]], expected.self_confidence[expected.rows])


def test_the_folds_of_an_earlier_command_are_used(found, table, monkeypatch):
    """With and without the flag: the runs are the same."""
    flags = (found[0] / "fold_1" / "flags.txt").read_text()
    assert "--find_label_errors=False" in flags and "--folds=2" in flags and "--fold=1" in flags
    monkeypatch.setattr(Engine, "train", lambda *given: pytest.fail("trained again"))
    (found[0] / "label_errors.csv").unlink()
    without = zoo.run(mlp_classifier.build, config(table[0]), found[0])
    assert "label_errors" not in without and not (found[0] / "label_errors.csv").exists()
    assert zoo.run(mlp_classifier.build, config(table[0], find_label_errors=True), found[0]) == found[1]
    assert json.loads((found[0] / "folds.json").read_text())["folds"] == 2


def test_a_file_that_changed_since_is_refused(found, table, tmp_path):
    text = table[0].read_text()
    try:
        table[0].write_text("\n".join(text.splitlines()[:20]) + "\n")
        with pytest.raises(BadInput, match="has changed since the runs"):
            zoo.run(mlp_classifier.build, config(table[0], find_label_errors=True), found[0])
    finally:
        table[0].write_text(text)


def listed(folder):
    with (folder / "label_errors.csv").open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def test_images_in_the_wrong_folder_are_found_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    images = pictures.folder(tmp_path / "own", 24, shape=(6, 6), suffixes=(".png",))
    wrong = {"bright/dark_one.png": images / "dark" / "3.png", "dark/bright_one.png": images / "bright" / "8.png"}
    for name, path in wrong.items():
        path.rename(images / name)
    options = {"hidden": (8,), "epochs": 0, "steps": 60, "batch_size": 16, "learning_rate": 0.01, "compile": "none"}
    options |= {"graph": False, "show": "none", "baseline": False, "folds": 2}
    settings = MlpConfig(dataset=str(images), find_label_errors=True, **options)
    zoo.run(mlp_classifier.build, settings, tmp_path / "run")
    rows = {row["file"].removeprefix(f"{images}/"): row for row in listed(tmp_path / "run")}
    assert rows.keys() == wrong.keys()
    assert all(row["label"] == name.split("/")[0] != row["suggested_label"] for name, row in rows.items())


def test_texts_with_the_wrong_label_are_found_with_what_they_say(tmp_path):
    path, wrong = tmp_path / "texts.csv", (5, 18)
    words = [("bad", "good")[place % 2] for place in range(60)]
    texts = [f"{word} film, number {place}" for place, word in enumerate(words)]
    with path.open("w", newline="", encoding="utf8") as file:
        given = [{"bad": "good", "good": "bad"}[word] if place in wrong else word for place, word in enumerate(words)]
        csv.writer(file).writerows([("text", "label"), *zip(texts, given)])
    options = {"recipe": "plain", "epochs": 0, "steps": 40, "width": 8, "units": 8, "vocabulary": 80, "max_length": 12}
    options |= {"learning_rate": 0.02, "batch_size": 15, "compile": "none", "graph": False, "show": "none"}
    settings = LstmConfig(train_file=str(path), folds=2, find_label_errors=True, baseline=False, **options)
    zoo.run(lstm_sentiment.build, settings, tmp_path / "run")
    rows = {int(row["line"]) - 2: row for row in listed(tmp_path / "run")}
    assert rows.keys() == set(wrong)
    assert all(row["text"] == texts[place] and row["suggested_label"] == words[place] for place, row in rows.items())


def test_refusals(table, tmp_path):
    with pytest.raises(BadInput, match="--find_label_errors with --fold=1"):
        zoo.run(mlp_classifier.build, config(table[0], find_label_errors=True, fold=1), tmp_path)
    texts = FinetuneConfig(task="regression", find_label_errors=True, train_file=str(table[0]))
    with pytest.raises(BadInput, match="find_label_errors=True with --task=regression"):
        zoo.run(bert_finetune.build, texts, tmp_path)
    with pytest.raises(BadInput, match="time"):
        zoo.run(mlp_classifier.build, config(table[0], find_label_errors=True, split="time:wide"), tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_folds_are_five_where_they_are_not_set(table):
    from zoo.training import fold_flags

    assert fold_flags.with_folds(config(table[0], folds=0, find_label_errors=True)).folds == 5
    assert fold_flags.with_folds(config(table[0], folds=3, find_label_errors=True)).folds == 3
    assert fold_flags.with_folds(config(table[0], folds=0)).folds == 0


def test_texts_and_the_report_of_no_doubt(tmp_path):
    table = {"line": ["2", "3", "4"], "text": ['a,\n"b"', "c", "很好"], "fold": [1, 2, 1], "label": ["x", "y", "x"]}
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    given = np.array([0, 1, 0])
    found = doubtful_labels.write(tmp_path, table, given, probabilities, object())
    with (tmp_path / "label_errors.csv").open(newline="", encoding="utf8") as file:
        (row,) = csv.DictReader(file)
    assert (row["line"], row["label"], row["suggested_label"], row["text"]) == ("4", "x", "y", "很好")
    report = doubtful_labels.report(found, ("x", "y"), tmp_path, given)
    assert "1 of 3 labels are doubtful (33.3%)" in report and "1 labelled 'x' that are probably 'y'" in report
    none = doubtful_labels.write(tmp_path, table, np.array([0, 1, 1]), probabilities, object())
    assert "0 of 3" in doubtful_labels.report(none, ("x", "y"), tmp_path, np.array([0, 1, 1]))
    assert (tmp_path / "label_errors.csv").read_text().splitlines() == [
        "line,label,suggested_label,self_confidence,margin,text"
    ]
