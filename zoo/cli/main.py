"""The command `zoo`: uses finished runs and text encoders.

Only argument parsing is imported here, neither TensorFlow nor NumPy, so that `zoo --help` answers at once.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import zoo
from zoo import failures
from zoo.cli import (
    compare,
    completion,
    evaluate,
    export,
    feedback,
    generate,
    inspect,
    predict,
    score,
    search,
    summarize,
    sweep,
    tensorboard,
)
from zoo.cli.parser import Parser
from zoo.errors import BadInput


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: command line without the program's name; None: that of the process.

    Returns:
        The exit code; an error is one line on stderr.
    """
    failures.complete_streams()
    # A character that the terminal's encoding lacks is printed as an escape.
    sys.stdout.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else argv

    def command() -> int:
        if any("\0" in word for word in words):
            # No shell passes one, but a program that calls this function may.
            raise BadInput("an argument holds a NUL character, which no path or text here may; leave it out")
        arguments = _parsed(words)
        return arguments.run(arguments)

    return failures.reported("zoo", command, "--traceback" in words)


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser, verbs = _parser()
    parser.require_verb(argv, tuple(verbs.choices))
    if sweep.is_asked(argv):
        return sweep.parsed(parser, argv)
    arguments, rest = parser.parse_known_args(argv)
    # argparse takes an optional list from one place only: in `WORKDIR --json FILE` it does not take FILE.
    if rest and ("files" not in arguments or any(word.startswith("-") and word != "-" for word in rest)):
        verbs.choices[arguments.command].refuse(rest)
    if rest:
        arguments.files += rest
    return arguments


def _parser() -> tuple[Parser, Any]:
    """The parser and its subparsers."""
    # Without a line for --help itself, so that the help has 24 lines.
    parser = Parser(prog="zoo", add_help=False)
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    version = f"zoo {zoo.__version__}"
    parser.add_argument("-V", "--version", action="version", version=version, help="print the version and exit")
    # In the title, as a description would need two lines more than a screen has.
    title = "commands, each with a --help; runs are made by `python -m experiments.NAME`"
    verbs = parser.add_subparsers(title=title, metavar="COMMAND", dest="command", required=True)
    inspect.add(verbs)
    predict.add(verbs)
    evaluate.add(verbs)
    feedback.add(verbs)
    score.add(verbs)
    generate.add(verbs)
    export.add(verbs)
    search.add(verbs)
    summarize.add(verbs)
    sweep.add(verbs)
    compare.add(verbs)
    tensorboard.add(verbs)
    completion.add(verbs, parser)
    return parser, verbs
