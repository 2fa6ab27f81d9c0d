"""Softmax of logits, and the one-logit rule for two classes: the logit is that of class 1, class 0 has 0."""

from typing import Any

import numpy as np
from scipy import special


def two_class_logits(logits: Any) -> Any:
    """Logits of every class, also where a model of two classes has one logit.

    Args:
        logits: an array or a tensor `[..., classes]`, or `[..., 1]` for two classes.

    Returns:
        `logits` unchanged if there are two or more; else an array or a tensor `[..., 2]`.
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
    """Softmax over the last axis, in float64."""
    return special.softmax(np.asarray(logits, np.float64), axis=-1)


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The negative log-probability of each example's class, in nats.

    Args:
        logits: `[..., classes]`, or `[..., 1]` for two classes.
        labels: int `[...]`.

    Returns:
        float64 `[...]`.
    """
    log_probabilities = log_softmax(two_class_logits(np.asarray(logits)))
    return -np.take_along_axis(log_probabilities, np.asarray(labels)[..., None], axis=-1)[..., 0]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-softmax over the last axis, in float64."""
    return special.log_softmax(np.asarray(logits, np.float64), axis=-1)
