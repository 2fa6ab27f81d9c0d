"""Votes of the nearest validation examples: against scikit-learn, by leave-one-out, and on texts of a run."""

import keras
import numpy as np
import pytest
from scipy import special
from sklearn.neighbors import KNeighborsClassifier

from zoo.adaptation import plans
from zoo.adaptation.refiner import refine
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages import neighbours
from zoo.adaptation.stages.neighbours import LabelledVectors, Neighbours
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.array_classifier import ArrayClassifier

CLASSES, WIDTH = 3, 6


def drawn(examples, seed, spread=1.0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, CLASSES, examples).astype(np.int32)
    means = 2 * np.eye(CLASSES, WIDTH)
    return (means[labels] + spread * draw.normal(size=(examples, WIDTH))).astype(np.float32), labels


@pytest.fixture(scope="module")
def predictor():
    """A model whose vectors are its inputs, and which is far too sure of its classes."""
    inputs = keras.Input((WIDTH,))
    hidden = keras.layers.Dense(WIDTH)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))
    kernel = 6 * np.eye(WIDTH, CLASSES, dtype=np.float32)
    model.set_weights([np.eye(WIDTH), np.zeros(WIDTH), kernel, np.zeros(CLASSES)])
    return ArrayClassifier(model, tuple("abc"))


def source_of(predictor, examples=400, seed=0):
    x, y = drawn(examples, seed)
    return HeldOut(x, y, predictor.logits(x))


def test_votes_are_those_of_scikit_learn():
    x, y = drawn(240, 0)
    asked = drawn(70, 1)[0]
    labelled = LabelledVectors(x.astype(float), y, CLASSES)
    scale = labelled._deviation
    squares = (((x[:, None] - x) / scale) ** 2).sum(axis=2)

    def weights(distances):
        # Of unit sum: any common factor cancels.
        return np.exp(-(distances**2) / labelled._width)

    reference = KNeighborsClassifier(30, weights=weights).fit(x / scale, y)  # 240 / 8
    np.testing.assert_allclose(labelled.votes(asked), reference.predict_proba(asked / scale), atol=1e-6)
    sample = np.random.default_rng(0).permutation(240)
    assert labelled._width == pytest.approx(0.3 * np.median(squares[sample][:, sample]), rel=1e-6)
    # A labelled example's own weight multiplies its votes: that of one class only.
    heavy = labelled.votes(asked, np.where(y == 1, 50.0, 0.0))
    near = reference.kneighbors(asked / scale, return_distance=False)
    assert np.allclose(heavy[(y[near] == 1).any(axis=1), 1], 1)


def test_no_example_votes_for_itself():
    x, _ = drawn(200, 0)
    # Labels of chance: with its own vote, each example would be known.
    labels = np.random.default_rng(5).integers(0, CLASSES, 200)
    labelled = LabelledVectors(x.astype(float), labels, CLASSES)
    without, with_own = (labelled.votes(x, themselves=each) for each in (True, False))
    assert (without.argmax(axis=1) == labels).mean() < 0.45 < 0.6 < (with_own.argmax(axis=1) == labels).mean()
    for place in (0, 57, 199):
        rest = np.delete(np.arange(200), place)
        squares = (((x[rest] - x[place]) / labelled._deviation) ** 2).sum(axis=1)
        nearest = np.argsort(squares)[:25]
        weights = special.softmax(-squares[nearest] / labelled._width)
        expected = np.bincount(labels[rest][nearest], weights, CLASSES)
        np.testing.assert_allclose(without[place], expected, atol=1e-6)


@pytest.mark.parametrize(
    "plain, votes, weight",
    [
        # Votes as good as the model: half.
        ((0.7, 0.3), (0.7, 0.3), 0.5),
        # Votes of nothing: the model alone.
        ((0.99, 0.01), (0.5, 0.5), 0.0),
        # A little worse, on examples of which some are wrong.
        ((0.6, 0.4), (1.0, 0.0), 0.5),
    ],
)
def test_the_weight_is_what_validation_does_not_speak_against(plain, votes, weight):
    labels = np.zeros(300, int)
    assert neighbours._weight(np.tile(plain, (300, 1)), np.tile(votes, (300, 1)), labels) == weight


def test_answers_are_averages(predictor):
    source = source_of(predictor)
    stage = Neighbours()
    stage.begin(predictor, source)
    assert stage._weight == 0.5
    x, _ = drawn(50, 3)
    votes = stage._labelled.votes(x)
    expected = (class_probabilities(predictor.logits(x)) + votes) / 2
    np.testing.assert_allclose(np.exp(stage.logits(x, predictor.logits)), expected, atol=1e-6)
    # In the refiner, in any batches, and again from what is remembered of the recent examples.
    for size in (1, 20, 50):
        refined = refine(predictor, np.array_split(x, 50 // size), [Neighbours()], source)
        np.testing.assert_allclose(refined.probabilities, expected, atol=1e-5)
    assert {entry.reason for entry in refined.trace} == {"weight 0.5, chosen before the stream"}
    # Validation examples are answered as others are: not by themselves.
    own = np.exp(stage.logits(source.examples, predictor.logits))
    themselves = stage._labelled.votes(source.examples, themselves=True)
    np.testing.assert_allclose(own, (class_probabilities(source.logits) + themselves) / 2, atol=1e-6)
    # A changed model has other vectors.
    stage.propose(StreamContext(x, x, predictor.logits(x), predictor.logits, True))
    np.testing.assert_array_equal(stage.logits(x, predictor.logits), predictor.logits(x))
    assert stage.logits(x[:0], predictor.logits).shape == (0, CLASSES)


def test_far_away_the_model_is_less_sure(predictor):
    """The last layer extrapolates; neighbours do not."""
    x, y = drawn(300, 4, spread=3.0)
    answers = refine(predictor, [x], [Neighbours()], source_of(predictor)).probabilities
    plain = class_probabilities(predictor.logits(x))

    def log_loss(probabilities):
        return -np.log(probabilities[np.arange(len(y)), y]).mean()

    assert log_loss(answers) < log_loss(plain) - 0.1


def test_what_has_no_neighbours(predictor, tmp_path):
    with pytest.raises(BadInput, match="--refine=neighbours: the validation split has 60 examples; expected 100"):
        Neighbours().begin(predictor, source_of(predictor, 60))
    inputs = keras.Input((WIDTH,))
    without = ArrayClassifier(keras.Model(inputs, keras.layers.ReLU()(inputs)), tuple("abcdef"))
    with pytest.raises(BadInput, match="--refine=neighbours: the model's last layer"):
        Neighbours().begin(without, source_of(predictor))
    names = [each.name for each in plans.stages(["neighbours", "output"], predictor, tmp_path)]
    assert names == ["neighbours", "temperature", "prior"]


def test_what_is_remembered_is_bounded(predictor, monkeypatch):
    monkeypatch.setattr(neighbours, "_REMEMBERED", 30)
    stage = Neighbours()
    stage.begin(predictor, source_of(predictor))
    for seed in range(5):
        x, _ = drawn(20, seed)
        np.testing.assert_allclose(stage._vectors(x), x, atol=1e-5)
        assert len(stage._known) <= 40
