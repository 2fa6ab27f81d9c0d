"""The predictions of one `zoo predict` with `--refine`, `--abstain_risk` or `--prediction_sets`."""

import argparse
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo import files, strict_json
from zoo.adaptation import labelled_examples, plans, promises, refiner, state_file, trace_plot
from zoo.adaptation.adapted_stream import AdaptedStream
from zoo.adaptation.budget import Budget
from zoo.adaptation.promises import Asked, Labelled, Promises
from zoo.cli.parser import tell
from zoo.cli.refine_flags import BATCH, LEARNERS, SESSION
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.calibration import selective_prediction
from zoo.predict.evaluation import held_out
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors import cloning
from zoo.predict.predictors.predictor import Classifier

_TINY = 1e-30


class Marked(NamedTuple):
    """A prediction, and what is promised of it.

    Attributes:
        probabilities: `[classes]`.
        answered: whether the model answers; None where it never abstains.
        labels: labels of the prediction set; None where none is asked for.
        promise: what the promise rests on since the stream has shifted; None before.
    """

    probabilities: np.ndarray
    answered: bool | None = None
    labels: tuple[int, ...] | None = None
    promise: str | None = None


class Session:
    """Answers in their order.

    Args:
        predictor: the run's classifier.
        arguments: the parsed command line, checked.

    Raises:
        BadInput: the run is no classifier, its validation split cannot be read, or it is too small for a promise.
    """

    def __init__(self, predictor: Classifier, arguments: argparse.Namespace):
        if predictor.task != "classification":
            flag = next(name for name in SESSION if getattr(arguments, name))
            raise BadInput(f"--{flag} is for classifiers; {arguments.workdir} holds another model: leave the flag out")
        self._arguments, self._predictor = arguments, predictor
        risk, alpha = arguments.abstain_risk, arguments.prediction_sets
        self._asked = Asked(risk, alpha, arguments.class_conditional, predictor.decide)
        self._stream: AdaptedStream | None = None
        self._refiner: refiner.Refiner | None = None
        self._is_told = False
        source = held_out.load(arguments.workdir, predictor)
        halves, calibration, labelled = held_out.halves(source), source, self._read_labelled()
        guards, self._halves = labelled, halves
        if arguments.refine:
            # The examples that fit the stages, or guard their changes, cannot also promise.
            if self._asked.anything:
                source, calibration = halves
                guards, labelled = held_out.halves(labelled) if labelled else (None, None)
            names = arguments.refine.split(",")
            self._source, self._calibration = source, calibration
            self._stream, self._refiner = self._make_stream(names, source, guards, arguments.state)
        self._promises: Promises | None = None
        if self._asked.anything or (self._stream and self._stream.exits_early):
            self._promises = self._make_promises(halves, calibration, labelled)
            self._tell_rules(calibration)

    def answers(self, examples: Any) -> Iterator[Marked]:
        """Answers examples, in batches where the model adapts."""
        size = max(len(examples), 1) if self._arguments.offline else self._arguments.batch or BATCH
        parts = [slice(first, first + size) for first in range(0, len(examples), size)]
        if self._stream is not None:
            for part in parts:
                yield from self._adapted(examples[part])
            return
        logits = self._predictor.logits(examples)
        for part in parts:
            probabilities = class_probabilities(logits[part]).astype(np.float32)
            promise = self._promises.update(two_class_logits(logits[part]))
            yield from self._marked(probabilities, promise)

    def _adapted(self, batch: Any) -> Iterator[Marked]:
        """Answers one batch by the model that adapts."""
        probabilities = self._stream.answer(batch)
        if self._promises is None:
            yield from map(Marked, probabilities)
            return
        stream = self._stream
        # Early exits are watched by their own answers: the whole model's logits would cost what is saved.
        logits = _log(probabilities) if stream.exits_early else two_class_logits(self._predictor.logits(batch))
        promise = self._promises.update(logits, stream.model_changed, stream.output_changed)
        if promise != promises.VALIDATION and stream.exits_early and not self._warns:
            self._run_whole()
            probabilities = self._stream.answer(batch)
            promise = self._promises.update(two_class_logits(self._predictor.logits(batch)))
        yield from self._marked(probabilities, promise)

    def _marked(self, probabilities: np.ndarray, promise: str) -> Iterator[Marked]:
        """Predictions with their promises, from probabilities `[examples, classes]`."""
        shown = None
        if promise != promises.VALIDATION:
            promise = promises.NONE if self._warns else promise
            shown = promise
            self._tell_shift(promise)
        rules = self._promises.rules if self._warns else self._promises.rules_of(promise)
        answered = labels = [None] * len(probabilities)
        if rules.abstention is not None:
            answered = rules.abstention.answers(probabilities.max(axis=1)).tolist()
        if rules.sets is not None:
            sets = rules.sets.sets(probabilities, self._predictor.decide(probabilities))
            labels = [tuple(np.flatnonzero(each).tolist()) for each in sets]
        for each, answer, names in zip(probabilities, answered, labels):
            yield Marked(each, answer, names, shown)

    @property
    def _warns(self) -> bool:
        return self._arguments.on_shift == "warn"

    def close(self) -> None:
        """Writes trace and state, and reports on stderr how many changes were kept.

        Raises:
            BadInput: a file cannot be written.
        """
        if self._refiner is None:
            return
        trace = self._refiner.trace
        # The state first: it took the longest to learn.
        if self._arguments.state:
            self._refiner.save(self._arguments.state)
        if self._arguments.trace:
            _write_trace(self._arguments.trace, trace)
        for name in dict.fromkeys(entry.stage for entry in trace):
            entries = [entry for entry in trace if entry.stage == name]
            kept, seconds = sum(entry.accepted for entry in entries), sum(entry.seconds for entry in entries)
            tell([f"{name}: kept {kept:,} of {len(entries):,}, {seconds:.1f} s; last: {entries[-1].reason}"])

    def _read_labelled(self) -> HeldOut | None:
        if not self._arguments.labelled:
            return None
        examples, labels = labelled_examples.read(self._arguments.labelled, self._arguments.workdir, self._predictor)
        return HeldOut(examples, labels, two_class_logits(self._predictor.logits(examples)))

    def _make_stream(
        self, names: list[str], source: HeldOut, guards: HeldOut | None = None, state: str | None = None
    ) -> tuple[AdaptedStream, refiner.Refiner]:
        arguments, predictor = self._arguments, self._predictor
        plan = plans.stages(names, predictor, arguments.workdir, arguments.learner or LEARNERS[0]) if names else []
        budget = Budget(arguments.budget_steps, arguments.budget_seconds, arguments.budget_examples)
        labelled = None if guards is None else (guards.examples, guards.labels)
        made = refiner.Refiner(predictor, plan, source, budget, labelled=labelled)
        changed: list[str] = []
        if state and Path(state).exists():
            made.load(state)
            changed = state_file.read(state, cloning.digest(predictor.model))["changed"]
        return AdaptedStream(predictor, plan, made, changed), made

    def _make_promises(
        self, halves: tuple[HeldOut, HeldOut], calibration: HeldOut, labelled: HeldOut | None
    ) -> Promises:
        stream, known = self._stream, None
        if stream is None:
            outputs = functools.partial(class_probabilities, calibration.logits)
        else:
            outputs = stream.outputs(calibration)
        if stream is not None and stream.exits_early:
            halves = tuple(each._replace(logits=_log(stream.forward(each.examples))) for each in halves)
        if labelled is not None:
            known = Labelled(labelled.labels, labelled.logits, functools.partial(self._forward, labelled))
        return Promises(self._asked, *halves, calibration.labels, outputs, known)

    def _forward(self, held: HeldOut) -> np.ndarray:
        """Probabilities of labelled examples by the model as it is now."""
        return class_probabilities(held.logits) if self._stream is None else self._stream.forward(held.examples)

    def _run_whole(self) -> None:
        """Goes on without early exit."""
        names = [name for name in self._arguments.refine.split(",") if name != "compute"]
        self._stream, _ = self._make_stream(names, self._source)
        self._promises.exchange(self._halves[0], self._stream.outputs(self._calibration))

    def _tell_rules(self, calibration: HeldOut) -> None:
        """Prints the promises, and draws the curve of --curve."""
        abstention, sets = self._promises.rules
        if abstention is not None:
            if self._arguments.curve:
                probabilities = self._promises.outputs()
                confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == calibration.labels
                points = selective_prediction.curve(confidence, correct)
                selective_prediction.draw(self._arguments.curve, points, abstention)
            tell([abstention.line()])
        if sets is not None:
            tell([sets.line(self._predictor.classes)])

    def _tell_shift(self, promise: str) -> None:
        """Prints once that the stream has shifted, and what is left of the promise."""
        if self._is_told:
            return
        self._is_told = True
        alarm, asked = self._promises.monitor.alarm, self._asked
        what = (
            f"the stream has shifted: {alarm.line()}"
            if alarm
            else (f"from example {self._promises.first:,} on the model has been adapted")
        )
        if self._warns:
            left = "the promise no longer holds (--on_shift=warn)"
        elif not asked.anything:
            left = "no exit is early any more"
        elif promise == promises.PROPORTIONS:
            left = "other class proportions explain it, and the promise is kept for these"
        elif promise == promises.LABELLED:
            left = "the promise rests on the examples of --labelled"
        else:
            parts = ["the model abstains"] * (asked.risk is not None) + ["sets hold all classes"] * bool(asked.alpha)
            left = f"nothing can be promised, so {' and '.join(parts)}"
        tell([f"{what}; {left}"])


def _log(probabilities: np.ndarray) -> np.ndarray:
    """Logits from probabilities."""
    return np.log(np.maximum(probabilities, _TINY)).astype(np.float32)


def _write_trace(path: str, trace: Any) -> None:
    if path.endswith(".png"):
        trace_plot.draw(path, trace)
    else:
        files.write(Path(path), "".join(strict_json.dumps(entry.as_json()) + "\n" for entry in trace))
