"""Images that are turned, sized or moved, and found again."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from tests.helpers.digits import batches, error, run, unseen
from zoo.adaptation.refiner import refine
from zoo.adaptation.stages.pose import Pose, warped
from zoo.data.datasets.image_corruptions import corrupted
from zoo.errors import BadInput
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import array_classifier, loading
from zoo.predict.predictors.cloning import digest


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = run(tmp_path_factory.mktemp("pose") / "run", hidden=(128, 128), steps=600)
    found = loading.load(folder)
    return found, held_out.load(folder, found)


@pytest.fixture(scope="module")
def digits():
    return unseen()


@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 3)])
def test_warping_is_that_of_scipy(shape):
    images = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(np.uint8)
    changes = np.array([(0, 0, 0, 0), (0.4, 0, 0, 0), (0, 0.3, 0, 0), (-0.2, -0.2, 0.1, -0.2)])
    found = warped(images, changes)
    for image, (angle, size, right, down), got in zip(images, changes, found):
        cos, sin = np.cos(angle) * np.exp(-size), np.sin(angle) * np.exp(-size)
        turn, middle = np.array([[cos, sin], [-sin, cos]]), (np.array(shape[:2]) - 1) / 2
        offset = middle + np.array([down * shape[0], right * shape[1]]) - turn @ middle
        for channel in np.ndindex(*shape[2:]):
            part = image[(slice(None), slice(None), *channel)].astype(np.float64)
            expected = ndimage.affine_transform(part, turn, offset, order=1, mode="nearest")
            np.testing.assert_allclose(got[(slice(None), slice(None), *channel)], expected, atol=1.01)
    np.testing.assert_array_equal(found[0], images[0])


# So severe that the guard's limit is not near, whatever the last digits of the weights are.
@pytest.mark.parametrize(("name", "severity"), [("translation", 3), ("rotation", 4), ("scale", 3)])
def test_moved_turned_and_shrunk_images_are_known_again(trained, digits, name, severity):
    found, known = trained
    x, y = corrupted(digits[0], name, severity), digits[1]
    before = digest(found.model)
    refined = refine(found, batches(x), [Pose()], known)
    plain = float((found.logits(x).argmax(axis=1) != y).mean())
    assert plain > 0.3 and error(refined, y) < 0.7 * plain
    assert len(refined.trace) == 5 and all(line.accepted for line in refined.trace)
    assert digest(found.model) == before


def test_usual_images_are_shown_as_they_are(trained, digits):
    found, known = trained
    x = digits[0][:200]
    refined = refine(found, batches(x), [Pose()], known)
    assert not any(line.accepted for line in refined.trace)
    np.testing.assert_array_equal(refined.probabilities.argmax(axis=1), found.logits(x).argmax(axis=1))


def test_what_no_turn_explains_is_left_alone(trained, digits):
    found, known = trained
    x, y = corrupted(digits[0][:200], "occlusion", 5), digits[1][:200]
    refined = refine(found, batches(x), [Pose()], known)
    assert error(refined, y) <= float((found.logits(x).argmax(axis=1) != y).mean()) + 0.01


def test_only_images_can_be_turned(trained):
    inputs = keras.Input((4,))
    other = array_classifier.ArrayClassifier(keras.Model(inputs, keras.layers.Dense(2)(inputs)), ("a", "b"))
    with pytest.raises(BadInput, match="takes no images"):
        refine(other, [], [Pose()], trained[1])
