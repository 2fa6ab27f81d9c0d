"""Training on recoloured validation images: the recolouring itself, and the stage."""

import keras
import numpy as np
import pytest
from scipy import ndimage, special

from tests.helpers.digits import batches, bright, error, run, unseen
from zoo.adaptation import guards, plans
from zoo.adaptation.refiner import Refiner, refine
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages.coral import Coral
from zoo.adaptation.stages.recoloured_training import RecolouredTraining
from zoo.adaptation.stages.recolouring import SourceImages
from zoo.data.datasets import images
from zoo.data.datasets.image_corruptions import corrupted
from zoo.errors import BadInput
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import array_classifier, loading
from zoo.predict.predictors.cloning import digest

EVEN = np.full(10, 0.1)


@pytest.fixture(scope="module")
def source():
    """Digits with their classes, and as many others of the same classes."""
    train = images.load("mnist_5k").train
    order = np.random.default_rng(0).permutation(len(train["y"]))[:2000]
    x, y = train["x"][order], train["y"][order]
    return x[:1000], y[:1000], x[1000:], np.bincount(y[:1000], minlength=10) / 1000


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = run(
        tmp_path_factory.mktemp("coral") / "run", hidden=(128, 128), steps=600, label_smoothing=0.1, dropout=0.3
    )
    found = loading.load(folder)
    return folder, found, held_out.load(folder, found)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    """A network that is less sure of damaged digits than of others, whatever the last digits of its weights are."""
    changes = dict(hidden=(128, 128), steps=600, label_smoothing=0.1, dropout=0.3)
    folder = run(tmp_path_factory.mktemp("smooth") / "run", **changes)
    found = loading.load(folder)
    return folder, found, held_out.load(folder, found)


def plain_error(found, x, y):
    return float((found.logits(x).argmax(axis=1) != y).mean())


def spread(x):
    return np.cov(x.reshape(len(x), -1).astype(np.float64).T)


def test_images_like_the_source_stay_as_they_are(source):
    x, y, _, shares = source
    recoloured = SourceImages(x, y).like(x, shares)
    assert recoloured.dtype == np.uint8 and recoloured.shape == x.shape
    assert np.abs(recoloured.astype(float) - x).mean() < 1.0


@pytest.mark.parametrize("overall", [False, True])
def test_lost_contrast_is_found(source, overall):
    """Damping by a factor, and a constant: the very images, to the rounding of pixels."""
    x, y, _, shares = source
    recoloured = SourceImages(x, y).like((100 + 0.3 * x).astype(np.uint8), shares, overall)
    assert np.abs(recoloured - (100 + 0.3 * x)).mean() < 2.0


def test_blur_is_found(source):
    x, y, others, shares = source
    blurred = ndimage.gaussian_filter(others.astype(float), (0, 2, 2), mode="wrap")
    recoloured = SourceImages(x, y).like(np.rint(blurred).astype(np.uint8), shares).astype(float)
    expected = ndimage.gaussian_filter(x.astype(float), (0, 2, 2), mode="wrap")
    assert np.abs(recoloured - expected).mean() < 0.2 * np.abs(x - expected).mean()


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (28, 28, 3)])
def test_noise_is_added_where_the_stream_has_it(source, shape):
    """Noise in one half of the images; large ones get stationary noise of the same power."""
    x, y, others, shares = source
    x, others = (
        np.repeat(part[..., None] / 255.0, shape[2] if len(shape) == 3 else 1, axis=3)
        .reshape(len(part), *shape)
        .astype(np.float32)
        for part in (x, others)
    )
    noise = np.random.default_rng(0).normal(0, 0.2, others.shape)
    noise[:, :, 14:] = 0
    noisy = np.clip(others / 2 + 0.25 + noise, 0, 1).astype(np.float32)
    recoloured = SourceImages(x, y).like(noisy, shares, overall=True)
    assert recoloured.dtype == np.float32 and recoloured.shape == x.shape
    np.testing.assert_allclose(recoloured.mean(axis=0), noisy.mean(axis=0), atol=0.05)
    halves = [[half.var(axis=0).mean() for half in (part[:, :, :14], part[:, :, 14:])] for part in (recoloured, noisy)]
    if shape[-1] == 3:
        np.testing.assert_allclose(sum(halves[0]), sum(halves[1]), rtol=0.2)
    else:
        # The damping is an estimate: a tenth too weak, it leaves a fifth more variance.
        np.testing.assert_allclose(halves[0], halves[1], rtol=0.35)


def test_only_the_proportions_of_the_stream_count(source):
    """A stream of one class is no shift, where its proportions are known."""
    x, y, _, _ = source
    only = np.eye(10)[3]
    recoloured = SourceImages(x, y).like(x[y == 3], 0.999 * only + 0.0001)
    assert np.abs(recoloured.astype(float) - x).mean() < 6.0


@pytest.mark.parametrize("name", ["fog", "contrast", "blur"])
def test_damaged_images_are_learned_and_the_error_is_estimated(trained, name):
    _, found, known = trained
    x, y = unseen()
    x, before = corrupted(x, name, 5), digest(found.model)
    training = RecolouredTraining(found, known)
    training.train(x)
    wrong = float((training.logits(x).argmax(axis=1) != y).mean())
    assert wrong < 0.75 * plain_error(found, x, y)
    assert training.score(x).error == pytest.approx(wrong, abs=0.15)
    assert digest(found.model) == before


def test_the_stage_helps_beyond_statistics(smooth):
    folder, found, known = smooth
    x, y = unseen()
    x = corrupted(x, "contrast", 5)
    statistics = refine(found, batches(x, 250), plans.stages(["statistics"], found, folder), known)
    refined = refine(found, batches(x, 250), plans.stages(["statistics", "coral"], found, folder), known)
    assert [entry.accepted for entry in refined.trace if entry.stage == "coral"][-1]
    assert error(refined, y) < 0.9 * error(statistics, y)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_copy_and_model_answer_together_where_they_agree(trained, monkeypatch, share):
    """The copy is a table of logits that names the model's class for so many images, and the next one else."""
    _, found, known = trained
    x = corrupted(unseen()[0][:200], "noise", 5)
    logits = found.logits(x)
    classes = (logits.argmax(axis=1) + (np.arange(200) >= 200 * share)) % 10
    copy = 4.0 * np.eye(10)[classes]
    stage = Coral()
    stage.begin(found, known)
    monkeypatch.setattr(stage, "_score", lambda recent: guards.Score(0.0, 1.0))
    monkeypatch.setattr(RecolouredTraining, "logits", lambda self, examples: copy)
    assert stage.propose(StreamContext(x, x, logits, found.logits, False)) == ""
    got = special.softmax(stage.logits(x, found.logits), axis=1)
    alone, model = special.softmax(copy, axis=1), special.softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(got, alone if share < 0.7 else (2 * alone + model) / 3, atol=1e-9)


def test_one_class_in_bad_light_is_not_taken_for_all(trained):
    _, found, known = trained
    x, y = unseen()
    x, y = bright(x[y == 3]), y[y == 3]
    refined = refine(found, [x], [Coral()], known)
    assert error(refined, y) <= plain_error(found, x, y)


@pytest.mark.parametrize("change", [lambda x: x, lambda x: corrupted(x, "rotation", 3)], ids=["clean", "turned"])
def test_what_recolouring_cannot_imitate_is_left_alone(trained, change):
    folder, found, known = trained
    x, _ = unseen()
    refined = refine(found, batches(change(x), 250), plans.stages(["input", "coral"], found, folder), known)
    assert not any(entry.accepted for entry in refined.trace if entry.stage == "coral")


def test_images_without_content_teach_nothing(trained):
    """Grey alone, as from a covered camera: recoloured images lose what tells the classes apart."""
    _, found, known = trained
    grey = np.random.default_rng(0).integers(120, 122, (200, 28, 28)).astype(np.uint8)
    training = RecolouredTraining(found, known)
    training.train(grey)
    assert not training.score(grey).ratio_to(guards.Score(0.9, 50.0)) < 1
    refined = refine(found, [grey], [Coral()], known)
    assert not refined.trace[0].accepted


def test_the_copy_goes_on_from_a_file(trained, tmp_path):
    _, found, known = trained
    stream = batches(corrupted(unseen()[0], "contrast", 5), 250)
    whole = Refiner(found, [Coral()], known)
    expected = [whole.answer(batch) for batch in stream]
    first = Refiner(found, [Coral()], known)
    first.answer(stream[0])
    first.save(tmp_path / "state.json")
    second = Refiner(found, [Coral()], known)
    second.load(tmp_path / "state.json")
    np.testing.assert_allclose(second.answer(stream[1]), expected[1], atol=1e-5)
    second.reset()
    np.testing.assert_array_equal(second.forward(stream[0]), Refiner(found, [], known).forward(stream[0]))


def test_slow_networks_are_trained_only_when_asked(trained):
    """Convolutions, alone or in an inner model: a plan of `auto` says so and goes on."""
    _, found, known = trained
    inputs = keras.Input((28, 28), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Reshape((28, 28, 1))(inputs))
    body = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(2, 3, strides=9), keras.layers.Flatten()])
    for features in (keras.layers.Flatten()(keras.layers.Conv2D(2, 3, strides=9)(x)), body(x)):
        model = keras.Model(inputs, keras.layers.Dense(10)(features))
        slow = array_classifier.ArrayClassifier(model, found.classes)
        source = known._replace(logits=slow.logits(known.examples))
        stage = Coral(optional=True)
        stage.begin(slow, source)
        batch = corrupted(known.examples[:64], "fog", 5)
        assert "perceptrons" in stage.propose(StreamContext(batch, batch, slow.logits(batch), slow.logits, False))
        Coral().begin(slow, source)


def test_what_has_no_images_is_refused(trained):
    _, found, known = trained
    few = known._replace(examples=known.examples[:50], labels=known.labels[:50], logits=known.logits[:50])
    with pytest.raises(BadInput, match="50 images; expected 200"):
        Coral().begin(found, few)
    optional = Coral(optional=True)
    optional.begin(found, few)
    refined = refine(found, batches(bright(unseen()[0])), [Coral(optional=True)], few)
    assert all("expected 200" in entry.reason for entry in refined.trace)
