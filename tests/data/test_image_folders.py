"""Images as people have them: folders of class folders, in all layouts, modes and orientations."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers import pictures
from zoo.data.datasets import image_files, image_folders, images
from zoo.data.datasets.image_files import Shape
from zoo.data.datasets.image_folders import ImageOptions
from zoo.errors import BadInput


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(folder, **options):
    return images.load(str(folder), image_options=ImageOptions(**options))


def sizes(data):
    return [len(part["y"]) for part in (data.train, data.validation, data.test)]


def said(data):
    """Notes, but those on classes that so few examples lack in a split."""
    return [note for note in data.notes if not note.startswith("WARNING")]


def read(path, height, width, channels=3, resize="crop"):
    return image_files.read(path, Shape(height, width, channels, resize)).pixels


def test_class_folders_are_split_at_random(tmp_path):
    data = load(pictures.folder(tmp_path / "own"))
    assert sizes(data) == [32, 4, 4] and data.classes == pictures.CLASSES and data.scale == 255
    assert data.train["x"].shape == (32, 12, 10, 3) and data.train["x"].dtype == np.uint8
    assert not isinstance(data.train["x"], np.memmap) and data.notes == ()
    for part in (data.train, data.validation, data.test):
        assert np.array_equal(part["x"].mean(axis=(1, 2, 3)) < 128, part["y"] == 1)
        assert set(part["y"]) == {0, 1}
    same = load(tmp_path / "own")
    assert all(np.array_equal(same.train[name], data.train[name]) for name in ("x", "y"))


@pytest.mark.parametrize("validation", ["", "val", "Validation"])
def test_folders_of_splits(tmp_path, validation):
    root = tmp_path / "own"
    pictures.folder(root / "train", 10)
    pictures.folder(root / "test", 3, seed=100)
    if validation:
        pictures.folder(root / validation, 2, seed=200)
    assert sizes(load(root)) == ([20, 4, 6] if validation else [18, 2, 6])


def test_files_of_other_splits_by_flag(tmp_path):
    paths = [str(pictures.folder(tmp_path / name, 5, seed=100 * k)) for k, name in enumerate(("a", "b", "c"))]
    assert sizes(images.load(paths[0], eval_file=paths[1], test_file=paths[2])) == [10, 10, 10]
    (tmp_path / "table.csv").write_text("a,label\n1,x\n")
    with pytest.raises(BadInput, match="is no folder of images"):
        images.load(paths[0], eval_file=str(tmp_path / "table.csv"))


def test_class_named_as_a_split_is_a_class(tmp_path):
    pictures.folder(tmp_path / "own", 10)
    (tmp_path / "own" / "dark").rename(tmp_path / "own" / "test")
    assert load(tmp_path / "own").classes == ("bright", "test")


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_grey_images_have_one_channel(tmp_path, mode):
    root = pictures.folder(tmp_path / "own", 10, shape=(8, 8), suffixes=(".png",))
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    image = Image.fromarray(pixels if mode == "I;16" else (pixels >> 8).astype(np.uint8))
    (image.convert(mode, dither=Image.Dither.NONE) if mode in ("1", "LA") else image).save(root / "dark" / "0.png")
    data = load(root)
    assert data.train["x"].shape[1:] == (8, 8)
    kept = read(root / "dark" / "0.png", 8, 8, 1)
    expected = (pixels >> 8) >= 128 if mode == "1" else pixels >> 8
    assert np.array_equal(kept >= 128 if mode == "1" else kept, expected)
    assert said(data) == (["kept the upper 8 of 16 bits of 1 image"] if mode == "I;16" else [])
    # A single colour image makes all of them colour.
    pictures.save(root / "dark" / "colour.png", pictures.draw(5, (8, 8, 3)))
    assert load(root).train["x"].shape[1:] == (8, 8, 3)


def test_other_modes(tmp_path):
    red = Image.new("RGB", (6, 6), (200, 10, 20))
    red.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    red.convert("CMYK").save(tmp_path / "cmyk.jpg")
    for name in ("p.png", "cmyk.jpg"):
        assert np.abs(read(tmp_path / name, 6, 6).astype(int) - (200, 10, 20)).max() < 6
    assert not image_files.read_header(tmp_path / "p.png").is_grey


def test_transparency_is_put_on_white_and_said(tmp_path):
    root = pictures.folder(tmp_path / "own", 10)
    pixels = np.zeros((12, 10, 4), np.uint8)
    pixels[:6, :, 3] = 255
    path = pictures.save(root / "dark" / "0.png", pixels)
    assert np.array_equal(read(path, 12, 10)[:, :, 0], np.repeat([0, 255], 6)[:, None] * np.ones(10, int))
    assert said(load(root)) == ["put 1 image with transparent pixels on white"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_exif_orientation(tmp_path, orientation, suffix):
    upright = np.kron(np.array([[0, 80, 160], [255, 200, 40]], np.uint8), np.ones((16, 16), np.uint8))
    undo = {
        1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: np.transpose,
        6: lambda x: np.rot90(x, 1), 7: lambda x: np.rot90(x, 2).T, 8: lambda x: np.rot90(x, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo[orientation](upright))
    path = pictures.save(tmp_path / f"a{suffix}", stored, exif=exif)
    assert np.abs(read(path, 32, 48, 1).astype(int) - upright).max() < 16
    header = image_files.read_header(path)
    assert (header.height, header.width) == (32, 48)


def test_resizing(tmp_path):
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40], wide[:, 40:] = 100, 200
    path = pictures.save(tmp_path / "wide.png", wide)
    assert np.array_equal(np.unique(read(path, 10, 10, 1)[:, 1:-1]), [100])
    assert np.allclose(read(path, 10, 30, 1, "stretch")[:, [2, 15, 27]], [0, 100, 200])
    padded = read(path, 30, 30, 1, "pad")
    assert not padded[:10].any() and not padded[20:].any()
    assert np.array_equal(padded[15, [2, 15, 27]], [0, 100, 200])
    # Photos are decoded at a fraction of their size.
    large = (np.add.outer(np.arange(500), np.arange(400)) % 450 // 2).astype(np.uint8)
    paths = [pictures.save(tmp_path / name, large) for name in ("large.jpg", "large.png")]
    small = [read(path, 25, 20, 1).astype(int) for path in paths]
    assert np.abs(small[0] - small[1]).max() < 8


def test_size_by_default_and_by_flag(tmp_path):
    root = pictures.folder(tmp_path / "own", 10)
    assert load(root, size=(8,)).train["x"].shape[1:] == (8, 8, 3)
    assert load(root, size=(8, 6), resize="pad").train["x"].shape[1:] == (8, 6, 3)
    pictures.save(root / "dark" / "other.png", pictures.draw(0, (9, 9, 3)))
    assert load(root).train["x"].shape[1:] == (64, 64, 3)
    for size in ((0,), (1, 2, 3)):
        with pytest.raises(BadInput, match="--image_size is"):
            load(root, size=size)


def test_damaged_files_are_refused_with_their_path_or_left_out(tmp_path):
    root = pictures.folder(tmp_path / "own", 10)
    for name, content in {
        "cut.png": (root / "dark" / "0.png").read_bytes()[:-60],
        "cut.jpg": (root / "dark" / "1.JPG").read_bytes()[:-60],
        "text.png": b"no image",
        "empty.jpg": b"",
    }.items():
        path = root / "dark" / name
        path.write_bytes(content)
        with pytest.raises(BadInput) as error:
            load(root)
        assert str(path) in str(error.value) and "--skip_damaged" in str(error.value)
        assert "\n" not in str(error.value)
        data = load(root, skip_damaged=True)
        assert sum(sizes(data)) == 20 and said(data) == ["left out 1 image that cannot be decoded"]
        path.unlink()
    # By its content, whatever its name says.
    pictures.save(root / "dark" / "png.jpg", pictures.draw(99, high=100), format="PNG")
    assert sum(sizes(load(root))) == 21


def test_other_files_are_ignored_and_said(tmp_path):
    root = pictures.folder(tmp_path / "own", 10)
    (root / "README.txt").write_text("about")
    (root / "dark" / "notes.gif").write_text("x")
    (root / "dark" / ".hidden.png").write_text("x")
    (root / ".cache").mkdir()
    (root / "empty").mkdir()
    pictures.save(root / "dark" / "more" / "deep.png", pictures.draw(77, high=100))
    data = load(root)
    assert sum(sizes(data)) == 21
    assert said(data) == [
        "left out 1 folder without images",
        "left out 3 files of other kinds (1 .txt, 1 hidden, 1 .gif)",
    ]


def test_copies_are_removed_from_the_earlier_split(tmp_path):
    root = tmp_path / "own"
    pictures.folder(root / "train", 10)
    pictures.folder(root / "test", 3, seed=500)
    shutil.copy(root / "test" / "dark" / "0.png", root / "train" / "dark" / "again.png")
    data = load(root)
    assert sum(sizes(data)) == 26 and sizes(data)[2] == 6
    assert "examples that are in a later split" in data.notes[0]


def test_large_folders_stay_on_disk(tmp_path, monkeypatch):
    root = pictures.folder(tmp_path / "own")
    whole = load(root)
    monkeypatch.setattr(image_folders, "_IN_MEMORY", 1000)
    mapped = load(root)
    for one, other in zip((whole.train, whole.validation, whole.test), (mapped.train, mapped.validation, mapped.test)):
        assert isinstance(other["x"], np.memmap) and not isinstance(other["y"], np.memmap)
        assert np.array_equal(one["x"], other["x"]) and np.array_equal(one["y"], other["y"])


def test_cache_is_used_until_something_changes(tmp_path, cache, monkeypatch):
    root = pictures.folder(tmp_path / "own")
    calls = []
    decode = image_files.read
    monkeypatch.setattr(image_files, "read", lambda path, shape: calls.append(path) or decode(path, shape))

    def decoded(**options):
        calls.clear()
        data = load(root, **options)
        return len(calls), data

    assert decoded()[0] == 40 and decoded()[0] == 0
    assert decoded(size=(6,))[0] == 40 and decoded(size=(6,))[0] == 0
    assert decoded(size=(6,), resize="stretch")[0] == 40
    path = root / "dark" / "0.png"
    content = path.read_bytes()
    pictures.save(path, pictures.draw(9, high=100))
    os.utime(path, ns=(1, 1))
    assert decoded()[0] == 40 and decoded()[0] == 0
    path.write_bytes(content)
    path.rename(path.with_name("new.png"))
    assert decoded()[0] == 40
    # A torn cache file is noticed.
    for file in cache.glob("*.x"):
        file.write_bytes(file.read_bytes()[:-1] + b"\0\0")
    count, data = decoded()
    assert count == 40 and "damaged" in data.notes[0]


def test_without_a_cache_small_folders_load_all_the_same(tmp_path, monkeypatch):
    root = pictures.folder(tmp_path / "own")
    whole = load(root)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    data = load(root)
    assert np.array_equal(data.train["x"], whole.train["x"]) and "decoded again at each start" in data.notes[0]
    monkeypatch.setattr(image_folders, "_IN_MEMORY", 1000)
    with pytest.raises(BadInput, match="ZOO_CACHE"):
        load(root)


def errors_of(root):
    with pytest.raises(BadInput) as error:
        load(root)
    assert "\n" not in str(error.value) and str(root) in str(error.value)
    return str(error.value)


def test_errors(tmp_path):
    root = tmp_path / "own"
    (root / "cat").mkdir(parents=True)
    assert "has no .png, .jpg or .jpeg in class folders" in errors_of(root)
    pictures.save(root / "cat" / "a.png", pictures.draw(0))
    assert "images of the class 'cat' only" in errors_of(root)
    pictures.save(root / "loose.png", pictures.draw(0))
    assert "the image 'loose.png' outside of a class folder" in errors_of(root)
    (root / "loose.png").unlink()
    shutil.move(pictures.folder(tmp_path / "more", 3), root / "train")
    assert "the folder 'cat' with images beside train/, a mixed layout" in errors_of(root)
    shutil.rmtree(root / "cat")
    pictures.folder(root / "val", 1)
    pictures.folder(root / "valid", 1)
    assert "has both val/ and valid/" in errors_of(root)
    shutil.rmtree(root / "valid")
    (root / "val" / "dark").rename(root / "val" / "darker")
    assert "has the class 'darker' that" in errors_of(root)
    shutil.rmtree(root / "train")
    assert "has val/ with class folders, but no train/" in errors_of(root)


def test_folder_of_arrays_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", pictures.draw(0, (30, 4, 4)))
    np.save(tmp_path / "y.npy", np.arange(30) % 2)
    (tmp_path / "folder").mkdir()
    assert isinstance(images.load(str(tmp_path)).train["x"], np.memmap)
