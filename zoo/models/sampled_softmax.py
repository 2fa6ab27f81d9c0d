"""The cross-entropy over a large vocabulary, estimated from a sample of it: a language model's costly last layer."""

import numpy as np
import tensorflow as tf

from zoo import randomness


class Sampler:
    """Draws words to compare the wanted one with, anew in each step and the same for all of its examples.

    Args:
        counts: `[vocabulary]`, how often each id stands in the training texts.
        samples: words drawn per step, with replacement.
    """

    def __init__(self, counts: np.ndarray, samples: int):
        # The power flattens the frequencies (Mikolov et al., 2013, section 2.2); 1 more, as any word may be wanted.
        shares = (np.asarray(counts, np.float64) + 1.0) ** 0.75
        shares /= shares.sum()
        self.samples = samples
        self._cumulated = np.cumsum(shares).astype(np.float32)
        self._logs = np.log(samples * shares).astype(np.float32)

    def cross_entropy(self, hidden: tf.Tensor, wanted: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        """Estimates the cross-entropy by importance sampling (Bengio and Senecal, 2008; Jean et al., 2015).

        The wanted word's share of the sum over the vocabulary is exact, the others' an unbiased estimate; for few
        samples the logarithm of it, and with it the result, is too low. To be called inside the engine's forward pass.

        Args:
            hidden: `[time, batch, width]`.
            wanted: int32 `[time, batch]`.
            matrix: `[vocabulary, width]`.

        Returns:
            `[time, batch]` in nats.
        """
        drawn = randomness.uniform([self.samples], randomness.scope_key(randomness.current()))
        words = tf.minimum(tf.searchsorted(self._cumulated, drawn, side="right"), len(self._logs) - 1)
        flat, target = tf.reshape(hidden, [-1, hidden.shape[-1]]), tf.reshape(wanted, [-1])
        right = tf.reduce_sum(flat * tf.gather(matrix, target), axis=-1)
        # A word that is drawn more often than others counts for less, so that all weigh as in the full sum.
        others = tf.matmul(flat, tf.gather(matrix, words), transpose_b=True) - tf.gather(self._logs, words)
        others = tf.where(words == target[:, None], others.dtype.min, others)
        # By hand: joined to one array for reduce_logsumexp, the scores would be copied twice.
        top = tf.stop_gradient(tf.maximum(tf.reduce_max(others, axis=-1), right))
        total = tf.exp(right - top) + tf.reduce_sum(tf.exp(others - top[:, None]), axis=-1)
        return tf.reshape(tf.math.log(total) + top - right, tf.shape(wanted))
