"""LAME (`--refine=lame`): predictions are made to agree with those of similar examples of the stream.

Boudiaf et al., "Parameter-free online test-time adaptation", 2022, sections 4 and 5: no weight changes. The output
minimises the divergence from the model's probabilities and the Laplacian of an affinity between the examples, here the
five nearest neighbours of each in feature space. The recent examples take the place of the paper's batch. Features are
those of the model before the input is changed.

Where a batch holds few classes, neighbours share their class; where it holds all, a damaged example pulls its
neighbours to a wrong one. No score without labels told these cases apart, as the adjustment makes all predictions
confident. So it waits for the proof that classes persist which coherence.py asks for.
"""

from typing import Any

import numpy as np

from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages.batch_answer import BatchAnswer
from zoo.adaptation.stages.coherence import Coherence
from zoo.adaptation.stages.features import last_features
from zoo.metrics.logits import class_probabilities, softmax
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# Most rounds; the paper's code has the same limits.
_ROUNDS, _CONVERGED = 100, 1e-8
_TINY = 1e-12


class Lame:
    """Answers a batch with its Laplacian-adjusted probabilities.

    Args:
        neighbours: nearest neighbours of each example (the paper's k: 5, chosen on its validation data).
        needs_proof: whether the order must prove first that classes persist; False: always, as in the paper.
    """

    name, target, max_score_ratio, restarts_each_batch = "lame", "output", None, False

    def __init__(self, neighbours: int = 5, needs_proof: bool = True):
        self._neighbours, self.needs_proof = neighbours, needs_proof
        self._order = Coherence()

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Finds the features.

        Raises:
            BadInput: the last layer is not a dense layer of one input.
        """
        self._features, self._answer = last_features(predictor, "--refine=lame"), BatchAnswer()
        self._order.begin(predictor, source)

    def propose(self, context: StreamContext) -> str:
        """Adjusts the recent examples' probabilities, and answers the batch, which are the last of them."""
        self._answer.clear()
        objection = self._order.propose(context)
        if objection and self.needs_proof:
            return objection
        affinity = nearest(self._features.logits(context.recent).astype(np.float64), self._neighbours)
        adjusted = laplacian_adjusted(class_probabilities(context.logits), affinity)[-len(context.batch) :]
        self._answer.set(context.batch, np.log(np.maximum(adjusted, _TINY)))
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logarithms of the adjusted probabilities for the batch; other examples have no neighbours."""
        return self._answer.logits(examples, inner)

    def state(self) -> Any:
        """What is known of the order."""
        return self._order.state()

    def load(self, state: Any) -> None:
        """Sets it."""
        self._order.load(state)
        self._answer.clear()


def nearest(features: np.ndarray, neighbours: int) -> np.ndarray:
    """Affinity `[examples, examples]`: 1 in the row of an example for each of its nearest neighbours by cosine."""
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _TINY)
    similarities = features @ features.T
    np.fill_diagonal(similarities, -np.inf)
    neighbours = min(neighbours, len(features) - 1)
    chosen = np.argsort(-similarities, axis=1, kind="stable")[:, :neighbours]
    affinity = np.zeros_like(similarities)
    np.put_along_axis(affinity, chosen, 1.0, axis=1)
    return affinity


def laplacian_adjusted(probabilities: np.ndarray, affinity: np.ndarray) -> np.ndarray:
    """Minimises the paper's equation 5 by the fixed-point iteration of its equation 8.

    Args:
        probabilities: the model's, `[examples, classes]`.
        affinity: `[examples, examples]`.

    Returns:
        The adjusted probabilities, `[examples, classes]`.
    """
    logs = np.log(np.maximum(probabilities, _TINY))
    adjusted, energy = probabilities, np.inf
    for _ in range(_ROUNDS):
        pairwise = affinity @ adjusted
        adjusted = softmax(logs + pairwise)
        before, energy = energy, _energy(adjusted, logs, pairwise)
        if abs(energy - before) <= _CONVERGED * abs(energy):
            break
    return adjusted


def _energy(adjusted: np.ndarray, logs: np.ndarray, pairwise: np.ndarray) -> float:
    return float(np.sum(adjusted * (np.log(np.maximum(adjusted, _TINY)) - logs - pairwise)))
