"""Label persistence (`--refine=coherence`): neighbours in a stream often share a class.

Photos of one burst, sensors that report one state for hours, files sorted by class: there the neighbours of an example
say more than the example. The stage answers with the posterior of a hidden Markov model (hidden_markov.py) once the
order of the answers has proved that classes persist; until then, and in a random order, it changes nothing. Boudiaf et
al., "Parameter-free online test-time adaptation", 2022 (LAME), and Marsden et al., "Universal test-time adaptation
through weight ensembling, diversity weighting, and prior correction", 2024 (ROID), correct for the same dependence by
neighbours in feature space and by the batch's prior; neither uses the order.

The model divides each answer by the share of its class so far, as damage may skew the answers towards one class. Where
a class has hardly come yet, a few mistakes then outweigh the right answers of a whole burst. So, where nothing looks
damaged, a burst has to be of the class that its own answers point to on average.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from zoo.adaptation import guards
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages import hidden_markov
from zoo.adaptation.stages.batch_answer import BatchAnswer
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# Evidence (an e-value) from which the order is used: passed by chance in about one of a thousand streams.
_PROVED = 1000.0
# A stream of this many examples is remembered by the evidence.
_MEMORY = 400.0
# Largest relative distance of logits that are not damaged, as for the prior (output.py); and fewest neighbours whose
# mean answer is trusted.
_USUAL, _FEWEST = 1.5, 10
_TINY = 1e-300
# Differences of logits that rounding makes; larger ones show that the model has changed.
_ROUNDING = 1e-3


class Coherence:
    """Answers with the class probabilities given the neighbours, where their order proves that classes persist."""

    name, target, max_score_ratio, restarts_each_batch = "coherence", "output", None, False

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Forgets the order."""
        self._classes = source.logits.shape[1]
        self._guards = guards.Guards(source)
        self._stream, self._answer = _Stream(), BatchAnswer()

    def propose(self, context: StreamContext) -> str:
        """Follows the batch, and answers it where persistence is proved."""
        logits, new = context.logits, len(context.batch)
        self._answer.clear()
        earlier = logits[: len(logits) - new]
        belief = self._stream.belief
        if belief is None or not _same(earlier, self._stream.logits):
            # Evidence by another model would mix its change into the order.
            belief = hidden_markov.initial(self._classes)
            if len(earlier):
                belief, _ = hidden_markov.follow(belief, class_probabilities(earlier), _MEMORY)
        answers = class_probabilities(logits[len(earlier) :])
        belief, probabilities = hidden_markov.follow(belief, answers, _MEMORY)
        self._stream = _Stream(belief, logits.copy())
        if belief.log_evidence < math.log(_PROVED):
            return f"no persistence of classes is proved (evidence {_short(belief.log_evidence)}, expected {_PROVED:g})"
        # After a shift has ended, most of the recent examples may be damaged, but not those to be answered.
        distances = map(self._guards.median_relative_distance, (logits, logits[len(earlier) :]))
        if min(distances) <= _USUAL and _contradicts(probabilities, answers):
            return "the answers of neighbours point to another class than their order"
        self._answer.set(context.batch, np.log(np.maximum(probabilities, _TINY)))
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logarithms of the probabilities given the neighbours for the batch; other examples have no neighbours."""
        return self._answer.logits(examples, inner)

    def state(self) -> Any:
        """What is known of the order."""
        belief = self._stream.belief
        return {"belief": None if belief is None else list(belief), "logits": self._stream.logits}

    def load(self, state: Any) -> None:
        """Sets it."""
        belief = state["belief"]
        self._stream = _Stream(None if belief is None else hidden_markov.Belief(*belief), state["logits"])
        self._answer.clear()


class _Stream(NamedTuple):
    """What is known of a stream.

    Attributes:
        belief: the hidden Markov model's; None before the first example.
        logits: those that it has followed, of the recent examples, `[examples, classes]`.
    """

    belief: hidden_markov.Belief | None = None
    logits: np.ndarray | None = None


def _contradicts(probabilities: np.ndarray, answers: np.ndarray) -> bool:
    """Whether the mean answer of the neighbours that share a class is another class, both `[examples, classes]`."""
    shared = probabilities.argmax(axis=1)
    groups = [(label, answers[shared == label]) for label in np.unique(shared)]
    return any(len(group) >= _FEWEST and group.mean(axis=0).argmax() != label for label, group in groups)


def _same(earlier: np.ndarray, followed: np.ndarray | None) -> bool:
    """Whether the earlier examples' logits are the last of those that were followed."""
    if followed is None or len(earlier) > len(followed):
        return False
    return np.allclose(earlier, followed[len(followed) - len(earlier) :], atol=_ROUNDING, rtol=_ROUNDING)


def _short(log_evidence: float) -> str:
    return f"{math.exp(min(log_evidence, 700)):.2g}"
