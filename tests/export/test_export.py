"""`zoo export`: each artefact in its own runtime says what the run's own model says."""

import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from tests.helpers import finished
from zoo.cli import main
from zoo.errors import BadInput
from zoo.export import exported_run, formats
from zoo.models import lstm_layers
from zoo.predict.predictors import loading

KINDS = {
    "image": finished.image,
    "table": finished.table,
    "lstm": lambda folder: finished.reviews(folder, bidirectional=True, pooling="max", dropout=0.2, input_dropout=0.2),
    "pairs": lambda folder: finished.encoder(folder, "classification", pair=True),
    "ngrams": lambda folder: finished.encoder(folder, "classification", ngrams=True),
    "value": lambda folder: finished.encoder(folder, "regression"),
    "tagger": lambda folder: finished.encoder(folder, "tagging"),
    "words": lambda folder: finished.encoder(folder, "tagging", word_features=True),
    "masked": lambda folder: finished.encoder(folder, "pretraining"),
    "language": lambda folder: finished.language(folder, "transformer"),
    "lstm_language": lambda folder: finished.language(folder, "lstm"),
}
# A process that knows the runtime alone.
PLAY = """
import json, sys, importlib.util
from pathlib import Path
import numpy as np
for name in sys.argv[1:]:
    folder = Path(name)
    spec = importlib.util.spec_from_file_location("example", folder / "example.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with np.load(folder / "feed.npz") as feed:
        run = getattr(example, "run_" + json.loads((folder / "signature.json").read_text())["format"])
        np.save(folder / "logits.npy", run(folder, dict(feed)))
assert not [name for name in sys.modules if name.split(".")[0] == "zoo"], "the zoo was imported"
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return {name: make(place / name) for name, make in KINDS.items()}


@pytest.fixture(scope="module")
def played(runs):
    """Artefacts for TensorFlow, run in one process of its own."""
    wanted = {("savedmodel", name) for name in ("image", "lstm", "pairs", "masked", "words", "ngrams")} | {
        ("keras", name) for name in KINDS
    }
    folders = {key: formats.export(runs[key[1]], key[0]) for key in sorted(wanted)}
    for (_, name), folder in folders.items():
        np.savez(folder / "feed.npz", **finished.feed(exported_run.read(runs[name]).network))
    process([sys.executable, "-c", PLAY, *map(str, folders.values())])
    return folders


def process(command, **options):
    quiet = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ | quiet, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def own(workdir, feed):
    """The logits of the run's own model, float32, batch first."""
    model = loading.read_model(workdir / "model.keras")
    feed = dict(feed)
    for each in model.inputs[1:]:
        feed.setdefault(each.name, np.zeros_like(feed["tokens"]))
    ordered = [feed[each.name] for each in model.inputs] if len(model.inputs) > 1 else next(iter(feed.values()))
    found = model(ordered, training=False)
    found = np.asarray(found[0] if isinstance(found, (list, tuple)) else found)
    return found.transpose(1, 0, 2) if "lstm0" in [layer.name for layer in model.layers] and found.ndim == 3 else found


def agree(workdir, feed, found, atol=1e-5):
    wanted = own(workdir, feed)
    if wanted.ndim == 3 and "places" not in feed:
        # What a model makes of padding is nobody's.
        seen = (feed["tokens"] != 0) | (np.arange(feed["tokens"].shape[1]) == 0)
        wanted, found = wanted[seen], found[seen]
    assert len(wanted) == 1 or np.ptp(wanted) > 0.01
    np.testing.assert_allclose(found, wanted, atol=atol, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_in_layers_of_keras_alone(runs, kind):
    run = exported_run.read(runs[kind])
    feed = finished.feed(run.network)
    found = run.network(list(feed.values()) if len(feed) > 1 else next(iter(feed.values())))
    agree(runs[kind], feed, np.asarray(found))
    assert all(type(layer).__module__.startswith("keras.") for layer in run.network.layers)


@pytest.mark.parametrize("pooling", lstm_layers.POOLINGS)
def test_every_pooling_of_an_lstm(tmp_path, pooling):
    workdir = finished.reviews(tmp_path / "run", pooling=pooling, bidirectional=True, layers=2, classes=3)
    run = exported_run.read(workdir)
    feed = finished.feed(run.network)
    agree(workdir, feed, np.asarray(run.network(feed["tokens"])))


@pytest.mark.parametrize("options", [{"pooling": "mean"}, {"norm_first": True}])
def test_other_encoders(tmp_path, options):
    workdir = finished.encoder(tmp_path / "run", "classification", **options)
    run = exported_run.read(workdir)
    feed = finished.feed(run.network)
    agree(workdir, feed, np.asarray(run.network(feed["tokens"])))


def test_bfloat16_becomes_float32(tmp_path):
    """The twin of a network in bfloat16 is that of the same weights in float32, not the rounded one."""
    narrow = finished.encoder(tmp_path / "narrow", "tagging", precision="bfloat16")
    wide = finished.encoder(tmp_path / "wide", "tagging")
    for source, copy in zip(loading.read_model(narrow / "model.keras").weights, (made := _model(wide)).weights):
        copy.assign(source)
    made.save(wide / "model.keras")
    run = exported_run.read(narrow)
    feed = finished.feed(run.network)
    found = np.asarray(run.network(feed["tokens"]))
    agree(wide, feed, found)
    assert found.dtype == np.float32 and np.abs(own(narrow, feed) - own(wide, feed)).max() > 1e-3


def _model(workdir):
    return loading.read_model(workdir / "model.keras")


@pytest.mark.parametrize("format", ["savedmodel", "keras"])
def test_tensorflow_without_the_zoo(runs, played, format):
    for (made, kind), folder in played.items():
        if made == format:
            with np.load(folder / "feed.npz") as feed:
                agree(runs[kind], dict(feed), np.load(folder / "logits.npy"))


@pytest.mark.parametrize("kind", ["image", "lstm", "masked", "words", "ngrams"])
def test_litert(runs, kind):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, of the extra `export`")
    folder = formats.export(runs[kind], "litert")
    runs_alike(runs[kind], folder, formats.example_script.run_litert, kind != "lstm")


@pytest.mark.parametrize("kind", ["table", "lstm", "language", "words", "ngrams"])
def test_onnx(runs, kind):
    for name in ("onnxruntime", "tf2onnx"):
        pytest.importorskip(name, reason=f"needs {name}, of the extra `export`")
    folder = formats.export(runs[kind], "onnx")
    runs_alike(runs[kind], folder, formats.example_script.run_onnx)


def runs_alike(workdir, folder, run, any_batch=True):
    """For batches and texts of several sizes; and the signature says of which."""
    network = exported_run.read(workdir).network
    for rows, time in ((5, 8), (2, 3), (1, 1)):
        feed = finished.feed(network, rows, time)
        if time < 3 and "places" in feed:
            feed["places"][:] = 0
        agree(workdir, feed, run(folder, feed))
    about = json.loads((folder / "signature.json").read_text())
    assert [each["name"] for each in about["inputs"]] == list(feed)
    assert all(each["shape"][0] == ("batch" if any_batch else 1) for each in (*about["inputs"], *about["outputs"]))


@pytest.mark.parametrize("cut", ["head", "tail", "head_tail"])
def test_ids_are_made_as_the_run_makes_them(tmp_path, cut):
    workdir = finished.reviews(tmp_path / "run", cut=cut)
    texts = ["a good film " * 9, "", "[MASK] 这本书", "a"]
    assert_same_ids(workdir, texts, texts)


@pytest.mark.parametrize("kind", ["pairs", "value", "lstm"])
def test_ids_in_a_frame(runs, kind):
    texts = ["a good film " * 9, "", "[SEP] 这本书"]
    given = [(one, other) for one in texts for other in texts] if kind == "pairs" else texts
    assert_same_ids(runs[kind], given, ["\t".join(each) for each in given] if kind == "pairs" else texts)


def assert_same_ids(workdir, texts, typed):
    loaded = zoo.load(workdir)
    wanted = getattr(loaded, "network", loaded).columns(texts)
    found = formats.example_script.texts_in(exported_run.read(workdir).signature, workdir, typed)
    for name, each in found.items():
        np.testing.assert_array_equal(each, wanted[name])


def test_a_tokenizer_whose_padding_is_elsewhere(tmp_path):
    workdir = finished.reviews(tmp_path / "run")
    definition = json.loads((workdir / "tokenizer.json").read_text())
    for each in definition["added_tokens"]:
        each["content"] = "[NONE]" if each["id"] == 0 else each["content"]
    vocabulary = definition["model"]["vocab"]
    vocabulary["[NONE]"] = vocabulary.pop("[PAD]")
    # One id less, as all ids are one more than in the file.
    last = max(vocabulary, key=vocabulary.get)
    del vocabulary[last]
    (workdir / "tokenizer.json").write_text(json.dumps(definition))
    assert exported_run.read(workdir).signature["text"]["id_shift"] == 1
    assert_same_ids(workdir, ["a good film"], ["a good film"])


def test_the_command_and_its_example(runs, capsys):
    assert main.main(["export", str(runs["pairs"]), "--format", "keras"]) == 0
    folder = runs["pairs"] / "export" / "keras"
    assert capsys.readouterr().out == f"{folder}\n"
    said = process([sys.executable, "example.py", "a good\tfilm", "\t这本书"], cwd=folder).splitlines()
    found = [json.loads(line) for line in said]
    loaded = zoo.load(runs["pairs"])
    pairs = [("a good", "film"), ("", "这本书")]
    np.testing.assert_allclose([each["logits"] for each in found], loaded.logits(pairs), atol=1e-5)
    chances = [[each["probabilities"][name] for name in loaded.classes] for each in found]
    np.testing.assert_allclose(chances, loaded.probabilities(pairs), atol=1e-5)
    assert "pip install" in (folder / "README.md").read_text()


def test_the_example_of_a_tagger_with_features_of_words(runs):
    """It splits words, hashes their features and finds their tags as `zoo predict` does."""
    folder = formats.export(runs["words"], "keras")
    sentences = ["a good film", "这本书 film a a good"]
    said = process([sys.executable, "example.py", *sentences], cwd=folder).splitlines()
    loaded = zoo.load(runs["words"])
    assert [json.loads(line)["tags"] for line in said] == [each.tags for each in loaded.tag(sentences)]
    assert len({tag for each in loaded.tag(sentences) for tag in each.tags}) > 1
    assert "word_features.py" in (folder / "README.md").read_text()
    with pytest.raises(BadInput, match="features"):
        formats.export(runs["words"], "huggingface")


def test_an_example_refuses_what_it_cannot_answer(runs, tmp_path):
    """Numbers that pixels cannot hold would be cut to others, and answered."""
    assert main.main(["export", str(runs["image"]), "--format", "keras", "--out", str(tmp_path / "keras")]) == 0
    np.save(tmp_path / "shares.npy", np.full((1, 28, 28), 0.5, np.float32))
    for given, says in (
        ([], "expected one .npy file"),
        (["gone.npy"], "cannot be read"),
        (["shares.npy"], "holds float32"),
    ):
        command = [sys.executable, str(tmp_path / "keras" / "example.py"), *given]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
        assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr


def test_what_cannot_be_exported(runs, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    expected = {
        ("image", "huggingface", None): "cannot hold this run for classification: expected a post-norm encoder",
        ("lstm", "huggingface", None): "expected a post-norm encoder",
        ("image", "keras", tmp_path / "full"): "has something else in it; expected a new folder",
        ("image", "keras", tmp_path / "full" / "thesis.txt"): "is a file; expected a folder",
    }
    for (kind, format, out), text in expected.items():
        argv = ["export", str(runs[kind]), f"--format={format}", *([f"--out={out}"] if out else [])]
        assert main.main(argv) == 2
        said = capsys.readouterr().err
        assert text in said and len(said.splitlines()) == 1
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    mean = finished.encoder(tmp_path / "mean", "classification", pooling="mean")
    with pytest.raises(BadInput, match="pools by the mean"):
        formats.export(mean, "huggingface")
    assert not (mean / "export").exists() or not list((mean / "export").iterdir())
    with pytest.raises(BadInput, match="is 'tflite': did you mean litert"):
        formats.export(mean, "tflite")


def test_an_earlier_export_is_replaced(runs, tmp_path):
    out = tmp_path / "taken"
    formats.export(runs["image"], "keras", out)
    (out / "model.keras").write_bytes(b"torn")
    assert formats.export(runs["image"], "keras", out) == out
    assert keras.models.load_model(out / "model.keras").count_params() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_missing_package_is_named(runs, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"needs onnx and tf2onnx: run `pip install"):
        formats.export(runs["image"], "onnx")
    shutil.rmtree(runs["image"] / "export" / "onnx", ignore_errors=True)
