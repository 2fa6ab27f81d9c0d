"""Test-time adaptation under distribution shift, guarded (multi-step prediction; `zoo predict --refine`).

    predictor = zoo.load(workdir)
    plan = [BatchStatistics(), Prior()]
    refined = refine(predictor, stream, plan, held_out.load(workdir, predictor))

For each batch of a stream, in this order (`Refiner.answer`):

1. Add the batch to the recent examples.
2. Detect an abrupt shift: the examples before it are forgotten.
3. Choose the stages that are due (`zoo.adaptation.stage`): each changes the model, its input or its output.
4. Try each of them, while the budget lasts (`Refiner._try`):
   a. Compute logits of the recent examples before the change.
   b. Let the stage propose a change, and compute the logits after it.
   c. Let the guards compare them, without labels (`zoo.adaptation.guards`).
   d. Keep the change for this batch and the following ones, or restore the state before it; add an entry to the trace.
   e. Where a change of the input holds no longer, the stream has changed: forget the examples before.
5. Answer the batch.

The source model is never touched: stages change a copy. With no stage, or no budget, the answers are the plain forward
pass, bit for bit.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.adaptation import guards, state_file
from zoo.adaptation.budget import UNLIMITED, Budget
from zoo.adaptation.drift_detection import Drift
from zoo.adaptation.recent_logits import RecentLogits
from zoo.adaptation.stage import LogitsFn, Stage, StreamContext, chained, decides, is_fitted, may_wait
from zoo.adaptation.trace import TraceEntry
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.cloning import compiled, copied, digest
from zoo.predict.predictors.predictor import Classifier

# Order of the stages' targets in a plan.
_ORDER = ("model", "input", "output")
# Share of the recent examples that must be new before a model fitted to all of them is fitted again: of 400, fewer move
# a mean by less than two hundredths of a standard deviation.
_NEW = 0.05


class Refined(NamedTuple):
    """The answers to a whole stream.

    Attributes:
        probabilities: float64 `[examples, classes]`.
        trace: entries of all batches.
    """

    probabilities: np.ndarray
    trace: list[TraceEntry]


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
    """Answers a stream batch by batch and adapts to it on the way.

    Args:
        predictor: a classifier; it is not changed.
        stream: batches of examples in the predictor's input format, of any size from one example.
        plan: stages in the order in which they are tried and in which they process the logits.
        source: validation split of the predictor's run.
        budget: limits on the changes.
        memory: number of recent examples that changes are tried on. With 400 there are forty of each of ten classes:
            their moments are known to a sixth of a standard deviation. An abrupt shift of the stream clears the memory
            (see `zoo.adaptation.drift_detection`).
        labelled: a few examples like those of the stream, with their classes: no change may lower the accuracy on them.

    Raises:
        BadInput: the predictor cannot read an example, or the stages are not in the order of model, input and output,
            in which each builds on those before it.
        NonFinite: the source model's output is not finite.
    """
    refiner = Refiner(predictor, plan, source, budget, memory=memory, labelled=labelled)
    answers = [refiner.answer(batch) for batch in stream]
    return Refined(np.concatenate([np.zeros((0, len(predictor.classes))), *answers]), refiner.trace)


class Refiner:
    """`refine` for a stream that arrives batch by batch: the same arguments and errors.

    Attributes:
        trace: entries so far.
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
        self._predictor = copied(predictor) if any(stage.target == "model" for stage in plan) else compiled(predictor)
        self._source, self._digest = predictor, digest(predictor.model)
        self._recent = None
        self._batches = self._examples = self._steps = 0
        self._new, self._new_kind = 0, False
        self._seconds = 0.0
        self._guards = guards.Guards(source) if plan else None
        # Only stages that restart are fitted to all recent examples, and fail where these mix two distributions.
        self._drift = Drift(self._guards, memory) if any(stage.restarts_each_batch for stage in plan) else None
        # Logits by the source model, and by the model as changed before the stages on the output.
        self._unchanged, self._inner = RecentLogits(), RecentLogits()
        self._changed: set[str] = set()
        # Stages on the output whose last entry in the trace was a change that was kept.
        self._corrected: set[str] = set()
        self._starts_as_source = True
        self._first: dict[str, Any] = {}
        # Guards of each stage on the output: confidences and distances are compared with those of the same scale.
        self._output_guards: dict[str, guards.Guards] = {}
        for stage in plan:
            stage.begin(self._predictor, source)
            if stage.target == "output":
                self._output_guards[stage.name] = guards.Guards(source)
            logits = stage.logits(source.examples, _cached(source.examples, source.logits, self._forward(stage)))
            if stage.target != "output" and not np.array_equal(logits, source.logits):
                # It answers by a part of the model, whether or not it changes anything later.
                self._starts_as_source = False
            source = source._replace(logits=logits)
            self._first[stage.name] = stage.state()

    def answer(self, batch: Any) -> np.ndarray:
        """Probabilities `[examples, classes]` of one batch, after the changes that were kept for it."""
        if not len(batch):
            return self.forward(batch)
        self._remember(batch)
        self._follow_source(batch)
        self._try_due_stages(batch)
        self._batches += 1
        self._examples += len(batch)
        return self.forward(batch)

    def forward(self, examples: Any) -> np.ndarray:
        """Probabilities `[examples, classes]` by the current state; nothing is learned."""
        inner = self._inner.through(self._if_unchanged(self._before_output()))
        return class_probabilities(chained(inner, self._outputs())(examples))

    @property
    def changed(self) -> frozenset[str]:
        """Names of the stages whose changes of the model or its input are in force."""
        return frozenset(self._changed)

    def reset(self) -> None:
        """Forgets the stream and restores the trained model. The trace and the spent budget stay."""
        for stage in self._plan:
            stage.load(self._first[stage.name])
        self._recent, self._changed, self._corrected, self._new = None, set(), set(), 0
        self._inner.forget()
        self._unchanged.forget()
        if self._drift is not None:
            self._drift.forget()

    def save(self, path: str | Path) -> None:
        """Writes what was learned from the stream, for `load`.

        Args:
            path: file to write; it is replaced in one step.

        Raises:
            BadInput: the file cannot be written.
        """
        stages = {stage.name: stage.state() for stage in self._plan}
        kept = {"stages": stages, "changed": sorted(self._changed), "recent": self._recent}
        kept |= {"new": self._new, "logits": self._unchanged.logits}
        state_file.write(path, kept, self._digest)

    def load(self, path: str | Path) -> None:
        """Continues where `save` ended.

        Raises:
            BadInput: the file was not written by `save`, or for another model or plan.
        """
        kept = state_file.read(path, self._digest)
        names = [stage.name for stage in self._plan]
        # A plan that has got more stages since: the new ones start afresh.
        if [name for name in names if name in kept["stages"]] != list(kept["stages"]):
            raise BadInput(f"{path} is of the stages {', '.join(kept['stages'])}: expected {', '.join(names)}")
        for stage in self._plan:
            stage.load(kept["stages"].get(stage.name, self._first[stage.name]))
        self._changed, self._recent = set(kept["changed"]), kept["recent"]
        # Any of them may have been in force; the first entry of each tells.
        self._corrected = {stage.name for stage in self._outputs()}
        # Former versions kept neither of the two.
        self._new = kept.get("new", 0)
        self._inner.forget()
        self._unchanged.load(kept.get("logits"))
        if self._drift is not None:
            self._drift.forget()
            if self._recent is not None:
                self._drift.update(self._by_source(self._recent))

    def _remember(self, batch: Any) -> None:
        self._recent = _last(self._recent, batch, self._memory)
        self._new += len(batch)

    def _follow_source(self, batch: Any) -> None:
        """Computes the source model's logits of the batch; after an abrupt shift, forgets the examples before it."""
        self._new_kind = False
        if self._guards is None or self._spent():
            self._unchanged.forget()
            return
        logits = self._by_source(batch)
        remembered = len(self._recent) if self._drift is None else self._drift.update(logits)
        if remembered < len(self._recent):
            self._new_kind = True
            self._recent, self._new = self._recent[-remembered:], remembered
        self._unchanged.update(self._recent, batch, _cached(batch, logits, self._by_source))

    def _try_due_stages(self, batch: Any) -> None:
        new = min(self._new, len(self._recent))
        is_due = self._new >= _NEW * len(self._recent)
        self._new = 0 if is_due else self._new
        since = batch if new == len(batch) else self._recent[len(self._recent) - new :]
        has_inner = False
        for stage in self._due_stages(is_due):
            if self._spent():
                break
            if stage.target != "output":
                self._inner.forget()
            elif not has_inner:
                has_inner = True
                self._inner.update(self._recent, batch, self._if_unchanged(self._before_output()))
            held = stage.target == "input" and stage.name in self._changed
            self._try(stage, since if may_wait(stage) else batch, is_due)
            if held and stage.name not in self._changed:
                self._forget_all_but(since)
        if not has_inner:
            self._inner.forget()

    def _forget_all_but(self, batch: Any) -> None:
        """Starts anew from these examples: what held of the input before holds no longer, so their kind is another."""
        self._new_kind = True
        self._recent, self._new = batch[:], len(batch)
        self._unchanged.update(self._recent, batch, self._by_source)
        if self._drift is not None:
            self._drift.forget()
            self._drift.update(self._by_source(self._recent))

    def _due_stages(self, is_due: bool) -> list[Stage]:
        """All stages; those that can wait only once enough of the recent examples are new."""
        due = [stage for stage in self._plan if is_due or not (is_fitted(stage) or may_wait(stage))]
        # A stage on the model that decides for itself comes after the input: a pose explains turned images better.
        return sorted(due, key=lambda stage: (stage.target == "output", decides(stage)))

    def _try(self, stage: Stage, batch: Any, is_due: bool) -> None:
        """Tries one change, keeps it or restores the state before it, and adds an entry to the trace.

        Between two times at which stages are due, a stage on the output that still has nothing to change adds none.
        """
        start = time.perf_counter()
        if stage.restarts_each_batch and stage.name in self._changed:
            stage.load(self._first[stage.name])
            self._changed.discard(stage.name)
        saved = stage.state()
        verdict, is_objection = self._verdict(stage, batch, is_due)
        # A stage on the output that changes nothing yet still gathers evidence, and one that decides for itself may
        # have turned itself off: that is kept.
        if is_objection and (stage.target == "output" or decides(stage)):
            self._changed.discard(stage.name)
        elif not verdict.accepted:
            stage.load(saved)
        elif stage.target != "output":
            self._changed.add(stage.name)
        seconds = time.perf_counter() - start
        self._seconds += seconds
        if verdict is not None:
            if stage.target == "output":
                (self._corrected.add if verdict.accepted else self._corrected.discard)(stage.name)
            self._steps += 1
            entry = TraceEntry(self._batches, stage.name, *verdict, seconds, len(self._recent), self._new_kind)
            self.trace.append(entry)

    def _verdict(self, stage: Stage, batch: Any, is_due: bool) -> tuple[guards.Verdict | None, bool]:
        """Lets the stage propose a change: the guards' verdict, and whether the stage itself decided against it.

        Then there is only a verdict when stages are due, or when it ends a correction of the output: on single examples
        the scores would take most of the time.
        """
        forward, recent = self._forward(stage), self._recent
        guard = self._output_guards.get(stage.name, self._guards)
        # Not for a stage on the output: its logits are not the source's even then.
        inner = (forward if stage.target == "output" else self._if_unchanged(forward))(recent)
        accuracy = self._labelled_accuracy()
        before = stage.logits(recent, _cached(recent, inner, forward))
        changed = self._changed - {stage.name}
        aligned = any(other.name in changed for other in self._plan if other.target == "input")
        # Only stages that tell a shift of the input from label shift have an opinion.
        drifted = any(getattr(other, "drifted", False) for other in self._plan)
        objection = stage.propose(StreamContext(batch, recent, inner, forward, bool(changed), aligned, drifted))
        if objection and not is_due and stage.target == "output" and stage.name not in self._corrected:
            return None, True
        if objection:
            score = guard.score(inner)
            return guards.Verdict(score, score, False, objection), True
        after = stage.logits(recent, forward if stage.target == "model" else _cached(recent, inner, forward))
        accuracies = accuracy, self._labelled_accuracy()
        return guard.judge(before, after, *accuracies, stage.max_score_ratio, not decides(stage)), False

    def _forward(self, until: Stage | None = None) -> LogitsFn:
        """Computes logits `[examples, classes]` by the model and all stages, or those before `until`."""
        if until is not None and until.target != "output":
            return chained(self._model_logits, self._plan[: self._plan.index(until)])
        outputs = self._outputs()
        outputs = outputs[: outputs.index(until)] if until is not None else outputs
        return chained(self._inner.through(self._before_output()), outputs)

    def _outputs(self) -> list[Stage]:
        return [stage for stage in self._plan if stage.target == "output"]

    def _before_output(self) -> LogitsFn:
        """Computes logits `[examples, classes]` by the model and all stages but those on the output."""
        return chained(self._model_logits, [stage for stage in self._plan if stage.target != "output"])

    def _if_unchanged(self, forward: LogitsFn) -> LogitsFn:
        """Before the stages on the output; while no change is in force, the source model answers, as without stages."""
        if self._starts_as_source and not self._changed:
            return self._unchanged.through(self._by_source)
        return forward

    def _by_source(self, examples: Any) -> np.ndarray:
        return two_class_logits(self._source.logits(examples))

    def _model_logits(self, examples: Any) -> np.ndarray:
        return two_class_logits(self._predictor.logits(examples))

    def _labelled_accuracy(self) -> float | None:
        """The accuracy on the labelled examples; None without them."""
        if self._labelled is None:
            return None
        examples, labels = self._labelled
        return float((self._forward()(examples).argmax(axis=1) == labels).mean())

    def _spent(self) -> bool:
        return self._budget.is_spent(self._steps, self._seconds, self._examples)


def _cached(examples: Any, logits: np.ndarray, forward: LogitsFn) -> LogitsFn:
    """The same function; for these very examples it returns the logits already computed."""
    return lambda asked: logits if asked is examples else forward(asked)


def _last(recent: Any, batch: Any, size: int) -> Any:
    """The last `size` of the recent examples and the batch; the whole batch where it is larger."""
    if recent is None or len(batch) >= size:
        # Another object than the batch: a stage may know the batch's neighbours, and answer otherwise for it.
        return batch[:]
    keep = size - len(batch)
    if isinstance(batch, np.ndarray):
        return np.concatenate([recent, batch])[-(keep + len(batch)) :]
    return [*recent, *batch][-(keep + len(batch)) :]
