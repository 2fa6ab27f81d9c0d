"""What a run keeps when an error ends it: a checkpoint, else at least the weights."""

import numpy as np

from zoo import workdir as folders
from zoo.engine.state import averaged
from zoo.errors import NonFinite, Stopped, WorkerEnded, WorkerLost, ZooError
from zoo.training import actions, weights
from zoo.training.context import RunContext
from zoo.training.run_state import RunState


def rescue(context: RunContext, state: RunState, error: Exception) -> None:
    """Saves what was trained since the newest checkpoint, and adds a note to the error that says what is kept."""
    if isinstance(error, Stopped):
        context.reporter.writer.tell(state.step, str(error))
        return
    # A loss that is not finite names the checkpoint itself, and leaves no weights worth keeping.
    is_said = isinstance(error, NonFinite) and not state.is_whole
    note = "" if is_said else _kept(context, state, error)
    if note:
        error.add_note(note)
    message = str(error) if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
    try:
        context.reporter.writer.tell(state.step, "; ".join([message, note]).removesuffix("; "))
    except ZooError:
        # The disk is full, which may be what the error says; it must not be replaced by this one.
        return


def _kept(context: RunContext, state: RunState, error: Exception) -> str:
    """Saves what can be saved; returns what is kept, empty where nothing was trained."""
    is_saved = not (context.is_chief and state.step and state.is_whole) or _save(context, state)
    if isinstance(error, (WorkerLost, WorkerEnded)):
        return _resumption(context, state)
    if not context.is_chief or not state.step:
        return ""
    if state.is_whole or not is_saved:
        return _newest(state)
    return "; ".join(part for part in (_newest(state), _save_weights(context)) if part)


def _save(context: RunContext, state: RunState) -> bool:
    """Saves a checkpoint, unless there is one, and without the other workers, which may be gone."""
    if state.saved_step != state.step:
        try:
            actions.write_checkpoint(context, state)
        except Exception:
            # Not finite, a full disk, a lost device: the first error is the one to report.
            return False
        state.saved_step = state.step
    return True


def _resumption(context: RunContext, state: RunState) -> str:
    """Where a run of several workers goes on when all are started again."""
    if state.saved_step is None:
        return "no step is known to be saved, the run may start again"
    # The first worker may just be saving a later one.
    return f"the run goes on bitwise from step {state.saved_step:,}{'' if context.is_chief else ' or a later one'}"


def _newest(state: RunState) -> str:
    if state.saved_step is None:
        return ""
    return f"the checkpoint of step {state.saved_step:,} is kept, the same command goes on from there"


def _save_weights(context: RunContext) -> str:
    """Writes the weights as an interrupted call left them, which is no state that a run could go on from."""
    path = context.workdir / folders.RESCUED
    try:
        values = averaged(context.engine.state())
        if not all(np.isfinite(value).all() for value in values.values() if value.dtype.kind == "f"):
            return ""
        weights.write(path, values)
    except Exception as error:
        # As above.
        reason = next(iter(str(error).splitlines()), "")
        return f"the weights could not be kept ({type(error).__name__}: {reason})"
    return f"the weights as they were are in {path}, for --init_from"
