"""Encoders as transformers' BERT: what is written says what the run says, in plain NumPy and in transformers itself.

$ZOO_TRANSFORMERS_PYTHON names an interpreter with torch and transformers, where this one has none.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import zoo
from tests.helpers import bert_folders as folders
from tests.helpers import finished
from zoo.errors import BadInput
from zoo.export import exported_run, formats
from zoo.models.hugging_face import folder as pretrained
from zoo.predict.predictors import loading

TASKS = ("classification", "regression", "tagging", "pretraining")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Of each task a run and its export."""
    place, made = tmp_path_factory.mktemp("runs"), {}
    for task in TASKS:
        options = {"pair": True} if task == "classification" else {}
        workdir = finished.encoder(place / task, task, **options)
        made[task] = workdir, formats.export(workdir, "huggingface")
    return made


def own(workdir, feed):
    model = loading.read_model(workdir / "model.keras")
    found = model([feed[each.name] for each in model.inputs])
    return np.asarray(found[0] if isinstance(found, list) else found)


@pytest.mark.parametrize("task", TASKS)
def test_in_plain_numpy(exported, task):
    workdir, folder = exported[task]
    feed = finished.feed(loading.read_model(workdir / "model.keras"))
    # BERT itself would see nothing of an empty text.
    feed["tokens"][feed["tokens"][:, 0] == 0, 0] = 2
    made, seen = pretrained.read(folder), feed["tokens"] != 0
    states = folders.hidden(made, feed["tokens"], feed["segments"], seen.astype(int))
    wanted = own(workdir, feed)
    if task == "pretraining":
        words = np.take_along_axis(folders.tops(made, states)["mask"], feed["places"][:, :, None], axis=1)
        np.testing.assert_allclose(words, wanted, atol=1e-4)
        return
    if task == "tagging":
        assert made.labels == ("O", "B-x", "I-x")
        np.testing.assert_allclose(folders.dense(states, made.extra, "head")[seen], wanted[seen], atol=1e-5)
        return
    pooled = np.tanh(folders.dense(states[:, 0], made.extra, "pooler"))
    logits = folders.dense(pooled, made.extra, "head")
    if task == "regression":
        # In the values' own units.
        np.testing.assert_allclose(logits, wanted * 1.5 + 3.0, atol=1e-5)
    else:
        assert made.labels == ("bad", "good")
        np.testing.assert_allclose(logits[:, 1:] - logits[:, :1], wanted, atol=1e-5)


def test_its_example_in_transformers(exported):
    python = os.environ.get("ZOO_TRANSFORMERS_PYTHON", sys.executable)
    known = subprocess.run([python, "-c", "import torch, transformers"], capture_output=True)
    if known.returncode:
        pytest.skip("needs torch and transformers, here or in $ZOO_TRANSFORMERS_PYTHON, which the zoo does not")
    texts = ["a good film", "这本书 is not so good"]
    for task in ("classification", "regression", "tagging"):
        workdir, folder = exported[task]
        given = [f"{text}\tbut" for text in texts] if task == "classification" else texts
        done = subprocess.run([python, "example.py", *given], cwd=folder, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        found = [np.array(json.loads(line)["logits"]) for line in done.stdout.splitlines()]
        loaded = zoo.load(workdir)
        if task == "classification":
            wanted = loaded.logits([tuple(text.split("\t")) for text in given])[:, 0]
            np.testing.assert_allclose([each[1] - each[0] for each in found], wanted, atol=1e-4)
        elif task == "regression":
            np.testing.assert_allclose([each[0] for each in found], loaded.values(texts), atol=1e-4)
        else:
            about = exported_run.read(workdir).signature
            for text, logits in zip(texts, found):
                feed = formats.example_script.texts_in(about, workdir, [text])
                segments = np.zeros_like(feed["tokens"])
                np.testing.assert_allclose(logits, own(workdir, {**feed, "segments": segments})[0], atol=1e-4)


@pytest.mark.parametrize(("options", "why"), [({"norm_first": True}, "is pre-norm"), ({"pooling": "mean"}, "the mean")])
def test_what_is_no_bert(tmp_path, options, why):
    workdir = finished.encoder(tmp_path / "run", "classification", **options)
    with pytest.raises(BadInput, match=why):
        formats.export(workdir, "huggingface")


def test_a_second_export_replaces_the_first(exported):
    workdir, folder = exported["tagging"]
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert formats.export(workdir, "huggingface") == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "signature.json", "example.py"} <= set(
        files
    )
