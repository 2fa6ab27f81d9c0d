"""`zoo completion`: shell completion of commands, flags, folders and files."""

import argparse
import functools
from typing import Any

from zoo.cli.parser import Parser

SHELLS = ("bash", "zsh")
_FOLDERS, _FILES = ("WORKDIR", "SOURCE", "RUN", "FOLDER"), ("FILE", "NAME_OR_FILE")


def add(verbs: Any, parser: Parser) -> None:
    """`zoo completion bash`.

    Args:
        verbs: argparse's subparsers of `zoo`.
        parser: parser of `zoo`; all commands that it has when this one runs are completed.
    """
    about = "Print a script that completes zoo's commands in bash or zsh."
    more = 'For this shell: eval "$(zoo completion bash)"; for all shells, add that line to ~/.bashrc (zsh: to '
    more += "~/.zshrc, after compinit)."
    verb = verbs.add_parser("completion", help=about, description=f"{about} {more}")
    verb.add_argument("shell", metavar="SHELL", choices=SHELLS, help=" or ".join(SHELLS))
    verb.set_defaults(run=functools.partial(_run, parser))


def _run(parser: Parser, arguments: argparse.Namespace) -> int:
    import shtab

    for verb in [parser, *_verbs(parser)]:
        for action in verb._actions:
            name = str(action.metavar).partition(".")[0]
            if name in _FOLDERS:
                action.complete = shtab.DIRECTORY
            elif name in _FILES:
                action.complete = shtab.FILE
    print(shtab.complete(parser, arguments.shell))
    return 0


def _verbs(parser: Parser) -> list[argparse.ArgumentParser]:
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [verb for action in subparsers for verb in action.choices.values()]
