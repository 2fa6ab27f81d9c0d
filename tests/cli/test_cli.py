"""`zoo predict` and `zoo evaluate`: against NumPy, against the run's own result, and with bad input."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import warnings

import keras
import numpy as np
import pytest
from PIL import Image
from scipy import stats

import zoo
from zoo.cli import main
from zoo.data.batches import Batches
from zoo.data.datasets import images, tables
from zoo.errors import BadInput
from zoo.metrics import classification
from zoo.models import mlp
from zoo.predict.evaluation import arrays, evaluate
from zoo.predict.predictors import array_classifier, loading

ZOO = [sys.executable, "-m", "zoo.cli"]
SHAPE = (8, 8)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    flags = [f"--workdir={folder}", "--dataset=digits", "--epochs=5", "--hidden=32", "--dropout=0.1"]
    command = [sys.executable, "-m", "experiments.mlp_classifier", *flags]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def test_split():
    return images.load("digits").test


@pytest.fixture(scope="module")
def digits(test_split):
    return test_split["x"]


def softmax_by_hand(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def by_hand(workdir, examples):
    """The probabilities of the fixture's network 64-32-10, computed without TensorFlow."""
    model = keras.models.load_model(workdir / "model.keras", compile=False)
    w1, b1, w2, b2 = (weight.astype(np.float64) for weight in model.get_weights())
    hidden = np.maximum(examples.reshape(len(examples), 64) / 16.0 @ w1 + b1, 0.0)
    return softmax_by_hand(hidden @ w2 + b2)


def make_run(folder, model, classes, config, fingerprint, **about):
    """What a finished run leaves, without the run."""
    folder.mkdir()
    with warnings.catch_warnings():
        # Keras' way of reading a tf.Variable is deprecated in NumPy 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        model.save(folder / "model.keras")
    (folder / "model.json").write_text(json.dumps({"task": "classification", "classes": classes, **about}))
    run = {"config": config, "identity": {"training data": fingerprint}}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def run(capsys, *argv):
    """Runs a command in this process: exit code, lines on stdout, lines on stderr."""
    code = main.main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def test_probabilities_are_those_of_the_network(workdir, digits, tmp_path, capsys):
    np.save(tmp_path / "x.npy", digits[:20])
    code, out, err = run(capsys, "predict", workdir, tmp_path / "x.npy", "--json", "--top=10")
    answers = [json.loads(line) for line in out]
    assert (code, err, len(out)) == (0, [], 20)
    expected = by_hand(workdir, digits[:20])
    for index, (answer, row) in enumerate(zip(answers, expected)):
        assert (answer["file"], answer["index"]) == (str(tmp_path / "x.npy"), index)
        assert answer["class"] == answer["top"][0]["class"] == str(row.argmax())
        assert [item["class"] for item in answer["top"]] == [str(label) for label in np.argsort(-row)]
        np.testing.assert_allclose([item["probability"] for item in answer["top"]], np.sort(row)[::-1], atol=1e-5)


def test_files_of_all_kinds_give_the_same_answer(workdir, digits, tmp_path, capsys):
    one = digits[7]
    np.save(tmp_path / "one.npy", one)
    np.save(tmp_path / "floats.npy", one.astype(np.float64))
    np.savez(tmp_path / "named.npz", x=digits[7:9], y=np.zeros(2))
    np.savez(tmp_path / "only.npz", anything=one)
    Image.fromarray(one).save(tmp_path / "gray.png")
    Image.fromarray(np.stack([one] * 3, axis=-1)).save(tmp_path / "colour.png")
    names = [tmp_path / name for name in ("one.npy", "floats.npy", "only.npz", "gray.png", "colour.png", "named.npz")]
    code, out, err = run(capsys, "predict", workdir, *names)
    assert (code, err) == (0, [])
    row = by_hand(workdir, one[None])[0]
    answer = f"{row.argmax()}\t{row.max():.4f}"
    assert out[:6] == [f"{name}\t{answer}" for name in names[:5]] + [f"{names[5]}[0]\t{answer}"]
    assert len(out) == 7 and out[6].startswith(f"{names[5]}[1]\t")


def test_any_number_of_examples(workdir, digits):
    model = zoo.load(workdir)
    assert (model.shape, model.dtype, model.classes) == (SHAPE, np.uint8, tuple("0123456789"))
    many = np.concatenate([digits, digits])[:300]
    found = model.probabilities(many)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(workdir, many), atol=1e-5)
    for size in (1, 2, 16, 17, 256):
        np.testing.assert_allclose(model.probabilities(many[:size]), found[:size], atol=1e-6)
    assert model.probabilities(many[:0]).shape == (0, 10)


def test_evaluate_repeats_the_test_of_the_run(workdir, test_split, capsys):
    code, out, err = run(capsys, "evaluate", workdir)
    result, trained = json.loads(out[-1]), json.loads((workdir / "result.json").read_text())
    assert (code, err) == (0, [])
    assert result["examples"] == len(test_split["y"])
    assert result["accuracy"] == pytest.approx(trained["test/accuracy"], abs=1e-9)
    assert result["loss"] == pytest.approx(trained["test/loss"], abs=1e-5)
    correct = int((by_hand(workdir, test_split["x"]).argmax(axis=1) == test_split["y"]).sum())
    interval = stats.binomtest(correct, result["examples"]).proportion_ci(method="wilson")
    assert [result["accuracy_low"], result["accuracy_high"]] == pytest.approx([interval.low, interval.high], abs=1e-9)
    assert [line.split()[1] for line in (out[0], out[1], out[3])] == [
        str(result["examples"]),
        f"{result['loss']:.4f}",
        f"{result['accuracy']:.4f}",
    ]
    for name in ("majority_share", "f1_macro", "average_precision", "auc_low"):
        assert result[name] == pytest.approx(trained[f"test/{name}"], abs=1e-6)


@pytest.mark.parametrize("successes, trials", [(0, 7), (7, 7), (1, 1), (500, 1000)])
def test_wilson(successes, trials):
    interval = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert arrays.wilson(successes, trials) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_evaluate_reads_all_of_another_file(workdir, digits, tmp_path, capsys):
    labels = np.arange(30) % 10
    np.savez(tmp_path / "mine.npz", x=digits[:30], y=labels)
    code, out, _ = run(capsys, "evaluate", workdir, "--dataset", tmp_path / "mine.npz", "--json")
    result, rows = json.loads(out[0]), by_hand(workdir, digits[:30])
    assert (code, len(out), result["examples"]) == (0, 1, 30)
    assert result["accuracy"] == pytest.approx((rows.argmax(axis=1) == labels).mean())
    assert result["loss"] == pytest.approx(-np.log(rows[np.arange(30), labels]).mean(), abs=1e-5)


@pytest.fixture
def weighted(tmp_path):
    """A run on a table with weights, and on which rows it is to be tested: x, y, weight."""
    draw = np.random.default_rng(3)
    x, y, weight = draw.normal(size=(200, 3)), draw.integers(0, 2, 200), draw.uniform(0.0, 2.0, 200)
    rows = [(a, b, c, ("no", "yes")[label], w) for (a, b, c), label, w in zip(x, y, weight)]
    write_table(tmp_path / "table.csv", "a,b,c,answer,weight", rows)
    config = {"dataset": str(tmp_path / "table.csv"), "label_column": "answer", "weight_column": "weight"}
    train = Batches(images.load(*config.values()).train, 16, seed=5)
    config |= {"batch_size": 16, "seed": 5}
    model = mlp.mlp((3,), 2, (4,), preprocessing=mlp.standardizing(x.astype(np.float32)))
    return make_run(tmp_path / "weighted", model, ["no", "yes"], config, train.fingerprint(), features=["a", "b", "c"])


def write_table(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))


def test_evaluate_weighs_as_the_training_does(weighted):
    config = json.loads((weighted / "run.json").read_text())["config"]
    test = images.load(config["dataset"], "answer", "weight").test
    model = keras.models.load_model(weighted / "model.keras", compile=False)
    rows = softmax_by_hand(np.asarray(model(test["x"]), np.float64))
    correct, weight = rows.argmax(axis=1) == test["y"], test["weight"]
    result = evaluate.evaluate(weighted)
    assert result["examples"] == len(weight) == 20
    assert result["accuracy"] == pytest.approx((correct * weight).sum() / weight.sum(), abs=1e-6)
    losses = -np.log(rows[np.arange(20), test["y"]])
    # One of the two may come out the same by chance.
    assert [result["accuracy"], result["loss"]] != pytest.approx([correct.mean(), losses.mean()], abs=1e-3)
    assert result["loss"] == pytest.approx((losses * weight).sum() / weight.sum(), abs=1e-5)
    # Wilson's interval is one of counts; with weights it is the bootstrap's.
    interval = classification.intervals(rows, test["y"], ("0", "1"), weight)["accuracy"]
    assert (result["accuracy_low"], result["accuracy_high"]) == pytest.approx(interval, abs=1e-6)


def test_the_training_data_under_another_name_is_no_new_data(weighted, tmp_path):
    text = (tmp_path / "table.csv").read_text()
    (tmp_path / "copy.csv").write_text(text)
    assert evaluate.evaluate(weighted, str(tmp_path / "copy.csv")) == evaluate.evaluate(weighted)
    (tmp_path / "other.csv").write_text(text.rsplit("\n", 5)[0])
    assert evaluate.evaluate(weighted, str(tmp_path / "other.csv"))["examples"] == 195


def rows_of(path):
    """Of a table without quotes: its header, and its rows by name."""
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    return header, [dict(zip(header, row)) for row in rows]


def some_table(path, weighted, names, count=50):
    """The first rows of the fixture's table, the columns as `names` has them: name in the file -> in the fixture."""
    _, rows = rows_of(weighted.parent / "table.csv")
    write_table(path, ",".join(names), [[row[of] for of in names.values()] for row in rows[:count]])
    return str(path)


ORDERED = {name: name for name in ("a", "b", "c", "answer", "weight")}


def test_columns_are_found_by_name(weighted, tmp_path, capsys):
    wanted = evaluate.evaluate(weighted, some_table(tmp_path / "ordered.csv", weighted, ORDERED))
    turned = {name: name for name in ("weight", "c", "answer", "a", "b")}
    assert evaluate.evaluate(weighted, some_table(tmp_path / "turned.csv", weighted, turned)) == wanted
    assert wanted["examples"] == 50 and capsys.readouterr().err == ""
    more = some_table(tmp_path / "more.csv", weighted, {"id": "c", **turned, "day": "a"})
    assert evaluate.evaluate(weighted, more) == wanted
    [note] = capsys.readouterr().err.splitlines()
    assert note == f"zoo: {more}: ignored the columns that the model was not trained on: 'id', 'day'"
    less = some_table(tmp_path / "less.csv", weighted, {"a": "a", "answer": "answer", "x": "b"})
    with pytest.raises(BadInput, match=r"less\.csv lacks the columns 'b', 'c'; expected the columns a, b, c that"):
        evaluate.evaluate(weighted, less)
    twice = some_table(tmp_path / "twice.csv", weighted, ORDERED)
    (tmp_path / "twice.csv").write_text("a,b,b,answer,weight\n" + (tmp_path / "ordered.csv").read_text()[20:])
    with pytest.raises(BadInput, match="names the column 'b' twice"):
        evaluate.evaluate(weighted, twice)
    # The training table is known again whatever the order of its columns.
    again = some_table(tmp_path / "again.csv", weighted, turned, 200)
    assert evaluate.evaluate(weighted, again) == evaluate.evaluate(weighted)


def test_a_table_is_predicted_by_name(weighted, tmp_path, capsys):
    """One answer for each row, the same as of the numbers themselves; other columns are no harm."""
    _, rows = rows_of(weighted.parent / "table.csv")
    np.save(tmp_path / "x.npy", np.array([[row[name] for name in "abc"] for row in rows[:30]], np.float32))
    table = some_table(tmp_path / "t.csv", weighted, {"c": "c", "answer": "answer", "a": "a", "id": "a", "b": "b"}, 30)
    (tmp_path / "t.tsv").write_text((tmp_path / "t.csv").read_text().replace(",", "\t"))
    answers = []
    for name in (tmp_path / "x.npy", table, tmp_path / "t.tsv"):
        code, out, err = run(capsys, "predict", weighted, name, "--json")
        assert (code, err, len(out)) == (0, [], 30)
        answers.append([{**json.loads(line), "file": None} for line in out])
    assert answers[0] == answers[1] == answers[2]


def test_each_bad_table_is_one_line_and_the_others_are_answered(weighted, workdir, tmp_path, capsys):
    cases = {
        "word.csv": ("b,a,c\n1,2,3\n1,two,3\n", "word.csv line 3, column 'a': 'two' is not a number"),
        "nan.csv": ("b,a,c\n1,2,3\n1,2,nan\n", "nan.csv line 3, column 'c': 'nan' is not a finite number"),
        "short.csv": ("b,a,c\n1,2\n", "short.csv line 2 has 2 fields; expected 3"),
        "other.csv": ("b,x\n1,2\n", "other.csv lacks the columns 'a', 'c'"),
        "empty.csv": ("", "empty.csv is empty: expected a header"),
    }
    for name, (text, _) in cases.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "good.csv").write_text("b,a,c\n1,2,3\n")
    (tmp_path / "none.csv").write_text("b,a,c\n")
    names = [*cases, "none.csv", "good.csv"]
    code, out, err = run(capsys, "predict", weighted, *(tmp_path / name for name in names))
    assert code == 2 and len(out) == 1 and out[0].startswith(str(tmp_path / "good.csv"))
    assert len(err) == len(cases) and all(says in line for line, (_, says) in zip(err, cases.values()))
    code, out, err = run(capsys, "predict", workdir, tmp_path / "good.csv")
    assert (code, out, len(err)) == (2, [], 1) and "is a table, expected examples of shape (8, 8)" in err[0]
    # Of a run without names.
    model = array_classifier.ArrayClassifier(zoo.load(weighted).model, ("no", "yes"))
    assert model.read(tmp_path / "good.csv").tolist() == [[1, 2, 3]]
    (tmp_path / "more.csv").write_text("b,a,c,d\n1,2,3,4\n")
    with pytest.raises(BadInput, match=r"more\.csv: has 4 columns, and the run keeps no names to choose by"):
        model.read(tmp_path / "more.csv")


def test_runs_without_names_take_the_columns_in_their_order(weighted, tmp_path, capsys):
    named = evaluate.evaluate(weighted, some_table(tmp_path / "t.csv", weighted, ORDERED))
    about = json.loads((weighted / "model.json").read_text())
    about.pop("features")
    (weighted / "model.json").write_text(json.dumps(about))
    assert evaluate.evaluate(weighted, str(tmp_path / "t.csv")) == named
    assert "the run has no names of its columns, so these are taken in their order: a, b, c" in capsys.readouterr().err


def test_labels_and_weights_of_a_table_may_be_called_otherwise(weighted, tmp_path, capsys):
    known = some_table(tmp_path / "known.csv", weighted, ORDERED)
    other = {"a": "a", "b": "b", "c": "c", "kind": "answer", "w": "weight"}
    named = some_table(tmp_path / "named.csv", weighted, other)
    wanted = evaluate.evaluate(weighted, known)
    code, out, err = run(
        capsys, "evaluate", weighted, "--dataset", named, "--label_column=kind", "--weight_column=w", "--json"
    )
    assert (code, err) == (0, []) and json.loads(out[0]) == wanted
    plain = some_table(tmp_path / "plain.csv", weighted, {"a": "a", "b": "b", "c": "c", "answer": "answer"})
    code, out, err = run(capsys, "evaluate", weighted, "--dataset", plain, "--json")
    said = f"zoo: {plain} has no column 'weight', the run's --weight_column: all examples weigh the same"
    assert (code, err) == (0, [said]) and "accuracy_low" in json.loads(out[0])
    code, again, err = run(capsys, "evaluate", weighted, "--dataset", known, "--weight_column=", "--json")
    assert (code, again) == (0, out) and "ignored the columns that the model was not trained on: 'weight'" in err[0]
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 3), np.float32), y=np.zeros(3, int))
    cases = {
        (named,): "has no column 'answer', it has a, b, c, kind, w: give the one with --label_column",
        (named, "--label_column=Kinds"): "'Kinds'",
        (known, "--weight_column=w"): "has no column 'w'",
        (known, "--weight_column=a"): "--weight_column is 'a', which the model reads as a feature",
        (tmp_path / "x.npz", "--label_column=answer"): "--label_column is for tables",
        (tmp_path / "x.docx",): "expected one of",
    }
    for (dataset, *flags), says in cases.items():
        code, out, err = run(capsys, "evaluate", weighted, "--dataset", dataset, *flags)
        assert (code, out, len(err)) == (2, [], 1) and says in err[0], err
    (tmp_path / "x.docx").write_bytes(b"PK")
    code, out, err = run(capsys, "evaluate", weighted, "--dataset", tmp_path / "x.docx")
    assert code == 2 and "unknown kind of file; expected a .csv, .tsv, .parquet" in err[0]


def test_a_file_may_lack_classes(weighted, workdir, digits, tmp_path):
    rows = rows_of(weighted.parent / "table.csv")[1][:60]
    alone = [[row["a"], row["b"], row["c"], f" {row['answer']} "] for row in rows if row["answer"] == "yes"]
    write_table(tmp_path / "yes.csv", "a,b,c,answer", alone)
    found = evaluate.evaluate(weighted, str(tmp_path / "yes.csv"))
    x = np.array([row[:3] for row in alone], np.float32)
    model = keras.models.load_model(weighted / "model.keras", compile=False)
    assert found["accuracy"] == pytest.approx((np.asarray(model(x)).argmax(axis=1) == 1).mean())
    write_table(tmp_path / "new.csv", "a,b,c,answer", [*alone, [1, 2, 3, "perhaps"]])
    with pytest.raises(BadInput, match="has the class 'perhaps' that the model does not know; expected some of its 2"):
        evaluate.evaluate(weighted, str(tmp_path / "new.csv"))
    # Few rows with large labels, which are places among the model's classes.
    np.savez(tmp_path / "few.npz", x=digits[:2], y=np.array([7, 9]))
    found, expected = evaluate.evaluate(workdir, str(tmp_path / "few.npz")), by_hand(workdir, digits[:2])
    assert found["loss"] == pytest.approx(-np.log(expected[[0, 1], [7, 9]]).mean(), abs=1e-5)


def test_classes_are_found_by_name_or_by_number():
    assert tables.class_indices("f", ["1.0", "b", "02"], ["b", "2", "1"]).tolist() == [2, 0, 1]
    assert tables.class_indices("f", ["1", "01"], [" 1", "01", "1.0"]).tolist() == [0, 1]
    with pytest.raises(BadInput, match=r"f has the classes '1e0', 'B' that the model does not know"):
        tables.class_indices("f", ["01", "1e0", "B"], ["b", "01", "1.0"])


def test_features_must_be_finite(weighted):
    model = zoo.load(weighted)
    assert model.dtype == np.float32
    for wrong in (np.nan, np.inf, 1e300):
        examples = np.zeros((300, 3))
        examples[290, 1] = wrong
        with pytest.raises(BadInput, match=r"at \[290, 1\], expected finite float32 numbers"):
            model.probabilities(examples)


def test_a_model_that_diverged_says_so(tmp_path, capsys):
    model = mlp.mlp((3,), 2, (4,))
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    folder = make_run(tmp_path / "diverged", model, ["no", "yes"], {}, "")
    np.save(tmp_path / "x.npy", np.zeros(3))
    code, out, err = run(capsys, "predict", folder, tmp_path / "x.npy")
    assert (code, out, len(err)) == (3, [], 1) and "not finite" in err[0]


def _bad_files(folder, digits):
    """name -> what the error must say besides the name; the files are made in `folder`."""
    wrong = {
        "shape.npy": (np.zeros((3, 5)), "shape (3, 5), expected (8, 8) or [n, 8, 8]"),
        "fraction.npy": (digits[:3] / 16.0, "expected whole numbers from 0 to 255"),
        "large.npy": (digits[:3].astype(int) + 250, "expected whole numbers from 0 to 255"),
        "nan.npy": (np.full((2, 8, 8), np.nan), "nan at [0, 0, 0]"),
        "text.npy": (np.full((8, 8), "a"), "expected numbers"),
        "object.npy": (np.full((8, 8), None), "allow_pickle=False"),
    }
    for name, (values, _) in wrong.items():
        np.save(folder / name, values)
    np.savez(folder / "two.npz", a=digits[0], b=digits[1])
    (folder / "torn.npz").write_bytes((folder / "two.npz").read_bytes()[:-40])
    (folder / "torn.npy").write_bytes((folder / "shape.npy").read_bytes()[:-8])
    (folder / "empty.npy").touch()
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(folder / "size.png")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "deep.png")
    Image.new("RGBA", SHAPE).save(folder / "clear.png")
    (folder / "torn.png").write_bytes((folder / "clear.png").read_bytes()[:50])
    (folder / "x.gif").touch()
    return {name: says for name, (_, says) in wrong.items()} | {
        "two.npz": "has the arrays a, b; expected one named x",
        "torn.npz": "not in the format of .npz",
        "torn.npy": "cannot be read",
        "empty.npy": "cannot be read",
        "size.png": "8 x 9 (width x height) pixels, expected 8 x 8",
        "deep.png": "more than 8 bits",
        "clear.png": "transparent",
        "torn.png": "cannot be read",
        "x.gif": "expected .npy, .npz, .png",
        "missing.npy": "No such file",
    }


def test_each_bad_file_is_one_line_and_the_others_are_answered(workdir, digits, tmp_path, capsys):
    expected = _bad_files(tmp_path, digits)
    np.save(tmp_path / "good.npy", digits[0])
    np.save(tmp_path / "none.npy", digits[:0])
    names = [*expected, "none.npy", "good.npy"]
    code, out, err = run(capsys, "predict", workdir, *(tmp_path / name for name in names))
    assert code == 2 and len(out) == 1 and out[0].startswith(str(tmp_path / "good.npy"))
    assert len(err) == len(expected)
    for line, (name, says) in zip(err, expected.items()):
        assert line.startswith(f"zoo: {tmp_path / name}: ") and says in line


def _damaged(source, folder, **changed):
    """A copy of a run with other contents in some of its files; None removes one."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    for name, content in changed.items():
        path = folder / name.replace("_", ".")
        path.unlink() if content is None else path.write_bytes(content)
    return folder


def test_a_folder_that_is_no_finished_run(workdir, tmp_path, capsys):
    model = (workdir / "model.keras").read_bytes()
    flipped = bytearray(model)
    flipped[len(model) // 2] ^= 1
    cases = {
        tmp_path / "nowhere": "expected the --workdir of a finished run",
        tmp_path: "has no model.json",
        _damaged(workdir, tmp_path / "a", model_keras=None): "has no model.keras",
        _damaged(workdir, tmp_path / "b", model_keras=model[:-100]): "model.keras cannot be read",
        _damaged(workdir, tmp_path / "c", model_keras=bytes(flipped)): "model.keras cannot be read",
        _damaged(workdir, tmp_path / "d", model_json=b'{"task": "classi'): "model.json cannot be read",
        _damaged(workdir, tmp_path / "e", model_json=b"[]"): "does not say task and classes",
        _damaged(workdir, tmp_path / "f", model_json=b'{"task": "tagging"}'): "does not say tags, scheme and words",
        _damaged(workdir, tmp_path / "j", model_json=b'{"task": "dancing"}'): "a model for dancing",
        _damaged(workdir, tmp_path / "g", model_json=b'{"task": "classification", "classes": ["a"]}'): "10 outputs",
        _damaged(workdir, tmp_path / "h", run_json=b'{"config": {}}'): "names no data set",
        _damaged(workdir, tmp_path / "i", run_json=b"{}"): "holds no config",
    }
    for folder, says in cases.items():
        code, out, err = run(capsys, "evaluate", folder)
        assert (code, out, len(err)) == (2, [], 1), folder
        assert str(folder) in err[0] and says in err[0]


def test_a_data_set_that_does_not_fit(workdir, digits, tmp_path, capsys):
    np.savez(tmp_path / "many.npz", x=digits[:11], y=np.arange(11))
    np.savez(tmp_path / "negative.npz", x=digits[:12], y=np.arange(12) % 11 - 1)
    rows = [",".join(map(str, image.ravel())) + f",digit {i % 10}" for i, image in enumerate(digits[:20])]
    (tmp_path / "names.csv").write_text("\n".join([",".join(map(str, range(64))) + ",label", *rows]))
    cases = {
        "mnist_5k": "shape (500, 28, 28), expected [n, 8, 8]",
        "digit": "did you mean digits?",
        tmp_path / "many.npz": "label 10 at example 10; expected 0 to 9",
        tmp_path / "negative.npz": "label -1",
        tmp_path / "names.csv": "has the classes 'digit 0', 'digit 1'",
        tmp_path / "missing.npz": "no such file",
    }
    for dataset, says in cases.items():
        code, out, err = run(capsys, "evaluate", workdir, "--dataset", dataset)
        assert (code, out, len(err)) == (2, [], 1), dataset
        assert str(dataset) in err[0] and says in err[0]


BAD_LINES = {
    "[1, 2": "is not JSON",
    "\xff": "is not JSON",
    "[" * 100_000: "is not JSON",
    '{"y": 1}': 'expected {"x": [...]}',
    "[[1, 2], [3]]": "lists of different lengths",
    "[1, 2]": "shape (2,), expected (8, 8)",
    json.dumps([[None] * 8] * 8): "expected numbers",
    json.dumps([[float("nan")] * 8] * 8): "nan at [0, 0]",
    json.dumps([[0] * 8] * 7 + [[0] * 7 + [256]]): "256 at [7, 7], expected whole numbers from 0 to 255",
}


def test_each_bad_line_is_told_and_the_others_are_answered(workdir, digits, capsys, monkeypatch):
    good = json.dumps({"x": digits[0].tolist(), "id": "last"})
    text = "\n".join([*BAD_LINES, "", good]) + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("latin-1"))))
    code, out, err = run(capsys, "predict", workdir, "-")
    answers = [json.loads(line) for line in out]
    assert (code, err) == (2, [])
    assert [answer["line"] for answer in answers] == [*range(1, len(BAD_LINES) + 1), len(BAD_LINES) + 2]
    for answer, says in zip(answers, BAD_LINES.values()):
        assert set(answer) == {"line", "error"} and says in answer["error"]
    assert answers[-1]["id"] == "last" and answers[-1]["class"] == str(by_hand(workdir, digits[:1]).argmax())


def test_a_stream_is_answered_line_by_line(workdir, digits):
    command = [*ZOO, "predict", str(workdir), "-"]
    # A machine that sets it for all of Python would hide a missing flush.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        # Whoever buffers would wait for ever here.
        alarm = threading.Timer(120, process.kill)
        alarm.start()
        rows = by_hand(workdir, digits[:2])
        for number, line in enumerate([digits[0].tolist(), "wrong", digits[1].tolist()], 1):
            process.stdin.write(json.dumps(line) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert answer["line"] == number and ("error" in answer) == (number == 2)
            if number != 2:
                assert answer["probability"] == pytest.approx(rows[number // 2].max(), abs=1e-5)
        # A reader that leaves is no error: no traceback, and the exit code of a process that SIGPIPE stopped.
        process.stdout.close()
        process.stdin.write("[]\n")
        process.stdin.close()
        errors = process.stderr.read()
        process.wait()
        alarm.cancel()
    assert process.returncode == 128 + 13
    assert not any(word in errors for word in ("zoo:", "Traceback", "Exception"))


def test_the_shell_sees_the_exit_code_and_one_line(tmp_path):
    command = [*ZOO, "predict", str(tmp_path / "nowhere"), "x.npy"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (2, "")
    expected = f"zoo: {tmp_path / 'nowhere'} is not a folder: expected the --workdir of a finished run\n"
    assert found.stderr == expected


def test_interrupt(workdir, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "load", interrupted)
    assert run(capsys, "predict", workdir, "x.npy") == (130, [], [])


def test_help_needs_no_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "zoo.cli", "--help"]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    imported = {line.rsplit("|", 1)[-1].strip() for line in found.stderr.splitlines()}
    assert "argparse" in imported
    packages = {name.partition(".")[0] for name in imported}
    assert not {"tensorflow", "keras", "numpy", "scipy", "absl"} & packages
    assert "predict" in found.stdout and "evaluate" in found.stdout
    assert "0 done, 2 bad input, 3 not finite, 4 no checkpoint" in found.stdout.replace("\n", " ")


@pytest.mark.parametrize("argv", [[], ["predict"], ["predict", "w", "x.npy", "--top=0"], ["nonsense"], ["--nonsense"]])
def test_wrong_arguments(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(argv)
    assert stop.value.code == 2 and "zoo" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"zoo {zoo.__version__}\n"


def test_brighter_than_the_training_data(workdir, tmp_path, capsys):
    """Pixels of 0 to 255 for a model of 0 to 16: not a number is answered."""
    np.save(tmp_path / "bright.npy", np.full((8, 8), 200, np.uint8))
    assert main.main(["predict", str(workdir), str(tmp_path / "bright.npy")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "200, expected 0 to 16 as in the training data" in said.err
