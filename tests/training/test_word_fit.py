"""The linear tagger beside an encoder: scikit-learn's logistic regression, held-out logits, and rare entities."""

import numpy as np
import pytest
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import LogisticRegression

from zoo.data.datasets import tag_schemes
from zoo.data.text import word_features
from zoo.training import word_fit

NAMES = ("O", "B-PER", "I-PER")


def sentences(count, seed=0, right=0.9):
    """Names after "mister", mostly; no other word tells."""
    draw, rows, tags = np.random.default_rng(seed), [], []
    for _ in range(count):
        row = [f"w{number}" for number in draw.integers(0, 50, 8)]
        row[2:5] = "mister", f"N{draw.integers(10**6)}", f"S{draw.integers(10**6)}"
        rows.append(row)
        named = draw.random() < right
        tags.append(["O"] * 3 + (["B-PER", "I-PER"] if named else ["O", "O"]) + ["O"] * 3)
    return rows, tags


@pytest.fixture(scope="module")
def fitted():
    return word_fit.fit(*sentences(200), NAMES, tag_schemes.IOB2)


def predicted(weights, rows):
    features = word_features.features(rows, len(weights.table))
    return features, np.asarray(weights.layer()(features[None]))[0]


def test_new_names_are_found(fitted):
    rows, tags = sentences(100, seed=1, right=1.0)
    labels = np.array([NAMES.index(tag) for row in tags for tag in row])
    assert (predicted(fitted, rows)[1].argmax(axis=1) == labels).mean() > 0.99


def test_the_layer_sums_weights(fitted):
    features, logits = predicted(fitted, sentences(3)[0])
    np.testing.assert_allclose(logits, fitted.table[features].sum(axis=1) + fitted.bias, atol=1e-4)
    assert not fitted.table[0].any() and fitted.held_out.shape == (1600, 3)


def test_probabilities_are_those_of_logistic_regression(fitted):
    """As scikit-learn fits it to the same features, on words that neither has seen; O is lowered in neither."""
    rows, tags = sentences(200)
    labels = np.array([NAMES.index(tag) for row in tags for tag in row])
    hasher = FeatureHasher(2**18, input_type="string", alternate_sign=False)
    text = lambda rows: hasher.transform([map(str, each) for each in word_features.features(rows, 2**18)])  # noqa: E731
    model = LogisticRegression(C=1.0, max_iter=200).fit(text(rows), labels)
    new = sentences(50, seed=3)[0]
    plain = word_fit.fit(rows, tags, NAMES, tag_schemes.PLAIN)
    ours = word_fit._softmax(predicted(plain, new)[1])
    assert np.abs(ours - model.predict_proba(text(new))).mean() < 0.02


def test_held_out_logits_have_not_learned_their_words():
    """Random tags: a model fits those that it has learned from, and guesses the others."""
    draw = np.random.default_rng(0)
    rows = [[f"w{number}" for number in draw.integers(0, 10**6, 8)] for _ in range(100)]
    tags = [[NAMES[label] for label in draw.integers(0, 3, 8)] for _ in rows]
    labels = np.array([NAMES.index(tag) for row in tags for tag in row])
    fitted = word_fit.fit(rows, tags, NAMES, tag_schemes.PLAIN)
    assert (predicted(fitted, rows)[1].argmax(axis=1) == labels).mean() > 0.9
    assert (fitted.held_out.argmax(axis=1) == labels).mean() < 0.45


def test_rare_entities_are_found_below_one_half():
    """Where "mister" is followed by a name two times in five, F1 is best with all of them."""
    rows, tags = sentences(300, right=0.4)
    fitted = word_fit.fit(rows, tags, NAMES, tag_schemes.IOB2)
    best = predicted(fitted, sentences(20, seed=2)[0])[1].argmax(axis=1).reshape(20, 8)
    assert (best[:, 3] == 1).mean() > 0.8
    assert fitted.bias[0] < word_fit.fit(rows, tags, NAMES, tag_schemes.PLAIN).bias[0]


@pytest.mark.parametrize("count", [1, 2])
def test_one_sentence_or_two(count):
    rows, tags = sentences(count, right=1.0)
    fitted = word_fit.fit(rows, tags, NAMES, tag_schemes.IOB2)
    assert np.isfinite(fitted.table).all() and np.isfinite(fitted.held_out).all()


def test_the_cache_gives_the_same_weights(tmp_path, monkeypatch):
    rows, tags = sentences(20)
    first = word_fit.fit(rows, tags, NAMES, tag_schemes.IOB2, tmp_path)
    monkeypatch.setattr(word_fit, "_fit", None)
    again = word_fit.fit(rows, tags, NAMES, tag_schemes.IOB2, tmp_path)
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(TypeError):
        word_fit.fit(rows, [["B-PER", *tags[0][1:]], *tags[1:]], NAMES, tag_schemes.IOB2, tmp_path)
