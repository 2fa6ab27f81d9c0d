"""The state of a run besides its variables: small values that the record of a checkpoint holds."""

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.engine.scalars import ratios
from zoo.errors import BadInput
from zoo.training.controller_state import ControllerState
from zoo.training.diagnosis import Point
from zoo.training.left_out import LeftOut
from zoo.training.plateau import Plateau


@dataclasses.dataclass
class BestMetric:
    """The best value of the metric so far (early stopping, best checkpoint).

    Attributes:
        value: None before the first evaluation that counts.
        step: step of the best value.
        since: evaluations since then, none of them better.
    """

    value: float | None = None
    step: int | None = None
    since: int = 0

    def update(self, step: int, value: float, larger_is_better: bool) -> None:
        """Takes the value of one evaluation."""
        better = operator.gt if larger_is_better else operator.lt
        if self.value is None or better(value, self.value):
            self.value, self.step, self.since = value, step, 0
        else:
            self.since += 1

    def record(self) -> dict[str, Any]:
        """The fields by name; empty before the first evaluation."""
        return {} if self.value is None else dataclasses.asdict(self)


# Scalars of a step whose mean over the steps is reported.
_MEANS = ("penalty", "cg_iterations", "reduction_ratio", "line_search_evaluations", "step_length", "rejected")


@dataclasses.dataclass
class LogWindow:
    """Scalars of the steps since the last log.

    Attributes:
        values: sums by name, the count of steps as `steps`; of rates and norms the last value instead, since a mean
            would be a rate or a norm that no step had.
    """

    values: dict[str, float] = dataclasses.field(default_factory=dict)

    def add(self, scalars: Mapping[str, np.ndarray], steps: int) -> None:
        """Adds the scalars `[steps]` of one call of the engine."""
        for name, values in scalars.items():
            if not _is_momentary(name):
                for value in values.tolist():
                    self.values[name] = self.values.get(name, 0.0) + value
        self.values["steps"] = self.values.get("steps", 0) + steps
        self.values |= {name: float(values[-1]) for name, values in scalars.items() if _is_momentary(name)}

    def metrics(self) -> dict[str, float]:
        """Means over the window, and the last rates and norms."""
        metrics = ratios(self.values)
        steps = max(self.values.get("steps", 1), 1)
        metrics |= {name: self.values[name] / steps for name in _MEANS if name in self.values}
        return metrics | {name: value for name, value in self.values.items() if _is_momentary(name)}


@dataclasses.dataclass
class RunState:
    """Where a run is.

    Attributes:
        step: steps done.
        saved_step: step of the newest checkpoint; None before the first.
        window: scalars since the last log.
        metrics: the latest metrics, `DATASET/METRIC`.
        best: best value of the metric.
        plateau: what `--plateau_patience` remembers.
        curve: training and validation loss at the evaluations so far.
        is_whole: whether the variables are those of `step`; not while the engine changes them or a save fails.
        done: step of the last log, evaluation and histograms, so that a resumed run repeats none.
        is_stopped: whether `on_log` has ended the run.
        left_out: the batches that rollbacks have left out.
        controller: what `--controller` has decided.
    """

    step: int = 0
    saved_step: int | None = None
    window: LogWindow = dataclasses.field(default_factory=LogWindow)
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    best: BestMetric = dataclasses.field(default_factory=BestMetric)
    plateau: Plateau = dataclasses.field(default_factory=Plateau)
    curve: list[Point] = dataclasses.field(default_factory=list)
    is_whole: bool = True
    done: dict[str, int] = dataclasses.field(default_factory=lambda: {"log": 0, "eval": 0, "histograms": 0})
    is_stopped: bool = False
    left_out: LeftOut = dataclasses.field(default_factory=LeftOut)
    controller: ControllerState = dataclasses.field(default_factory=ControllerState)

    @classmethod
    def from_record(cls, step: int, record: Mapping[str, Any]) -> "RunState":
        """The state that a checkpoint of this step recorded."""
        window, best = LogWindow(dict(record["window"])), BestMetric(**record["best"])
        plateau, stopped = Plateau(**record.get("plateau", {})), bool(record.get("stopped", False))
        metrics, done = dict(record["metrics"]), dict(record["done"])
        curve = [Point(*point) for point in record.get("curve", [])]
        left_out = LeftOut.from_record(record.get("left_out", {}))
        controller = ControllerState.from_record(record.get("controller", {}))
        restored = cls(step, step, window, metrics, best, plateau, curve, done=done, is_stopped=stopped)
        return dataclasses.replace(restored, left_out=left_out, controller=controller)

    @classmethod
    def problem(cls, record: Mapping[str, Any]) -> str | None:
        """What a record lacks to restore a state from it, or None."""
        try:
            state = cls.from_record(0, record)
            numbers = [*state.window.values.values(), *state.metrics.values(), *(state.done[key] for key in cls().done)]
            numbers += [state.best.value, state.best.step, state.best.since] if record["best"] else []
            numbers += dataclasses.astuple(state.plateau) if record.get("plateau") else []
            numbers += [number for point in state.curve for number in point]
            numbers += [decision["step"] for decision in state.controller.decisions]
            numbers += [*state.left_out.batches, state.left_out.rollbacks, state.left_out.anchor or 0]
        except (KeyError, TypeError, ValueError, AttributeError, BadInput) as error:
            return f"its record is not as expected ({type(error).__name__}: {error})"
        is_good = all(isinstance(number, (int, float)) for number in numbers)
        return None if is_good else "its record is not as expected (a value is not a number)"

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON has it."""
        best = self.best.record()
        record = {"window": self.window.values, "metrics": self.metrics, "best": best, "done": self.done}
        if self.plateau.value is not None:
            record["plateau"] = dataclasses.asdict(self.plateau)
        if self.curve:
            record["curve"] = self.curve
        if self.left_out.anchor is not None:
            record["left_out"] = dataclasses.asdict(self.left_out)
        if self.controller.decisions:
            record["controller"] = self.controller.record()
        return record | ({"stopped": True} if self.is_stopped else {})


def _is_momentary(name: str) -> bool:
    is_norm = name.rpartition("/")[2] == "gradient_norm"
    return (
        is_norm
        or name in ("loss_scale", "skipped_steps", "skipped_in_a_row", "damping")
        or name.partition("/")[0] == "learning_rate"
    )
