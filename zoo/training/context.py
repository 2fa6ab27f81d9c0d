"""What all parts of the outer loop share: the run's config, experiment, engine, and how it reports."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo import piecewise
from zoo import workdir as folders
from zoo.config import Config
from zoo.engine.engine import Engine
from zoo.engine.workers import Workers
from zoo.experiment import Experiment
from zoo.metrics import evaluation_report
from zoo.piecewise import Piece
from zoo.training.progress import Clock, Progress
from zoo.training.run_state import RunState
from zoo.training.tensorboard_writer import TensorBoardWriter

# A call of the compiled loop should last about this long, so that signals and the bar are answered.
_CALL_SECONDS = 0.5


class Reporter:
    """Tells a run's progress on stderr and in TensorBoard's files.

    Attributes:
        progress: the bar or the lines on stderr.
        writer: TensorBoard's files.
    """

    def __init__(self, progress: Progress, writer: TensorBoardWriter):
        self.progress = progress
        self.writer = writer
        self._told: set[str] = set()

    def tell(self, step: int, message: str) -> None:
        """Reports what happened to the run."""
        self.progress.say(message)
        self.writer.tell(step, message)

    def tell_once(self, step: int, message: str) -> None:
        """Reports what happens again and again once."""
        if message not in self._told:
            self._told.add(message)
            self.tell(step, message)

    def metrics(self, step: int, dataset: str, metrics: Mapping[str, float]) -> None:
        """Reports points of the curves of a data set."""
        self.writer.scalars(dataset, step, metrics)
        if self.writer.is_open:
            # A rate of each layer is a curve, not a word.
            self.progress.line(step, dataset, evaluation_report.brief(metrics))

    def go_back(self, step: int, message: str) -> None:
        """Reports that the run goes back to a step, and removes what was written after it."""
        self.progress.go_back(step)
        self.writer.go_back(step)
        self.tell(step, message)

    def close(self) -> None:
        self.progress.close()
        self.writer.close()


class Pace:
    """How many steps one call of the engine takes.

    Args:
        most: upper bound, --steps_per_loop.
    """

    def __init__(self, most: int):
        self._most = most
        self.steps = 1

    def update(self, steps: int, seconds: float) -> None:
        """Aims the next call at half a second; at most four times the steps of this one, as the first call compiled."""
        fitting = int(steps * _CALL_SECONDS / max(seconds, 1e-6))
        self.steps = max(1, min(fitting, 4 * steps, self._most))


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What all parts of the outer loop share.

    Attributes:
        config: config of the run.
        experiment: what `build(config)` returned.
        engine: compiled loops.
        workers: the processes that train together.
        workdir: folder of the run.
        run_id: identity of the run, which its checkpoints bear.
        total_steps: steps of the whole run.
        is_chief: whether this process writes files.
        reporter: stderr and TensorBoard.
        clock: seconds spent in training.
        pace: steps per call of the engine.
        planned: the values of each control that flags set, see `zoo.engine.controls`; empty where none do.
        decision_steps: steps at which `--controller` decides.
    """

    config: Config
    experiment: Experiment
    engine: Engine
    workers: Workers
    workdir: Path
    run_id: str
    total_steps: int
    is_chief: bool
    reporter: Reporter
    clock: Clock
    pace: Pace
    planned: Mapping[str, Sequence[Piece]] = dataclasses.field(default_factory=dict)
    decision_steps: Sequence[int] = ()

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.workdir / folders.CHECKPOINTS

    @property
    def eval_every(self) -> int:
        """Steps between evaluations: --eval_every, else an epoch."""
        return self.config.eval_every or self.experiment.train.steps_per_epoch

    @property
    def anchor_every(self) -> int:
        """Steps between the checkpoints that a rollback goes back to; 0 without rollbacks."""
        return (self.config.checkpoint_every or self.eval_every) if self.config.on_nonfinite == "rollback" else 0

    def is_anchor(self, step: int) -> bool:
        """Whether a rollback may go back to this step: always the same ones, however often a run is stopped."""
        return bool(self.anchor_every) and step % self.anchor_every == 0

    def pieces(self, state: RunState) -> Mapping[str, Sequence[Piece]]:
        """The values of each control, as the controller or flags have set them."""
        return state.controller.pieces or self.planned

    def is_out_of_patience(self, state: RunState) -> bool:
        """Whether the metric has not improved for --patience evaluations (early stopping)."""
        return bool(self.config.patience) and state.best.since >= self.config.patience

    def is_done(self, state: RunState) -> bool:
        """Whether the run has all its steps, or stops early."""
        return state.step == self.total_steps or state.is_stopped or self.is_out_of_patience(state)

    def steps_until_due(self, state: RunState) -> int:
        """Steps until the next log, evaluation, checkpoint, histogram, decision, edge of a profile or the end."""
        config, step = self.config, state.step
        periods = [config.log_every, self.eval_every, config.checkpoint_every, config.histograms, self.anchor_every]
        waits = [self.total_steps - step, self.reporter.writer.until_profile(step), state.left_out.steps_until(step)]
        waits += [piecewise.steps_until_next(pieces, step) for pieces in self.pieces(state).values()]
        waits += [decision - step for decision in self.decision_steps if decision > step]
        return min([wait for wait in waits if wait] + [every - step % every for every in periods if every])
