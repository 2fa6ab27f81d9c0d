"""Images that are turned, sized or moved, and found again."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from tests.helpers.digits import batches, error, run, unseen
from zoo.adaptation import plans
from zoo.adaptation.refiner import refine
from zoo.adaptation.stages import views
from zoo.adaptation.stages.pose import Pose
from zoo.adaptation.stages.pose_search import warped
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
def smooth(tmp_path_factory):
    """A network that is less sure of damaged digits than of others, whatever the last digits of its weights are."""
    changes = dict(hidden=(128, 128), steps=600, label_smoothing=0.1, dropout=0.3)
    folder = run(tmp_path_factory.mktemp("smooth") / "run", **changes)
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


# Scores fall to 0.1 or less, whatever the last digits of the weights are; the limit is between that and 0.3.
@pytest.mark.parametrize(("name", "severity"), [("translation", 3), ("rotation", 4), ("scale", 3)])
def test_moved_turned_and_shrunk_images_are_known_again(smooth, digits, name, severity):
    found, known = smooth
    x, y = corrupted(digits[0], name, severity), digits[1]
    before = digest(found.model)
    refined = refine(found, batches(x), [Pose()], known)
    plain = float((found.logits(x).argmax(axis=1) != y).mean())
    assert plain > 0.3 and error(refined, y) < 0.7 * plain
    assert len(refined.trace) == 5 and all(line.accepted for line in refined.trace)
    assert digest(found.model) == before


@pytest.mark.parametrize("name", ["translation", "rotation"])
@pytest.mark.parametrize("classes", [(1, 7), (0, 6)])
def test_few_classes_have_a_pose_as_all_have(smooth, digits, name, classes):
    """What the search leaves is a half or less of the limit here: the median is of images of two classes."""
    found, known = smooth
    of_these = np.isin(digits[1], classes)
    x, y = corrupted(digits[0][of_these], name, 4), digits[1][of_these]
    refined = refine(found, [x], [Pose()], known)
    assert refined.trace[0].accepted
    assert error(refined, y) < 0.6 * float((found.logits(x).argmax(axis=1) != y).mean())


def test_usual_images_are_shown_as_they_are(trained, digits):
    found, known = trained
    x = digits[0][:200]
    refined = refine(found, batches(x), [Pose()], known)
    assert not any(line.accepted for line in refined.trace)
    np.testing.assert_array_equal(refined.probabilities.argmax(axis=1), found.logits(x).argmax(axis=1))


@pytest.mark.parametrize("network", ["trained", "smooth"])
@pytest.mark.parametrize(("name", "severity"), [("occlusion", 3), ("occlusion", 5), ("impulses", 3), ("stripes", 3)])
def test_what_no_turn_explains_is_left_alone(request, digits, network, name, severity):
    """A smooth network is surer of such images once they are turned, though it errs more often."""
    found, known = request.getfixturevalue(network)
    x, y = corrupted(digits[0][:200], name, severity), digits[1][:200]
    refined = refine(found, batches(x), [Pose()], known)
    assert error(refined, y) <= float((found.logits(x).argmax(axis=1) != y).mean()) + 0.01


def of_floats(found, known, offset, scale):
    """The same network for pixels `(value - offset) / scale` in float32, and its validation split."""
    inputs = keras.Input(found.shape)
    x = keras.layers.Rescaling(scale, offset)(inputs)
    for layer in found.model.layers[1:]:
        # A copy: of a layer in two models, Keras knows the inputs in the first one only.
        copy = type(layer).from_config(layer.get_config())
        x = copy(x)
        copy.set_weights(layer.get_weights())
    other = array_classifier.ArrayClassifier(keras.Model(inputs, x), found.classes)
    examples = floats(known.examples, offset, scale)
    return other, held_out.HeldOut(examples, known.labels, other.logits(examples))


def floats(x, offset, scale):
    return ((x - offset) / scale).astype(np.float32)


def test_floats_are_turned_as_bytes_are(trained, digits):
    # Standardised pixels, which have no white of 1.
    (found, known), offset, scale = trained, 33.0, 78.0
    x, y = corrupted(digits[0][:200], "rotation", 4), digits[1][:200]
    other, others = of_floats(found, known, offset, scale)
    given = floats(x, offset, scale)
    pose, its_pose = Pose(), Pose()
    pose.begin(found, known)
    its_pose.begin(other, others)
    expected, got = pose.aligned(x), its_pose.aligned(given)
    assert got.dtype == np.float32 and given.min() - 1e-5 < got.min() and got.max() < given.max() + 1e-5
    # Bytes are rounded in the search, so that a few images with two poses as good as each other have the other one.
    gaps = np.abs(got * scale + offset - expected).max(axis=(1, 2))
    assert np.mean(gaps < 1.0) > 0.8
    refined = refine(other, batches(given), plans.stages(["input"], other, ""), others)
    assert all(line.accepted for line in refined.trace)
    assert abs(error(refined, y) - error(refine(found, batches(x), [Pose()], known), y)) < 0.02


def test_views_of_floats_are_those_of_bytes(trained, digits):
    found, known = trained
    other, others = of_floats(found, known, 0.0, 255.0)
    seen = views.allowed(found, known)
    assert views.allowed(other, others) == seen and len(seen) > 1
    x = digits[0][:50]
    got = views.averaged(seen, floats(x, 0.0, 255.0), other.logits)
    np.testing.assert_allclose(got, views.averaged(seen, x, found.logits), atol=0.02)


def test_auto_takes_floats_with_channels_for_images():
    def reader(*shape):
        inputs = keras.Input(shape)
        outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
        return array_classifier.ArrayClassifier(keras.Model(inputs, outputs), ("a", "b"))

    targets = {shape: [stage.name for stage in plans.stages(["auto"], reader(*shape), "")] for shape in
               [(8, 8, 3), (8, 8), (8, 8, 5), (8,)]}  # fmt: skip
    assert {shape for shape, names in targets.items() if "pose" in names} == {(8, 8, 3)}


def test_a_pose_that_holds_no_longer_ends_the_memory(smooth, digits):
    """Turned images are followed by noisy ones, as far from validation: stages learn from these alone."""
    found, known = smooth
    x = np.concatenate([corrupted(digits[0][:200], "rotation", 5), corrupted(digits[0][200:], "noise", 5)])
    refined = refine(found, batches(x), [Pose()], known)
    poses = [line.accepted for line in refined.trace]
    first = poses.index(False)
    assert first in (2, 3) and all(poses[:first])
    assert [line.recent for line in refined.trace[first + 1 :]] == [100 * (2 + later) for later in range(4 - first)]


def test_features_that_never_vary_show_no_pose(trained, digits):
    found, known = trained
    inputs = keras.Input((28, 28), dtype="uint8")
    constant = keras.layers.Dense(4, kernel_initializer="zeros")(keras.layers.Flatten()(inputs))
    dead = array_classifier.ArrayClassifier(keras.Model(inputs, keras.layers.Dense(10)(constant)), found.classes)
    x = digits[0][:100]
    refined = refine(dead, [x], [Pose()], known._replace(logits=dead.logits(known.examples)))
    assert [line.accepted for line in refined.trace] == [False]


def added(x):
    return keras.layers.Add()([keras.layers.Dense(4)(keras.layers.Flatten()(x)) for _ in range(2)])


def pooled(x):
    return keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))


@pytest.mark.parametrize("head", [added, pooled])
def test_a_last_layer_of_several_inputs_or_of_places_has_the_logits_for_features(head):
    inputs = keras.Input((8, 8, 3))
    other = array_classifier.ArrayClassifier(keras.Model(inputs, head(inputs)), tuple("abcd"))
    x, y = np.random.default_rng(0).uniform(0, 1, (40, 8, 8, 3)).astype(np.float32), np.arange(40) % 4
    pose = Pose()
    pose.begin(other, held_out.HeldOut(x, y, other.logits(x)))
    assert pose.aligned(x[:3]).shape == (3, 8, 8, 3)


def test_only_images_can_be_turned(trained):
    inputs = keras.Input((4,))
    other = array_classifier.ArrayClassifier(keras.Model(inputs, keras.layers.Dense(2)(inputs)), ("a", "b"))
    with pytest.raises(BadInput, match="takes no images"):
        refine(other, [], [Pose()], trained[1])
