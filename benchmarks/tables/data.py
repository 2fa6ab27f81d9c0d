"""Development tables: scikit-learn's own, and synthetic ones of the kinds that real tables are made of."""

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from sklearn import datasets

# Test examples of a synthetic table: the interval of a difference is about a point wide.
_TEST = 4000
_DIGITS_TRAIN = 900


class Table(NamedTuple):
    """A table: its name, examples float32 `[examples, columns]`, classes `[examples]`, and how many are trained on."""

    name: str
    x: np.ndarray
    y: np.ndarray
    train: int


def rules(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rules on categories, an age and an amount; one label in twenty is wrong."""
    categories, age = random.integers(0, 6, (size, 4)), random.integers(18, 80, size)
    flags, amount = random.integers(0, 2, (size, 3)), np.round(random.lognormal(3, 1, size), 2)
    holds = (categories[:, 0] == 2) & (age > 40) | (categories[:, 1] > 3) & (flags[:, 0] == 1) & (amount < 25)
    labels = holds | (categories[:, 2] == categories[:, 3])
    return np.c_[categories, age, flags, amount], labels ^ (random.random(size) < 0.05)


def thresholds(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sum of steps, one of them the product of two."""
    x = random.uniform(size=(size, 8))
    steps = (x[:, 0] > 0.3) + 2 * (x[:, 1] > 0.6) * (x[:, 2] < 0.5) + (x[:, 3] > 0.8) - 1.0 * (x[:, 4] > 0.5)
    return x, steps + 0.3 * random.normal(size=size) > 1


def friedman(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Friedman's first function (1991) in three classes; five of ten columns are noise."""
    x = random.uniform(size=(size, 10))
    value = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x, np.digitize(value + random.normal(size=size), [11.5, 17])


def skewed(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Log-normal columns with outliers a thousand times as large."""
    x = np.exp(1.5 * random.normal(size=(size, 12)))
    z = np.log(x)
    labels = z[:, 0] + 0.8 * z[:, 1] - 0.6 * z[:, 2] * z[:, 3] + 0.5 * random.normal(size=size) > 0
    return np.where(random.random((size, 12)) < 0.01, 1000 * x, x), labels


def additive(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sum of smooth functions of single columns."""
    x = random.normal(size=(size, 10))
    value = np.sin(2 * x[:, 0]) + x[:, 1] ** 2 - np.abs(x[:, 2]) + 0.5 * x[:, 3]
    return x, value + 0.5 * random.normal(size=size) > 0.2


def interaction(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The sign of a product among eight columns of noise; one label in ten is wrong."""
    x = random.normal(size=(size, 10))
    return x, (x[:, 0] * x[:, 1] > 0) ^ (random.random(size) < 0.1)


def linear(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A linear function with noise, on which nothing beats logistic regression."""
    x, weights = random.normal(size=(size, 20)), random.normal(size=20) * (np.arange(20) < 12)
    return x, x @ weights + 2 * random.normal(size=size) > 0


def moons(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's two moons."""
    return datasets.make_moons(size, noise=0.3, random_state=int(random.integers(1 << 30)))


def _clusters(**options) -> Callable:
    def make(size: int, random: np.random.Generator):
        return datasets.make_classification(size, random_state=int(random.integers(1 << 30)), **options)

    return make


_SYNTHETIC: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "rules": (rules, (600, 3000, 12000)),
    "thresholds": (thresholds, (400, 2000)),
    "friedman": (friedman, (500, 4000)),
    "skewed": (skewed, (1000,)),
    "additive": (additive, (1500,)),
    "interaction": (interaction, (3000,)),
    "moons": (moons, (300,)),
    "linear": (linear, (200, 2000)),
    "clusters": (
        _clusters(n_features=20, n_informative=6, n_redundant=4, n_clusters_per_class=3, n_classes=3),
        (300, 3000),
    ),
    "imbalanced": (_clusters(n_features=15, n_informative=5, weights=[0.93], flip_y=0.01), (2000,)),
    "label_noise": (_clusters(n_features=20, n_informative=5, flip_y=0.3), (1000,)),
    "wide": (_clusters(n_features=300, n_informative=20, n_redundant=50), (250,)),
    "large": (_clusters(n_features=25, n_informative=10, n_clusters_per_class=4, n_classes=4, flip_y=0.05), (18000,)),
}
_BUILT_IN = {"iris": datasets.load_iris, "wine": datasets.load_wine, "breast_cancer": datasets.load_breast_cancer}


def tables() -> Iterator[Table]:
    """All development tables, the same in every run."""
    for name, load in _BUILT_IN.items():
        data = load()
        yield Table(name, data.data.astype(np.float32), data.target, round(0.8 * len(data.target)))
    digits = datasets.load_digits()
    yield Table("digits", digits.data.astype(np.float32), digits.target, _DIGITS_TRAIN)
    for name, (make, sizes) in _SYNTHETIC.items():
        for size in sizes:
            random = np.random.default_rng(zlib.crc32(f"{name}{size}".encode()))
            x, y = make(size + _TEST, random)
            yield Table(f"{name}_{size}", x.astype(np.float32), np.asarray(y, int), size)


def split(table: Table, seed: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training examples (validation included) and test examples; each seed draws others."""
    order = np.random.default_rng(seed).permutation(len(table.y))
    train, test = order[: table.train], order[table.train :]
    return (table.x[train], table.y[train]), (table.x[test], table.y[test])
