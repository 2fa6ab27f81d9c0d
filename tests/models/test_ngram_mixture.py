"""The mixture with an n-gram model: Witten-Bell's probabilities, leave one out, and the KV cache."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.metrics import ngram_baseline
from zoo.models import encoder_heads, keras_only, kv_cache, ngram_mixture, transformer
from zoo.models.hugging_face.config import Shape
from zoo.training import ngram_counts

VOCABULARY = 20


def text(length, seed=0):
    """Ids in [1, 20) of which each depends on the two before it, mostly on the last."""
    draw = np.random.default_rng(seed)
    ids = [1, 2]
    for _ in range(length - 2):
        ids.append(1 + (3 * ids[-1] + ids[-2] % 2) % 19 if draw.random() < 0.7 else int(draw.integers(1, 20)))
    return np.array(ids, np.int32)


@pytest.fixture(scope="module")
def layer():
    return ngram_counts.fit(text(4000), text(500, 1), VOCABULARY)


def set_gate(layer, value):
    layer.gate.assign(np.full(layer.longest + 1, value, np.float32))


def test_without_the_network_it_is_the_baseline(layer):
    """All probabilities of a text of one window, and their sums."""
    set_gate(layer, -10.0)
    ids = text(300, 2)
    logits = np.random.default_rng(0).normal(size=(1, len(ids), VOCABULARY)).astype(np.float32)
    found = layer(logits, ids[None]).numpy()[0]
    wanted = ngram_baseline.losses(text(4000), text(500, 1), ids, VOCABULARY)
    assert wanted.order == layer.longest + 1 > 2
    np.testing.assert_allclose(-found[np.arange(len(ids) - 1), ids[1:]], wanted.losses, atol=1e-4)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, atol=1e-5)


def test_of_the_network_alone_nothing_changes(layer):
    set_gate(layer, 10.0)
    ids = text(30, 2)[None]
    logits = np.random.default_rng(0).normal(size=(1, 30, VOCABULARY)).astype(np.float32)
    np.testing.assert_allclose(layer(logits, ids), tf.nn.log_softmax(logits), atol=1e-5)


def test_training_text_is_predicted_as_if_it_had_not_been_counted(layer):
    """By the definition: one token's occurrence is taken from the counts, and the model is computed again."""
    set_gate(layer, -10.0)
    ids, own = text(4000), np.zeros((1, 60), np.float32)
    window = ids[1000:1061]
    found = layer.label_log_probabilities(own, window[None, :-1], window[None, 1:]).numpy()[0]
    for place in (10, 30, 59):
        at, probability = 1000 + place + 1, layer.unigram.numpy()[window[place + 1]]
        for length in range(1, layer.longest + 1):
            history = ids[at - length : at].tolist()
            following = [
                int(ids[other]) for other in range(length, len(ids))
                if other != at and ids[other - length : other].tolist() == history
            ]  # fmt: skip
            if following:
                kinds = len(set(following))
                probability = (following.count(ids[at]) + kinds * probability) / (len(following) + kinds)
        assert found[place] == pytest.approx(np.log(probability), abs=1e-4)


def test_counts_that_do_not_fit_go_to_shorter_histories(monkeypatch):
    """A sum of probabilities is 1 with few buckets and short lists, too, and of unknown tokens as of known ones."""
    monkeypatch.setattr(ngram_counts, "_MOST", 40)
    monkeypatch.setattr(ngram_mixture, "WIDTHS", (5, 3, 2))
    monkeypatch.setattr(ngram_counts, "WIDTHS", (5, 3, 2))
    small = ngram_counts.fit(text(4000), text(500, 1), VOCABULARY)
    set_gate(small, -10.0)
    ids = np.random.default_rng(3).integers(0, VOCABULARY, (4, 50)).astype(np.int32)
    found = small(np.zeros((4, 50, VOCABULARY), np.float32), ids).numpy()
    np.testing.assert_allclose(np.exp(found).sum(axis=2), 1.0, atol=1e-5)


def test_the_gate_learns_whom_to_trust(layer):
    set_gate(layer, 0.0)
    window = text(4000)[None, 500:601]
    for own, sign in ((0.0, 1), (-9.0, -1)):
        with tf.GradientTape() as tape:
            values = layer.label_log_probabilities(tf.fill((1, 100), own), window[:, :-1], window[:, 1:])
        gradient = tape.gradient(values, layer.gate.value)
        assert (sign * gradient.numpy() >= 0).all() and np.abs(gradient).max() > 0


@pytest.fixture(scope="module")
def model(layer):
    set_gate(layer, 0.1)
    shape = Shape(VOCABULARY, width=8, layers=1, heads=2, inner=16, positions=12, segments=0, epsilon=1e-5,
                  dropout=0.0, attention_dropout=0.0)  # fmt: skip
    alone = encoder_heads.language_model(transformer.encoder(shape, norm_first=True, causal=True))
    return encoder_heads.mixed_language_model(alone, layer)


def test_in_layers_of_keras_alone(model):
    set_gate(model.get_layer("ngrams"), 0.1)
    ids = np.stack([text(12, 4), text(12, 5)])
    ids[1, 7:] = 0
    real = ids != 0
    copy = keras_only.plain(model)
    assert all(type(layer).__module__.startswith("keras.") for layer in copy.layers)
    np.testing.assert_allclose(copy(ids).numpy()[real], model(ids).numpy()[real], atol=1e-5)


def test_the_cache_reads_token_by_token_what_the_model_reads_at_once(model):
    set_gate(model.get_layer("ngrams"), 0.1)
    network, ids = kv_cache.network(model), np.stack([text(12, 4), text(12, 5)])
    wanted = network.forward(ids).numpy()
    assert isinstance(network, kv_cache.MixtureCache) and np.ptp(wanted) > 1
    state, position = network.empty(2, 12), 0
    for new in (4, 1, 3, 1, 1, 2):
        padded = np.zeros((2, 4), np.int32)
        padded[:, :new] = ids[:, position : position + new]
        outputs, state = network.read(tf.constant(padded), state, tf.constant(position), tf.constant(new))
        found = network.logits(outputs).numpy()[:, :new]
        np.testing.assert_allclose(found, wanted[:, position : position + new], atol=1e-4)
        position += new
