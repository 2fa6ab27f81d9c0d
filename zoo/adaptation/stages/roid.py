"""ROID (`--learner=roid`): a soft likelihood ratio, on certain and diverse examples, with a pull back to the source.

Marsden et al., "Universal test-time adaptation through weight ensembling, diversity weighting, and prior correction",
2024, section 3. The loss is the logarithm of the odds of the predictions instead of their entropy, so its gradient does
not vanish for confident examples. Examples unlike the mean prediction and of low entropy count more; those more like it
than the average example do not count. After each batch the weights go a hundredth of the way back to the source's
(weight ensembling). The consistency loss, optional in the paper's code, is left out; its prior correction is the stage
`batch_prior`. Settings are those for ten classes.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation.stages.learner import Recent
from zoo.terms import Term

_TINY = 1e-12
# Probabilities are at most this, so that their odds stay finite (the paper's code).
_MOST = 0.99


class Roid(NamedTuple):
    """Soft likelihood ratio with weights by certainty and diversity.

    Attributes:
        optimizer: one of `zoo.engine.optimizers.NAMES`.
        learning_rate: a constant.
        temperature: weights are exp(diversity * certainty / temperature), both scaled to 0 to 1 over the batch.
        source_share: part of the way back to the source's weights after each batch.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    temperature: float = 1 / 3
    source_share: float = 0.01

    trains_features = False

    def columns(self, recent: Recent) -> dict[str, np.ndarray]:
        """`wanted`: the mean probabilities, even before the first batch."""
        classes = recent.logits.shape[1]
        mean = recent.mean_probabilities if recent.mean_probabilities.any() else np.full(classes, 1 / classes)
        return {"wanted": np.tile(mean.astype(np.float32), (len(recent.examples), 1))}

    def term(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> Term:
        """The loss of a batch with the columns `x`, `real` and `wanted`."""
        logits = tf.cast(model(batch["x"], training=False), tf.float32)
        probabilities = tf.nn.softmax(logits)
        capped = tf.minimum(probabilities, _MOST)
        odds = tf.math.log(tf.maximum(capped, _TINY)) - tf.math.log(1 - capped)
        loss = -tf.reduce_sum(capped * odds, axis=-1)
        weights = tf.stop_gradient(self._weights(probabilities, batch["wanted"], batch["real"]))
        # The mean over all examples, as in the paper; not over those that count.
        return Term(weights * loss, batch["real"])

    def _weights(self, probabilities: tf.Tensor, mean: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        """Weights of the examples, `[batch]`."""
        cosine = tf.reduce_sum(tf.nn.l2_normalize(probabilities, 1) * tf.nn.l2_normalize(mean, 1), axis=1)
        logs = tf.math.log(tf.maximum(probabilities, _TINY))
        diversity, certainty = _scaled(1 - cosine, real), _scaled(tf.reduce_sum(probabilities * logs, axis=1), real)
        average = tf.reduce_sum(diversity * real) / tf.reduce_sum(real)
        return tf.exp(diversity * certainty / self.temperature) * tf.cast(diversity >= average, tf.float32) * real


def _scaled(values: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Values `[batch]` from 0 to 1 over the real examples."""
    low = tf.reduce_min(tf.where(real > 0, values, np.inf))
    high = tf.reduce_max(tf.where(real > 0, values, -np.inf))
    return tf.clip_by_value((values - low) / tf.maximum(high - low, _TINY), 0.0, 1.0)


ROID = Roid()
