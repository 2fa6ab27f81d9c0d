"""What `zoo inspect` says of folders of images: damage, copies and near duplicates, and nothing of clean ones."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.helpers import pictures
from zoo.cli.main import main as command
from zoo.data import image_audit
from zoo.errors import BadInput

RNG = np.random.default_rng(0)


def photos():
    """Parts of real photographs, 96 x 96, no two of which overlap, without those of the plain sky."""
    places = [(y, x) for y in range(0, 384, 96) for x in range(0, 576, 96)]
    parts = [image[y : y + 96, x : x + 96] for image in load_sample_images().images for y, x in places]
    return [part for part in parts if part.std() > 25]


PHOTOS = photos()


@pytest.fixture
def root(tmp_path):
    for place, pixels in enumerate(PHOTOS[:24]):
        pictures.save(tmp_path / "root" / ("a" if place % 2 else "b") / f"{place}.png", pixels)
    return tmp_path / "root"


def test_a_clean_folder(root):
    found = image_audit.images(root)
    assert found.warnings == () and found.images == 24 and found.parts == {"train": 24}
    assert found.sizes == {"96 x 96": 24} and found.modes == {"PNG RGB": 24} and found.labels == {"a": 12, "b": 12}


def resized(image):
    return image.resize((64, 64))


def bright(image):
    return image.point(lambda value: value // 2 + 100)


@pytest.mark.parametrize(
    ("change", "name", "options"),
    [
        (lambda image: image, "copy.jpg", {"quality": 40}),
        (resized, "copy.png", {}),
        (lambda image: image.resize((300, 300)), "copy.jpg", {}),
        (bright, "copy.png", {}),
        (lambda image: image.convert("L"), "copy.png", {}),
    ],
)
def test_near_duplicates(root, change, name, options):
    for place in (2, 3, 4, 5):
        copy = change(Image.fromarray(PHOTOS[place]))
        copy.save(root / "a" / f"{place}{name}", **options)
    found = image_audit.images(root)
    near = [warning for warning in found.warnings if "show nearly the same as an earlier one" in warning]
    assert near[0].startswith("4 images")
    # Of 2 and 4 the original is in the other class.
    assert any("2 groups of them have different labels" in warning for warning in found.warnings)


def test_equal_files_in_two_splits(tmp_path):
    for part, places in (("train", range(12)), ("test", range(10, 16))):
        for place in places:
            pictures.save(tmp_path / part / ("a" if place % 2 else "b") / f"{place}.png", PHOTOS[place])
    said = "\n".join(image_audit.images(tmp_path).warnings)
    assert "2 images have the bytes of an earlier one" in said and "2 groups of them are in two splits" in said
    assert "train/a/11.png and test/a/11.png" in said and "nearly the same" not in said


def test_another_folder_as_the_test_split(root, tmp_path):
    for place in (0, 1, 30, 31):
        pictures.save(tmp_path / "other" / ("a" if place % 2 else "b") / f"{place}.jpg", PHOTOS[place], quality=60)
    found = image_audit.images(root, tmp_path / "other")
    assert found.parts == {"train": 24, "test": 4}
    assert any("2 groups of them are in two splits" in warning for warning in found.warnings)


def test_damaged_flat_and_rare(root):
    (root / "a" / "torn.png").write_bytes((root / "b" / "0.png").read_bytes()[:200])
    (root / "a" / "text.jpg").write_text("no image")
    pictures.save(root / "b" / "black.png", np.zeros((40, 40), np.uint8))
    pictures.save(root / "b" / "deep.png", RNG.integers(0, 65536, (50, 50)).astype(np.uint16))
    pictures.save(root / "c" / "1.png", PHOTOS[30])
    found = image_audit.images(root)
    said = "\n".join(found.warnings)
    assert "2 files cannot be decoded, the first: a/t" in said
    assert "1 images have one colour, the first: b/black.png" in said
    assert "the largest class has 14 times the rows of the smallest" in said
    assert found.images == 27 and found.modes["PNG L"] == 1 and any(mode.startswith("PNG I") for mode in found.modes)


def test_drawings_of_one_kind_are_no_near_duplicates():
    """Digits are alike, and still different pictures."""
    from zoo.data.datasets import images

    x = images.load("mnist_5k").train["x"][:2000]
    thumbnails = np.array([np.asarray(Image.fromarray(each).resize((32, 32))) for each in x])
    groups = image_audit.near_groups(thumbnails)
    assert 2000 - len(set(groups.tolist())) <= 10
    noisy = np.clip(thumbnails + RNG.normal(0, 2, thumbnails.shape), 0, 255).astype(np.uint8)
    both = image_audit.near_groups(np.concatenate([thumbnails, noisy]))
    assert np.mean(both[:2000] == both[2000:]) > 0.85


def test_no_images_and_one():
    assert image_audit.near_groups(np.zeros((1, 32, 32), np.uint8)).tolist() == [0]
    # What shows nothing is no copy of what shows nothing.
    assert image_audit.near_groups(np.zeros((3, 32, 32), np.uint8)).tolist() == [0, 1, 2]


def test_the_command(root, tmp_path, capsys):
    assert command(["inspect", str(root)]) == 0
    out = capsys.readouterr().out
    assert f"{root}: 24 images" in out and "96 x 96  24 (100.0%)" in out and "PNG RGB  24 (100.0%)" in out
    assert command(["inspect", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == {"a": 12, "b": 12}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label_column=a"], "--label_column is for files"),
        (["--text_column=a"], "--text_column is for files"),
        (["--decimal=,"], "--decimal is for files"),
        (["--encoding=latin-1"], "--encoding is for files"),
        (["--test_file=table.csv"], "is no folder"),
    ],
)
def test_refusals(root, capsys, words, said):
    assert command(["inspect", str(root), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(BadInput, match="class folders"):
        image_audit.images(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "1.png").write_bytes(b"")
    with pytest.raises(BadInput, match="none of 2 images can be read"):
        image_audit.images(tmp_path)
