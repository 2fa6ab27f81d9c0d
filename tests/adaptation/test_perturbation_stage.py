"""Examples that are changed a little until their views agree: images, and texts by an LSTM and an encoder."""

import keras
import numpy as np
import pytest
from scipy import special

from tests.helpers import early
from zoo.adaptation import refiner
from zoo.adaptation.stages import perturbation
from zoo.adaptation.stages.perturbation import Perturbation
from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.models import mlp
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import array_classifier


@pytest.fixture(scope="module")
def images():
    """A network that has learned nothing, whose views disagree."""
    keras.utils.set_random_seed(0)
    model = mlp.mlp((8, 8), 3, (16,), dtype="uint8", preprocessing=mlp.scaling(255.0))
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    return array_classifier.ArrayClassifier(model, tuple("abc"), 255.0), x


def begun(found, examples, **settings):
    logits = two_class_logits(found.logits(examples))
    stage = Perturbation(**settings)
    stage.begin(found, held_out.HeldOut(examples, logits.argmax(axis=1), logits))
    # Off it is the plain forward pass.
    np.testing.assert_array_equal(stage.logits(examples, lambda asked: two_class_logits(found.logits(asked))), logits)
    assert stage.propose(refiner.StreamContext(examples, examples, logits, found.logits, False)) == ""
    return stage


def disagreement(found, x):
    """The Jensen-Shannon divergence of the answers to an image and to it moved by a pixel."""
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    moved = [wide[:, d : d + 8, r : r + 8] for d, r in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]
    each = special.softmax([found.logits(view) for view in moved], axis=2)
    return np.sum(special.rel_entr(each, each.mean(axis=0)), axis=2).mean(axis=0)


def test_an_image_changes_little_and_its_views_agree_more(images):
    found, x = images
    stage, shown = begun(found, x), []
    stage.logits(x, lambda asked: shown.append(asked) or found.logits(asked))
    gap = np.abs(shown[0].astype(int) - x)
    assert shown[0].dtype == np.uint8 and 0 < gap.max() <= 8
    before, after = disagreement(found, x), disagreement(found, shown[0])
    assert after.mean() < 0.9 * before.mean() and (after < before).mean() > 0.9
    # Whoever shares the batch changes nothing.
    stage.logits(x[7:8], lambda asked: shown.append(asked) or found.logits(asked))
    np.testing.assert_array_equal(shown[1], shown[0][7:8])


def test_an_image_of_floats_changes_as_one_of_bytes(images):
    found, x = images
    inputs = keras.Input((8, 8))
    outputs = inputs
    for layer in found.model.layers[2:]:
        outputs = layer(outputs)
    other = array_classifier.ArrayClassifier(keras.Model(inputs, outputs), tuple("abc"))
    given, shown = (x / 255).astype(np.float32), []
    stage = begun(other, given)
    stage.logits(given, lambda asked: shown.append(asked) or other.logits(asked))
    begun(found, x).logits(x, lambda asked: shown.append(asked) or found.logits(asked))
    assert shown[0].dtype == np.float32 and shown[0].min() >= 0 and shown[0].max() <= 1
    # A gradient near 0 may have the other sign.
    assert np.mean(np.abs(255 * shown[0] - shown[1]) < 1) > 0.98
    # Brighter than the validation split: not cut to its range.
    bright = given + 2
    stage.logits(bright, lambda asked: shown.append(asked) or other.logits(asked))
    assert np.abs(shown[2] - bright).max() < 8.1 / 255


@pytest.mark.parametrize("make", [early.reader, early.encoder])
def test_a_text_is_changed_by_itself(make):
    found, (texts, _) = make(), early.texts(12, seed=3)
    plain = two_class_logits(found.logits(texts))
    stage = begun(found, texts, size=0.3)
    together = stage.logits(texts, found.logits)
    assert np.abs(together - plain).max() > 1e-3
    np.testing.assert_allclose(stage.logits(texts[4:5], found.logits), together[4:5], atol=1e-4)
    np.testing.assert_array_equal(stage.logits(texts, found.logits), together)
    none = begun(found, texts, steps=0)
    np.testing.assert_allclose(none.logits(texts, found.logits), plain, atol=1e-5)


def test_words_are_left_out_one_view_after_the_other():
    masks = [mask.numpy()[0, :, 0] for mask in perturbation._word_masks(13, time_first=False)]
    assert masks[0].min() == 1 and len(masks) == 7
    np.testing.assert_array_equal(np.sum(masks[1:], axis=0), np.full(13, 5))


def test_other_inputs_are_refused():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    with pytest.raises(BadInput, match="expected a model of images or of texts"):
        Perturbation().begin(array_classifier.ArrayClassifier(model, tuple("abc")), None)
