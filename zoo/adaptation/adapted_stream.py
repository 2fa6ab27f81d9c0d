"""A refiner's answers, and how the model that gives them differs from the one whose promises were calibrated."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.adaptation.refiner import Refiner
from zoo.adaptation.stage import Stage, chained
from zoo.adaptation.stages.batch_prior import BatchPrior
from zoo.adaptation.stages.coherence import Coherence
from zoo.adaptation.stages.lame import Lame
from zoo.adaptation.trace import TraceEntry
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# Stages that answer an example by others of the stream.
_BY_NEIGHBOURS = {Coherence.name, Lame.name, BatchPrior.name}


class AdaptedStream:
    """A stream that is answered by a refiner.

    Args:
        predictor: the source model's.
        plan: the refiner's stages.
        refiner: the refiner, before its first batch.
        changed: names of the stages whose changes it was loaded with (`--state`); those of the output count.

    Attributes:
        model_changed: whether the model or its input has been changed, or answers depend on their neighbours.
        output_changed: whether the output has been, by a correction of class proportions.
        exits_early: whether answers come from a part of the model.
    """

    def __init__(self, predictor: Classifier, plan: Sequence[Stage], refiner: Refiner, changed: Sequence[str] = ()):
        self._predictor, self._plan, self._refiner = predictor, plan, refiner
        self._stages = {stage.name: stage for stage in plan}
        self._changed = set(changed)
        self._read = 0
        self.exits_early = "compute" in self._stages

    @property
    def model_changed(self) -> bool:
        """See the class."""
        return bool(self._refiner.changed) or not _BY_NEIGHBOURS.isdisjoint(self._changed)

    @property
    def output_changed(self) -> bool:
        """See the class."""
        return any(self._stages[name].target == "output" for name in self._changed)

    def answer(self, batch: Any) -> np.ndarray:
        """Probabilities `[examples, classes]`; see `Refiner.answer`."""
        probabilities = self._refiner.answer(batch)
        for entry in self._refiner.trace[self._read :]:
            self._note(entry)
        self._read = len(self._refiner.trace)
        return probabilities

    def forward(self, examples: Any) -> np.ndarray:
        """Probabilities `[examples, classes]` by the model as it is."""
        return self._refiner.forward(examples)

    def outputs(self, held: HeldOut) -> "Outputs":
        """Probabilities of held-out examples as the output changes; the model and its input as they are now."""
        return Outputs(self, held)

    def base(self, held: HeldOut) -> np.ndarray:
        """Logits of held-out examples by the source model, through all stages but those on the output."""

        def source(asked: Any) -> np.ndarray:
            return held.logits if asked is held.examples else two_class_logits(self._predictor.logits(asked))

        return chained(source, [stage for stage in self._plan if stage.target != "output"])(held.examples)

    def finished(self, logits: np.ndarray, examples: Any) -> np.ndarray:
        """Probabilities from the logits of `base`, through the stages on the output as they are now."""
        outputs = [stage for stage in self._plan if stage.target == "output"]
        return class_probabilities(chained(lambda asked: logits, outputs)(examples))

    def _note(self, entry: TraceEntry) -> None:
        """Follows which stages' changes of the output are in force."""
        if self._stages[entry.stage].target == "output":
            (self._changed.add if entry.accepted else self._changed.discard)(entry.stage)


class Outputs:
    """Probabilities of held-out examples by the calibrated model; called anew when its output may have changed."""

    def __init__(self, stream: AdaptedStream, held: HeldOut):
        self._stream, self._held = stream, held
        self._first = stream.forward(held.examples)
        self._base: np.ndarray | None = None

    def __call__(self) -> np.ndarray:
        """`[examples, classes]`."""
        if not self._stream.output_changed:
            return self._first
        if self._base is None:
            self._base = self._stream.base(self._held)
        return self._stream.finished(self._base, self._held.examples)
