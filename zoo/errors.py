"""Errors that a user can fix, each with its exit code, and the one line for all others."""

import difflib
import os
import traceback
from collections.abc import Sequence

# Longest part of a foreign message that is shown; TensorFlow's may have pages.
_LONGEST = 300


class ZooError(Exception):
    """An error that the user can fix; printed as one line, without a traceback."""

    exit_code = 1


class BadInput(ZooError):
    """A flag, file or data set is not as expected."""

    exit_code = 2


class NonFinite(ZooError):
    """The loss or a gradient became infinite or not a number.

    Args:
        message: the line to print.
        step: step of the run in which it was; None where that is not known.
    """

    exit_code = 3

    def __init__(self, message: str, step: int | None = None):
        super().__init__(message)
        self.step = step


class DamagedCheckpoints(ZooError):
    """Checkpoints exist, but none of them can be read."""

    exit_code = 4


class Stopped(ZooError):
    """The run was asked to stop (SIGTERM, SIGHUP or Ctrl-C) and saved a checkpoint first, if it had trained.

    The exit code is 128 + the signal number, as in shells.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class WorkerLost(ZooError):
    """Another worker of the run was killed, is stopped, or cannot be reached; all workers are to be started again."""

    exit_code = 5


class WorkerEnded(ZooError):
    """Another worker of the run ended by an error of its own, or at once by a signal; the exit code is that one's."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


def unforeseen(error: BaseException, kept: str = "", full: bool = False) -> str:
    """The line for an error that nobody expected; a program that prints it ends with exit code 1.

    Args:
        error: the error, of any type. Its notes (`add_note`) are part of the line: they say what was kept.
        kept: what was kept besides, and how to go on.
        full: whether to put the traceback before the line (`--traceback`).
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0][:_LONGEST] if lines else ""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        message = f"not enough memory; {message}".removesuffix("; ")
    what = f"unexpected {type(error).__name__}{': ' if message else ''}{message}{_place(error)}"
    parts = [part for part in (what, *getattr(error, "__notes__", ()), kept) if part]
    parts.append("please report it with this output" if full else "please report it with what --traceback prints")
    # Control characters of a foreign message must not reach a terminal.
    line = "".join(each if each.isprintable() else " " for each in "; ".join(parts))
    return "".join(traceback.format_exception(error)) + line if full else line


def _place(error: BaseException) -> str:
    """File and line of the innermost frame outside of installed packages, but for this one."""
    frames = traceback.extract_tb(error.__traceback__)
    here = os.path.dirname(__file__)
    foreign = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}", f"{os.sep}lib{os.sep}python", "<")
    own = [each for each in frames if each.filename.startswith(here) or not any(f in each.filename for f in foreign)]
    return "".join(f" ({os.path.relpath(each.filename)}, line {each.lineno})" for each in (own or frames)[-1:])


def nearest(name: str, choices: Sequence[str], other: str = "") -> str:
    """A hint for an unknown name: "did you mean" the closest choices, or all choices where none is close.

    Args:
        name: the unknown name.
        choices: the valid names.
        other: a further alternative, like "a file of your own".
    """
    matches = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if matches:
        return f"did you mean {' or '.join(matches)}?{f' Or {other}' if other else ''}"
    return f"expected one of {', '.join(choices)}{f', or {other}' if other else ''}"


EXIT_CODES = (
    "exit codes: 0 done, 2 bad input, 3 not finite, 4 no checkpoint can be read, "
    "5 another worker was lost, 128 + n stopped by signal n, 1 any other error"
)
