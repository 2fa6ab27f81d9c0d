"""Entropy minimisation: the unsupervised loss that TENT, SAR and EATA share.

Their settings are in tent.py, sar.py and eata.py; the other learners have losses of their own, in deyo.py, roid.py,
shot.py and cotta.py.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation.stages.learner import Recent
from zoo.terms import Term

_TINY = 1e-12


class EntropyLoss(NamedTuple):
    """Minimises the entropy of the predictions.

    Attributes:
        optimizer: one of `zoo.engine.optimizers.NAMES`.
        learning_rate: a constant.
        margin: an example counts if its entropy is below this share of the largest one, log(classes) (Niu et al., 2022,
            section 3.2: 0.4).
        novelty: an example counts if the cosine of its probabilities with the running mean is below this, and counts
            more the lower its entropy (Niu et al., 2022, section 3.2); None: all confident examples count alike.
        radius: length of the ascent step of sharpness-aware minimisation (Foret et al., 2021; for entropy: Niu et al.,
            2023, section 4); 0: the plain gradient.
        floor: the model has collapsed when the moving average of the entropy is below this share of the largest one; it
            is then reset (Niu et al., 2023, section 4).
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    margin: float = 0.4
    novelty: float | None = None
    radius: float = 0.0
    floor: float = 0.0

    trains_features, source_share = False, 0.0

    def columns(self, recent: Recent) -> dict[str, np.ndarray]:
        """`wanted`: the mean probabilities."""
        return {"wanted": np.tile(recent.mean_probabilities.astype(np.float32), (len(recent.examples), 1))}

    def term(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> Term:
        """The loss of a batch with the columns `x`, `real` and, for `novelty`, `wanted` (the mean probabilities)."""
        if not self.radius:
            return Term(*self._entropies(model, batch))
        values = [variable.value for variable in model.trainable_variables]
        ascended, weights = _sharpness_ascent(model, values, lambda: self._entropies(model, batch), self.radius)
        with keras.StatelessScope(list(zip(model.trainable_variables, ascended))):
            entropy, confident = self._entropies(model, batch)
        # An example must be confident at both points.
        return Term(entropy, weights * confident)

    def _entropies(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Entropies in nats and weights of the examples, both `[batch]`; the model's statistics are not updated."""
        logits = tf.cast(model(batch["x"], training=False), tf.float32)
        logs = tf.nn.log_softmax(logits)
        entropy = -tf.reduce_sum(tf.exp(logs) * logs, axis=-1)
        limit = self.margin * math.log(logits.shape[-1])
        weights = tf.cast(entropy < limit, tf.float32) * batch["real"]
        if self.novelty is not None:
            cosine = tf.reduce_sum(tf.nn.l2_normalize(tf.exp(logs), 1) * tf.nn.l2_normalize(batch["wanted"], 1), axis=1)
            weights *= tf.cast(cosine < self.novelty, tf.float32) * tf.exp(limit - entropy)
        return entropy, tf.stop_gradient(weights)


def _sharpness_ascent(model, values, entropies, radius):
    """The weights after a step of length `radius` up the gradient, and the examples' weights before it.

    The step itself is not differentiated.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        with keras.StatelessScope(list(zip(model.trainable_variables, values))):
            entropy, weights = entropies()
        total = tf.reduce_sum(entropy * weights)
    gradients = tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    scale = radius / tf.maximum(tf.linalg.global_norm(gradients), _TINY)
    return [value + tf.stop_gradient(scale * gradient) for value, gradient in zip(values, gradients)], weights
