"""The Transformer against transformers' BERT, plain NumPy, and what its masks and its islands promise."""

import dataclasses
import functools
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.fixtures import record_torch_layer
from tests.helpers.bert_folders import FIXTURES, TINY
from zoo import randomness
from zoo.engine import devices
from zoo.models import encoder_heads, transformer
from zoo.models.hugging_face import folder, weights
from zoo.models.hugging_face.folder import Shape
from zoo.models.xla_islands import island

RECORDED = json.loads((FIXTURES / "tiny_bert.json").read_text())
SMALL = Shape(20, 8, layers=2, heads=2, inner=16, positions=12, segments=0, dropout=0.0, attention_dropout=0.0)


def tokens(rows=3, time=7, seed=0):
    return np.random.default_rng(seed).integers(1, SMALL.vocabulary, (rows, time)).astype(np.int32)


def made(shape=SMALL, **options):
    """With weights far from their start, where a fault would hide in small numbers."""
    keras.utils.set_random_seed(0)
    model = transformer.encoder(shape, **options)
    draw = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(variable.numpy() + draw.normal(0, 0.3, variable.shape))
    return model


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_computes_what_transformers_does(activation):
    tiny, wanted = folder.read(TINY), RECORDED[activation]
    encoder = transformer.encoder(dataclasses.replace(tiny.shape, activation=activation))
    model = encoder_heads.pretrainer(encoder, next_sentence=True)
    assert weights.assign(model, tiny.weights | tiny.extra) == []
    mask = np.array(RECORDED["mask"])
    # Padding is id 0 here, whatever stood there.
    inputs = [np.where(mask, RECORDED["ids"], 0).astype(np.int32), np.array(RECORDED["segments"], np.int32)]
    seen = mask > 0
    np.testing.assert_allclose(encoder(inputs).numpy()[seen], np.array(wanted["hidden"])[seen], atol=1e-5)
    places = np.tile(np.arange(mask.shape[1], dtype=np.int32)[::-1], (len(mask), 1))
    words, following = model([*inputs, places])
    np.testing.assert_allclose(words.numpy()[:, ::-1][seen], np.array(wanted["mask"])[seen], atol=1e-5)
    np.testing.assert_allclose(following, wanted["next"], atol=1e-5)


def test_a_block_is_pytorchs_layer():
    """nn.TransformerEncoderLayer as it comes: post-norm, relu, 2048 inside, epsilon 1e-5; padding is not seen."""
    given, x = record_torch_layer.weights(), record_torch_layer.inputs()
    wanted = json.loads((FIXTURES / "torch_layer.json").read_text())["outputs"]
    block = transformer.Block(record_torch_layer.HEADS, record_torch_layer.INNER, "relu", epsilon=1e-5)
    seen = np.arange(x.shape[1]) < np.array(record_torch_layer.LENGTHS)[:, None]
    block(x, seen)
    names = {
        "attention_qkv": "self_attn.in_proj_", "attention_output": "self_attn.out_proj.", "inner": "linear1.",
        "outer": "linear2.", "attention_norm": "norm1.", "norm": "norm2.",
    }  # fmt: skip
    for variable in block.weights:
        ours, _, part = variable.name.rpartition("_")
        theirs = given[names[ours] + {"kernel": "weight", "gamma": "weight"}.get(part, "bias")]
        variable.assign(theirs.T if part == "kernel" else theirs)
    outputs, probabilities = block(x, seen)
    np.testing.assert_allclose(outputs.numpy()[seen], np.array(wanted)[seen], atol=1e-5)
    np.testing.assert_allclose(probabilities.numpy().sum(axis=-1), 1.0, atol=1e-6)


def test_a_gradient_for_every_variable():
    """Of each task: none stands aside, and none is zero."""
    shape = dataclasses.replace(SMALL, segments=2)
    text, kinds = tokens(), (tokens() % 2).astype(np.int32)
    places = np.tile(np.arange(3, dtype=np.int32), (len(text), 1))
    made_of = {
        "classes": (encoder_heads.classifier(transformer.encoder(shape), 3), [text, kinds]),
        "mean": (encoder_heads.classifier(transformer.encoder(shape), 2, pooling="mean"), [text, kinds]),
        "tags": (encoder_heads.tagger(transformer.encoder(shape, norm_first=True), 5), [text, kinds]),
        "words": (encoder_heads.pretrainer(transformer.encoder(shape), next_sentence=True), [text, kinds, places]),
        "next": (encoder_heads.language_model(transformer.encoder(SMALL, norm_first=True, causal=True)), text),
    }
    draw = np.random.default_rng(2)
    for name, (model, inputs) in made_of.items():
        for variable in model.weights:
            variable.assign(variable.numpy() + draw.normal(0, 0.3, variable.shape))
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(inputs))
            # Not the plain sum: a softmax or a normalisation in front of it would have no gradient.
            loss = tf.add_n([tf.reduce_sum(tf.sin(part * (1.0 + k))) for k, part in enumerate(outputs)])
        for variable, found in zip(model.weights, tape.gradient(loss, [w.value for w in model.weights]), strict=True):
            assert found is not None, f"{name}: {variable.path}"
            assert np.abs(tf.convert_to_tensor(found).numpy()).max() > 1e-5, f"{name}: {variable.path}"


def test_more_tokens_than_positions():
    model = transformer.encoder(SMALL)
    with pytest.raises(ValueError, match=r"13 tokens.*12 positions"):
        model(np.ones((1, 13), np.int32))


def test_weights_go_back_as_they_came():
    tiny = folder.read(TINY)
    model = encoder_heads.pretrainer(transformer.encoder(tiny.shape), next_sentence=True)
    wanted = tiny.weights | tiny.extra
    assert weights.assign(model, wanted) == []
    found = weights.weights(model)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in found)


def test_another_head_starts_fresh():
    tiny = folder.read(TINY)
    model = encoder_heads.classifier(transformer.encoder(tiny.shape), 3)
    before = model.get_layer("head").kernel.numpy()
    assert weights.assign(model, tiny.weights | tiny.extra) == ["head"]
    np.testing.assert_array_equal(model.get_layer("head").kernel, before)
    np.testing.assert_array_equal(model.get_layer("pooler").kernel, tiny.extra["pooler/kernel"])
    with pytest.raises(KeyError, match="block1/norm/beta"):
        weights.assign(model, {name: value for name, value in tiny.weights.items() if name != "block1/norm/beta"})


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (functools.partial(encoder_heads.classifier, classes=2), (3, 1)),
        (functools.partial(encoder_heads.classifier, classes=5, pooling="mean"), (3, 5)),
        (functools.partial(encoder_heads.tagger, tags=4), (3, 7, 4)),
        (encoder_heads.embedder, (3, 8)),
    ],
)
def test_heads_ignore_padding(head, shape):
    model, ids = head(made()), tokens()
    ids[1, 4:] = 0
    found, wide = model(ids).numpy(), model(np.pad(ids, [(0, 0), (0, 3)])).numpy()
    assert found.shape == shape and found.dtype == np.float32
    wide = wide[:, :7] if len(shape) == 3 else wide
    padding = ids == 0 if len(shape) == 3 else np.zeros(3, bool)
    np.testing.assert_allclose(wide[~padding], found[~padding], atol=1e-5)


def test_a_language_model_sums_to_one():
    """The probabilities of all texts of three tokens over a tiny vocabulary, by the chain rule."""
    shape = dataclasses.replace(SMALL, vocabulary=5)
    model = encoder_heads.language_model(made(shape, causal=True))
    start, rest = 1, np.array(list(itertools.product(range(1, 5), repeat=3)), np.int32)
    texts = np.concatenate([np.full((len(rest), 1), start, np.int32), rest], axis=1)
    logits = model(texts[:, :-1]).numpy().astype(np.float64)[:, :, 1:]
    chances = np.exp(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))
    each = np.take_along_axis(chances, texts[:, 1:, None] - 1, axis=-1)[:, :, 0]
    assert each.prod(axis=1).sum() == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="causal=True"):
        encoder_heads.language_model(made())


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_nothing(norm_first, causal):
    model, ids = made(norm_first=norm_first, causal=causal), tokens()
    ids[1, 4:] = 0
    wide = np.pad(ids, [(0, 0), (0, 5)])
    seen = ids > 0
    np.testing.assert_allclose(model(wide).numpy()[:, :7][seen], model(ids).numpy()[seen], atol=1e-5)


@pytest.mark.parametrize("norm_first", [False, True])
def test_causality(norm_first):
    """No output depends on a later token; without the mask all do."""
    ids = tokens()
    other = ids.copy()
    other[:, 4] = ids[:, 4] % (SMALL.vocabulary - 1) + 1
    for causal in (True, False):
        model = made(norm_first=norm_first, causal=causal)
        moved = np.abs(model(other) - model(ids)).max(axis=(0, 2))
        assert (moved[:4] == 0).all() == causal and (moved[4:] > 1e-4).all()


def test_empty_text_is_finite():
    assert np.isfinite(made()(np.zeros((1, 5), np.int32))).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_gradient_flows_to_every_variable(norm_first):
    model = made(dataclasses.replace(SMALL, segments=2), norm_first=norm_first)
    ids = tokens(16, 12)
    weight = np.random.default_rng(2).normal(size=(16, 12, 8)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model([ids, ids % 2], training=True) * weight)
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables)):
        values = tf.convert_to_tensor(gradient).numpy()
        parts = np.split(values, 3, axis=-1) if "qkv" in variable.path else [values]
        if "qkv_bias" in variable.path:
            # A constant added to all keys changes no softmax.
            assert np.abs(parts.pop(1)).max() < 1e-4
        assert all(np.abs(part).max() > 1e-3 for part in parts), variable.path


def test_gradient_is_that_of_finite_differences():
    model, ids = made(norm_first=False, causal=True), tokens(2, 5)
    weight = np.random.default_rng(2).normal(size=(2, 5, 8)).astype(np.float32)

    def loss():
        return tf.reduce_sum(model(ids) * weight)

    with tf.GradientTape() as tape:
        value = loss()
    draw = np.random.default_rng(3)
    for variable, gradient in zip(model.trainable_variables, tape.gradient(value, model.trainable_variables)):
        gradient = tf.convert_to_tensor(gradient)
        step = draw.normal(size=variable.shape).astype(np.float32)
        start, size = variable.numpy(), 1e-2
        variable.assign(start + size * step)
        above = loss()
        variable.assign(start - size * step)
        below = loss()
        variable.assign(start)
        expected = float(tf.reduce_sum(gradient * step))
        assert float(above - below) / (2 * size) == pytest.approx(expected, rel=0.03, abs=0.05), variable.path


def test_dropout_belongs_to_the_rows():
    """A slice of the batch drops what the whole batch does, forward and backward."""
    model = made(dataclasses.replace(SMALL, dropout=0.3, attention_dropout=0.3))
    ids = tokens(6)

    def run(first, last):
        with randomness.scope(3, tf.constant(5), tf.constant(first)), tf.GradientTape() as tape:
            found = model(ids[first:last], training=True)
            loss = tf.reduce_sum(found**2)
        gradients = tape.gradient(loss, model.trainable_variables)
        return found.numpy(), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]

    whole, gradients = run(0, 6)
    parts = [run(0, 2), run(2, 6)]
    np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), whole, atol=1e-5)
    for total, *shares in zip(gradients, *(part[1] for part in parts)):
        np.testing.assert_allclose(sum(shares), total, atol=2e-3)
    assert np.abs(whole - model(ids).numpy()).max() > 0.1


def test_attention_maps():
    model = made(causal=True)
    ids = tokens()
    ids[1, 4:] = 0
    maps = keras.Model(model.input, model.get_layer("block1").output[1])(ids).numpy()
    assert maps.shape == (3, 2, 7, 7)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-6)
    assert (np.triu(maps, 1) == 0).all() and (maps[1, :, :, 4:] == 0).all()


def test_island_computes_again_what_it_did():
    traced = []

    @island
    def squared(x, number):
        traced.append(x.shape)
        return x * x, tf.cast(number, tf.float32) * x

    x = tf.constant([1.0, 2.0])
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(x)
            one, two = squared(x, tf.constant(3))
            loss = tf.reduce_sum(one) + 2 * tf.reduce_sum(two)
        np.testing.assert_allclose(tape.gradient(loss, x), [8, 10])
    assert len(traced) == 2, "once forward, once backward"


def test_what_is_refused():
    with pytest.raises(ValueError, match="width 8 cannot be divided among 3 heads"):
        transformer.encoder(dataclasses.replace(SMALL, heads=3))
    with pytest.raises(ValueError, match="activation is 'tanh': expected one of gelu"):
        transformer.encoder(dataclasses.replace(SMALL, activation="tanh"))
    with pytest.raises(ValueError, match="pooling is 'max': expected one of first, mean"):
        encoder_heads.classifier(made(), 2, pooling="max")


def test_saved_and_read(tmp_path):
    model, ids = made(norm_first=True, causal=True), tokens()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(ids), model(ids))


def test_saved_in_bfloat16_and_read_by_a_process_in_float32(tmp_path):
    """Then Keras takes the model for one of float32, and its layers are to read their weights as before."""
    with devices.precision("bfloat16"):
        encoder = made(dataclasses.replace(SMALL, segments=2))
        model = encoder_heads.classifier(encoder, 3)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert encoder.get_layer("block0").compute_dtype == again.get_layer("block0").compute_dtype == "bfloat16"
    inputs = [tokens(), np.zeros_like(tokens())]
    np.testing.assert_array_equal(again(inputs, training=False), model(inputs, training=False))
