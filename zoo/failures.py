"""How a command ends: its exit code, and one line on stderr for whatever went wrong."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable

from zoo.errors import BadInput, ZooError, unforeseen
from zoo.names import escaped

# Characters of a file's name that are shown; Linux allows 255 in one and 4,096 in a path.
_LONGEST = 255


def reported(program: str, command: Callable[[], int], full: bool = False) -> int:
    """Runs a command; an error that ends it is one line on stderr.

    Args:
        program: name that the line begins with.
        command: returns an exit code.
        full: whether to print the traceback of an unexpected error, too.

    Returns:
        The exit code, see `zoo.errors.EXIT_CODES`: 2 for files and folders that the system refuses, 1 for what nobody
        expected, 128 + n for a signal.
    """
    complete_streams()
    try:
        code = command()
        # Here, so that a full disk or a closed pipe is reported below.
        sys.stdout.flush()
        return code
    except ZooError as error:
        return _fail(program, str(error), error.exit_code)
    except BrokenPipeError:
        _drop_unwritable()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        _drop_unwritable()
        refusal = refused(error)
        if not refusal:
            return _unexpected(program, error, full)
        if full:
            traceback.print_exc()
        return _fail(program, refusal, BadInput.exit_code)
    except Exception as error:
        return _unexpected(program, error, full)


def refused(error: OSError) -> str:
    """What the system refuses, and for which file; empty for an error that a library made up itself."""
    if error.strerror is None:
        return ""
    if error.filename is None:
        return f"{error.strerror}: a file or stdout"
    name = str(error.filename)
    return f"{name if len(name) <= _LONGEST else f'{name[:_LONGEST]}…'}: {error.strerror}"


def complete_streams() -> None:
    """Opens the null device where stdin, stdout or stderr is closed, as with `>&-` in a shell.

    Else the next file that is opened would take the number of the stream, and print would write into it or fail.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _unexpected(program: str, error: Exception, full: bool) -> int:
    above, newline, line = unforeseen(error, full=full).rpartition("\n")
    return _fail(program, line, ZooError.exit_code, above + newline)


def _fail(program: str, line: str, code: int, above: str = "") -> int:
    # stderr may be the pipe that is closed.
    with contextlib.suppress(OSError):
        print(f"{above}{program}: {escaped(line)}", file=sys.stderr, flush=True)
    return code


def _drop_unwritable() -> None:
    """Discards buffered output where stdout is closed or full, which would fail again when Python exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
