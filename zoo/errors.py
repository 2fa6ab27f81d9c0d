"""Errors that a user can fix, each with its exit code."""

import difflib
from collections.abc import Sequence


class ZooError(Exception):
    """An error that the user can fix; printed as one line, without a traceback."""

    exit_code = 1


class BadInput(ZooError):
    """A flag, file or data set is not as expected."""

    exit_code = 2


class NonFinite(ZooError):
    """The loss or a gradient became infinite or not a number."""

    exit_code = 3


class DamagedCheckpoints(ZooError):
    """Checkpoints exist, but none of them can be read."""

    exit_code = 4


class Stopped(ZooError):
    """The run was asked to stop (SIGTERM or Ctrl-C) and saved a checkpoint first.

    The exit code is 128 + the signal number, as in shells.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


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


EXIT_CODES = """\
exit codes: 0 done, 2 bad input, 3 not finite, 4 no checkpoint can be read, 128 + n stopped by signal n"""
