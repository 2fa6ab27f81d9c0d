"""The first layer of a network for tables as they are: numbers, categories, dates and missing values."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.models.tabular import QuantileEncoding, quantile_encoding

# A category of one training example says which example it is.
_FEWEST_EXAMPLES = 2


@keras.saving.register_keras_serializable(package="zoo")
class TableEncoding(keras.layers.Layer):
    """Encodes numbers by quantiles, categories as one-hot vectors, and whether a value is missing.

    A missing number is encoded as the median, beside a column that says so; a missing category is a category of its
    own; one that training did not have is encoded as the mean over the training examples. (Missing indicators beside
    an imputed value: Van Ness et al., "The missing indicator method", 2023.)

    Args:
        numbers: indices of the columns of numbers, `[numbers]`.
        quantiles: arguments of `QuantileEncoding` for these columns.
        categories: pairs (index of a column, code), one for each category that is encoded.
        category_means: share of each in training, which is subtracted, `[categories]`.
        lacking: indices of the columns that have missing values in training.
        lacking_means: share of missing values in each, which is subtracted.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        quantiles: Mapping[str, Any],
        categories: Sequence[tuple[int, int]],
        category_means: Sequence[float],
        lacking: Sequence[int],
        lacking_means: Sequence[float],
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.numbers = list(numbers)
        self.quantiles = QuantileEncoding(**quantiles)
        self.categories = [tuple(pair) for pair in categories]
        self.category_means = list(category_means)
        self.lacking = list(lacking)
        self.lacking_means = list(lacking_means)

    @property
    def linear_units(self) -> int:
        """How many of the first outputs a linear model needs: all but the quantiles' pieces."""
        return len(self.numbers) + len(self.categories) + len(self.lacking)

    @property
    def units(self) -> int:
        """Number of outputs."""
        return self.linear_units + (len(self.quantiles.columns) if self.numbers else 0)

    def build(self, input_shape):
        self.quantiles.build((*input_shape[:-1], len(self.numbers)))

    def call(self, inputs):
        """From `[batch, columns]`, NaN for missing values, to float32 `[batch, units]`, without NaN."""
        return self.encoded(inputs)

    def encoded(self, inputs):
        """The same in Keras' operations, for models without this layer."""
        linear, pieces = [], []
        if self.numbers:
            values = _taken(inputs, self.numbers)  # [batch, numbers]
            # NaN is the one value that differs from itself; every runtime has this comparison.
            missing = ops.not_equal(values, values)
            center = np.asarray(self.quantiles.arrays["center"], np.float32)
            encoded = self.quantiles.encoded(ops.where(missing, center, values))
            linear.append(encoded[:, : len(self.numbers)])
            if self.quantiles.columns:
                there = ops.cast(ops.logical_not(_taken(missing, self.quantiles.columns)), "float32")
                pieces.append(encoded[:, len(self.numbers) :] * there)
        if self.categories:
            columns, codes = zip(*self.categories)
            flags = ops.equal(_taken(inputs, columns), np.asarray(codes, np.float32))
            linear.append(_centred(flags, self.category_means))
        if self.lacking:
            values = _taken(inputs, self.lacking)
            linear.append(_centred(ops.not_equal(values, values), self.lacking_means))
        return ops.concatenate([*linear, *pieces], axis=1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        inner = self.quantiles.get_config()
        names = ("center", "scale", "columns", "lower", "width", "mean")
        return {
            **super().get_config(),
            "numbers": self.numbers,
            "quantiles": {name: inner[name] for name in names},
            "categories": [list(pair) for pair in self.categories],
            "category_means": self.category_means,
            "lacking": self.lacking,
            "lacking_means": self.lacking_means,
        }


def table_encoding(train: np.ndarray, categories: Sequence[int], bins: int) -> TableEncoding:
    """The encoding of a table's columns.

    Args:
        train: training examples `[examples, columns]`: numbers, codes of categories, NaN for missing values.
        categories: for each column the number of its categories; 0 for numbers.
        bins: pieces per column between quantiles, as in `quantile_encoding`.
    """
    train = np.asarray(train, np.float64)
    numbers = [index for index, size in enumerate(categories) if not size]
    filled = np.stack([_filled(train[:, index]) for index in numbers], axis=1) if numbers else np.zeros((len(train), 0))
    inner = quantile_encoding(filled, bins).get_config() if numbers else {}
    quantiles = {name: inner.get(name, []) for name in ("center", "scale", "columns", "lower", "width", "mean")}
    pairs = [
        (index, code)
        for index, size in enumerate(categories)
        for code in range(size)
        if np.sum(train[:, index] == code) >= _FEWEST_EXAMPLES
    ]
    lacking = [index for index in range(train.shape[1]) if np.isnan(train[:, index]).any()]
    return TableEncoding(
        numbers,
        quantiles,
        pairs,
        [float(np.mean(train[:, index] == code)) for index, code in pairs],
        lacking,
        [float(np.isnan(train[:, index]).mean()) for index in lacking],
        name="encoding",
    )


def _filled(values: np.ndarray) -> np.ndarray:
    """A column whose missing values are its median; 0 where it has no value in training."""
    missing = np.isnan(values)
    return np.where(missing, np.median(values[~missing]) if not missing.all() else 0.0, values)


def _taken(values, columns: Sequence[int]):
    return ops.take(values, np.asarray(columns, np.int32), axis=1)


def _centred(flags, means: Sequence[float]):
    return ops.cast(flags, "float32") - np.asarray(means, np.float32)
