"""What each corruption does, and that nothing but name, severity, seed and the image's index decides it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from zoo.data.datasets import image_corruptions, images
from zoo.data.datasets.image_corruptions import corrupted
from zoo.errors import BadInput

SEVERITIES = range(1, 6)
DRAWN = ("noise", "impulses", "fog", "stripes", "occlusion", "rotation", "translation")
shapes = st.tuples(st.integers(0, 5), st.integers(1, 12), st.integers(1, 12), st.integers(1, 3))
some_images = shapes.flatmap(lambda shape: arrays.arrays(np.uint8, shape))
every_way = st.sampled_from(image_corruptions.NAMES), st.sampled_from(SEVERITIES), st.integers(-(2**63), 2**64 - 1)


@pytest.fixture(scope="module")
def digits():
    return images.load("mnist_5k").test["x"][:200]


def grey(value, count=40, side=28):
    return np.full((count, side, side), value, np.uint8)


def spot(down, right, side=29):
    """A soft spot, so many pixels from the middle of an image."""
    places = np.arange(side) - side // 2
    exponent = (places[:, None] - down) ** 2 + (places - right) ** 2
    return np.rint(200 * np.exp(-exponent / 4)).astype(np.uint8)


def middle(image):
    """Where a spot is, down and right of the middle of its image."""
    return np.array(ndimage.center_of_mass(image.astype(float))) - image.shape[0] // 2


def near(found, expected, within=0.51):
    """Equal but for rounding to whole numbers."""
    assert np.abs(found - expected).max() <= within


@pytest.mark.parametrize("name", image_corruptions.NAMES)
def test_damage_grows_with_severity(name, digits):
    damaged = [corrupted(digits, name, severity) for severity in SEVERITIES]
    damage = [np.abs(found - digits.astype(float)).mean() for found in damaged]
    assert damage[0] > 1 and np.all(np.diff(damage) > 0.3), damage


@given(some_images, *every_way, st.data())
def test_a_part_is_damaged_as_in_the_whole(found, name, severity, seed, data):
    before = found.copy()
    found.flags.writeable = False
    whole = corrupted(found, name, severity, seed)
    assert whole.dtype == np.uint8 and whole.shape == found.shape and whole.flags.writeable
    np.testing.assert_array_equal(whole, corrupted(found, name, severity, seed))
    np.testing.assert_array_equal(found, before)
    assert not np.shares_memory(whole, found)
    cut = data.draw(st.integers(0, len(found)))
    np.testing.assert_array_equal(corrupted(found[cut:], name, severity, seed, first=cut), whole[cut:])
    np.testing.assert_array_equal(corrupted(found[:cut], name, severity, seed), whole[:cut])


@pytest.mark.parametrize("name", image_corruptions.NAMES)
def test_the_blocks_do_not_show(name, digits, monkeypatch):
    few = digits[:30]
    whole = corrupted(few, name, 3, first=2**40)
    for numbers in (1, 7 * 784):
        monkeypatch.setattr(image_corruptions, "_BLOCK", numbers)
        np.testing.assert_array_equal(corrupted(few, name, 3, first=2**40), whole)


@pytest.mark.parametrize("name", image_corruptions.NAMES)
def test_layouts(name, digits):
    few = digits[:8]
    whole = corrupted(few, name, 4)
    np.testing.assert_array_equal(corrupted(few.reshape(8, 784), name, 4), whole.reshape(8, 784))
    np.testing.assert_array_equal(corrupted(few[..., None], name, 4), whole[..., None])
    # Read from the back, the pixels lie otherwise in memory.
    np.testing.assert_array_equal(corrupted(np.asfortranarray(few), name, 4), whole)


@pytest.mark.parametrize("name", sorted(set(image_corruptions.NAMES) - {"noise", "impulses"}))
def test_channels_share_all_but_noise(name, digits):
    colours = np.stack([digits[:5], digits[5:10]], axis=-1)
    found = corrupted(colours, name, 4)
    for channel in (0, 1):
        np.testing.assert_array_equal(found[..., channel], corrupted(colours[..., channel], name, 4))


@pytest.mark.parametrize("name", ["noise", "impulses"])
def test_channels_have_their_own_noise(name):
    found = corrupted(np.full((5, 28, 28, 2), 128, np.uint8), name, 4)
    assert (found[..., 0] != found[..., 1]).mean() > 0.2


@pytest.mark.parametrize("name", image_corruptions.NAMES)
def test_seed_and_index_decide(name):
    same = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8), 40, axis=0)
    found = corrupted(same, name, 5)
    kinds = len(np.unique(found.reshape(40, -1), axis=0))
    # A patch has some 14 * 14 places, and takes some of them twice.
    least = {"rotation": 2, "occlusion": 30}.get(name, 40) if name in DRAWN else 1
    assert least <= kinds <= (2 if name == "rotation" else 40 if name in DRAWN else 1)
    assert np.array_equal(found, corrupted(same, name, 5, seed=1)) == (name not in DRAWN)


def test_drawn_as_ever():
    """The same on any machine, in any process and version."""
    found = corrupted(grey(100, 2, 4), "impulses", 5, seed=3, first=1)
    np.testing.assert_array_equal(
        found.reshape(2, 16),
        [
            [255, 100, 100, 0, 100, 100, 100, 100, 0, 100, 100, 255, 255, 0, 100, 100],
            [100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 255, 100, 100],
        ],
    )


def test_noise():
    for severity, deviation in zip(SEVERITIES, (0.1, 0.2, 0.35, 0.5, 0.7)):
        found = corrupted(grey(128), "noise", severity).astype(float)
        # The quartiles of a normal distribution are 0.6745 deviations from its middle, and clipped at none.
        quartiles = np.clip(128 + 255 * deviation * np.array([-0.6745, 0, 0.6745]), 0, 255)
        np.testing.assert_allclose(np.quantile(found, (0.25, 0.5, 0.75)), quartiles, atol=5 * deviation * 3)
        assert abs(np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]) < 0.03
    assert abs(corrupted(grey(128), "noise", 1).std() - 25.5) < 0.5


def test_impulses():
    for severity, share in zip(SEVERITIES, (0.03, 0.08, 0.15, 0.25, 0.4)):
        found = corrupted(grey(100), "impulses", severity)
        assert set(np.unique(found)) == {0, 100, 255}
        # Four standard deviations of 31,360 pixels.
        for value in (0, 255):
            assert abs((found == value).mean() - share / 2) < 4 * np.sqrt(share / 2 / found.size)


def test_blur(digits):
    for severity, pixels in zip(SEVERITIES, np.array([0.03, 0.045, 0.06, 0.08, 0.1]) * 28):
        found = corrupted(digits[:3], "blur", severity)
        for before, after in zip(digits, found):
            near(after, ndimage.gaussian_filter(before.astype(float), pixels, mode="constant"))


def test_contrast_and_brightness(digits):
    few = digits[:5].astype(float)
    for severity, left, added in zip(SEVERITIES, (0.6, 0.4, 0.25, 0.15, 0.1), (0.1, 0.2, 0.3, 0.45, 0.6)):
        mean = few.mean(axis=(1, 2))[:, None, None]
        near(corrupted(digits[:5], "contrast", severity), left * few + (1 - left) * mean)
        near(corrupted(digits[:5], "brightness", severity), np.minimum(255, few + 255 * added))


def test_fog():
    for severity, opacity in zip(SEVERITIES, (0.12, 0.25, 0.4, 0.55, 0.7)):
        over_black, over_white = (corrupted(grey(value), "fog", severity).astype(float) for value in (0, 255))
        near(over_white - over_black, 255 * (1 - opacity), 1.01)
        np.testing.assert_array_equal(over_black.min(axis=(1, 2)), 0)
        near(over_black.max(axis=(1, 2)), 255 * opacity)
        # Clouds: what is near is alike, what is far is not.
        steps = np.abs(np.diff(over_black, axis=2)).mean(), np.abs(over_black[..., 14:] - over_black[..., :14]).mean()
        assert steps[0] < 0.3 * steps[1]


def test_fog_is_smooth():
    lattice = np.random.default_rng(0).random((4, 5, 9))
    for size in (1, 5, 12):
        for axis, zoom in ((1, (1, size / 5, 1)), (2, (1, 1, size / 9))):
            stretched = image_corruptions._stretched(lattice, size, axis)
            np.testing.assert_allclose(stretched, ndimage.zoom(lattice, zoom, order=1), atol=1e-6)
    # Each of four octaves rises by at most 2 / 111 from pixel to pixel, of clouds that span 0.6 and more.
    found = corrupted(grey(0, side=112), "fog", 5).astype(float)
    assert max(np.abs(np.diff(found, axis=axis)).max() for axis in (1, 2)) < 255 * 0.7 * 4 * 2 / 111 / 0.6 + 1


def test_stripes(digits):
    few = digits[:100]
    for severity, share in zip(SEVERITIES, (0.03, 0.07, 0.13, 0.22, 0.35)):
        found = corrupted(few, "stripes", severity)
        inverted = found != few
        np.testing.assert_array_equal(found[inverted], 255 - few[inverted])
        assert abs(inverted.mean() - share) < 0.02
    # Seen in its own direction, a line is straight: inverted pixels fill bands of 28 / 2 pixels' distance.
    down, right = np.indices((28, 28)) - 13.5
    angles = np.linspace(0, np.pi, 181)
    for mask in inverted[:10]:
        waves = [np.exp(2j * np.pi * (down * np.sin(angle) + right * np.cos(angle)) / 14) for angle in angles]
        # The first harmonic of a square wave that is up for 0.35 of its period.
        assert max(abs((mask * wave).mean()) for wave in waves) > 0.85 * np.sin(0.35 * np.pi) / np.pi


def test_occlusion():
    for severity, side in zip(SEVERITIES, np.array([0.25, 0.33, 0.41, 0.48, 0.55]) * 28):
        hidden = corrupted(grey(9, 400), "occlusion", severity) == 0
        rows, columns = hidden.any(axis=2), hidden.any(axis=1)
        np.testing.assert_array_equal(hidden, rows[:, :, None] & columns[:, None, :])
        for line in (rows, columns):
            assert set(line.sum(axis=1)) <= {np.floor(side), np.ceil(side)}
            assert (np.abs(np.diff(line, axis=1)).sum(axis=1) <= 2).all(), "in one piece"
            assert line[:, 0].any() and line[:, -1].any(), "anywhere"


def test_rotation(digits):
    for severity, degrees in zip(SEVERITIES, (10, 20, 32, 45, 60)):
        ways = []
        for before, after in zip(digits[:30], corrupted(digits[:30], "rotation", severity)):
            turned = [
                ndimage.rotate(before.astype(float), angle, reshape=False, order=1, mode="grid-constant")
                for angle in (-degrees, degrees)
            ]
            errors = [np.abs(after - expected).max() for expected in turned]
            ways.append(np.argmin(errors))
            assert min(errors) <= 0.51
        assert 5 < sum(ways) < 25


def test_translation():
    few = np.stack([spot(1, -2)] * 200)
    for severity, share in zip(SEVERITIES, (0.04, 0.08, 0.12, 0.15, 0.18)):
        moved = np.array([middle(image) for image in corrupted(few, "translation", severity)]) - (1, -2)
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), share * 29, atol=0.1)
        angles = np.histogram(np.arctan2(*moved.T), 4, (-np.pi, np.pi))[0]
        # 50 in each quarter, standard deviation 6.1.
        assert np.all(np.abs(angles - 50) < 4 * 6.1)


def test_scale():
    few = spot(6, -4)[None]
    for severity, factor in zip(SEVERITIES, (0.85, 0.75, 0.65, 0.57, 0.5)):
        (found,) = corrupted(few, "scale", severity)
        np.testing.assert_allclose(middle(found), (6 * factor, -4 * factor), atol=0.1)
        np.testing.assert_allclose(found.sum(dtype=float) / few.sum(), factor**2, rtol=0.05)
        back = ndimage.affine_transform(few[0].astype(float), np.eye(2) / factor, 14 - 14 / factor, order=1)
        near(found, back)


def test_pixelation(digits):
    few = digits[:5]
    for severity, cells in ((1, 14), (3, 7), (5, 4)):
        size = 28 // cells
        means = few.reshape(5, cells, size, cells, size).mean(axis=(2, 4))
        near(corrupted(few, "pixelation", severity), means.repeat(size, axis=1).repeat(size, axis=2))
    # 28 pixels do not part into 10 or 5 cells evenly.
    few = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    for severity, cells in ((2, 10), (4, 5)):
        found = corrupted(few, "pixelation", severity).astype(float)
        for axis in (1, 2):
            edges = np.flatnonzero(np.abs(np.diff(found, axis=axis)).sum(axis=(0, 3 - axis)))
            assert len(edges) == cells - 1 and np.ptp(np.diff(edges)) <= 1
        np.testing.assert_allclose(found.mean(axis=(1, 2)), few.mean(axis=(1, 2)), atol=0.3)
        begins = np.append(0, edges + 1)
        near(found[:, 0, 0], few[:, : begins[1], : begins[1]].mean(axis=(1, 2)))


@pytest.mark.parametrize(
    ("found", "name", "severity", "first", "told"),
    [
        (grey(0), "noize", 1, 0, "'noize': did you mean noise?"),
        (grey(0), "", 1, 0, "expected one of noise, impulses"),
        (grey(0), "noise", 0, 0, "is 0: expected a whole number from 1"),
        (grey(0), "fog", 6, 0, "severity of fog is 6"),
        (grey(0), "fog", 2.5, 0, "is 2.5"),
        (grey(0), "fog", 2, -1, "first image is -1"),
        (grey(0) / 255, "fog", 2, 0, "are float64: expected uint8"),
        (grey(0)[0, 0], "fog", 2, 0, r"shape \[28\]: expected \[examples, height, width\]"),
        (grey(0)[:, :0], "fog", 2, 0, r"shape \[40, 0, 28\]"),
        (grey(0)[0], "fog", 2, 0, "rows of 28 pixels, which is not a square number: reshape"),
    ],
)
def test_bad_input(found, name, severity, first, told):
    with pytest.raises(BadInput, match=told):
        corrupted(found, name, severity, first=first)
