"""Prior correction by the batch (`--refine=batch_prior`): the classes that are frequent now become more probable.

Marsden et al., "Universal test-time adaptation through weight ensembling, diversity weighting, and prior correction",
2024 (ROID), section 3. The present class prior is the mean of the batch's probabilities, smoothed so that an uncertain
or mixed batch is hardly corrected. Probabilities are multiplied with the prior, as the paper says.

Under a shift that makes the model prefer one class, it prefers it more. So the correction waits for the proof that
classes persist which coherence.py asks for; then the classes of a batch say what its examples are. The prior of
`--refine=output` is that of the whole stream, and rests on a test of its own.
"""

from typing import Any

import numpy as np

from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages.batch_answer import BatchAnswer
from zoo.adaptation.stages.coherence import Coherence
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier


class BatchPrior:
    """Multiplies the probabilities of a batch with its smoothed prior.

    Args:
        needs_proof: whether the order must prove first that classes persist; False: always, as in the paper.
    """

    name, target, max_score_ratio, restarts_each_batch = "batch_prior", "output", None, False

    def __init__(self, needs_proof: bool = True):
        self.needs_proof, self._order = needs_proof, Coherence()

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Starts without a prior."""
        self._answer = BatchAnswer()
        self._order.begin(predictor, source)

    def propose(self, context: StreamContext) -> str:
        """Corrects the batch."""
        self._answer.clear()
        objection = self._order.propose(context)
        if objection and self.needs_proof:
            return objection
        logits = context.logits[-len(context.batch) :]
        self._answer.set(context.batch, logits + np.log(smoothed_prior(class_probabilities(logits))))
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits plus the logarithm of the prior for the batch; other examples are left alone."""
        return self._answer.logits(examples, inner)

    def state(self) -> Any:
        """What is known of the order."""
        return self._order.state()

    def load(self, state: Any) -> None:
        """Sets it."""
        self._order.load(state)
        self._answer.clear()


def smoothed_prior(probabilities: np.ndarray) -> np.ndarray:
    """Mean probabilities `[classes]`, smoothed by max(1 / examples, 1 / classes) / (largest mean) per class.

    Args:
        probabilities: `[examples, classes]`.
    """
    examples, classes = probabilities.shape
    prior = probabilities.mean(axis=0)
    smoothing = max(1 / examples, 1 / classes) / prior.max()
    return (prior + smoothing) / (1 + smoothing * classes)
