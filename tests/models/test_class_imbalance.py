"""Losses for rare classes against the papers' formulas, with label smoothing, members and one logit for two classes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments import bert_finetune, lstm_sentiment, mlp_classifier
from zoo.data import class_balance
from zoo.models import class_imbalance

SIZES = np.array([60, 30, 10])
LABELS = np.repeat(np.arange(3), SIZES)


def batch(classes=3, examples=8):
    draw = np.random.default_rng(0)
    return draw.normal(size=(examples, classes)).astype(np.float32), draw.integers(0, classes, examples, np.int32)


def losses(method, logits, labels, training=True, smoothing=0.0, ensemble=None, all_labels=LABELS):
    """What the multi-layer perceptron minimizes, for given logits."""
    imbalance = class_imbalance.make(method, all_labels, logits.shape[-1])
    terms = mlp_classifier.forward(
        lambda x, training: x, {"x": tf.constant(logits), "y": tf.constant(labels)}, training, smoothing,
        ensemble, imbalance,
    )  # fmt: skip
    return terms["loss"].values.numpy(), terms


def smoothed(logits, labels, smoothing=0.0):
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    targets = (1 - smoothing) * np.eye(logits.shape[-1])[labels] + smoothing / logits.shape[-1]
    return -(targets * log_p).sum(axis=-1)


WEIGHTS = {
    "weights": class_balance.inverse_frequencies(SIZES),
    "sqrt_weights": class_balance.square_roots(SIZES),
    "class_balanced": class_balance.effective_numbers(SIZES),
    "balanced_sampling": np.ones(3),
    "none": np.ones(3),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("method", WEIGHTS)
def test_weights_multiply_the_losses(method, smoothing):
    logits, labels = batch()
    expected = WEIGHTS[method][labels] * smoothed(logits, labels, smoothing)
    np.testing.assert_allclose(losses(method, logits, labels, smoothing=smoothing)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_logit_adjustment_is_the_papers(smoothing):
    """Equation 10 of Menon et al.: the cross-entropy of f(x) + log of the shares."""
    logits, labels = batch()
    expected = smoothed(logits + np.log(SIZES / SIZES.sum()), labels, smoothing)
    np.testing.assert_allclose(losses("logit_adjusted", logits, labels, smoothing=smoothing)[0], expected, rtol=1e-5)


def test_focal_loss_is_keras():
    logits, labels = batch()
    reference = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True, reduction=None)
    expected = reference(np.eye(3, dtype=np.float32)[labels], logits)
    np.testing.assert_allclose(losses("focal", logits, labels)[0], expected, rtol=1e-4)


def test_focal_gradient_is_finite_for_certain_and_for_hopeless_examples():
    logits, labels = tf.constant([[0.0, 60.0], [0.0, 500.0], [500.0, 0.0]]), np.array([1, 1, 1], np.int32)
    imbalance = class_imbalance.make("focal", labels, 2)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        plain = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        total = tf.reduce_sum(imbalance.losses(plain, logits, labels))
    assert np.isfinite(tape.gradient(total, logits).numpy()).all()


@pytest.mark.parametrize("method", class_imbalance.METHODS)
def test_evaluation_is_plain(method):
    logits, labels = batch()
    found, terms = losses(method, logits, labels, training=False)
    np.testing.assert_allclose(found, smoothed(logits, labels), rtol=1e-5)
    np.testing.assert_array_equal(terms["logits"].values, logits)


@pytest.mark.parametrize("method", class_imbalance.METHODS)
def test_members_have_the_losses_of_single_networks(method):
    logits, labels = batch()
    members = np.stack([logits, 2 * logits, -logits], axis=1)  # [batch, members, classes]
    found, _ = losses(method, logits, labels, ensemble=lambda x, training: tf.constant(members), smoothing=0.1)
    single = [losses(method, members[:, number], labels, smoothing=0.1)[0] for number in range(3)]
    np.testing.assert_allclose(found, np.mean(single, axis=0), rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", class_imbalance.METHODS)
def test_one_logit_for_two_classes_is_two_with_0_for_the_first(method, training):
    """In the experiments on texts."""
    logits, labels = batch(1), np.array([0, 1, 1, 0, 1, 0, 0, 1], np.int32)
    logits, shares = logits[0], np.repeat([0, 1], [90, 10])
    imbalance = class_imbalance.make(method, shares, 2)
    both = np.concatenate([np.zeros_like(logits), logits], axis=1)
    expected, _ = losses(method, both, labels, training, all_labels=shares)
    for forward in (lstm_sentiment.forward, bert_finetune.forward):
        is_lstm = forward is lstm_sentiment.forward
        model = lambda x, training: tf.constant(logits)  # noqa: E731
        terms = forward(model, {"tokens": tf.zeros((8, 2)), "y": tf.constant(labels)}, training, imbalance=imbalance)
        np.testing.assert_allclose(terms["loss"].values, expected, rtol=1e-4, err_msg=f"LSTM: {is_lstm}")
        np.testing.assert_array_equal(terms["logits"].values, logits)


@pytest.mark.parametrize("forward", [lstm_sentiment.forward, bert_finetune.forward])
def test_texts_of_several_classes(forward):
    logits, labels = batch()
    imbalance = class_imbalance.make("logit_adjusted", LABELS, 3)
    model = lambda x, training: tf.constant(logits)  # noqa: E731
    terms = forward(model, {"tokens": tf.zeros((8, 2)), "y": tf.constant(labels)}, True, imbalance=imbalance)
    expected, _ = losses("logit_adjusted", logits, labels)
    np.testing.assert_allclose(terms["loss"].values, expected, rtol=1e-5)


def test_example_weights_are_sizes_but_not_of_draws():
    labels, weights = np.array([0, 0, 1]), np.array([1.0, 1.0, 6.0])
    made = {name: class_imbalance.make(name, labels, 2, weights) for name in ("weights", "logit_adjusted")}
    np.testing.assert_allclose(made["weights"].weights, [2.0, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(np.exp(made["logit_adjusted"].offsets), [0.25, 0.75], rtol=1e-6)
    drawn = class_imbalance.make("balanced_sampling", labels, 2, weights)
    np.testing.assert_allclose(np.exp(-drawn.log_odds), [2 / 3, 1 / 3], rtol=1e-6)


def test_a_linear_model_beside_the_network_is_moved_as_far():
    """At the least weighted loss of logits without inputs the odds are those of the weights."""
    imbalance = class_imbalance.make("weights", LABELS, 3)
    plain = np.log(SIZES / SIZES.sum())
    moved = np.exp(class_imbalance.moved_bias(plain, imbalance))
    np.testing.assert_allclose(moved / moved.sum(), [1 / 3] * 3, rtol=1e-5)
    one = class_imbalance.moved_bias(np.array([np.log(1 / 9)]), class_imbalance.make("weights", [0] * 9 + [1], 2))
    np.testing.assert_allclose(one, [0.0], atol=1e-6)
    assert class_imbalance.moved_bias(plain, class_imbalance.PLAIN) is plain


def test_unknown():
    with pytest.raises(ValueError, match="expected one of none, weights"):
        class_imbalance.make("weight", LABELS, 3)
