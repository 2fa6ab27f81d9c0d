"""Goes back to a checkpoint where a loss or gradient is not finite (`--on_nonfinite=rollback`).

The run reads its last checkpoint of every --checkpoint_every steps, leaves out the batch at which it happened, and goes
on with a lower learning rate: Chowdhery et al., "PaLM", 2022, section 5.1, did so by hand where the loss jumped. All of
it follows from the checkpoint, so a run that is killed on the way does the same again.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np

from zoo.engine import checkpoints, rate_level
from zoo.errors import NonFinite
from zoo.training.context import RunContext
from zoo.training.left_out import LeftOut
from zoo.training.run_state import RunState


def begin(context: RunContext, state: RunState) -> None:
    """Before the first step of a process: where no checkpoint is known to go back to, it is the one of the start."""
    if context.anchor_every and state.left_out.anchor is None:
        state.left_out.anchor = state.step


@contextlib.contextmanager
def guarded(context: RunContext, state: RunState) -> Iterator[None]:
    """Goes back where the block finds that training has left the finite numbers.

    Raises:
        NonFinite: the run shall not go back, has done so --rollbacks times, or it was not the training.
    """
    try:
        yield
    except NonFinite as error:
        step = _step(context, state, error) if context.anchor_every else None
        if step is None:
            raise
        if state.left_out.rollbacks >= context.config.rollbacks:
            raise NonFinite(f"{error}; the run went back {_times(context.config.rollbacks)} (--rollbacks)") from None
        # Not the steps of the call, which may be cut elsewhere.
        what = str(error).partition(" not finite")[0]
        _go_back(context, state, step, f"{what} not finite in step {step:,}")


def _step(context: RunContext, state: RunState, error: NonFinite) -> int | None:
    """The step at which training left the finite numbers; None where the weights are good."""
    if error.step is not None or not state.step:
        return error.step
    # An evaluation or a checkpoint has found it. An earlier step would have shown in the loss of the next one.
    weights = (value for value in context.engine.state().values() if value.dtype.kind == "f")
    return None if all(np.isfinite(value).all() for value in weights) else state.step - 1


def _go_back(context: RunContext, state: RunState, step: int, reason: str) -> None:
    before, config = state.left_out, context.config
    checkpoint, _ = checkpoints.restore(context.checkpoints, before.anchor, context.run_id)
    # A worker that is late must find the same files.
    context.workers.wait()
    recorded = RunState.from_record(checkpoint.step, checkpoint.record)
    after = before.after(step, dataclasses.replace(recorded.left_out, anchor=before.anchor))
    if context.is_chief:
        checkpoints.remove_after(context.checkpoints, checkpoint.step)
    context.engine.load(checkpoint.state)
    # From the checkpoint's rate: what else has lowered it since then does so again.
    level = float(checkpoint.state.get(rate_level.NAME, 1.0))
    level *= config.rollback_factor ** (after.rollbacks - recorded.left_out.rollbacks)
    context.engine.rate_level.assign(level)
    for field in dataclasses.fields(RunState):
        setattr(state, field.name, getattr(recorded, field.name))
    state.left_out = after
    context.reporter.go_back(checkpoint.step, f"{reason}: {_told(before, after, config.rollbacks, level)}")


def _told(before: LeftOut, after: LeftOut, most: int, level: float) -> str:
    new = sorted(set(after.batches) - set(before.batches))
    which = f"batch {new[0]:,} is" if len(new) == 1 else f"{len(new):,} batches from {new[0]:,} on are"
    return (
        f"back to step {after.anchor:,}, {which} left out, {level:g} times the learning rate of the schedule "
        f"(rollback {after.rollbacks} of at most {most})"
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
