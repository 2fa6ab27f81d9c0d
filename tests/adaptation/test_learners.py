"""The losses of DeYO, ROID and SHOT and RoTTA's memory, against NumPy and SciPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from scipy.spatial.distance import cdist

from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages import deyo, rotta, shot
from zoo.adaptation.stages.deyo import DEYO
from zoo.adaptation.stages.learner import Recent
from zoo.adaptation.stages.parameters import LEARNERS, Parameters
from zoo.adaptation.stages.roid import ROID
from zoo.adaptation.stages.rotta import ROTTA
from zoo.adaptation.stages.shot import SHOT
from zoo.errors import BadInput
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import array_classifier

_CLASSES = 5


def small(seed=0, scale=1.0):
    """A linear model of images of 4 times 4 pixels."""
    model = keras.Sequential([keras.Input((4, 4)), keras.layers.Flatten(), keras.layers.Dense(_CLASSES)])
    draw = np.random.default_rng(seed)
    model.set_weights([draw.normal(0, scale, (16, _CLASSES)), draw.normal(size=_CLASSES)])
    return model


def logits_of(model, x, bias=None):
    kernel, own = map(np.array, model.get_weights())
    return x.reshape(len(x), -1).astype(np.float64) @ kernel + (own if bias is None else bias)


def loss_and_gradient(learner, model, columns):
    """The loss of `learner` and its gradient by the bias, as the engine computes them: sums over sums."""
    batch = {name: tf.constant(column) for name, column in columns.items()}
    with tf.GradientTape() as tape:
        term = learner.term(model, batch)
        loss = tf.reduce_sum(term.values * term.weights) / tf.reduce_sum(term.weights)
    return float(loss), tape.gradient(loss, model.trainable_variables[-1].value).numpy()


def entropy(probabilities):
    return special.entr(probabilities).sum(axis=1)


def images(examples=40, seed=1):
    return np.random.default_rng(seed).normal(size=(examples, 4, 4)).astype(np.float32)


def padded(columns, rows=3):
    return {name: np.concatenate([column, np.zeros_like(column[:rows])]) for name, column in columns.items()}


def test_deyo_weighs_entropy_by_what_shuffling_costs():
    model, x = small(), images()
    shuffled = deyo.shuffled_patches(x, 4, np.random.default_rng(2))
    columns = padded({"x": x, "shuffled": shuffled, "real": np.ones(len(x), np.float32)})
    before = special.softmax(logits_of(model, x), axis=1)
    predicted = before.argmax(axis=1)
    after = special.softmax(logits_of(model, shuffled), axis=1)
    lost = (before - after)[np.arange(len(x)), predicted]
    chosen = (entropy(before) < 0.5 * np.log(_CLASSES)) & (lost > 0.2)
    assert 3 < chosen.sum() < len(x) - 3, "both tests refuse some images"
    weights = 1 / np.exp(entropy(before) - 0.4 * np.log(_CLASSES)) + 1 / np.exp(-lost)

    def objective(bias):
        return float((weights * entropy(special.softmax(logits_of(model, x, bias), axis=1)))[chosen].mean())

    bias = model.get_weights()[1].astype(np.float64)
    loss, gradient = loss_and_gradient(DEYO, model, columns)
    assert loss == pytest.approx(objective(bias), rel=1e-5)
    np.testing.assert_allclose(gradient, optimize.approx_fprime(bias, objective, 1e-6), atol=1e-4)


@given(
    st.integers(1, 4), st.integers(4, 11), st.integers(4, 11), st.sampled_from([(), (3,)]), st.integers(0, 2**32 - 1)
)
def test_shuffling_moves_patches_and_changes_none(examples, height, width, channels, seed):
    x = np.random.default_rng(seed).integers(0, 255, (examples, height, width, *channels), np.uint8)
    rows, columns = height // 4, width // 4

    def patches(image):
        return sorted(
            image[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns].tobytes()
            for row in range(4)
            for column in range(4)
        )

    shuffled = deyo.shuffled_patches(x, 4, np.random.default_rng(seed))
    assert [patches(image) for image in shuffled] == [patches(image) for image in x]
    np.testing.assert_array_equal(shuffled[:, 4 * rows :], x[:, 4 * rows :])
    np.testing.assert_array_equal(shuffled[:, :, 4 * columns :], x[:, :, 4 * columns :])


def test_roid_weighs_odds_by_certainty_and_diversity():
    model, x = small(seed=3), images(seed=4)
    mean = np.random.default_rng(5).dirichlet(np.ones(_CLASSES)).astype(np.float32)
    columns = ROID.columns(Recent(x, logits_of(model, x), mean, None, None))
    columns = padded({"x": x, "real": np.ones(len(x), np.float32), **columns})
    first = special.softmax(logits_of(model, x), axis=1)
    diversity = cdist(first, mean[None], "cosine")[:, 0]
    certainty = -entropy(first)
    scaled = [(each - each.min()) / (each.max() - each.min()) for each in (diversity, certainty)]
    weights = np.exp(scaled[0] * scaled[1] * 3) * (scaled[0] >= scaled[0].mean())

    def objective(bias):
        p = np.minimum(special.softmax(logits_of(model, x, bias), axis=1), 0.99)
        return float(np.mean(weights * -np.sum(p * special.logit(p), axis=1)))

    bias = model.get_weights()[1].astype(np.float64)
    loss, gradient = loss_and_gradient(ROID, model, columns)
    assert loss == pytest.approx(objective(bias), rel=1e-4)
    np.testing.assert_allclose(gradient, optimize.approx_fprime(bias, objective, 1e-6), atol=1e-3)
    assert 0 < (weights == 0).mean() < 1


def test_roid_knows_no_mean_before_the_first_batch():
    x = images(2)
    wanted = ROID.columns(Recent(x, np.zeros((2, 5)), np.zeros(5), None, None))["wanted"]
    np.testing.assert_allclose(wanted, 0.2)


def test_shot_maximises_information():
    """The gradient is that of the whole objective, the entropy of the mean prediction included."""
    model, x = small(seed=6, scale=0.3), images(seed=7)
    labels = np.random.default_rng(8).integers(0, _CLASSES, len(x)).astype(np.int32)
    columns = padded({"x": x, "real": np.ones(len(x), np.float32), "wanted": labels})

    def objective(bias):
        logits = logits_of(model, x, bias)
        p = special.softmax(logits, axis=1)
        information = special.entr(p.mean(axis=0)).sum() - entropy(p).mean()
        return float(-information - 0.1 * special.log_softmax(logits, axis=1)[np.arange(len(x)), labels].mean())

    bias = model.get_weights()[1].astype(np.float64)
    loss, gradient = loss_and_gradient(SHOT, model, columns)
    assert loss == pytest.approx(objective(bias), abs=1e-5)
    np.testing.assert_allclose(gradient, optimize.approx_fprime(bias, objective, 1e-6), atol=1e-4)


def test_pseudo_labels_are_of_the_nearest_centroid():
    draw = np.random.default_rng(9)
    labels = draw.integers(0, 3, 60)
    features = 3 * np.eye(4)[labels] + draw.normal(0, 0.3, (60, 4))
    probabilities = draw.dirichlet(np.ones(4), 60)
    # Two in three answers are right: the centroids mend the rest.
    right = draw.random(60) < 0.67
    probabilities[right] = 0.1 / 3 + (0.9 - 0.1 / 3) * np.eye(4)[labels[right]]
    known = np.concatenate([features, np.ones((60, 1))], axis=1)
    weights = probabilities
    for _ in range(2):
        with np.errstate(invalid="ignore"):
            expected = cdist(known / np.linalg.norm(known, axis=1)[:, None], _centroids(known, weights), "cosine")
        expected = np.nan_to_num(expected, nan=9.0).argmin(axis=1)
        weights = np.eye(4)[expected]
    found = shot.centroid_labels(features, probabilities)
    np.testing.assert_array_equal(found, expected)
    assert (found == labels).mean() > (probabilities.argmax(axis=1) == labels).mean()


def _centroids(features, weights):
    features = features / np.linalg.norm(features, axis=1)[:, None]
    return np.stack(
        [np.average(features, axis=0, weights=each) if each.any() else 0 * features[0] for each in weights.T]
    )


def as_published(predicted, entropies, classes, size):
    """RoTTA's memory with items that age, as its appendix lists the steps."""
    held = []

    def score(item):
        return 1 / (1 + np.exp(-item["age"] / size)) + item["entropy"] / np.log(classes)

    for row, label in enumerate(predicted):
        item = {"row": row, "label": label, "age": 0, "entropy": entropies[row]}
        counts = np.bincount([each["label"] for each in held], minlength=classes)
        if counts[label] < size / classes:
            candidates = held if len(held) >= size else None
            largest = np.flatnonzero(counts == counts.max())
            candidates = candidates and [each for each in held if each["label"] in largest]
        else:
            candidates = [each for each in held if each["label"] == label]
        if candidates is None:
            held.append(item)
        else:
            worst = max(candidates, key=score)
            if score(worst) > score(item):
                held.remove(worst)
                held.append(item)
        for each in held:
            each["age"] += 1
    return sorted(each["row"] for each in held)


@given(st.integers(2, 5), st.integers(2, 12), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_the_memory_is_the_published_one(classes, size, examples, seed):
    draw = np.random.default_rng(seed)
    predicted, entropies = draw.integers(0, classes, examples), draw.uniform(0, np.log(classes), examples)
    rows = rotta.balanced_memory(predicted, entropies, classes, size)
    assert rows.tolist() == as_published(predicted, entropies, classes, size)
    assert len(rows) <= size and np.bincount(predicted[rows], minlength=1).max() <= -(-size // classes)


def test_the_memory_of_a_sorted_stream_holds_all_classes():
    predicted = np.repeat(np.arange(4), 50)
    rows = rotta.balanced_memory(predicted, np.full(200, 0.5), 4, 16)
    assert np.bincount(predicted[rows]).tolist() == [4, 4, 4, 4]
    weights = rotta.timeliness((199 - rows) / 16)
    np.testing.assert_allclose(weights, special.expit(-(199 - rows) / 16))


def begun(learner):
    """A stage on a small network for images with batch normalisation."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(16), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    model = keras.Sequential([keras.Input((8, 8)), *layers, keras.layers.Dense(10)])
    found = array_classifier.ArrayClassifier(model, tuple("0123456789"))
    x = noisy(3)
    stage = Parameters(learner, memory=100)
    stage.begin(found, held_out.HeldOut(x, np.arange(100) % 10, found.logits(x)))
    return found, stage


def noisy(seed=0):
    return np.random.default_rng(seed).normal(size=(100, 8, 8)).astype(np.float32)


def context(copy, x):
    return StreamContext(x, x, copy.logits(x), copy.logits, False)


def test_roid_goes_back_towards_the_source():
    copy, stage = begun(ROID._replace(optimizer="sgd", learning_rate=0.1))
    first, found = stage.state(), []
    for share in (0.0, 0.25):
        stage._learner = stage._learner._replace(source_share=share)
        stage.load(first)
        stage.propose(context(copy, noisy()))
        found.append([variable.numpy() for variable in copy.model.trainable_variables])
    for start, alone, back in zip(first[0], *found):
        assert np.abs(alone - start).max() > 1e-4
        np.testing.assert_allclose(back, 0.75 * alone + 0.25 * start, atol=1e-6)


def test_shot_trains_all_layers_but_the_last():
    copy, stage = begun(SHOT)
    before = [weight.numpy() for weight in copy.model.weights]
    stage.propose(context(copy, noisy()))
    changed = [np.abs(weight.numpy() - old).max() > 0 for weight, old in zip(copy.model.weights, before)]
    paths = [weight.path for weight in copy.model.weights]
    last = {weight.path for weight in copy.model.layers[-1].weights}
    assert [path for path, moved in zip(paths, changed) if moved] == [
        path for path in paths if path not in last and "moving" not in path
    ]


def test_rotta_learns_its_memory_only():
    copy, stage = begun(ROTTA._replace(memory=16))
    x = noisy()
    columns = stage._columns_of_teacher(x)
    assert len(columns["x"]) <= 16 and (np.diff(columns["real"]) > 0).all(), "newer ones count more"
    assert np.bincount(columns["wanted"].argmax(axis=1)).max() <= 2
    stage.propose(context(copy, x))
    student, teacher = stage._model.trainable_variables, copy.model.trainable_variables
    for own, followed, first in zip(student, teacher, stage._first[0]):
        np.testing.assert_allclose(followed.numpy(), 0.999 * first + 0.001 * own.numpy(), atol=1e-6)


def of_tables(layers):
    model = keras.Sequential([keras.Input((6,)), *layers])
    found = array_classifier.ArrayClassifier(model, tuple("abc"))
    x = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    return found, held_out.HeldOut(x, np.arange(12) % 3, found.logits(x))


@pytest.mark.parametrize("name", ["deyo", "shot"])
def test_models_that_do_not_suit_are_refused(name):
    layers = [keras.layers.Dense(4), keras.layers.BatchNormalization()]
    layers += [keras.layers.Dense(3)] if name == "deyo" else [keras.layers.Dense(3), keras.layers.Softmax()]
    says = (
        "--learner=deyo shuffles the patches of images" if name == "deyo" else "--learner=shot: the model's last layer"
    )
    with pytest.raises(BadInput, match=says):
        Parameters(LEARNERS[name]).begin(*of_tables(layers))


def test_a_state_of_another_learner_is_refused():
    states = []
    for name in ("roid", "shot"):
        stage = Parameters(LEARNERS[name])
        layers = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
        stage.begin(*of_tables(layers))
        states.append(stage.state())
    with pytest.raises(BadInput, match="of another --learner"):
        stage.load(states[0])
