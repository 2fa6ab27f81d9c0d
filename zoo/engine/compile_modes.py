"""What XLA compiles as one program, and what is left to TensorFlow's own kernels where XLA lacks an operation."""

import re
from collections.abc import Iterable

import tensorflow as tf

from zoo.engine import workers
from zoo.errors import BadInput

MODES = ("auto", "loop", "cores", "step", "islands", "none")
# These fail in the same way whoever runs the operation.
_OWN = (tf.errors.ResourceExhaustedError, tf.errors.CancelledError, tf.errors.AbortedError, tf.errors.UnavailableError)
# XLA has plain loops for these on a CPU, TensorFlow has oneDNN's kernels: on two cores a step of a small convolutional
# network took 90 to 170 ms in XLA, and 12 without. In parentheses: gradients, XLA / TensorFlow, in ms.
_SLOW_ON_CPU = {
    "Conv2D",  # (122 / 29)
    "Conv3D",
    "DepthwiseConv2dNative",  # (921 / 12)
    "MaxPool",  # (62 / 3)
    "MaxPool3D",
}
_OPERATION = (
    re.compile(r"No registered '(\w+)'"),
    re.compile(r"op(?:eration)?:? '?([A-Z]\w+)'?"),
    re.compile(r"\{\{node [^}]*?(\w+)\}\}"),
)


def chosen(mode: str, replicas: int, exact: bool | None = False) -> str:
    """The mode that --compile means: `auto` is `loop` on one replica that need not be exact, else `step`.

    Raises:
        BadInput: an unknown mode, or one that several replicas or an exact run cannot have.
    """
    if mode not in MODES:
        raise BadInput(f"--compile is {mode!r}: expected one of {', '.join(MODES)}")
    if mode == "loop" and replicas > 1:
        raise BadInput(f"--compile=loop needs one replica, not {replicas}: use step or auto")
    if mode == "loop" and exact:
        raise BadInput(
            "--compile=loop makes one program of all slices, which rounds in its own way: with --exact use step"
        )
    return ("loop" if replicas == 1 and not exact else "step") if mode == "auto" else mode


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


def slow_operation(operations: Iterable[tf.Operation]) -> str:
    """The type of the first operation that XLA computes slowly on a CPU; empty where there is none."""
    return next((each.type for each in operations if each.type in _SLOW_ON_CPU and not _is_of_sequences(each)), "")


def _is_of_sequences(operation: tf.Operation) -> bool:
    """Whether a convolution is one of sequences, as images of height 1, which XLA computes as fast as TensorFlow."""
    return operation.type == "Conv2D" and operation.inputs[0].shape[1] == 1


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


class Modes:
    """The modes of training and of evaluations, which may turn out not to be possible, or not to be the fastest.

    Args:
        mode: from `chosen`.
        replicas: number of replicas.
        is_default: whether nobody asked for the mode, so that another one may be taken.
        notes: gets a line for each change.

    Attributes:
        of: the mode, by `training`.
    """

    def __init__(self, mode: str, replicas: int, is_default: bool, notes: list[str]):
        self.of = {True: mode, False: mode}
        self._replicas = replicas
        self._is_default = is_default
        self._notes = notes

    def take_slower(self, reason: str, refusal: str, training: bool) -> bool:
        """Takes the next slower mode, and says so; returns whether there is one.

        Args:
            reason: what XLA cannot compile.
            refusal: XLA's message, see `slower`.
            training: whose mode.

        Raises:
            BadInput: the mode was asked for.
        """
        mode = self.of[training]
        other = slower(mode, self._replicas, refusal)
        if other is None:
            return False
        if not self._is_default:
            raise BadInput(f"--compile={mode}: XLA cannot compile {reason}; use --compile={other}, or auto")
        self._take(other, training, f"XLA cannot compile {reason}", "slower")
        return True

    def take_faster(self, operation: str, training: bool) -> None:
        """Leaves the forward and backward pass to TensorFlow's kernels, unless the mode was asked for."""
        other = slower(self.of[training], self._replicas, "No registered")
        if other is not None and self._is_default:
            self._take(other, training, f"XLA is slow at {operation} on a CPU", "faster")

    def _take(self, mode: str, training: bool, why: str, effect: str) -> None:
        self.of[training] = mode
        what = "training" if training else "evaluation"
        # A note of an earlier change is out of date.
        self._notes[:] = [note for note in self._notes if f": {what} runs with --compile=" not in note]
        self._notes.append(f"{why}: {what} runs with --compile={mode}, which is {effect}")
