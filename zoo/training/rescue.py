"""What a run keeps when an error ends it: a checkpoint, else at least the weights."""

import numpy as np

from zoo import workdir as folders
from zoo.engine.state import averaged
from zoo.errors import NonFinite, Stopped, ZooError
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
    note = "" if is_said else _kept(context, state)
    if note:
        error.add_note(note)
    message = str(error) if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
    try:
        context.reporter.writer.tell(state.step, "; ".join([message, note]).removesuffix("; "))
    except ZooError:
        # The disk is full, which may be what the error says; it must not be replaced by this one.
        return


def _kept(context: RunContext, state: RunState) -> str:
    """Saves what can be saved; returns what is kept, empty where nothing was trained."""
    if not context.is_chief or not state.step:
        return ""
    if state.is_whole and state.saved_step != state.step:
        try:
            actions.save(context, state)
        except Exception:
            # Not finite, a full disk, a lost device: the first error is the one to report.
            return _newest(state)
    if state.is_whole:
        return _newest(state)
    return "; ".join(part for part in (_newest(state), _save_weights(context)) if part)


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
