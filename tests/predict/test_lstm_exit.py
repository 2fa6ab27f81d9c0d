"""Early reading on small LSTMs: chunk by chunk it is the plain pass, and texts are not read to their ends."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from tests.helpers import early
from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.models import lstm_layers, lstm_scan
from zoo.predict.early_exit import chunked_lstm
from zoo.predict.early_exit.lstm_exit import LstmExit
from zoo.predict.evaluation import held_out
from zoo.predict.predictors.cloning import digest

TEXTS = [*early.texts(57, seed=4)[0], "", "fine", "awful " * 40]


@pytest.fixture(scope="module")
def made():
    found = early.reader()
    return found, early.source(found, 800), early.texts(600, seed=5)[0]


@pytest.fixture(scope="module")
def reading(made):
    return LstmExit(*made[:2], risk=0.1, chunk=4)


@pytest.mark.parametrize("pooling", lstm_layers.POOLINGS)
def test_where_nothing_may_stop_it_is_the_plain_forward_pass(pooling):
    """Of three classes and two layers, with chunks that do not divide the longest text."""
    found = early.reader(classes=3, pooling=pooling, layers=2)
    whole = LstmExit(found, early.source(found, 40), risk=1e-6, chunk=5)
    answers = whole.answers(TEXTS)
    np.testing.assert_array_equal(answers.logits, found.logits(TEXTS))
    logits, last = whole._all_chunks(TEXTS)
    np.testing.assert_allclose(logits[last, np.arange(len(TEXTS))], answers.logits, rtol=1e-5, atol=2e-5)
    lengths = np.maximum(found.columns(TEXTS)["length"], 1)
    np.testing.assert_array_equal(answers.depths, lengths)
    assert whole.saved == (lengths.mean(), lengths.mean(), len(TEXTS))
    assert whole.logits([]).shape == (0, 3)


def test_an_lstm_goes_on_where_it_stopped():
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(11, 3, 5)).astype(np.float32)
    weights = [draw.normal(size=shape).astype(np.float32) for shape in ((5, 24), (6, 24), (24,))]
    whole = lstm_scan.lstm(inputs, *weights, tf.constant(11))
    zeros = tf.zeros((3, 6))
    first, h, c = lstm_scan.lstm_from_state(tf.constant(inputs[:4]), *weights, zeros, zeros)
    rest, h, _ = lstm_scan.lstm_from_state(tf.constant(inputs[4:]), *weights, h, c)
    np.testing.assert_allclose(np.concatenate([first, rest]), whole, atol=1e-6)
    np.testing.assert_array_equal(h, rest[-1])


@pytest.mark.parametrize("rule", ["confident", "patient"])
def test_texts_are_left_where_the_plain_model_is_sure_of_their_beginnings(made, reading, rule, monkeypatch):
    """Against the model's answers to texts that are cut after each chunk."""
    found, _, texts = made
    reading.choose(0.1, rule=rule)
    rows, call = [], chunked_lstm.ChunkedLstm.read
    monkeypatch.setattr(
        chunked_lstm.ChunkedLstm, "read", lambda self, t, *rest: rows.append(len(t)) or call(self, t, *rest)
    )
    answers = reading.answers(texts)
    monkeypatch.undo()
    lengths = found.columns(texts)["length"]
    assert answers.depths.mean() < 0.9 * lengths.mean()
    # Full batches, but for the last texts.
    read = int(np.ceil(answers.depths / 4).sum())
    assert read <= sum(rows) < 1.5 * read + 256
    for index in range(0, len(texts), 20):
        split = texts[index].split()
        parts = [" ".join(split[: 4 * (k + 1)]) for k in range(-(-len(split) // 4))]
        logits = two_class_logits(found.logits(parts)) / np.append(reading._temperatures, 1.0)[: len(parts), None]
        stop = first(special.softmax(logits, axis=1), rule, reading.stopping.threshold)
        assert answers.depths[index] == min(4 * (stop + 1), lengths[index])
        if stop < len(parts) - 1:
            np.testing.assert_allclose(answers.logits[index], logits[stop], rtol=1e-4, atol=1e-4)


def first(probabilities, rule, threshold):
    streak, before = 0, None
    for stage, some in enumerate(probabilities):
        streak = streak + 1 if some.argmax() == before else 1
        before = some.argmax()
        if (some.max() if rule == "confident" else streak) > threshold:
            return stage
    return len(probabilities) - 1


def test_reading_shortens_with_the_risk_and_the_promise_holds(made, reading):
    found, _, texts = made
    full, depths = two_class_logits(found.logits(texts)).argmax(axis=1), []
    for risk in (0.02, 0.1, 0.6):
        reading.choose(risk)
        answers = reading.answers(texts)
        depths.append(answers.depths.mean())
        # Three standard deviations of 600 draws are granted to chance.
        assert (answers.logits.argmax(axis=1) != full).mean() <= risk + 3 * np.sqrt(risk / 600)
    assert depths[0] > depths[1] > depths[2] and depths[2] <= 4


def test_neighbours_and_order_change_no_answer(made, reading):
    texts = made[2][:120]
    reading.choose(0.1)
    together, order = reading.answers(texts), np.random.default_rng(0).permutation(len(texts))
    turned = reading.answers([texts[index] for index in order])
    np.testing.assert_array_equal(turned.depths, together.depths[order])
    np.testing.assert_allclose(turned.logits, together.logits[order], rtol=1e-5, atol=1e-5)
    alone = reading.answers(texts[:1])
    np.testing.assert_allclose(alone.logits[0], together.logits[0], rtol=1e-5, atol=1e-5)
    assert alone.depths[0] == together.depths[0]


def test_the_model_stays_as_it_is(made):
    found, known, texts = made
    before = digest(found.model)
    LstmExit(found, held_out.HeldOut(known.examples[:60], known.labels[:60], known.logits[:60]), chunk=8).logits(texts)
    assert digest(found.model) == before


def test_refused(made):
    _, known, _ = made
    with pytest.raises(BadInput, match=r"reads backwards, too, .* expected one trained without --bidirectional"):
        LstmExit(early.reader(bidirectional=True), known)
    with pytest.raises(BadInput, match=r"for classifiers of texts by an LSTM alone: the model has Block, .*Embedding"):
        LstmExit(early.encoder(layers=2), known)
    with pytest.raises(BadInput, match="chunk is 0 tokens: expected 1 or more"):
        LstmExit(made[0], known, chunk=0)
    with pytest.raises(BadInput, match=r"risk 1\.5"):
        LstmExit(made[0], known, risk=1.5)
