"""Losses for rare classes: class weights, focal loss and logit adjustment, in training only.

A classifier that is trained on the mean loss serves a class in proportion to its examples. Each method changes what a
step minimizes; evaluations keep the plain cross-entropy, so that runs can be compared.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from zoo.data import class_balance

METHODS = ("none", "weights", "sqrt_weights", "balanced_sampling", "focal", "logit_adjusted", "class_balanced")
# Lin et al. (2017) found 2 best, and 0.5 to 5 robust.
_GAMMA = 2.0


class ClassImbalance(NamedTuple):
    """What a method does to the logits and the losses of a training step; the default does nothing.

    Attributes:
        weights: factor of the losses of each class, float32 `[classes]`.
        offsets: added to the logits before the loss, float32 `[classes]`.
        gamma: exponent of the focal loss; 0: none.
        log_odds: how much the method raises the logits of each class over those of plain training, where both fit
            their loss: float32 `[classes]`. Beside the network, a linear model that was fitted plainly is moved by it.
    """

    weights: np.ndarray | None = None
    offsets: np.ndarray | None = None
    gamma: float = 0.0
    log_odds: np.ndarray | None = None

    def logits(self, logits: tf.Tensor) -> tf.Tensor:
        """The logits that a training step's loss is of; one logit for two classes stays one.

        Args:
            logits: `[..., classes]`, or `[..., 1]` for two classes.
        """
        return logits if self.offsets is None else logits + _for_outputs(self.offsets, logits.shape[-1])

    def losses(self, losses: tf.Tensor, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The losses, each times the weight of its class and the factor of the focal loss.

        The factors multiply the values and not the weights of a `Term`, which the step divides by: an example of a rare
        class has the same weight whatever else is in its batch.

        Args:
            losses: `[batch, ...]`, label smoothing included.
            logits: `[batch, ..., classes]` of these losses, or `[batch, 1]` for two classes.
            labels: int32 `[batch]`.
        """
        labels = tf.reshape(labels, [-1] + [1] * (losses.shape.rank - 1))  # [batch, 1, ...]
        if self.gamma:
            if logits.shape[-1] == 1:
                logits = tf.concat([tf.zeros_like(logits), logits], axis=-1)  # [batch, 2]
            labels_of_all = tf.broadcast_to(labels, tf.shape(logits)[:-1])
            cross_entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(labels_of_all, logits)
            # 1 - p of the true class, without cancellation where p is near 1.
            losses *= tf.pow(-tf.math.expm1(-cross_entropies), self.gamma)
        return losses if self.weights is None else losses * tf.gather(tf.constant(self.weights), labels)


# Plain training.
PLAIN = ClassImbalance()


def make(method: str, labels: np.ndarray, classes: int, weights: np.ndarray | None = None) -> ClassImbalance:
    """What a method of `--imbalance` does for a training split.

    - weights: the loss of an example times the inverse frequency of its class; "sqrt_weights": its square root;
      "class_balanced": by the effective number of samples (Cui et al., "Class-balanced loss based on effective number
      of samples", 2019). See `zoo.data.class_balance`.
    - focal: the loss times (1 - p)^2 with the probability p of the true class, so that easy examples, most of them of
      frequent classes, count little (Lin et al., "Focal loss for dense object detection", 2017, equation 4).
    - logit_adjusted: the logarithm of the class's share of the examples is added to the logits before the loss, so that
      the logits without it minimize the balanced error (Menon et al., "Long-tail learning via logit adjustment", 2021,
      equation 10 with tau = 1). A class without examples has no such term.
    - balanced_sampling: nothing here; `zoo.data.batches.Batches(balance=...)` draws each class equally often.

    Args:
        method: one of `METHODS`.
        labels: int `[examples]` of the training split.
        classes: number of classes.
        weights: example weights `[examples]`: the size of a class is their sum.

    Raises:
        ValueError: the method is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"imbalance is {method!r}: expected one of {', '.join(METHODS)}")
    if method == "none":
        return PLAIN
    if method == "focal":
        return ClassImbalance(gamma=_GAMMA)
    # Draws do not look at example weights.
    sizes = class_balance.class_sizes(labels, classes, None if method == "balanced_sampling" else weights)
    if method in ("logit_adjusted", "balanced_sampling"):
        shares = class_balance.log_shares(sizes).astype(np.float32)
        return ClassImbalance(offsets=shares if method == "logit_adjusted" else None, log_odds=-shares)
    weigh = {
        "weights": class_balance.inverse_frequencies,
        "sqrt_weights": class_balance.square_roots,
        "class_balanced": class_balance.effective_numbers,
    }[method]
    factors = weigh(sizes).astype(np.float32)
    return ClassImbalance(weights=factors, log_odds=np.log(factors))


def moved_bias(bias: np.ndarray, imbalance: ClassImbalance) -> np.ndarray:
    """The bias `[outputs]` of a plainly fitted linear model, moved by the method's `log_odds`.

    The correction of King and Zeng ("Logistic regression in rare events data", 2001, section 4.1) for other proportions
    of the classes, which Menon et al. (2021, section 4.1) call post-hoc logit adjustment.
    """
    return bias if imbalance.log_odds is None else bias + _for_outputs(imbalance.log_odds, len(bias))


def _for_outputs(by_class: np.ndarray, outputs: int) -> np.ndarray:
    """A number per class as one per output of a model, which may have one logit for two classes."""
    return by_class[1:] - by_class[:1] if outputs == 1 and len(by_class) == 2 else by_class
