"""`main` of an experiment: parses flags, trains, and prints the result as one JSON line."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags

from zoo import config as configs
from zoo import config_flags, failures, flag_values, strict_json
from zoo.errors import BadInput, ZooError, unforeseen
from zoo.names import escaped
from zoo.training import flag_help, flag_parsing, signals


def main(build: Callable[[Any], Any], config_class: type[configs.Config], workdir: str) -> None:
    """Runs an experiment from the command line, and exits.

    Logs go to stderr; the last line on stdout is a JSON object with the final metrics. Exit codes: 0 done, 1 unexpected
    error, 2 bad input, 3 not finite, 4 no checkpoint can be read, 5 another worker was lost,
    128 + n stopped by signal n.

    Args:
        build: the experiment's `build(config)`.
        config_class: dataclass whose fields become flags.
        workdir: default of `--workdir`.
    """
    failures.complete_streams()
    config_flags.define_flags(config_class, workdir)
    flags.DEFINE_boolean("traceback", False, flag_help.TRACEBACK)

    def entry(arguments: list[str]) -> int:
        # Imported after the flags are parsed: --help and a wrong flag need no TensorFlow.
        from zoo.training.run import run

        if len(arguments) > 1:
            raise BadInput(f"argument {arguments[1]!r} is not a flag: expected --name=value")
        flag_values.check("workdir", flags.FLAGS.workdir, {})
        _print(strict_json.dumps(run(build, config_flags.from_flags(config_class), flags.FLAGS.workdir)))
        return 0

    def guarded(arguments: list[str]) -> int:
        try:
            with signals.watched():
                return entry(arguments)
        except BaseException as error:
            return _fail(error)

    def parse(arguments: list[str]) -> list[str]:
        # absl's own --help is long, sorted alphabetically, and ends with exit code 1.
        if not flag_help.ASKED.isdisjoint(arguments):
            print(flag_help.text(sys.modules["__main__"].__doc__ or "", config_class, workdir))
            sys.exit(0)
        return flag_parsing.parse(arguments, config_class)

    app.run(guarded, flags_parser=parse)


def _fail(error: BaseException) -> int:
    """Prints an error in one line on stderr, with --traceback all of it; returns its exit code."""
    if isinstance(error, SystemExit):
        raise error
    program, full = Path(sys.argv[0]).stem, flags.FLAGS.traceback
    refusal = failures.refused(error) if isinstance(error, OSError) else ""
    if isinstance(error, ZooError) or refusal:
        text = "; ".join([refusal or str(error), *getattr(error, "__notes__", ())])
        code = BadInput.exit_code if refusal else error.exit_code
        if full:
            traceback.print_exception(error)
    elif isinstance(error, KeyboardInterrupt):
        text, code = "stopped at once; the same command goes on from the newest checkpoint", 128 + signal.SIGINT
    else:
        text, code = unforeseen(error, full=full), ZooError.exit_code
    # A closed stderr must not change the exit code.
    with contextlib.suppress(OSError):
        above, newline, line = text.rpartition("\n")
        print(f"{above}{newline}{program}: {escaped(line)}", file=sys.stderr, flush=True)
    return code


def _print(line: str) -> None:
    """Prints the result, which result.json holds, too.

    Raises:
        BadInput: stdout is closed or full.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        # What is left in the buffer would fail once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise BadInput(f"stdout cannot be written ({error.strerror}); the result is in result.json") from error
