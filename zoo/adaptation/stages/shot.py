"""SHOT (`--learner=shot`): all layers but the last learn by information maximisation and centroid pseudo-labels.

Liang et al., "Do we really need to access the source data? Source hypothesis transfer for unsupervised domain
adaptation", 2020, section 3. The last layer, the hypothesis of the source, is frozen. The predictions shall be certain
one by one and diverse together: their mean entropy minus the entropy of their mean. To it is added a cross-entropy with
pseudo-labels: the class of the nearest centroid of the features, where centroids are first weighted by the
probabilities, then by the pseudo-labels. Settings are those for digits. Diversity assumes that the stream holds all
classes; on a stream of one class only the guards prevent harm.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation.stages.learner import Recent
from zoo.metrics.logits import class_probabilities
from zoo.terms import Term

_TINY = 1e-8


class Shot(NamedTuple):
    """Information maximisation and self-supervised pseudo-labels.

    Attributes:
        optimizer: one of `zoo.engine.optimizers.NAMES`.
        learning_rate: a constant.
        pseudo: weight of the cross-entropy with the pseudo-labels (0.1 for digits, 0.3 for the other data sets).
    """

    optimizer: str = "momentum"
    learning_rate: float = 1e-2
    pseudo: float = 0.1

    trains_features, source_share = True, 0.0

    def columns(self, recent: Recent) -> dict[str, np.ndarray]:
        """`wanted`: pseudo-labels, int32 `[examples]`."""
        return {"wanted": centroid_labels(recent.features(), class_probabilities(recent.logits)).astype(np.int32)}

    def term(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> Term:
        """The loss of a batch with the columns `x`, `real` and `wanted`."""
        logits = tf.cast(model(batch["x"], training=False), tf.float32)
        logs = tf.nn.log_softmax(logits)
        probabilities = tf.exp(logs)
        real = batch["real"]
        mean = tf.reduce_sum(probabilities * real[:, None], axis=0) / tf.reduce_sum(real)  # [classes]
        # The mean of this term is the entropy of the mean, and so is its gradient: the probabilities' changes sum to 0.
        diversity = -tf.reduce_sum(probabilities * tf.stop_gradient(tf.math.log(mean + _TINY)), axis=-1)
        entropy = -tf.reduce_sum(probabilities * logs, axis=-1)
        labels = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["wanted"], logits)
        return Term(entropy - diversity + self.pseudo * labels, real)


def centroid_labels(features: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Class of the nearest centroid by cosine, int `[examples]`; the centroids are made twice (equations 4 to 6).

    Args:
        features: `[examples, width]`.
        probabilities: `[examples, classes]`.
    """
    # A constant feature and length 1, as in the paper's code.
    features = np.concatenate([features.astype(np.float64), np.ones((len(features), 1))], axis=1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels, weights = None, probabilities
    for _ in range(2):
        centroids = weights.T @ features  # [classes, width + 1]; their length does not matter
        lengths = np.linalg.norm(centroids, axis=1)
        similarities = features @ (centroids / np.maximum(lengths, _TINY)[:, None]).T
        # A class without examples attracts none.
        labels = np.where(lengths > _TINY, similarities, -np.inf).argmax(axis=1)
        weights = np.eye(probabilities.shape[1])[labels]
    return labels


SHOT = Shot()
