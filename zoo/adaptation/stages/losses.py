"""Losses without labels, by which `Parameters` learns at prediction time, with the settings of their papers.

`TENT` minimises the entropy of confident answers, `SAR` where the loss is flat, `EATA` of answers that are unlike
those before, and `COTTA` follows a teacher that moves slowly. Each is a plain value: `SAR._replace(radius=0.1)` is
another.
"""

import math
from typing import NamedTuple

import keras
import tensorflow as tf

from zoo.terms import Term

_TINY = 1e-12


class EntropyLoss(NamedTuple):
    """Minimises the entropy of answers.

    Attributes:
        optimizer: one of `zoo.engine.optimizers.NAMES`.
        learning_rate: constant.
        margin: entropies below this share of the largest one count (Niu et al., 2022, section 3.2: 0.4).
        novelty: only answers whose cosine with the mean of those learned from before is below this count, and the surer
            ones count more (Niu et al., 2022, section 3.2); None for all alike.
        radius: of the step towards more entropy from which the gradient is taken (sharpness-aware minimisation: Foret
            et al., 2021; for this, Niu et al., 2023, section 4); 0 for the gradient where the weights are.
        floor: a moving average of the entropies below this share of the largest one has collapsed: all is forgotten
            (Niu et al., 2023, section 4).
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    margin: float = 0.4
    novelty: float | None = None
    radius: float = 0.0
    floor: float = 0.0

    def term(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> Term:
        """The loss of a batch of `x` and `real`, and with `novelty` the mean answer so far as `wanted`."""
        if not self.radius:
            return Term(*self._entropies(model, batch))
        values = [variable.value for variable in model.trainable_variables]
        moved, kept = _ascended(model, values, lambda: self._entropies(model, batch), self.radius)
        with keras.StatelessScope(list(zip(model.trainable_variables, moved))):
            entropy, confident = self._entropies(model, batch)
        # Those that are not confident any more on the slope do not count either.
        return Term(entropy, kept * confident)

    def _entropies(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Entropies in nats, and the weights of the examples, `[batch]` both; statistics are those that are set."""
        logits = tf.cast(model(batch["x"], training=False), tf.float32)
        logs = tf.nn.log_softmax(logits)
        entropy = -tf.reduce_sum(tf.exp(logs) * logs, axis=-1)
        least = self.margin * math.log(logits.shape[-1])
        weights = tf.cast(entropy < least, tf.float32) * batch["real"]
        if self.novelty is not None:
            cosine = tf.reduce_sum(tf.nn.l2_normalize(tf.exp(logs), 1) * tf.nn.l2_normalize(batch["wanted"], 1), axis=1)
            weights *= tf.cast(cosine < self.novelty, tf.float32) * tf.exp(least - entropy)
        return entropy, tf.stop_gradient(weights)


class MeanTeacher(NamedTuple):
    """Follows a teacher, whose weights are the moving average of the learner's, and which answers (CoTTA).

    Wang et al., "Continual test-time domain adaptation", 2022, section 3. There all weights learn; here scales and
    shifts, as with the others, so that the statistics stay what they are fitted to. There views are averaged only where
    the source model is unsure; here always.

    Attributes:
        optimizer: as of `EntropyLoss`.
        learning_rate: likewise.
        decay: of the moving average, for each batch of the stream.
        restored: share of the learner's weights that go back to the source's after each batch.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    decay: float = 0.999
    restored: float = 0.01

    def term(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> Term:
        """The cross-entropy of a batch of `x` and `real` with the teacher's probabilities `wanted`."""
        logits = tf.cast(model(batch["x"], training=False), tf.float32)
        return Term(tf.nn.softmax_cross_entropy_with_logits(batch["wanted"], logits), batch["real"])


AdaptationLoss = EntropyLoss | MeanTeacher

# Wang et al., "Tent", 2021, section 4, with the margin of Niu et al., 2022.
TENT = EntropyLoss()
# Niu et al., "Towards stable test-time adaptation in dynamic wild world", 2023, section 5; 0.2 nats of a thousand
# classes are 0.029 of the largest entropy.
SAR = EntropyLoss("momentum", 2.5e-4, radius=0.05, floor=0.029)
# Niu et al., "Efficient test-time model adaptation without forgetting", 2022, section 5.1, for ten classes.
EATA = EntropyLoss("momentum", 5e-3, novelty=0.4)
COTTA = MeanTeacher()
LEARNERS: dict[str, AdaptationLoss] = {"tent": TENT, "sar": SAR, "eata": EATA, "cotta": COTTA}


def _ascended(model, values, entropies, radius):
    """The weights moved by `radius` up the slope, as far as gradients know not moved; and the examples' weights."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        with keras.StatelessScope(list(zip(model.trainable_variables, values))):
            entropy, weights = entropies()
        total = tf.reduce_sum(entropy * weights)
    slope = tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    scale = radius / tf.maximum(tf.linalg.global_norm(slope), _TINY)
    return [value + tf.stop_gradient(scale * each) for value, each in zip(values, slope)], weights
