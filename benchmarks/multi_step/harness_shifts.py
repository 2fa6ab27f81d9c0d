"""Covariate shifts of the harness, by kind of data; each is a function of the examples and a random generator.

Images: noise, fog and rotation of severity 3. Tables: a third of the columns in another unit (*units*), one column
without values (*missing column*), and categories that training did not have (*new categories*). Texts: two words of
five left out (*dropped words*), and the first half only (*first half*).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.multi_step.harness_data import Data
from zoo.data.datasets import column_schema, text_columns
from zoo.data.datasets.image_corruptions import corrupted
from zoo.predict.predictors.predictor import Classifier

# From examples as the predictor takes them to such examples.
Shift = Callable[[Any, np.random.Generator], Any]

_SEVERITY = 3
_DROPPED = 0.4


def shifts(data: Data, predictor: Classifier) -> dict[str, Shift]:
    """The shifts of this kind of data by name."""
    if data.kind == "images":
        return {name: _corruption(name) for name in ("noise", "fog", "rotation")}
    if data.kind == "texts":
        return {"dropped words": _without_words, "first half": _first_half}
    numbers = np.arange(predictor.shape[0])
    if predictor.columns is None:
        return {"units": lambda x, random: _units(x, random, numbers)}
    categories = np.flatnonzero(predictor.columns.categories)
    numbers = np.setdiff1d(numbers, categories)
    return {
        "units": lambda x, random: _units(x, random, numbers),
        "missing column": lambda x, random: _filled(x, random.choice(numbers), np.nan),
        "new categories": lambda x, random: _new_categories(x, random, categories),
    }


def examples(data: Data, predictor: Classifier) -> Any:
    """The test examples as the predictor takes them."""
    if not data.columns:
        return data.test_x
    rows = [dict(zip(data.columns, row, strict=True)) for row in data.test_x.tolist()]
    table = text_columns.of_records(rows, data.columns)
    return column_schema.encoded(table, predictor.columns)


def _corruption(name: str) -> Shift:
    def shift(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return corrupted(x, name, _SEVERITY, seed=int(random.integers(1 << 31)))

    return shift


def _units(x: np.ndarray, random: np.random.Generator, numbers: np.ndarray) -> np.ndarray:
    """A third of the columns times 0.5 to 2, plus up to a standard deviation: a new sensor, or other units."""
    x = x.copy()
    for column in random.choice(numbers, max(1, len(numbers) // 3), replace=False):
        factor, offset = np.exp(random.uniform(-np.log(2), np.log(2))), random.uniform(-1, 1)
        x[:, column] = factor * x[:, column] + offset * np.nanstd(x[:, column])
    return x


def _filled(x: np.ndarray, column: int, value: float) -> np.ndarray:
    x = x.copy()
    x[:, column] = value
    return x


def _new_categories(x: np.ndarray, random: np.random.Generator, categories: np.ndarray) -> np.ndarray:
    """Half of the values of one column of categories become one that training did not have."""
    x, column = x.copy(), random.choice(categories)
    x[random.random(len(x)) < 0.5, column] = column_schema.UNSEEN
    return x


def _without_words(x: list[str], random: np.random.Generator) -> list[str]:
    return [_joined(text, lambda words: [word for word in words if random.random() > _DROPPED]) for text in x]


def _first_half(x: list[str], random: np.random.Generator) -> list[str]:
    return [_joined(text, lambda words: words[: (len(words) + 1) // 2]) for text in x]


def _joined(text: str, change: Callable[[list[str]], list[str]]) -> str:
    """A changed text, that of a language without spaces by characters. No text becomes empty."""
    space = " " if " " in text or text.isascii() else ""
    words = text.split() if space else list(text)
    return space.join(change(words) or words[:1])
