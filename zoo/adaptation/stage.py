"""Stages of test-time adaptation: the interface of one step of a plan.

The stages themselves are in `zoo.adaptation.stages`, one file per method.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.cloning import Classifier

# A function from examples to logits `[examples, classes]`.
LogitsFn = Callable[[Any], np.ndarray]


class StreamContext(NamedTuple):
    """The examples that a stage may learn from, in the predictor's input format.

    Attributes:
        batch: examples to be answered next; for a stage that may wait, all since it was tried last.
        recent: last examples of the stream, the batch included.
        logits: `[examples, classes]` of `recent`, by the current copy of the model and the stages before this one.
        forward: computes such logits for any examples, by the copy as it is when called.
        changed: whether another stage has changed the model or its input, so that logits differ from validation's.
        aligned: whether another stage has changed the input.
        drifted: whether another stage, which accounts for label shift, has found that the input has shifted.
    """

    batch: Any
    recent: Any
    logits: np.ndarray
    forward: LogitsFn
    changed: bool
    aligned: bool = False
    drifted: bool = False


class Stage(Protocol):
    """One step of a plan; any class with these attributes and methods will do.

    Attributes:
        name: its name in the trace.
        target: the part that it changes: "model", "input" (how an example is shown to the model) or "output".
        max_score_ratio: a change is kept if score after / score before is below this (`Score.ratio_to`). None
            where the stage proves its changes itself: the score cannot judge a change of the output.
        restarts_each_batch: whether it returns to its first state before each batch. A change is then compared with
            no change, otherwise with the changes kept so far. Such a stage on the model, which is fitted to all recent
            examples, is tried again once a twentieth of them is new.
        may_wait: optional; whether a stage on the output, too, is only tried then, with all examples since the last
            time as `context.batch`. Without it, it is tried at each batch, a single example included.
    """

    name: str
    target: Literal["model", "input", "output"]
    max_score_ratio: float | None
    restarts_each_batch: bool

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Called once, with the copy that may be changed; the logits of `source` include the stages before this one."""

    def propose(self, context: StreamContext) -> str:
        """Makes a change and returns "", or returns the reason why not."""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits `[examples, classes]`; `inner` computes those of the model and the stages before this one."""

    def state(self) -> Any:
        """A copy of everything that `propose` changes."""

    def load(self, state: Any) -> None:
        """Restores a state."""


def chained(forward: LogitsFn, stages: Sequence[Stage]) -> LogitsFn:
    """Logits through some stages, in their order."""
    for stage in stages:
        forward = functools.partial(stage.logits, inner=forward)
    return forward


def decides(stage: Stage) -> bool:
    """Whether the stage itself decides at each batch whether its change stays."""
    return stage.max_score_ratio is None and not stage.restarts_each_batch


def is_fitted(stage: Stage) -> bool:
    """Whether the stage is fitted to all recent examples, unlike one whose parameters each batch moves on."""
    return stage.target != "output" and (stage.restarts_each_batch or decides(stage))


def may_wait(stage: Stage) -> bool:
    """Whether the stage, on the output, is only tried once enough of the recent examples are new."""
    return stage.target == "output" and getattr(stage, "may_wait", False)
