"""Prediction in several steps: predict, optimize, evaluate without labels, stop or go on, feed back.

    predictor = zoo.predict.predictor.load(workdir)
    plan = [stages.Statistics(), stages.Prior()]
    refined = refine(predictor, stream, plan, source.load(workdir, predictor))

Of each batch of a stream the plan's stages are asked in their order for a change: of the model's statistics or
parameters, or of what is made of its output. A change is kept where the guards agree (see `zoo.predict.guards`), and
stays for the batches that follow; else everything is as it was before. The source model is never touched: stages change
a copy. With no stage, or no budget, the answers are the plain forward pass, bit for bit.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from zoo.predict import guards
from zoo.predict.copies import Classifier, copied
from zoo.predict.source import Source, two_sided


class Budget(NamedTuple):
    """What may be spent on changes; 0 is no limit. When one of them is spent, prediction goes on unchanged.

    Attributes:
        steps: changes that are tried, kept or not.
        seconds: of the changes.
        examples: of the stream, after which no change is tried.
    """

    steps: int = 0
    seconds: float = 0.0
    examples: int = 0


class Line(NamedTuple):
    """One entry of the trace: what a stage tried on one batch.

    Attributes:
        batch: its number, from 0.
        stage: its name.
        before: the guards' score before the change.
        after: likewise, with the change.
        accepted: whether the change was kept.
        reason: why, in words.
        seconds: that it took.
    """

    batch: int
    stage: str
    before: float
    after: float
    accepted: bool
    reason: str
    seconds: float


class Refined(NamedTuple):
    """The answers to a whole stream, and how they came about.

    Attributes:
        probabilities: float64 `[examples, classes]`.
        trace: of all batches.
    """

    probabilities: np.ndarray
    trace: list[Line]


class Seen(NamedTuple):
    """What a stage may learn from: examples as the predictor takes them.

    Attributes:
        batch: that is to be answered.
        recent: the last ones of the stream, those of the batch included.
        logits: of `recent`, `[examples, classes]`, by the copy as it is.
    """

    batch: Any
    recent: Any
    logits: np.ndarray


class Stage(Protocol):
    """What a plan is made of; any class with these will do."""

    name: str

    def begin(self, predictor: Classifier, source: Source) -> None:
        """Called once, with the copy that may be changed."""

    def propose(self, seen: Seen) -> str:
        """Makes a change; or changes nothing, and says why."""

    def answer(self, logits: np.ndarray) -> np.ndarray:
        """What the stage makes of logits `[examples, classes]`."""

    def state(self) -> Any:
        """All that `propose` changes, as a copy."""

    def load(self, state: Any) -> None:
        """Goes back to a state."""
