"""N-gram logits: scikit-learn's own TF-IDF model, scale, mixture, conversion, and what each token adds."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from zoo.models import keras_only, lstm, ngram_logits
from zoo.training import ngram_fit

VOCABULARY, TIME = 60, 12


def texts(count, classes=2, seed=0):
    """Texts whose class is told by a token or by a pair, mostly."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, VOCABULARY, (count, TIME)).astype(np.int32)
    labels = draw.integers(0, classes, count).astype(np.int32)
    for row, label in enumerate(labels):
        if draw.random() < 0.8:
            tokens[row, 3:5] = 2 + label, 9
    lengths = draw.integers(5, TIME + 1, count)
    tokens[np.arange(TIME) >= lengths[:, None]] = 0
    return tokens, labels


@pytest.fixture(scope="module", params=[2, 3])
def fitted(request):
    tokens, labels = texts(300, request.param)
    weights = ngram_fit.fit(tokens, labels, VOCABULARY, request.param)
    layer = weights.layer(VOCABULARY)
    network = lstm.classifier(VOCABULARY, request.param, width=4, units=4, ngrams=layer, recurrent_length=6)
    return network, layer, weights, tokens, labels


def test_learns(fitted):
    layer = fitted[1]
    tokens, labels = texts(400, max(layer.outputs, 2), seed=1)
    logits = layer(tokens).numpy()
    right = (logits[:, 0] > 0 if layer.outputs == 1 else logits.argmax(1)) == labels
    assert right.mean() > 0.75


def test_first_model_is_tfidf_with_logistic_regression(fitted):
    """The layer with the first model alone is proportional to scikit-learn's model of the same features."""
    _, layer, weights, tokens, labels = fitted
    buckets, outputs = layer.buckets, layer.outputs
    rows, columns = ngram_logits.ngrams(tokens, VOCABULARY, buckets)
    counts = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(tokens), VOCABULARY + buckets))
    features = TfidfTransformer().fit_transform(counts)
    alone = ngram_logits.NgramLogits(outputs, VOCABULARY, buckets)
    alone.build(tokens.shape)
    table = weights.table.copy()
    table[:, 1 + outputs :] = 0
    alone.set_weights([table, np.zeros(outputs)])
    logits = alone(tokens).numpy()
    for output in range(outputs):
        target = labels == (output if outputs > 1 else 1)
        slopes = []
        for strength in ngram_fit._STRENGTHS:
            model = LogisticRegression(C=strength, solver="liblinear", tol=0.01).fit(features, target)
            slopes.append(np.corrcoef(features @ model.coef_[0], logits[:, output])[0, 1])
        assert max(slopes) == pytest.approx(1.0, abs=1e-6)


def test_the_scale_is_that_of_texts_that_were_not_learned_from():
    """Random labels: a model is perfect on what it has learned from, yet its logits must not be certain of anything."""
    draw = np.random.default_rng(0)
    tokens, labels = draw.integers(1, VOCABULARY, (200, TIME)).astype(np.int32), draw.integers(0, 2, 200)
    layer = ngram_fit.fit(tokens, labels, VOCABULARY, 2).layer(VOCABULARY)
    logits = layer(tokens).numpy()[:, 0]
    assert ((logits > 0) == labels).mean() > 0.8 and np.abs(logits).max() < 1.5


def test_texts_without_an_error_are_not_certain():
    """Texts of other folds that are all right would let the scale grow without end."""
    labels = np.arange(200, dtype=np.int32) % 2
    tokens = np.repeat(labels[:, None] + 1, 4, axis=1).astype(np.int32)
    logits = ngram_fit.fit(tokens, labels, 5, 2).layer(5)(tokens).numpy()[:, 0]
    assert ((logits > 0) == labels).all() and np.abs(logits).max() < np.log(200) + 1


def test_plain_keras_layers_agree(fitted):
    network, _, _, tokens, _ = fitted
    plain = keras_only.plain(network.model)
    np.testing.assert_allclose(plain(tokens), network.model(tokens), atol=1e-5)


def test_saved_and_loaded(fitted, tmp_path):
    network, _, _, tokens, _ = fitted
    network.model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(tokens), network.model(tokens))


def test_the_mixture(fitted):
    """A fifth of the network's logits, four fifths of the n-grams'."""
    network, layer, _, tokens, _ = fitted
    expected = network.inner(tokens)[0] * 0.2 + layer(tokens) * 0.8
    np.testing.assert_allclose(network.model(tokens), expected, atol=1e-5)


def test_the_lstm_reads_the_first_tokens_only(fitted):
    """Behind them, a changed token changes the n-grams' logits and not the LSTM's."""
    network, layer, _, tokens, _ = fitted
    other = tokens.copy()
    other[:, 8] = 7
    ours, theirs = (network.inner(each)[0].numpy() for each in (tokens, other))
    np.testing.assert_array_equal(ours, theirs)
    assert np.abs(layer(tokens).numpy() - layer(other).numpy()).max() > 1e-3


@given(st.lists(st.integers(0, 7), min_size=1, max_size=9))
def test_contributions_sum_to_the_logits(row):
    """Of any text, with its repeated tokens; token 7 is excluded."""
    layer = _random_layer()
    tokens = np.array(row, np.int32)
    shares = ngram_logits.contributions(layer, tokens)
    assert shares.shape == (len(row), 2)
    np.testing.assert_allclose(shares.sum(axis=0) + layer.bias.numpy(), layer(tokens[None]).numpy()[0], atol=1e-5)
    assert not shares[(tokens == 0) | (tokens == 7)].any()


_LAYERS = []


def _random_layer():
    if not _LAYERS:
        layer = ngram_logits.NgramLogits(2, 8, 31, order=3, excluded=[7])
        layer.build((None, None))
        draw = np.random.default_rng(0)
        table = draw.normal(size=(39, 7))
        table[0] = 0
        layer.set_weights([table, draw.normal(size=2)])
        _LAYERS.append(layer)
    return _LAYERS[0]


def test_pairs_never_leave_int32():
    """The largest product of a hash of ids of any size."""
    largest = ngram_logits.MOST_BUCKETS - 1
    ids = np.array([[largest - 1, 10**9, largest - 1, largest - 2]], np.int64)
    exact, narrow = (ngram_logits.ngram_buckets(ids.astype(kind), 3, largest) for kind in (np.int64, np.int32))
    for one, other in zip(exact, narrow, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("time", [1, 2, 3])
def test_texts_shorter_than_an_ngram(time):
    layer = ngram_logits.NgramLogits(1, 8, 31, order=3)
    layer.build((None, None))
    layer.set_weights([np.ones((39, 4)), np.zeros(1)])
    features = 3 * time - 3 if time > 1 else 1
    assert layer(np.arange(1, time + 1, dtype=np.int32)[None]).numpy()[0, 0] == pytest.approx(2 * np.sqrt(features))
