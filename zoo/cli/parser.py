"""The argument parser that all commands share; imports no package that takes time."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from zoo.errors import EXIT_CODES, BadInput, ZooError
from zoo.names import escaped

# Characters of a message; no command has a longer one of its own.
_LONGEST = 300


class Parser(argparse.ArgumentParser):
    """An argparse parser that reports errors in one line; the parsers of its commands are of this class, too."""

    def __init__(self, **options: Any):
        super().__init__(**{"epilog": EXIT_CODES, "allow_abbrev": False, **options})
        self.register("action", None, _Once)
        self.register("action", "store", _Once)
        about = "print the traceback of an unexpected error, to report it"
        # No default: that of a command would replace what stands before the command.
        self.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=about)

    def error(self, message: str) -> NoReturn:
        """Prints the message on stderr and exits with code 2."""
        # argparse repeats a wrong value whole.
        message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
        self.exit(BadInput.exit_code, f"{self.prog}: {escaped(message)}; see {self.prog} --help\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Reports unknown words of the command line, with a suggestion for a flag.

        Args:
            unknown: words that no argument takes.
        """
        flags = [word for word in unknown if word.startswith("-") and word != "-"]
        if not flags:
            self.error(f"unexpected: {' '.join(unknown)}")
        name = flags[0].partition("=")[0]
        options = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        self.error(f"unknown flag {name}{_suggestion(name, options)}")

    def require_verb(self, argv: Sequence[str], commands: Sequence[str]) -> None:
        """Refuses an unknown command, with a suggestion.

        Args:
            argv: words after `zoo`.
            commands: names of the commands.
        """
        name = next((word for word in argv if not word.startswith("-")), None)
        if name is not None and name not in commands:
            suggestion = _suggestion(name, commands) or f": expected one of {', '.join(commands)}"
            self.error(f"unknown command {name!r}{suggestion}")


class _Once(argparse.Action):
    """Stores a value; refuses a flag under two names, and says which counts where two values are given."""

    def __call__(self, parser, namespace, values, option_string=None):
        given = parser.__dict__.setdefault("given", {})
        earlier, before = given.setdefault(self.dest, (option_string, values))
        if option_string is not None and earlier != option_string:
            parser.error(f"{earlier} and {option_string} are two names of one flag: expected one of them")
        # By their text: NaN differs from itself.
        if option_string is not None and repr(before) != repr(values):
            note = f"{option_string} is given more than once: the last one counts, {values!r}"
            print(f"{parser.prog}: {note}", file=sys.stderr)
        given[self.dest] = option_string, values
        setattr(namespace, self.dest, values)


def _suggestion(name: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    return f": did you mean {' or '.join(near)}?" if near else ""


def add_verb(verbs: Any, name: str, about: str, more: str = "") -> argparse.ArgumentParser:
    """Adds a command with its argument WORKDIR.

    Args:
        verbs: argparse's subparsers of `zoo`.
        name: name of the command.
        about: one line of at most 60 characters, so that `zoo --help` fits on one screen.
        more: further sentences for the command's own help.
    """
    verb = verbs.add_parser(name, help=about, description=f"{about} {more}".strip())
    verb.add_argument("workdir", metavar="WORKDIR", help="folder of a finished run")
    return verb


def positive(text: str) -> int:
    """An argparse type: a whole number of 1 or more."""
    # Python itself refuses to read more than 4,300 digits.
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} is not a whole number of 1 or more, below 10^18")
    return int(text)


def limit(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """An argparse type: a finite number of 0 or more, int or float as `kind` is."""

    def read(text: str) -> Any:
        number = _number(text, kind)
        if not 0 <= number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text[:30]!r} is not a number of 0 or more")
        return number

    return read


def fraction(text: str) -> float:
    """An argparse type: a number above 0 and below 1."""
    number = _number(text, float)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} is not a share above 0 and below 1")
    return number


def _number(text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        return -1


def require_run(workdir: str) -> None:
    """Refuses a folder that is not a run's, before TensorFlow is imported, which takes seconds."""
    from zoo import workdir as folders

    folders.read_json(Path(workdir).expanduser(), folders.ABOUT)


def fail(error: ZooError) -> int:
    """Prints an error in one line on stderr; returns its exit code."""
    print(f"zoo: {escaped(str(error))}", file=sys.stderr, flush=True)
    return error.exit_code


def tell(notes: Sequence[str]) -> None:
    """Prints notes on stderr, each once."""
    for note in dict.fromkeys(notes):
        print(f"zoo: {escaped(note)}", file=sys.stderr, flush=True)
