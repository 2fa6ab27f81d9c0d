"""Words that share weights with similar words: scikit-learn's model of the written-out features, and unseen words."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from zoo.data.text import tokenizer
from zoo.models import ngram_logits
from zoo.training import ngram_fit, subword_fit

STEMS = {"lov": ["ly", "ed", "able", "ing", "er"], "dul": ["l", "ness", "led", "ly", "ler"]}
NEUTRAL = ["film", "plot", "seen", "today", "house", "number"]
WORDS = [None, *(stem + end for stem, ends in STEMS.items() for end in ends), *NEUTRAL, "##s"]
# The last of each stem is in no training text.
UNSEEN = [WORDS.index("lover"), WORDS.index("duller")]


def texts(count, seed=0):
    """Texts of six neutral tokens and one of a stem's words, which tells the class."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(WORDS.index("film"), len(WORDS), (count, 7))
    labels = np.arange(count) % 2
    tokens[:, 2] = 1 + 5 * labels + draw.integers(0, 4, count)
    return tokens.astype(np.int32), labels.astype(np.int32)


def written_out(tokens, layer):
    """TF-IDF of the layer's features and of the subwords of tokens, dense, with their texts' lengths divided out."""
    rows, columns = ngram_logits.ngrams(tokens, len(WORDS), layer.buckets)
    has = np.zeros((len(tokens), len(WORDS) + layer.buckets))
    has[rows, columns] = 1
    counts = has.sum(axis=0)
    inverse = np.where(counts, np.log((1 + len(tokens)) / (1 + counts)) + 1, 0)
    parts = {}
    for id, word in enumerate(WORDS):
        if word:
            text = f"{word[2:]}$" if word.startswith("##") else f"^{word}$"
            pieces = {text[i:j] for i in range(len(text)) for j in range(i + 1, min(i + 5, len(text)) + 1)}
            for piece in pieces:
                parts.setdefault(piece, np.zeros(len(WORDS)))[id] = 1
    spelled = np.stack(list(parts.values()), axis=1)  # [ids, subwords]
    counts = (has[:, : len(WORDS)] @ spelled > 0).sum(axis=0)
    spelled = spelled[:, counts > 0] * (np.log((1 + len(tokens)) / (1 + counts[counts > 0])) + 1)
    squares = inverse**2
    squares[: len(WORDS)] += (spelled**2).sum(axis=1)
    both = np.concatenate([has * inverse, has[:, : len(WORDS)] @ spelled], axis=1)
    return both[:, both.any(axis=0)] / np.sqrt(has @ squares)[:, None]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_first_model_is_logistic_regression(classes, monkeypatch):
    """The layer with the first model alone is proportional to scikit-learn's model."""
    monkeypatch.setattr(ngram_fit, "_STRENGTHS", (10.0,))
    monkeypatch.setattr(subword_fit, "_TOLERANCE", 1e-9)
    tokens, labels = texts(90)
    if classes == 3:
        labels = np.where(tokens[:, 2] % 4 == 0, 2, labels).astype(np.int32)
    weights = ngram_fit.fit(tokens, labels, len(WORDS), classes, spellings=WORDS)
    layer = weights.layer(len(WORDS))
    outputs, table = layer.outputs, weights.table.copy()
    table[:, 1 + outputs :] = 0
    layer.set_weights([table, np.zeros(outputs)])
    features = written_out(tokens, layer)
    for output in range(outputs):
        target = labels == (output if outputs > 1 else 1)
        model = LogisticRegression(C=10.0, tol=1e-8, max_iter=1000).fit(features, target)
        expected = features @ model.coef_[0]
        assert np.corrcoef(expected, layer(tokens).numpy()[:, output])[0, 1] == pytest.approx(1.0, abs=1e-5)


def test_unseen_words_are_known_by_their_parts():
    tokens, labels = texts(90)
    with_parts, without = (
        ngram_fit.fit(tokens, labels, len(WORDS), 2, spellings=spellings).layer(len(WORDS))
        for spellings in (WORDS, None)
    )
    unseen = np.array([[id] for id in UNSEEN], np.int32)
    lov, dul = with_parts(unseen).numpy()[:, 0] - with_parts.bias.numpy()
    assert lov < -0.5 and dul > 0.5
    np.testing.assert_array_equal(without(unseen).numpy()[:, 0], np.repeat(without.bias.numpy(), 2))


def test_outputs_one_by_one_or_together(monkeypatch):
    """Many outputs are fitted in several parts; they are independent."""
    monkeypatch.setattr(subword_fit, "_TOLERANCE", 1e-10)
    tokens, labels = texts(60)
    has = np.zeros((60, len(WORDS)))
    has[np.arange(60)[:, None], tokens] = 1
    has = sparse.csr_matrix(has)
    spelled = subword_fit.subwords(WORDS, has)
    used = np.flatnonzero(np.asarray(has.sum(axis=0)).ravel())
    targets = np.stack([labels == 0, labels == 1, tokens[:, 2] % 2 == 0], axis=1)
    family = subword_fit.Family.of(has, used, np.ones(len(used)), spelled, targets)
    together = family.fit(np.ones(60, bool), 10.0)
    monkeypatch.setattr(subword_fit, "_MOST_WEIGHTS", 1)
    apart = family.fit(np.ones(60, bool), 10.0)
    for one, other in zip(together, apart):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_spellings_are_those_of_words():
    """Special tokens are no words; characters of Chinese have no parts."""
    english, chinese = ["a good film", "a good plot"] * 20, ["好看的电影", "难看的电影"] * 20
    words = tokenizer.train(english, "wordpiece", 60)
    spellings = ngram_fit.spellings_of(words, english)
    assert "film" in spellings and not {"[UNK]", "[PAD]", "[CLS]"} & set(spellings)
    assert spellings[words.id_of("good")] == "good" and ngram_fit.spellings_of(words, chinese) is None
