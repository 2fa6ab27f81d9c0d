"""Several labels per text: files, the run, its baseline and n-grams, predictions, evaluation, export, mistakes."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

import zoo
from experiments.bert_finetune import FinetuneConfig, build
from zoo.cli.main import main as command
from zoo.data.datasets import label_sets, text_classification
from zoo.errors import BadInput
from zoo.export import formats
from zoo.predict.evaluation import run_data
from zoo.training import ngram_fit
from zoo.workdir import read_run

# Tests of one process share its devices, which cannot be made later.
tf.config.list_logical_devices()
NAMES = ("food", "music", "sport")
WORDS = {"sport": ["goal", "match", "team"], "food": ["soup", "bread", "cook"], "music": ["song", "band", "tune"]}
SIZE = {
    "compile": "none",
    "layers": 1,
    "width": 16,
    "heads": 2,
    "context": 12,
    "vocabulary": 80,
    "tokenizer": "word",
    "graph": False,
}


@pytest.fixture(scope="module")
def rows():
    draw, found = np.random.default_rng(0), []
    for number in range(240):
        has = [name for name in NAMES if draw.random() < 0.4]
        words = [*draw.choice(["the", "a", "we", "saw", "today", "with"], 4), f"n{number}"]
        words += [str(draw.choice(WORDS[name])) for name in has]
        draw.shuffle(words)
        found.append((" ".join(words), has))
    return found


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    """The same texts with their tags in one column, as JSON lists, and in a column for each."""
    folder = tmp_path_factory.mktemp("texts")
    texts = [text for text, _ in rows]
    pd.DataFrame({"text": texts, "tags": ["|".join(has[::-1]) for _, has in rows]}).to_csv(
        folder / "tags.csv", index=False
    )
    (folder / "tags.jsonl").write_text("\n".join(json.dumps({"text": text, "tags": has}) for text, has in rows))
    columns = {name: [int(name in has) for _, has in rows] for name in NAMES}
    pd.DataFrame({"text": texts, **columns}).to_csv(folder / "columns.csv", index=False)
    return folder


def config_of(folder, file="tags.csv", **options):
    own = {"train_file": str(folder / file), "label_column": "tags", "label_separator": "|", "empty_is_none": True}
    fixed = {"task": "multi_label", "epochs": 0, "steps": 4, "show": "none", "batch_size": 64}
    return FinetuneConfig(**(SIZE | own | fixed | options))


@pytest.fixture(scope="module")
def evaluated(folder):
    """A run, and the logits of its final evaluation."""
    found = {}

    def watched(config):
        experiment = build(config)

        def compute_metrics(means, outputs, columns, final):
            if final:
                found["logits"] = np.array(outputs["logits"])
            return experiment.compute_metrics(means, outputs, columns, final)

        return experiment._replace(compute_metrics=compute_metrics)

    config = config_of(folder, threshold_for="f1", ngrams=False, steps=12, learning_rate=0.02)
    zoo.run(watched, config, folder / "run")
    return folder / "run", found["logits"]


@pytest.fixture(scope="module")
def run(evaluated):
    return evaluated[0]


def loaded(folder, file, column="tags", separator="|", empty_is_none=True, **options):
    labels = label_sets.from_flags(column, separator, empty_is_none)
    return text_classification.load("", train_file=str(folder / file), label_column=column, labels=labels, **options)


@pytest.mark.parametrize(("file", "column"), [("tags.csv", "tags"), ("tags.jsonl", "tags"), ("columns.csv", "")])
def test_each_form_of_file(folder, rows, file, column):
    data = loaded(folder, file) if column else loaded(folder, file, ",".join(NAMES), "", False)
    assert data.classes == NAMES and data.train.labels.dtype == np.float32
    found = {
        text: [name for name, has in zip(NAMES, y) if has]
        for part in (data.train, data.validation, data.test)
        for text, y in zip(part.texts, part.labels, strict=True)
    }
    assert found == dict(rows)


@pytest.mark.parametrize(
    ("content", "column", "separator", "empty", "said"),
    [
        ("text,tags\n{rows}x,\n", "tags", "|", False, "line 14: 'tags' is empty; expected a class, or --drop_unlab"),
        ("text,a,b\n{pairs}x,1,\n", "a,b", "", False, "line 14: 'b' is empty"),
        ("text,a,b\n{pairs}x,1,perhaps\n", "a,b", "", False, "line 14: 'b' is 'perhaps'; expected 1 or 0"),
        ("text,a,b\n{pairs}", "a", "", False, "one column; expected several"),
        ("text,a,b\n{ones}", "a,b", "", False, "all 12 examples have the label 'b'"),
        ("text,tags\nx,a\ny,b\n", "tags", "|", False, "has 2 examples; expected 10"),
    ],
)
def test_files_that_are_refused(tmp_path, content, column, separator, empty, said):
    parts = {
        "rows": "".join(f"t{n},{'a|b' if n % 2 else 'a' if n % 3 else 'b'}\n" for n in range(12)),
        "pairs": "".join(f"t{n},{n % 2},{n % 3 % 2}\n" for n in range(12)),
        "ones": "".join(f"t{n},{n % 2},1\n" for n in range(12)),
    }
    (tmp_path / "t.csv").write_text(content.format(**parts))
    with pytest.raises(BadInput, match=said):
        loaded(tmp_path, "t.csv", column, separator, empty)
    if "is empty" in said:
        data = loaded(tmp_path, "t.csv", column, separator, empty, drop_unlabelled=True)
        assert sum(len(part.texts) for part in (data.train, data.validation, data.test)) == 12
        assert any("left out 1 examples without a label" in note for note in data.notes)


def test_a_label_with_the_separator_in_a_list(tmp_path):
    lines = [json.dumps({"text": f"t{n}", "tags": ["a"] if n % 2 else ["a", "b"]}) for n in range(12)]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, json.dumps({"text": "x", "tags": ["a|b"]})]))
    with pytest.raises(BadInput, match=r"t.jsonl line 13: a label is \"a\|b\"; expected names without"):
        loaded(tmp_path, "t.jsonl", empty_is_none=False)


def test_scores_are_scikit_learns(evaluated):
    """Of the evaluation's own logits: two examples may be so close that float32 probabilities do not rank them."""
    run, logits = evaluated
    result = json.loads((run / "result.json").read_text())
    data, predictor = run_data.run_texts(read_run(run)).test, zoo.load(run)
    assert predictor.classes == NAMES and predictor.reads_text
    np.testing.assert_allclose(predictor.logits(data.texts), logits, atol=1e-5)
    for number, name in enumerate(NAMES):
        precision = sklearn_metrics.average_precision_score(data.labels[:, number], logits[:, number])
        assert result[f"test/average_precision/{name}"] == pytest.approx(precision, abs=1e-6)
    precision = sklearn_metrics.average_precision_score(data.labels, logits, average="macro")
    assert result["test/average_precision"] == pytest.approx(precision, abs=1e-6)
    assert result["test/auc"] == pytest.approx(sklearn_metrics.roc_auc_score(data.labels, logits), abs=1e-6)
    decided = predictor.decide((1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32))
    for average in ("micro", "macro"):
        f1 = sklearn_metrics.f1_score(data.labels, decided, average=average)
        assert result[f"test/f1_{average}_decided"] == pytest.approx(f1, abs=1e-6)
    # Words tell the labels.
    assert result["test/baseline_average_precision"] > 0.95
    lead = result["test/f1_micro"] - result["test/baseline_f1_micro"]
    assert result["test/f1_micro_over_baseline"] == pytest.approx(lead, abs=1e-5)


def test_ngrams_of_several_labels_are_those_of_each():
    """And a label that no text has is improbable."""
    draw = np.random.default_rng(1)
    tokens = draw.integers(5, 20, (60, 6)).astype(np.int32)
    y = np.stack([(tokens == 7).any(axis=1), (tokens == 9).any(axis=1), np.zeros(60, bool)], axis=1)
    layer = ngram_fit.fit(tokens, y.astype(np.float32), 20, 3).layer(20)
    logits = np.asarray(layer(tokens))
    for label in (0, 1):
        alone = ngram_fit.fit(tokens, y[:, label].astype(np.int32), 20, 2).layer(20)
        np.testing.assert_allclose(logits[:, label], np.asarray(alone(tokens))[:, 0], atol=1e-4)
        assert np.mean((logits[:, label] > 0) == y[:, label]) > 0.9
    assert (logits[:, 2] < -1).all()


def test_the_command_line(run, folder, capsys):
    assert command(["evaluate", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    result = json.loads((run / "result.json").read_text())
    assert found["f1_macro"] == pytest.approx(result["test/f1_macro"], abs=1e-5) and "f1_macro_decided" in found
    (folder / "other.csv").write_text("text,tags\na goal today,sport\nsoup and a song,food|music\nwe saw,\n")
    arguments = ["evaluate", str(run), f"--dataset={folder / 'other.csv'}", "--json"]
    assert command(arguments) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["examples"] == 3 and found["left_out"] == 0
    (folder / "other.csv").write_text("text,tags\na goal today,sport\nsoup,fodo\n")
    assert command(arguments) == 2
    assert "other.csv line 3: 'tags' is 'fodo'; expected a class of the model" in capsys.readouterr().err
    assert command(["predict", str(run), "--text=a goal and soup", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    predictor = zoo.load(run)
    expected = [list(each) for each in predictor.predict(["a goal and soup"])[0]]
    assert [[each["label"], each["probability"]] for each in answer["labels"]] == expected
    out = folder / "answers.csv"
    assert command(["predict", str(run), str(folder / "columns.csv"), f"--out={out}"]) == 0
    table = pd.read_csv(out)
    assert list(table.columns[:4]) == [*NAMES, "predicted food"]
    assert len(table) == 240 and set(table["predicted food"]) <= {0, 1}
    assert command(["predict", str(run), "--text=a", "--explain"]) == 2
    assert "--explain is for classifiers" in capsys.readouterr().err


def test_an_export_answers_alike(run, folder):
    out = formats.export(run, "keras", folder / "exported")
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": ""}
    example = [sys.executable, "-I", str(out / "example.py"), "a goal and soup", "we saw a band"]
    done = subprocess.run(example, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = [list(json.loads(line)["probabilities"].values()) for line in done.stdout.splitlines()]
    expected = zoo.load(run).probabilities(["a goal and soup", "we saw a band"])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_same_bits_on_two_devices_and_after_a_stop(folder):
    """Begun on two devices, ended on one; with the n-grams that are a default, which tell the labels."""
    options = {"schedule": "constant", "warmup_fraction": 0.0, "baseline": False, "eval_every": 2}
    # One width of the batches, so that each run compiles half as much.
    config = config_of(folder, exact=True, context=8, **options)
    zoo.run(build, config, folder / "one")
    zoo.run(build, config.replace(steps=2, cpu_devices=2), folder / "moved")
    begun = weights_of(folder / "moved")
    result = zoo.run(build, config, folder / "moved")
    assert result["test/average_precision"] > 0.9 and 0 <= result["network_share"] < 1
    assert weights_of(folder / "moved") == weights_of(folder / "one") != begun


def weights_of(workdir):
    return [value.tobytes() for value in zoo.load(workdir).model.get_weights()]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "classification"}, "--label_separator with --task=classification: it is for --task=multi_label"),
        ({"label_smoothing": 0.1}, "--label_smoothing with --task=multi_label: it is for classes"),
        ({"imbalance": "weights"}, "--imbalance=weights with --task=multi_label"),
        ({"positive_class": "food"}, "--positive_class=food with --task=multi_label"),
        ({"threshold_for": "f3"}, "--threshold_for is 'f3'"),
        ({"find_label_errors": True, "folds": 3}, "--find_label_errors=True with --task=multi_label"),
        ({"train_file": ""}, "several labels without --train_file"),
        ({"label_column": "topics"}, "'topics'"),
    ],
)
def test_mistakes(folder, options, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        zoo.run(build, config_of(folder, **options), tmp_path / "run")
