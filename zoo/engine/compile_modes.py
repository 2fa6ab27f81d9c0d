"""What XLA compiles as one program, and what is left to TensorFlow's own kernels where XLA lacks an operation."""

import re

import tensorflow as tf

from zoo.engine import workers
from zoo.errors import BadInput

MODES = ("auto", "loop", "cores", "step", "islands", "none")
# These fail in the same way whoever runs the operation.
_OWN = (tf.errors.ResourceExhaustedError, tf.errors.CancelledError, tf.errors.AbortedError, tf.errors.UnavailableError)
_OPERATION = (
    re.compile(r"No registered '(\w+)'"),
    re.compile(r"op(?:eration)?:? '?([A-Z]\w+)'?"),
    re.compile(r"\{\{node [^}]*?(\w+)\}\}"),
)


def chosen(mode: str, replicas: int) -> str:
    """The mode that --compile means: `auto` is `loop` on one replica, else `step`.

    Raises:
        BadInput: an unknown mode, or one that several replicas cannot have.
    """
    if mode not in MODES:
        raise BadInput(f"--compile is {mode!r}: expected one of {', '.join(MODES)}")
    if mode == "loop" and replicas > 1:
        raise BadInput(f"--compile=loop needs one replica, not {replicas}: use step or auto")
    return ("loop" if replicas == 1 else "step") if mode == "auto" else mode


def slower(mode: str, replicas: int, refusal: str) -> str | None:
    """The next slower mode that may do what XLA refuses in `mode`; None where XLA has no part of the model.

    Args:
        mode: the mode that failed.
        replicas: number of replicas; on one of them the update alone can be compiled.
        refusal: XLA's message. An operation that it does not know at all it knows in no mode; one whose shapes it
            cannot find in the loop it may compile outside of it.
    """
    if mode in ("islands", "none"):
        return None
    if mode == "loop" and "No registered" not in refusal:
        return "step"
    return "islands" if replicas == 1 else "none"


def may_be_xlas(error: Exception) -> bool:
    """Whether another mode may do what this one could not: XLA's refusals come as errors of several types."""
    return isinstance(error, tf.errors.OpError) and not isinstance(error, _OWN) and not workers.is_of_another(error)


def reason(error: Exception) -> str:
    """The operation that XLA refused, as far as its message names it."""
    for pattern in _OPERATION:
        match = pattern.search(str(error))
        if match:
            return match.group(1)
    return type(error).__name__
