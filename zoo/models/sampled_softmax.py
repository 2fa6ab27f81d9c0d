"""Sampled softmax: the cross-entropy over a large vocabulary, a language model's costly last layer, estimated."""

import numpy as np
import tensorflow as tf

from zoo import randomness


class Sampler:
    """Draws the negative samples, again in each step and shared by all examples of the batch.

    Args:
        counts: `[vocabulary]`, frequency of each id in the training texts.
        samples: number of ids drawn per step, with replacement.
    """

    def __init__(self, counts: np.ndarray, samples: int):
        # The power flattens the frequencies (Mikolov et al., 2013, section 2.2); 1 is added, as any id may be a label.
        probabilities = (np.asarray(counts, np.float64) + 1.0) ** 0.75
        probabilities /= probabilities.sum()
        self.samples = samples
        self._cumulative = np.cumsum(probabilities).astype(np.float32)
        self._log_counts = np.log(samples * probabilities).astype(np.float32)

    def cross_entropy(self, hidden: tf.Tensor, labels: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        """Estimates the cross-entropy by importance sampling (Bengio and Senecal, 2008; Jean et al., 2015).

        The label's term of the sum over the vocabulary is exact, the other terms an unbiased estimate; with few
        samples its logarithm, and with it the result, is too low. To be called inside the engine's forward pass.

        Args:
            hidden: `[time, batch, width]`.
            labels: int32 `[time, batch]`.
            matrix: `[vocabulary, width]`.

        Returns:
            `[time, batch]` in nats.
        """
        uniform = randomness.uniform([self.samples], randomness.scope_key(randomness.current()))
        sampled = tf.minimum(tf.searchsorted(self._cumulative, uniform, side="right"), len(self._log_counts) - 1)
        flat_hidden = tf.reshape(hidden, [-1, hidden.shape[-1]])  # [time * batch, width]
        flat_labels = tf.reshape(labels, [-1])  # [time * batch]
        label_logits = tf.reduce_sum(flat_hidden * tf.gather(matrix, flat_labels), axis=-1)  # [time * batch]
        # Minus the log of the expected count, so that frequent samples weigh as in the full sum.
        logits = tf.matmul(flat_hidden, tf.gather(matrix, sampled), transpose_b=True)  # [time * batch, samples]
        logits -= tf.gather(self._log_counts, sampled)
        logits = tf.where(sampled == flat_labels[:, None], logits.dtype.min, logits)
        # Not reduce_logsumexp: joining the logits to one array would copy them twice.
        top = tf.stop_gradient(tf.maximum(tf.reduce_max(logits, axis=-1), label_logits))
        total = tf.exp(label_logits - top) + tf.reduce_sum(tf.exp(logits - top[:, None]), axis=-1)
        return tf.reshape(tf.math.log(total) + top - label_logits, tf.shape(labels))  # [time, batch]
