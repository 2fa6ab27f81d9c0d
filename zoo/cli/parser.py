"""What the verbs of the command line share; imports nothing that takes time."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from zoo.errors import EXIT_CODES, BadInput, ZooError


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors are one line as all others are; verbs that are added to it are of this class, too."""

    def __init__(self, **options: Any):
        super().__init__(**{"epilog": EXIT_CODES, "allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Says it on stderr; exit code 2."""
        self.exit(BadInput.exit_code, f"{self.prog}: {message}; see {self.prog} --help\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Says which words of the command line are unknown, and what may have been meant by a flag.

        Args:
            unknown: words that were left over.
        """
        flags = [word for word in unknown if word.startswith("-") and word != "-"]
        if not flags:
            self.error(f"unexpected: {' '.join(unknown)}")
        name = flags[0].partition("=")[0]
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        self.error(f"unknown flag {name}{_hint(name, known)}")

    def require_verb(self, argv: Sequence[str], known: Sequence[str]) -> None:
        """Refuses a command that there is not, and says which may have been meant.

        Args:
            argv: the words after `zoo`.
            known: names of the commands.
        """
        name = next((word for word in argv if not word.startswith("-")), None)
        if name is not None and name not in known:
            hint = _hint(name, known) or f": expected one of {', '.join(known)}"
            self.error(f"unknown command {name!r}{hint}")


def _hint(name: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    return f": did you mean {' or '.join(near)}?" if near else ""


def add_verb(verbs: Any, name: str, about: str, more: str = "") -> argparse.ArgumentParser:
    """A command with its WORKDIR.

    Args:
        verbs: argparse's, of `zoo`.
        name: of the command.
        about: at most 60 characters, so that `zoo --help` is one screen.
        more: what else there is to say, in the command's own help.
    """
    verb = verbs.add_parser(name, help=about, description=f"{about} {more}".strip())
    verb.add_argument("workdir", metavar="WORKDIR", help="folder of a finished run")
    return verb


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def require_run(workdir: str) -> None:
    """Refuses a wrong folder at once, not after the seconds that TensorFlow takes."""
    from zoo import workdir as folders

    folders.read_json(Path(workdir).expanduser(), folders.ABOUT)


def fail(error: ZooError) -> int:
    """Says what went wrong in one line on stderr; the exit code."""
    print(f"zoo: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def tell(notes: Sequence[str]) -> None:
    """Says on stderr what a user should know of an answer, each note once."""
    for note in dict.fromkeys(notes):
        print(f"zoo: {note}", file=sys.stderr, flush=True)
