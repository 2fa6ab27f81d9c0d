"""Nearest labelled examples (`--refine=neighbours`): half of each answer is a vote of similar validation examples.

The vectors before the model's last layer are compared; the votes of the nearest labelled ones and the model's
probabilities are averaged (Khandelwal et al., "Generalization through memorization: nearest neighbor language models",
2020, section 2; Papernot and McDaniel, "Deep k-nearest neighbors", 2018; Rajani et al., "Explaining and improving model
behavior with k nearest neighbor representations", 2020). The last layer extrapolates: far from the data it was trained
on, it becomes sure of one class, while neighbours cannot be surer than their labels are unanimous.

The labelled examples are those of the validation split, not of the training split, although these are more: a model
knows them nearly by heart, so their vectors lie apart by class as no new example's do. Both were measured, and so were
neighbours weighted by how much they look like the stream: `benchmarks.multi_step.neighbours`.
"""

from typing import Any

import numpy as np
from scipy import special

from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages.features import last_features
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# Neighbours that vote, and the most as a share of the labelled examples: with more, all classes vote everywhere.
_NEIGHBOURS, _LARGEST_SHARE = 128, 1 / 8
# Squared distance at which a vote weighs e times less, as a share of the median between labelled examples. Chosen,
# with the number of neighbours, on one LSTM of IMDB on SST-2, whose seed has no part in any figure.
_WIDTH = 0.3
# Weights of the votes in the answer, in the order in which they are tried; 0: no vote.
_WEIGHTS = (0.5, 0.25)
# Fewer labelled examples have few that are near.
_FEWEST = 100
# Labelled examples that are compared: distances of more take longer than the model itself. And of these, those whose
# distances tell the median; examples that are compared at a time; and vectors that are remembered.
_MOST, _SAMPLE, _PART, _REMEMBERED = 5000, 300, 500, 2000
_TINY = 1e-9


class LabelledVectors:
    """Votes of the nearest labelled vectors.

    Args:
        vectors: `[labelled, width]`.
        labels: int `[labelled]`.
        classes: number of classes.
    """

    def __init__(self, vectors: np.ndarray, labels: np.ndarray, classes: int):
        # Each feature counts by how much it varies among the labelled examples; a constant one hardly.
        self._mean, self._deviation = vectors.mean(axis=0), vectors.std(axis=0)
        self._deviation += _TINY + 1e-3 * self._deviation.mean()
        self._vectors, self._of_class = self._scaled(vectors), np.eye(classes)[labels]
        self._neighbours = max(1, min(_NEIGHBOURS, int(len(labels) * _LARGEST_SHARE)))
        sample = self._vectors[np.random.default_rng(0).permutation(len(labels))[:_SAMPLE]]
        self._width = _WIDTH * max(float(np.median(_squares(sample, sample))), _TINY)

    def votes(self, vectors: np.ndarray, log_weights: np.ndarray | None = None, themselves: bool = False) -> np.ndarray:
        """Shares of the votes for each class, `[examples, classes]`.

        Args:
            vectors: `[examples, width]`.
            log_weights: logarithm of each labelled example's own weight, `[labelled]`; None: all weigh the same.
            themselves: whether the vectors are the labelled ones, in their order, none of which votes for itself.
        """
        own = np.zeros(len(self._vectors)) if log_weights is None else log_weights
        parts = [np.zeros((0, self._of_class.shape[1]))]
        for first in range(0, len(vectors), _PART):
            squares = _squares(self._scaled(vectors[first : first + _PART]), self._vectors)  # [part, labelled]
            if themselves:
                squares[np.arange(len(squares)), first + np.arange(len(squares))] = np.inf
            nearest = np.argpartition(squares, self._neighbours - 1, axis=1)[:, : self._neighbours]
            weights = own[nearest] - np.take_along_axis(squares, nearest, axis=1) / self._width  # [part, neighbours]
            parts.append(np.einsum("en,enc->ec", special.softmax(weights, axis=1), self._of_class[nearest]))
        return np.concatenate(parts)

    def _scaled(self, vectors: np.ndarray) -> np.ndarray:
        return (vectors - self._mean) / self._deviation


class Neighbours:
    """Averages the model's probabilities with the votes of the nearest validation examples."""

    name, target, max_score_ratio, restarts_each_batch = "neighbours", "output", None, False

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Reads the vectors of the validation split and chooses the weight of the votes by leave-one-out.

        Raises:
            BadInput: the model's last layer is not a dense one of `[examples, width]`, or the split is too small.
        """
        self._on, self._known = True, {}
        if len(source.labels) < _FEWEST:
            found = f"the validation split has {len(source.labels)} examples"
            raise BadInput(f"--refine=neighbours: {found}; expected {_FEWEST}")
        chosen = np.sort(np.random.default_rng(0).permutation(len(source.labels))[:_MOST])
        self._reader = last_features(predictor, "--refine=neighbours")
        vectors, labels = self._reader.logits(source.examples).astype(np.float64)[chosen], source.labels[chosen]
        self._labelled = LabelledVectors(vectors, labels, source.logits.shape[1])
        self._source, self._chosen = source.examples, chosen
        self._own_votes = self._labelled.votes(vectors, themselves=True)
        self._weight = _weight(class_probabilities(source.logits[chosen]), self._own_votes, labels)

    def propose(self, context: StreamContext) -> str:
        """Changes nothing: the labelled examples and their weight are fixed from the beginning.

        A changed model has other vectors, and what was chosen for the trained one is not known to hold.
        """
        self._on = not context.changed
        if not self._weight:
            return "the validation split speaks against neighbours"
        return f"weight {self._weight}, chosen before the stream" if self._on else "the model or its input has changed"

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logarithms of the averaged probabilities; validation examples have no vote for themselves."""
        logits = inner(examples)
        if not self._weight or not self._on or not len(examples):
            return logits
        votes = self._labelled.votes(self._vectors(examples))
        if examples is self._source:
            votes[self._chosen] = self._own_votes
        return np.log(np.maximum(_mixed(class_probabilities(logits), votes, self._weight), _TINY))

    def state(self) -> Any:
        """None: nothing changes."""

    def load(self, state: Any) -> None:
        """Does nothing."""

    def _vectors(self, examples: Any) -> np.ndarray:
        """Vectors before the last layer, `[examples, width]`; those of recent examples are computed once."""
        keys = [each.tobytes() if isinstance(each, np.ndarray) else each for each in examples]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        if len(self._known) + len(new) > _REMEMBERED:
            self._known, new = {}, list(range(len(keys)))
        if new:
            asked = examples[new] if isinstance(examples, np.ndarray) else [examples[place] for place in new]
            vectors = self._reader.logits(asked).astype(np.float64)
            self._known |= {keys[place]: vector for place, vector in zip(new, vectors, strict=True)}
        return np.stack([self._known[key] for key in keys])


def _weight(plain: np.ndarray, votes: np.ndarray, labels: np.ndarray) -> float:
    """The first of the weights against which nothing speaks beyond a standard error, in log loss or accuracy; else 0.

    Not the one of least log loss: under a shift, which validation does not show, votes are worth more than here.
    """
    before = _losses(plain, labels)
    for weight in _WEIGHTS:
        after = _losses(_mixed(plain, votes, weight), labels)
        changes = [new - old for old, new in zip(before, after, strict=True)]
        if all(change.mean() <= change.std() / np.sqrt(len(labels)) for change in changes):
            return weight
    return 0.0


def _losses(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log loss in nats, and 1 for each mistake, both `[examples]`."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.maximum(of_label, _TINY)), (probabilities.argmax(axis=1) != labels).astype(float)


def _mixed(plain: np.ndarray, votes: np.ndarray, weight: float) -> np.ndarray:
    return (1 - weight) * plain + weight * votes


def _squares(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, `[vectors, others]`."""
    products = vectors @ others.T
    return np.maximum((vectors**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * products, 0.0)
