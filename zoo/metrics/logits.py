"""Softmax of logits, and the one-logit rule of two classes: one logit is that of the second, the first has 0."""

from typing import Any

import numpy as np
from scipy import special


def two_class_logits(logits: Any) -> Any:
    """Logits of every class, also where a model of two classes has one logit.

    Args:
        logits: an array or a tensor `[..., classes]`, or `[..., 1]` for two classes.

    Returns:
        `logits` itself where there are two or more; else `[..., 2]`, an array or a tensor as given.
    """
    if logits.shape[-1] != 1:
        return logits
    if isinstance(logits, np.ndarray):
        return np.concatenate([np.zeros_like(logits), logits], axis=-1)  # [..., 2]
    import tensorflow as tf

    return tf.concat([tf.zeros_like(logits), logits], axis=-1)  # [..., 2]


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """The probability of every class, float64 `[..., classes]`, also where a model of two classes has one logit."""
    return softmax(two_class_logits(np.asarray(logits)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Float64, over the last axis."""
    return special.softmax(np.asarray(logits, np.float64), axis=-1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Float64, over the last axis."""
    return special.log_softmax(np.asarray(logits, np.float64), axis=-1)
