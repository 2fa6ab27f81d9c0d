"""Keras metrics: those that are means of values per example as terms, all others from the outputs of an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.engine import private_apis
from zoo.keras_task import losses
from zoo.keras_task.compiled import MetricPart
from zoo.terms import Term

# Rows per update: large enough that Python costs nothing, small enough for a metric of many thresholds.
_ROWS = 8192


def is_mean(metric: keras.metrics.Metric) -> bool:
    """Whether a metric is the mean of a function of the target and the output, as accuracies are."""
    wrapper, mean = keras.metrics.MeanMetricWrapper, keras.metrics.Mean
    kind = type(metric)
    return isinstance(metric, wrapper) and kind.update_state is wrapper.update_state and kind.result is mean.result


def term(part: MetricPart, y_true: Any, y_pred: Any, sample_weight: tf.Tensor | None) -> Term | None:
    """A metric as a term, masked as Keras masks it; None where its function returns one number for all examples.

    Args:
        part: a metric for which `is_mean` holds.
        y_true: targets `[batch, ...]`.
        y_pred: the model's output, with its mask if it has one.
        sample_weight: `[batch]` or of the values' rank, of a weighted metric; None for 1 each.
    """
    values = private_apis.metric_values(part.metric, y_true, y_pred)
    value_mask = private_apis.mask_of(values)
    values = tf.cast(tf.convert_to_tensor(values), part.metric.dtype)
    if not values.shape.rank:
        return None
    weights = None if sample_weight is None else losses.aligned(tf.cast(sample_weight, values.dtype), values)
    mask = private_apis.mask_of(y_pred)
    if mask is not None:
        mask = losses.aligned(tf.cast(mask, values.dtype), values)
        weights = mask if weights is None else weights * mask
    # As Keras does: a mask of the values' own counts only beside other weights.
    if weights is not None and value_mask is not None:
        weights *= losses.aligned(tf.cast(value_mask, values.dtype), values)
    return Term(values, 1.0 if weights is None else weights)


def evaluated(
    parts: Sequence[MetricPart], outputs: Mapping[int, np.ndarray], columns: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The metrics over a whole data set.

    Args:
        parts: metrics.
        outputs: the model's outputs `[examples, ...]` by number.
        columns: the data set's columns.

    Returns:
        One number by name; a metric with several values (of each class, of each threshold) has `NAME_0`, `NAME_1`, ...
    """
    values: dict[str, float] = {}
    for part in parts:
        result = np.asarray(keras.tree.flatten(_result(part, outputs[part.output], columns)), np.float64).ravel()
        names = [part.name] if result.size == 1 else [f"{part.name}_{number}" for number in range(result.size)]
        values |= zip(names, result.tolist(), strict=True)
    return values


def _result(part: MetricPart, y_pred: np.ndarray, columns: Mapping[str, np.ndarray]) -> Any:
    y_true, weights = (columns.get(name) for name in (part.target, part.sample_weight))
    # A function of all examples sees all of them at once.
    size = len(y_pred) if isinstance(part.metric, keras.metrics.MeanMetricWrapper) else _ROWS
    part.metric.reset_state()
    for first in range(0, len(y_pred), size):
        rows = slice(first, first + size)
        given = [None if column is None else np.asarray(column[rows]) for column in (y_true, y_pred, weights)]
        part.metric.update_state(*given)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, part.metric.result())
