"""Prior correction by the batch (`--refine=batch_prior`): the classes that are frequent now become more probable.

Marsden et al., "Universal test-time adaptation through weight ensembling, diversity weighting, and prior correction",
2024 (ROID), section 3. The present class prior is the mean of the batch's probabilities, smoothed so that an uncertain
or mixed batch is hardly corrected. Unlike the prior of `--refine=output` it rests on no test: under a shift that makes
the model prefer one class it prefers it more. Probabilities are multiplied with the prior, as the paper says.
"""

from typing import Any

import numpy as np

from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier


class BatchPrior:
    """Multiplies the probabilities of the recent examples with the smoothed prior of the batch."""

    name, target = "batch_prior", "output"
    max_score_ratio, restarts_each_batch = 1.0, True

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Starts without a prior."""
        self._answer = None

    def propose(self, context: StreamContext) -> str:
        """Estimates the prior from the batch."""
        prior = smoothed_prior(class_probabilities(context.logits[len(context.logits) - len(context.batch) :]))
        self._answer = context.batch, context.recent, np.log(prior)
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits plus the logarithm of the prior, for the batch and the recent examples; others are left alone."""
        if self._answer is None or not any(examples is known for known in self._answer[:2]):
            return inner(examples)
        return inner(examples) + self._answer[2]

    def state(self) -> None:
        """Nothing outlives the batch."""
        return None

    def load(self, state: None) -> None:
        """Forgets the prior."""
        self._answer = None


def smoothed_prior(probabilities: np.ndarray) -> np.ndarray:
    """Mean probabilities `[classes]`, smoothed by max(1 / examples, 1 / classes) / (largest mean) per class.

    Args:
        probabilities: `[examples, classes]`.
    """
    examples, classes = probabilities.shape
    prior = probabilities.mean(axis=0)
    smoothing = max(1 / examples, 1 / classes) / prior.max()
    return (prior + smoothing) / (1 + smoothing * classes)
