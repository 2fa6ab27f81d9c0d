"""Test-time adaptation: predict, optimize, evaluate without labels, stop or go on, feed back (multi-step prediction).

    predictor = zoo.load(workdir)
    plan = [BatchStatistics(), Prior()]
    refined = refine(predictor, stream, plan, held_out.load(workdir, predictor))

Of each batch of a stream the plan's stages are asked in their order for a change: of the model's statistics or
parameters, or of what is made of its output. A change is kept where the guards agree (see `zoo.adaptation.guards`), and
stays for the batches that follow; else everything is as it was before. The source model is never touched: stages change
a copy. With no stage, or no budget, the answers are the plain forward pass, bit for bit.
"""

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from zoo.adaptation import guards, state_file
from zoo.adaptation.drift_detection import Drift
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.cloning import compiled, copied, digest
from zoo.predict.predictors.predictor import Classifier

# From examples to logits `[examples, classes]`.
Forward = Callable[[Any], np.ndarray]
# The order in which an example meets them.
_ORDER = ("model", "input", "output")
# Of the recent examples, the share that is new before a model that is fitted to all of them is fitted again: of 400, so
# few move a mean by less than two hundredths of a standard deviation.
_NEW = 0.05


class Budget(NamedTuple):
    """What may be spent on changes; None is no limit. When one of them is spent, prediction goes on without changes.

    Attributes:
        steps: changes that are tried, kept or not.
        seconds: of the changes.
        examples: of the stream, after which no change is tried.
    """

    steps: int | None = None
    seconds: float | None = None
    examples: int | None = None


UNLIMITED = Budget()


class TraceEntry(NamedTuple):
    """One entry of the trace: what a stage tried on one batch.

    Attributes:
        batch: its number, from 0.
        stage: its name.
        before: the guards' score before the change.
        after: likewise, with the change.
        accepted: whether the change was kept.
        reason: why, in words.
        seconds: that it took.
        recent: the last examples of the stream that it was tried and judged on.
        new_kind: whether the stream changed its kind with this batch, so that all before was forgotten.
    """

    batch: int
    stage: str
    before: guards.Score
    after: guards.Score
    accepted: bool
    reason: str
    seconds: float
    recent: int
    new_kind: bool

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        return self._asdict() | {"before": self.before._asdict(), "after": self.after._asdict()}


class Refined(NamedTuple):
    """The answers to a whole stream, and how they came about.

    Attributes:
        probabilities: float64 `[examples, classes]`.
        trace: of all batches.
    """

    probabilities: np.ndarray
    trace: list[TraceEntry]


class StreamContext(NamedTuple):
    """What a stage may learn from: examples as the predictor takes them.

    Attributes:
        batch: that is to be answered.
        recent: the last ones of the stream, those of the batch included.
        logits: of `recent`, `[examples, classes]`, by the copy as it is and what the stages before make of it.
        forward: what gives such logits for any examples, by the copy as it is at the time.
        changed: whether a stage before has changed the model, by which the logits are then others than in validation.
    """

    batch: Any
    recent: Any
    logits: np.ndarray
    forward: Forward
    changed: bool


class Stage(Protocol):
    """What a plan is made of; any class with these will do.

    Attributes:
        name: in the trace.
        target: what it changes: "model", "input" (what of an example the model is shown) or "output".
        max_score_ratio: a change is kept if score after / score before is below this (`Score.ratio_to`). None
            where a stage brings evidence of its own: of a change of the output, the score says nothing.
        restarts_each_batch: whether it goes back to its first state before each batch. A change is then compared with
            no change at all, else with what the changes before it have come to. A change of the model, fitted to all
            recent examples, is tried again once a twentieth of them is new.
    """

    name: str
    target: Literal["model", "input", "output"]
    max_score_ratio: float | None
    restarts_each_batch: bool

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Called once, with the copy that may be changed; the logits of `source` are as the stages before make them."""

    def propose(self, seen: StreamContext) -> str:
        """Makes a change; or changes nothing, and says why."""

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Logits `[examples, classes]`, where `inner` gives those of the model and the stages before."""

    def state(self) -> Any:
        """All that `propose` changes, as a copy."""

    def load(self, state: Any) -> None:
        """Goes back to a state."""


def refine(
    predictor: Classifier,
    stream: Iterable[Any],
    plan: Sequence[Stage],
    source: HeldOut,
    budget: Budget = UNLIMITED,
    *,
    memory: int = 400,
    labelled: tuple[Any, np.ndarray] | None = None,
) -> Refined:
    """Answers a stream batch by batch, and improves on the way what the answers are made by.

    Args:
        predictor: of classes; stays as it is.
        stream: batches of examples as the predictor takes them, of any sizes, one example included.
        plan: stages in the order in which they are asked, and in which they see the logits.
        source: what is known of the data that the model was trained for.
        budget: of changes.
        memory: the last examples of the stream, which changes are tried and judged on. 400 are forty of each of ten
            classes: their moments are known to a sixth of a standard deviation. Where the stream changes its kind at
            once, all before is forgotten (see `drift`).
        labelled: a few examples of the stream's kind and their classes, where there are some: no change may lower the
            accuracy on them.

    Raises:
        BadInput: an example is none that the predictor takes, or the stages are not in the order of model, input and
            output: each rests on what those before it do.
        NonFinite: the source model's output is.
    """
    refiner = Refiner(predictor, plan, source, budget, memory=memory, labelled=labelled)
    found = [refiner.answer(batch) for batch in stream]
    return Refined(np.concatenate([np.zeros((0, len(predictor.classes))), *found]), refiner.trace)


class Refiner:
    """What `refine` does, for a stream that comes bit by bit; see there for the arguments and what is raised.

    Attributes:
        trace: so far.
    """

    def __init__(
        self,
        predictor: Classifier,
        plan: Sequence[Stage],
        source: HeldOut | None,
        budget: Budget = UNLIMITED,
        *,
        memory: int = 400,
        labelled: tuple[Any, np.ndarray] | None = None,
    ):
        order = [_ORDER.index(stage.target) for stage in plan]
        if order != sorted(order):
            names = ", ".join(f"{stage.name} ({stage.target})" for stage in plan)
            raise BadInput(f"the plan is {names}: expected stages on the model before those on input, and output last")
        self.trace: list[TraceEntry] = []
        self._plan, self._budget, self._memory, self._labelled = plan, budget, memory, labelled
        # Only such stages change it.
        self._predictor = copied(predictor) if any(stage.target == "model" for stage in plan) else compiled(predictor)
        self._digest = digest(predictor.model)
        self._recent = None
        self._batches = self._examples = self._steps = 0
        self._new, self._new_kind = 0, False
        self._seconds = 0.0
        self._guards = guards.Guards(source) if plan else None
        # Only what begins anew with each batch is fitted to all that is remembered, and fails where that is a mixture.
        self._drift = (
            Drift(predictor, self._guards, memory) if any(stage.restarts_each_batch for stage in plan) else None
        )
        self._changed: set[str] = set()
        self._first: dict[str, Any] = {}
        for stage in plan:
            stage.begin(self._predictor, source)
            logits = stage.logits(source.examples, _known(source.examples, source.logits, self._forward(stage)))
            source = source._replace(logits=logits)
            self._first[stage.name] = stage.state()

    def answer(self, batch: Any) -> np.ndarray:
        """The probabilities of one batch `[examples, classes]`, after what changes could be made for it."""
        self._recent = _last(self._recent, batch, self._memory)
        self._new += len(batch)
        self._new_kind = False
        if self._drift is not None and not self._spent():
            remembered = self._drift.update(batch)
            self._new_kind = remembered < len(self._recent)
            if self._new_kind:
                self._recent, self._new = self._recent[-remembered:], remembered
        due = self._new >= _NEW * len(self._recent)
        for stage in self._plan:
            if self._spent():
                break
            if due or stage.target != "model" or not stage.restarts_each_batch:
                self._try(stage, batch)
        self._new = 0 if due else self._new
        self._batches += 1
        self._examples += len(batch)
        return self.forward(batch)

    def forward(self, examples: Any) -> np.ndarray:
        """The probabilities `[examples, classes]` as things stand; nothing is learned."""
        return class_probabilities(self._forward()(examples))

    def reset(self) -> None:
        """Forgets the stream: all is as it was trained. The trace stays, and what is spent."""
        for stage in self._plan:
            stage.load(self._first[stage.name])
        self._recent, self._changed, self._new = None, set(), 0
        if self._drift is not None:
            self._drift.forget()

    def save(self, path: str | Path) -> None:
        """Writes what was learned of the stream, for `load`.

        Args:
            path: of the file; written aside and renamed.

        Raises:
            BadInput: it cannot be written.
        """
        stages = {stage.name: stage.state() for stage in self._plan}
        kept = {"stages": stages, "changed": sorted(self._changed), "recent": self._recent}
        state_file.write(path, kept, self._digest)

    def load(self, path: str | Path) -> None:
        """Goes on where `save` ended.

        Raises:
            BadInput: the file is none of `save`, or of another model or plan.
        """
        found = state_file.read(path, self._digest)
        names = [stage.name for stage in self._plan]
        if list(found["stages"]) != names:
            raise BadInput(f"{path} is of the stages {', '.join(found['stages'])}: expected {', '.join(names)}")
        for stage in self._plan:
            stage.load(found["stages"][stage.name])
        self._changed, self._recent = set(found["changed"]), found["recent"]
        if self._drift is not None:
            self._drift.forget()
            if self._recent is not None:
                self._drift.update(self._recent)

    def _try(self, stage: Stage, batch: Any) -> None:
        start = time.perf_counter()
        if stage.restarts_each_batch:
            stage.load(self._first[stage.name])
        self._changed.discard(stage.name if stage.restarts_each_batch else None)
        saved, forward, recent = stage.state(), self._forward(stage), self._recent
        before, right = forward(recent), self._right()
        shown = stage.logits(recent, _known(recent, before, forward))
        changed = bool(self._changed - {stage.name})
        refused = stage.propose(StreamContext(batch, recent, before, forward, changed))
        if refused:
            score = self._guards.score(before)
            verdict = guards.Verdict(score, score, False, refused)
        else:
            inner = forward if stage.target == "model" else _known(recent, before, forward)
            after = stage.logits(recent, inner)
            verdict = self._guards.judge(shown, after, right, self._right(), stage.max_score_ratio)
        # Evidence that does not suffice yet is kept all the same.
        if not verdict.accepted and not (refused and stage.target == "output"):
            stage.load(saved)
        elif stage.target != "output":
            self._changed.add(stage.name)
        seconds = time.perf_counter() - start
        self._steps, self._seconds = self._steps + 1, self._seconds + seconds
        self.trace.append(TraceEntry(self._batches, stage.name, *verdict, seconds, len(self._recent), self._new_kind))

    def _forward(self, until: Stage | None = None) -> Forward:
        """What gives logits `[examples, classes]`, by all stages or by those before one."""
        forward = self._model
        for stage in self._plan:
            if stage is until:
                break
            forward = functools.partial(stage.logits, inner=forward)
        return forward

    def _model(self, examples: Any) -> np.ndarray:
        return two_class_logits(self._predictor.logits(examples))

    def _right(self) -> float | None:
        """The accuracy on the labelled examples, where there are some."""
        if self._labelled is None:
            return None
        examples, labels = self._labelled
        return float((self._forward()(examples).argmax(axis=1) == labels).mean())

    def _spent(self) -> bool:
        spent = (self._steps, self._seconds, self._examples)
        return any(limit is not None and used >= limit for used, limit in zip(spent, self._budget))


def _known(examples: Any, logits: np.ndarray, forward: Forward) -> Forward:
    """The same function, of some examples without computing them again."""
    return lambda asked: logits if asked is examples else forward(asked)


def _last(recent: Any, batch: Any, size: int) -> Any:
    """The last examples of what is remembered and a batch; all of a batch that is larger."""
    if recent is None or len(batch) >= size:
        return batch
    keep = size - len(batch)
    if isinstance(batch, np.ndarray):
        return np.concatenate([recent, batch])[-(keep + len(batch)) :]
    return [*recent, *batch][-(keep + len(batch)) :]
