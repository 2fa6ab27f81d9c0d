"""R-Drop: two passes of each training example under different dropout masks, whose answers are to agree.

Wu et al., "R-Drop: regularized dropout for neural networks", 2021, equations 1 to 4. With the probabilities p and q of
the two passes and the true class y, the paper minimizes

    -log p(y) - log q(y) + alpha * (KL(p || q) + KL(q || p)) / 2

and the zoo half of that: the mean of the two losses, so that it, and the learning rate, clip norm and weight decay that
suit it, stay what they are in a run without R-Drop, and alpha / 2 times the mean divergence. Alpha is the paper's. The
divergence is a term of its own, `r_drop`, so that the loss in the log can be compared, too.

The noise of the second pass has the streams after those of the first (`zoo.randomness`), so it is another noise, and a
function of seed, step and place in the global batch as all noise is.
"""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from zoo import randomness
from zoo.errors import BadInput
from zoo.terms import Output, Term

Forward = Callable[[keras.Model, dict[str, tf.Tensor], bool], dict[str, Term | Output]]
Divergence = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
_NAME = "r_drop"


def terms(alpha: float) -> tuple[str, ...]:
    """What the objective has more: the divergence, unless alpha is 0."""
    return (_NAME,) if alpha else ()


def of_classes(logits: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Equation 2: the mean of both Kullback-Leibler divergences of the classes' probabilities.

    Args:
        logits: `[..., classes]`, or `[..., 1]` for two classes.
        others: the same of the other pass.

    Returns:
        float32 `[...]`, in nats.
    """
    if logits.shape[-1] == 1:
        return of_labels(logits, others)
    logs, other_logs = (tf.nn.log_softmax(tf.cast(each, tf.float32)) for each in (logits, others))
    # Of both divergences together no term is negative.
    return 0.5 * tf.reduce_sum((tf.exp(logs) - tf.exp(other_logs)) * (logs - other_logs), axis=-1)


def of_labels(logits: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """The same for labels that an example has or lacks, one by one, and the mean over the labels.

    Args:
        logits: `[..., labels]`.
        others: the same of the other pass.

    Returns:
        float32 `[...]`, in nats.
    """
    logits, others = tf.cast(logits, tf.float32), tf.cast(others, tf.float32)
    return 0.5 * tf.reduce_mean((tf.sigmoid(logits) - tf.sigmoid(others)) * (logits - others), axis=-1)


def of_values(values: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """The same for numbers, whose loss is half the squared error: that of normal distributions of variance 1.

    Args:
        values: `[..., 1]`.
        others: the same of the other pass.

    Returns:
        float32 `[...]`: half the squared differences.
    """
    return 0.5 * tf.square(tf.cast(values, tf.float32) - tf.cast(others, tf.float32))[..., 0]


def regularized(forward: Forward, alpha: float, divergence: Divergence = of_classes) -> Forward:
    """A `forward` of two passes in training; name its further term in the objective, see `terms`.

    Args:
        forward: what is called twice. It gives the term `loss`, `[batch]` or `[batch, time]`, and in training the
            output `logits`, of the answers that are compared: those of each example, and perhaps of each of several
            members, whose mean divergence counts. Changes of the batch, such as augmentation, belong before it: the
            passes are to see the same.
        alpha: weight of the divergence; 0 returns `forward` itself.
        divergence: function of the logits of the two passes; `of_classes`, `of_labels` or `of_values`.

    Raises:
        BadInput: when it is traced, nothing in `forward` draws noise, so that the passes would be the same.
    """
    if not alpha:
        return forward

    @functools.wraps(forward)
    def two_passes(model, batch, training: bool) -> dict[str, Term | Output]:
        if not training:
            return forward(model, batch, False)
        first = _with_noise(forward, model, batch, alpha)
        second = forward(model, batch, True)
        means = {name: _mean(term, second[name]) for name, term in first.items() if isinstance(term, Term)}
        loss = means["loss"]
        values = divergence(first["logits"].values, second["logits"].values)
        while values.shape.rank > loss.values.shape.rank:
            values = tf.reduce_mean(values, axis=-1)
        return {**first, **means, _NAME: Term(0.5 * alpha * values, loss.weights)}

    return two_passes


def _with_noise(forward: Forward, model, batch, alpha: float) -> dict[str, Term | Output]:
    """The first pass; refused where it draws no random numbers."""
    scope = randomness.current()
    before = 0 if scope is None else scope.streams
    results = forward(model, batch, True)
    if scope is not None and scope.streams == before:
        raise BadInput(
            f"--r_drop={alpha:g} without noise in the network: both passes of an example would be the same; set "
            "--dropout as well, or leave --r_drop out"
        )
    return results


def _mean(first: Term, second: Term) -> Term:
    return first._replace(values=0.5 * (first.values + second.values))
