"""T3A, LAME, ROID's prior correction and interpolated batch normalisation, against NumPy and SciPy."""

import re

import keras
import numpy as np
import pytest
from scipy import special
from scipy.spatial.distance import cdist

from zoo.adaptation import plans, refiner
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages import batch_prior, lame, t3a
from zoo.adaptation.stages.batch_prior import BatchPrior
from zoo.adaptation.stages.interpolation import Interpolation
from zoo.adaptation.stages.lame import Lame
from zoo.adaptation.stages.t3a import T3a
from zoo.errors import BadInput
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.array_classifier import ArrayClassifier

_CLASSES = 4


def trained(seed=0, norm=True):
    """A classifier of points around four centres, and its validation split."""
    draw = np.random.default_rng(seed)
    layers = [keras.layers.BatchNormalization()] if norm else []
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.ReLU(), keras.layers.Dense(_CLASSES)])
    x, y = points(draw, 400)
    kernel = np.stack([np.maximum(x[y == label], 0).mean(axis=0) for label in range(_CLASSES)], axis=1)
    weights = [np.ones(6), np.zeros(6), np.zeros(6), np.ones(6)] if norm else []
    model.set_weights([*weights, kernel, -0.5 * (kernel**2).sum(axis=0)])
    found = ArrayClassifier(model, tuple("abcd"))
    return found, HeldOut(x, y, found.logits(x))


def points(draw, examples, noise=0.6, labels=None):
    y = draw.integers(0, _CLASSES, examples) if labels is None else labels
    x = 2 * np.eye(6)[y] + draw.normal(0, noise, (len(y), 6))
    return x.astype(np.float32), y


def bursts():
    """A stream of one class after the other, too noisy to be answered well one by one."""
    return points(np.random.default_rng(3), 400, 1.2, np.repeat(np.arange(_CLASSES), 100))


def mixed():
    return points(np.random.default_rng(4), 400, 1.2)


def errors(plan, stream, batch=50):
    found, known = trained()
    x, y = stream
    refined = refiner.refine(found, np.split(x, len(x) // batch), plan, known)
    wrong = (refined.probabilities.argmax(axis=1) != y).mean()
    return float((found.logits(x).argmax(axis=1) != y).mean()), float(wrong), refined


def test_prototypes_are_means_of_the_surest_examples():
    draw = np.random.default_rng(1)
    weights, features = draw.normal(size=(3, 8)), draw.normal(size=(50, 8))
    logits = features @ weights.T + np.array([0.3, 0, -0.2])
    candidates = [(features[row], logits[row], logits[row].argmax()) for row in range(50)]
    candidates = [(weights[k], weights @ weights[k], k) for k in range(3)] + candidates
    expected = []
    for label in range(3):
        group = [(special.entr(special.softmax(z)).sum(), vector) for vector, z, of in candidates if of == label]
        kept = [vector / np.linalg.norm(vector) for _, vector in sorted(group, key=lambda one: one[0])[:5]]
        expected.append(np.sum(kept, axis=0) / np.linalg.norm(np.sum(kept, axis=0)))
    np.testing.assert_allclose(t3a.prototypes(weights, features, logits, 5), expected, atol=1e-12)


def test_t3a_answers_by_prototypes_of_the_recent_examples():
    found, known = trained()
    stage, (x, _) = T3a(limit=None), mixed()
    stage.begin(found, known)
    np.testing.assert_array_equal(stage.logits(x, found.logits), found.logits(x))
    assert stage.propose(StreamContext(x, x, found.logits(x), found.logits, False)) == ""
    kernel = found.model.layers[-1].get_weights()[0]
    expected = t3a.prototypes(kernel.T.astype(float), np.maximum(x / np.sqrt(1.001), 0), found.logits(x), 20)
    products = np.maximum(x / np.sqrt(1.001), 0) @ expected.T
    answers = stage.logits(x, found.logits)
    np.testing.assert_allclose(answers / answers.std(), products / products.std(), atol=1e-4)
    kept = stage.state()
    stage.load(None)
    np.testing.assert_array_equal(stage.logits(x, found.logits), found.logits(x))
    stage.load(kept)
    np.testing.assert_array_equal(stage.logits(x, found.logits), answers)


def test_t3a_of_two_classes_with_one_logit():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, use_bias=False)])
    found = ArrayClassifier(model, ("a", "b"))
    kernel = model.get_weights()[0]
    np.testing.assert_allclose(_weights_of(found), np.concatenate([-kernel, kernel], axis=1).T)


def _weights_of(found):
    x = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    kernel = found.model.get_weights()[0]
    logit = x @ kernel
    stage = T3a()
    stage.begin(found, HeldOut(x, (logit[:, 0] > 0).astype(int), np.concatenate([0 * logit, logit], axis=1)))
    return stage._weights


@pytest.mark.parametrize(
    ("limit", "factor", "changed", "says"),
    [
        (0.0, 4, False, "after / before is"),
        (np.inf, 1, False, "the logits have not shifted"),
        (np.inf, 4, True, "another stage has changed"),
        (np.inf, 4, False, "^$"),
    ],
)
def test_t3a_keeps_the_model_where_prototypes_do_not_help(limit, factor, changed, says):
    found, known = trained()
    stage, x = T3a(limit=limit), factor * points(np.random.default_rng(8), 200)[0]
    stage.begin(found, known)
    assert re.search(says, stage.propose(StreamContext(x, x, found.logits(x), found.logits, changed)))
    assert (stage.state() is not None) is (says == "^$")


def test_neighbours_are_the_nearest_by_cosine():
    features = np.random.default_rng(2).normal(size=(30, 4))
    distances = cdist(features, features, "cosine") + 9 * np.eye(30)
    affinity = lame.nearest(features, 5)
    for row, chosen in enumerate(affinity):
        assert set(np.flatnonzero(chosen)) == set(np.argsort(distances[row])[:5])
    assert lame.nearest(features[:3], 5).sum(axis=1).tolist() == [2, 2, 2]
    assert lame.nearest(features[:1], 5).tolist() == [[0.0]]


def test_laplacian_adjustment_is_a_minimum():
    """No other assignment near it has less energy, for a symmetric affinity (equation 5 of the paper)."""
    draw = np.random.default_rng(5)
    probabilities = draw.dirichlet(np.ones(3), 12)
    affinity = lame.nearest(draw.normal(size=(12, 4)), 3)
    affinity = (affinity + affinity.T) / 4
    found = lame.laplacian_adjusted(probabilities, affinity)
    np.testing.assert_allclose(found, special.softmax(np.log(probabilities) + affinity @ found, axis=1), atol=1e-4)

    def energy(z):
        return np.sum(special.rel_entr(z, probabilities)) - 0.5 * np.sum(affinity * (z @ z.T))

    for _ in range(200):
        other = special.softmax(np.log(found) + draw.normal(0, 0.3, found.shape), axis=1)
        assert energy(other) > energy(found) - 1e-9
    np.testing.assert_allclose(lame.laplacian_adjusted(probabilities, 0 * affinity), probabilities, atol=1e-12)


@pytest.mark.parametrize("stage", [Lame, BatchPrior])
def test_a_sorted_stream_gains_and_a_mixed_one_stays(stage):
    plain, refined, result = errors([stage()], bursts())
    assert refined < plain and any(entry.accepted for entry in result.trace)
    found, _ = trained()
    _, _, result = errors([stage()], mixed())
    np.testing.assert_allclose(result.probabilities, special.softmax(found.logits(mixed()[0]).astype(float), axis=1))
    assert not any(entry.accepted for entry in result.trace)


@pytest.mark.parametrize("stage", [Lame, BatchPrior])
def test_without_proof_each_batch_is_changed(stage):
    _, _, result = errors([stage(needs_proof=False)], mixed())
    assert all(entry.accepted for entry in result.trace)
    assert np.abs(result.probabilities - special.softmax(trained()[0].logits(mixed()[0]), axis=1)).max() > 0.01


def test_the_prior_is_smoothed():
    probabilities = np.random.default_rng(6).dirichlet([5, 1, 1], 50)
    prior = batch_prior.smoothed_prior(probabilities)
    mean = probabilities.mean(axis=0)
    smoothing = (1 / 3) / mean.max()
    np.testing.assert_allclose(prior, (mean + smoothing) / (1 + 3 * smoothing))
    np.testing.assert_allclose(prior.sum(), 1)
    np.testing.assert_allclose(batch_prior.smoothed_prior(np.full((2, 4), 0.25)), 0.25)


@pytest.mark.parametrize("source_examples", [0, 100, 1e12])
def test_statistics_are_between_the_training_s_and_the_stream_s(source_examples):
    found, known = trained()
    layer, (x, _) = found.model.layers[0], mixed()
    x = 3 * x + 1
    stage = Interpolation(source_examples)
    stage.begin(found, known)
    stage.propose(StreamContext(x, x, found.logits(x), found.logits, False))
    share = source_examples / (source_examples + len(x))
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    np.testing.assert_allclose(mean, (1 - share) * x.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, share + (1 - share) * x.var(axis=0), rtol=1e-4)
    stage.load(stage._first)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.zeros(6))


def test_models_and_plans_that_do_not_suit_are_refused(tmp_path):
    found, known = trained(norm=False)
    with pytest.raises(BadInput, match="--refine=interpolation: the model has no batch normalisation"):
        Interpolation().begin(found, known)
    with pytest.raises(BadInput, match="statistics and interpolation both set"):
        plans.stages(["statistics", "interpolation"], found, tmp_path)
    soft = keras.Sequential([keras.Input((6,)), keras.layers.Dense(_CLASSES), keras.layers.Softmax()])
    for stage, name in ((T3a(), "t3a"), (Lame(), "lame")):
        with pytest.raises(BadInput, match=f"--refine={name}: the model's last layer is"):
            stage.begin(ArrayClassifier(soft, tuple("abcd")), known)


def test_plans_name_the_stages(tmp_path):
    plan = plans.stages(["lame", "t3a", "batch_prior", "interpolation"], trained()[0], tmp_path)
    assert [stage.name for stage in plan] == ["interpolation", "t3a", "batch_prior", "lame"]


def test_a_stream_goes_on_from_its_state(tmp_path):
    found, known = trained()
    x, _ = bursts()
    make = lambda: refiner.Refiner(found, [T3a(), BatchPrior(), Lame()], known)  # noqa: E731
    whole = make()
    expected = [whole.answer(batch) for batch in np.split(x, 8)]
    first = make()
    for batch in np.split(x, 8)[:4]:
        first.answer(batch)
    first.save(tmp_path / "state.json")
    second = make()
    second.load(tmp_path / "state.json")
    for batch, answer in zip(np.split(x, 8)[4:], expected[4:]):
        np.testing.assert_allclose(second.answer(batch), answer, atol=1e-6)
