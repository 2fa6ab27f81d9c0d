"""The command `zoo`: what to do with a finished run, and with encoders of texts.

Only what parses the command line is imported here: TensorFlow takes seconds, and `zoo --help` must not.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import zoo
from zoo.cli import completion, evaluate, export, feedback, generate, predict, score, search, summarize, tensorboard
from zoo.cli.parser import Parser, fail
from zoo.errors import BadInput, ZooError

if TYPE_CHECKING:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: without the program's name; None for those of the process.

    Returns:
        The exit code; what went wrong stands in one line on stderr.
    """
    # Where the terminal's encoding lacks a character, an escape is better than no answer.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = _parsed(sys.argv[1:] if argv is None else argv)
        code = arguments.run(arguments)
        # What is still buffered may meet a full disk or a closed pipe, too.
        sys.stdout.flush()
        return code
    except ZooError as error:
        return fail(error)
    except BrokenPipeError:
        _drop_unwritable()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_unwritable()
        return fail(BadInput(str(error)))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser, verbs = _parser()
    parser.require_verb(argv, tuple(verbs.choices))
    arguments, left = parser.parse_known_args(argv)
    # argparse takes an optional list from one place only: of `WORKDIR --json FILE` it leaves FILE over.
    if left and ("files" not in arguments or any(word.startswith("-") and word != "-" for word in left)):
        verbs.choices[arguments.command].refuse(left)
    if left:
        arguments.files += left
    return arguments


def _parser() -> tuple[Parser, Any]:
    """The parser, and its commands."""
    parser = Parser(
        prog="zoo", description="Use what `python -m experiments.NAME` has trained. Each command has a --help."
    )
    version = f"zoo {zoo.__version__}"
    parser.add_argument("-V", "--version", action="version", version=version, help="print the version and exit")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    predict.add(verbs)
    evaluate.add(verbs)
    feedback.add(verbs)
    score.add(verbs)
    generate.add(verbs)
    export.add(verbs)
    search.add(verbs)
    summarize.add(verbs)
    tensorboard.add(verbs)
    completion.add(verbs, parser)
    return parser, verbs


def _drop_unwritable() -> None:
    """Where stdout is closed or full, what is still buffered must not fail once more when Python exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
