"""The LSTM: Keras' own results from the same weights, whatever the padding; its noise; its sampled softmax."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo import randomness
from zoo.models import lstm, lstm_layers, lstm_scan, sampled_softmax

LENGTHS = [12, 1, 7, 12, 5]
WIDTH = 12


@pytest.fixture(scope="module")
def tokens():
    draw = np.random.default_rng(0).integers(1, 50, (len(LENGTHS), WIDTH)).astype(np.int32)
    draw[np.arange(WIDTH) >= np.array(LENGTHS)[:, None]] = 0
    return draw


def ours(seed=0, **options):
    keras.utils.set_random_seed(seed)
    return lstm.classifier(50, **{"width": 6, "units": 7, **options})


def theirs(bidirectional=False):
    """Keras' own, with its mask."""
    layer = keras.layers.LSTM(7)
    layer = keras.layers.Bidirectional(layer) if bidirectional else layer
    embedding = keras.layers.Embedding(50, 6, mask_zero=True)
    return keras.Sequential([keras.Input((None,), dtype="int32"), embedding, layer, keras.layers.Dense(1)])


def gradients(model, tokens):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(tokens) - 1.0))
    return [tf.convert_to_tensor(one).numpy() for one in tape.gradient(loss, model.trainable_variables)]


def test_default_size():
    assert lstm.classifier().model.count_params() == 673_089


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("to_keras", [True, False])
def test_the_same_as_keras(tokens, bidirectional, to_keras):
    """Weights go either way; outputs and gradients agree, with padding behind Keras' mask."""
    mine, keras_own = ours(bidirectional=bidirectional).model, theirs(bidirectional)
    if to_keras:
        keras_own.set_weights(mine.get_weights())
    else:
        mine.set_weights(keras_own.get_weights())
    np.testing.assert_allclose(mine(tokens), keras_own(tokens), atol=1e-5)
    for one, other in zip(gradients(mine, tokens), gradients(keras_own, tokens), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_both_implementations_agree(tokens):
    scan, keras_own = (
        ours(bidirectional=True, layers=2).model,
        ours(1, bidirectional=True, layers=2, implementation="keras"),
    )
    keras_own.model.set_weights(scan.get_weights())
    np.testing.assert_allclose(scan(tokens), keras_own.model(tokens), atol=1e-6)
    for one, other in zip(gradients(scan, tokens), gradients(keras_own.model, tokens), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_gradient_of_all_outputs():
    """Of each step and of each argument, against automatic differentiation of the plain recurrence in float64."""
    draw = np.random.default_rng(1)
    upstream = draw.normal(size=(5, 3, 2))
    given = [draw.normal(size=shape) for shape in ((5, 3, 4), (4, 8), (2, 8), (8,))]

    def plain(x, kernel, recurrent_kernel, bias):
        h = c = tf.zeros([3, 2], tf.float64)
        outputs = []
        for t in range(4):
            i, f, g, o = tf.split(x[t] @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
            outputs.append(h)
        return tf.stack([*outputs, tf.zeros_like(h)])

    found = []
    for dtype, run in ((tf.float64, plain), (tf.float32, lambda *values: lstm_scan.lstm(*values, tf.constant(4)))):
        values = [tf.constant(value, dtype) for value in given]
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = run(*values)
            total = tf.reduce_sum(outputs * tf.constant(upstream, dtype))
        found.append([outputs, *tape.gradient(total, values)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, tf.cast(other, tf.float64), atol=3e-6)


@pytest.mark.parametrize("pooling", lstm_layers.POOLINGS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(tokens, pooling, bidirectional):
    """Neither more of it, nor other texts in the batch, nor what stood there before."""
    model = ours(pooling=pooling, bidirectional=bidirectional, classes=3).model
    whole = model(tokens).numpy()
    np.testing.assert_allclose(model(np.pad(tokens, ((0, 0), (0, 9)))), whole, atol=1e-6)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(model(tokens[row : row + 1, :length])[0], whole[row], atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max", "concat"])
def test_pooling(pooling):
    outputs = np.random.default_rng(0).uniform(-1, 1, (4, 2, 6)).astype(np.float32)
    lengths = np.array([3, 1], np.int32)
    found = lstm_layers.Pool(pooling, bidirectional=True)(outputs, lengths).numpy()
    for row, length in enumerate(lengths):
        real = outputs[:length, row]
        last = np.concatenate([real[-1, :3], real[0, 3:]])
        expected = {"mean": real.mean(0), "max": real.max(0)}
        expected["concat"] = np.concatenate([last, expected["max"], expected["mean"]])
        np.testing.assert_allclose(found[row], expected[pooling], atol=1e-6)


def test_empty_text(tokens):
    """It has a length of one, the padding itself: no pooling divides by nothing."""
    for pooling in lstm_layers.POOLINGS:
        assert np.isfinite(ours(pooling=pooling).model(np.zeros((2, 3), np.int32))).all()


def test_saved_and_loaded(tokens, tmp_path):
    made = ours(bidirectional=True, layers=2, pooling="attention", dropout=0.1, input_dropout=0.1, weight_dropout=0.1)
    words = lstm.language_model(50, width=6, units=7, embedding_dropout=0.1)
    for model in (made.model, words.model, lstm.language_model(50, width=6, units=7, tied=False).model):
        model.save(tmp_path / "model.keras")
        np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(tokens), model(tokens))


def test_noise_in_training_only(tokens):
    for option in ("dropout", "input_dropout", "embedding_dropout", "weight_dropout"):
        noisy = ours(**{option: 0.5, "layers": 2}).model
        plain = ours(layers=2).model
        plain.set_weights(noisy.get_weights())
        np.testing.assert_array_equal(noisy(tokens), plain(tokens))
        assert np.abs(noisy(tokens, training=True) - plain(tokens)).max() > 1e-4, option


def inside(call, step=0, first_row=0):
    with randomness.scope(0, tf.constant(step), tf.constant(first_row)):
        return call().numpy()


def test_variational_dropout_has_one_mask_for_all_steps():
    layer, ones = lstm_layers.VariationalDropout(0.25), tf.ones([6, 40, 50])
    found = inside(lambda: layer(ones, training=True))
    assert (found == found[0]).all()
    assert set(np.unique(found)) == {0.0, np.float32(1 / 0.75)}
    assert abs((found == 0).mean() - 0.25) < 0.04
    np.testing.assert_array_equal(inside(lambda: layer(ones[:, 10:20], training=True), first_row=10), found[:, 10:20])


def test_embedding_dropout_leaves_whole_words_out():
    layer = lstm_layers.TokenEmbedding(400, 3, dropout=0.5)
    tokens = np.tile(np.arange(400, dtype=np.int32), (2, 1))
    plain = layer(tokens).numpy()
    found = inside(lambda: layer(tokens, training=True))
    gone = (found == 0).all(axis=-1)
    assert 0.4 < gone.mean() < 0.6
    np.testing.assert_array_equal(gone[:, 0], gone[:, 1]), "the same words in every text"
    np.testing.assert_allclose(found[~gone], 2 * plain[~gone], rtol=1e-6)


def test_both_directions_guess_what_they_have_not_read():
    """Another token changes no guess of that very token, forwards or backwards, and it changes its neighbours'."""
    words = lstm.language_model(30, width=6, units=7, bidirectional=True)
    draw = np.random.default_rng(0)
    for variable in words.model.weights:
        variable.assign(draw.normal(0, 0.5, variable.shape))
    tokens = draw.integers(1, 30, (2, 9)).astype(np.int32)
    tokens[1, 6:] = 0
    before = words.model(tokens).numpy().reshape(2, 8, 2, 30)
    for place in range(6):
        other = tokens.copy()
        other[:, place] = other[:, place] % 29 + 1
        change = np.abs(words.model(other).numpy().reshape(2, 8, 2, 30) - before).max(axis=-1)
        # Guesses of token t: forwards at t - 1, backwards at t in the second half.
        assert not change[0, :place].any(), "nothing behind is read"
        assert (change[0, place:5] > 1e-6).all(), "all before is read"
        assert not change[1, place:5].any()
        assert (change[1, :place] > 1e-6).all()


def test_sampled_softmax_is_the_full_one_in_the_mean():
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 1000, 300)
    matrix = tf.constant(draw.normal(size=(300, 8)), tf.float32)
    hidden = tf.constant(draw.normal(size=(4, 5, 8)), tf.float32)
    wanted = tf.constant(draw.integers(1, 300, (4, 5)), tf.int32)
    full = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, tf.einsum("tbw,vw->tbv", hidden, matrix))
    sampler = sampled_softmax.Sampler(counts, samples=2000)
    found = [inside(lambda: sampler.cross_entropy(hidden, wanted, matrix), step) for step in range(20)]
    np.testing.assert_allclose(np.mean(found, axis=0), full, atol=0.1)
    assert np.std(found, axis=0).max() > 0, "other words in each step"
    few = sampled_softmax.Sampler(counts, samples=20)
    assert np.mean([inside(lambda: few.cross_entropy(hidden, wanted, matrix), s) for s in range(50)]) < np.mean(full)


def test_sampled_words_follow_their_frequency():
    counts = np.array([30, 100, 300, 1000, 10_000])
    sampler = sampled_softmax.Sampler(counts, samples=50_000)
    matrix, hidden = tf.eye(5), tf.zeros([1, 1, 5])
    # With no scores at all the estimate of the sum over the vocabulary is its size, whatever was drawn.
    found = inside(lambda: sampler.cross_entropy(hidden, tf.constant([[1]]), matrix))
    np.testing.assert_allclose(found, np.log(5), atol=0.03)


def test_bad_options():
    with pytest.raises(ValueError, match="the second would see"):
        lstm.language_model(50, layers=2, bidirectional=True)
    with pytest.raises(ValueError, match="pooling is 'sum': expected one of last, mean"):
        lstm_layers.Pool("sum")
    with pytest.raises(ValueError, match="implementation is 'cudnn': expected one of scan, keras"):
        lstm_layers.Lstm(3, implementation="cudnn")
    with pytest.raises(ValueError, match="weight_dropout needs implementation='scan'"):
        lstm_layers.Lstm(3, implementation="keras", weight_dropout=0.1)
