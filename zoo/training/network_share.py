"""The network's share in a mixture of logits, chosen on the validation split after training.

A linear model of n-grams stands beside a network that may be far better, when it is pretrained, or worse than nothing,
when texts are few. Which weight is right shows on examples that neither has learned from (stacking: Wolpert, 1992; for
classifiers of texts Mesnil et al., 2014, section 3). The cross-entropy is convex in the weight, so there is one best.

On a few validation examples the best weight is chance. So the first one stays unless another has a lower loss beyond
chance: a paired t-test over the examples, one-sided, at 5 %.
"""

from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

from zoo.errors import BadInput
from zoo.experiment import TunedShare
from zoo.metrics.logits import cross_entropies
from zoo.models import class_imbalance
from zoo.models.class_imbalance import ClassImbalance
from zoo.models.logits_mixture import LogitsMixture
from zoo.training.context import RunContext

SHARES = tuple(number / 10 for number in range(11))
# Probability to leave the first share where it is as good as any other.
_CHANCE = 0.05


class Choice(NamedTuple):
    """A chosen share.

    Attributes:
        share: the network's weight.
        losses: mean validation loss by share.
    """

    share: float
    losses: dict[float, float]


def of_classifier(model: keras.Model, imbalance: ClassImbalance = class_imbalance.PLAIN) -> TunedShare | None:
    """The share in a classifier with the labels `y`; None for a network without a linear model.

    Where training raises the logits of rare classes, their validation examples weigh as much more: the mixture is to be
    the best for what the network has learned.
    """
    layer = next((layer for layer in model.layers if isinstance(layer, LogitsMixture)), None)
    if layer is None:
        return None
    if imbalance.log_odds is None:
        return TunedShare(layer, lambda logits, columns: cross_entropies(logits, columns["y"]))
    weights = np.exp(imbalance.log_odds.astype(np.float64))

    def losses(logits: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        of_examples = weights[columns["y"]]
        return cross_entropies(logits, columns["y"]) * of_examples / of_examples.mean()

    return TunedShare(layer, losses, "weighted cross-entropy")


def of_labels(model: keras.Model) -> TunedShare | None:
    """The share in a multi-label classifier with the labels `y` `[examples, labels]`; None as in `of_classifier`."""
    layer = next((layer for layer in model.layers if isinstance(layer, LogitsMixture)), None)
    if layer is None:
        return None

    def losses(logits: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return (np.logaddexp(0.0, logits) - columns["y"] * logits).mean(axis=1)

    return TunedShare(layer, losses)


def choose(network: np.ndarray, linear: np.ndarray, columns, tuned: TunedShare) -> Choice:
    """Chooses the share by the loss of validation examples.

    Args:
        network: the model's logits with share 1, `[examples, ..., outputs]`.
        linear: those with share 0; in between they are interpolated.
        columns: columns of the examples.
        tuned: what is chosen.
    """
    first = tuned.layer.first_share
    shares = sorted({*SHARES, first})
    network, linear = network.astype(np.float64), linear.astype(np.float64)
    losses = {share: tuned.losses(share * network + (1 - share) * linear, columns) for share in shares}
    means = {share: float(loss.mean()) for share, loss in losses.items()}
    # Equally good ones may differ where a part is constant; the nearest to the first is taken.
    best = min(shares, key=lambda share: (means[share], abs(share - first)))
    is_better = _is_less(losses[best] - losses[first])
    return Choice(best if is_better else first, means)


def tune(context: RunContext) -> dict[str, float]:
    """Sets the model's share, with the weights that it has now; returns it as `network_share`, and says so.

    The two parts' logits are those of two evaluations of the first validation set.

    Raises:
        BadInput: the experiment's `forward` does not return the logits.
    """
    tuned, evals = context.experiment.tuned, context.experiment.evals
    if tuned is None or not evals:
        return {}
    batches = next(iter(evals.values()))
    parts = []
    for share in (1.0, 0.0):
        tuned.layer.set_share(share)
        outputs = context.engine.evaluate_with_outputs(batches)[1]
        if "logits" not in outputs:
            raise BadInput("forward returns no zoo.terms.Output named 'logits', which Experiment(tuned=...) needs")
        parts.append(outputs["logits"])
    choice = choose(*parts, batches.columns, tuned)
    tuned.layer.set_share(choice.share)
    context.reporter.progress.say(_described(choice, tuned))
    return {"network_share": choice.share}


def _is_less(differences: np.ndarray) -> bool:
    """Whether the mean of differences `[examples]` is below 0 beyond chance."""
    from scipy import stats

    count = len(differences)
    if count < 2:
        return False
    error = differences.std(ddof=1) / np.sqrt(count)
    return bool(differences.mean() < -stats.t.ppf(1 - _CHANCE, count - 1) * error)


def _described(choice: Choice, tuned: TunedShare) -> str:
    others = sorted({0.0, tuned.layer.first_share} - {choice.share})
    compared = ", ".join(f"{choice.losses[share]:.4f} with {share:g}" for share in others)
    return (
        f"the network's share in the logits: {choice.share:g}; {tuned.name} of the validation examples "
        f"{choice.losses[choice.share]:.4f} ({compared})"
    )
