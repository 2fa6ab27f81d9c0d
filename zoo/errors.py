"""What can go wrong in a run, and the exit code that a shell sees for it."""

import difflib
from collections.abc import Sequence


class ZooError(Exception):
    """Something a person can mend; printed as one line, without a traceback."""

    exit_code = 1


class BadInput(ZooError):
    """A flag, a file or a data set is not what was expected."""

    exit_code = 2


class NonFinite(ZooError):
    """The loss or a gradient became infinite or not a number."""

    exit_code = 3


class DamagedCheckpoints(ZooError):
    """There are checkpoints, and not one of them can be read back."""

    exit_code = 4


class Stopped(ZooError):
    """The run was asked to stop (SIGTERM or Ctrl-C) and saved itself first.

    The exit code is 128 + the number of the signal, as shells have it.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Sequence[str], other: str = "") -> str:
    """A question: did you mean one of the nearest names? Or all known names where none is near.

    Args:
        name: that is not known.
        known: names.
        other: what may be given besides these names, like "a file of your own".
    """
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?{f' Or {other}' if other else ''}"
    return f"expected one of {', '.join(known)}{f', or {other}' if other else ''}"


EXIT_CODES = """\
exit codes: 0 done, 2 bad input, 3 not finite, 4 no checkpoint can be read, 128 + n stopped by signal n"""
