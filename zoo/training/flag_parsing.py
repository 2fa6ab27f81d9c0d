"""Parses an experiment's command line: one line for what is wrong in it, and for what is given twice."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags

from zoo.config import Config
from zoo.errors import BadInput


def parse(arguments: list[str], config_class: type[Config]) -> list[str]:
    """The words that are no flags, the program's name first; exits with code 2 where a flag is wrong.

    Args:
        arguments: the command line, the program's name first.
        config_class: the experiment's config, whose fields are the flags.
    """
    try:
        _check_flag_files(arguments[1:])
        for note in repeated(arguments[1:], config_class):
            print(f"{program()}: {note}", file=sys.stderr)
        return flags.FLAGS(arguments)
    except (flags.Error, BadInput) as error:
        _exit(str(error).splitlines()[0].removeprefix("FATAL Flags parsing error:").strip())
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        # absl reads flag files, and those that they name.
        _exit(f"--flagfile cannot be read: {getattr(error, 'strerror', None) or error}")


def repeated(words: Sequence[str], config_class: type[Config]) -> list[str]:
    """Notes on flags that are given twice with different values, of which the last one counts, as in shells' own tools.

    A flag after a flag file replaces the file's and is not repeated.

    Args:
        words: the command line after the program's name.
        config_class: the experiment's config.

    Raises:
        BadInput: a flag is given under two names: which of the two is meant is unknown.
    """
    fields = config_class.__dataclass_fields__.values()
    names = {field.metadata["alias"]: field.name for field in fields if field.metadata.get("alias")}
    switches = {field.name for field in fields if isinstance(field.default, bool)}
    given: dict[str, list[tuple[str, str]]] = {}
    for name, value in _flags(words, switches):
        if name != "flagfile":
            given.setdefault(names.get(name, name), []).append((name, value))
    notes = []
    for uses in given.values():
        used = list(dict.fromkeys(name for name, _ in uses))
        if len(used) > 1:
            raise BadInput(f"--{used[0]} and --{used[1]} are two names of one flag: expected one of them")
        values = list(dict.fromkeys(value for _, value in uses))
        if len(values) > 1:
            told = ", ".join(map(repr, values[:5]))
            notes.append(f"--{used[0]} is given {len(uses)} times ({told}): the last one counts, {uses[-1][1]!r}")
    return notes


def program() -> str:
    """The experiment's name, with which its lines on stderr begin."""
    return Path(sys.argv[0]).stem


def _flags(words: Sequence[str], switches: set[str]):
    """Yields name and value of each flag of a command line; the value may be the next word."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            return
        if not word.startswith("-") or word == "-":
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if name in switches or name.removeprefix("no") in switches:
            yield name.removeprefix("no") if name not in switches else name, value or str(name in switches)
        else:
            yield name, value if equals else next(rest, "")


def _check_flag_files(words: Sequence[str]) -> None:
    """Refuses a flag file that is none, like a device without an end."""
    for name, value in _flags(words, set()):
        if name == "flagfile" and Path(value).exists() and not Path(value).is_file():
            raise BadInput(f"--flagfile={value} is not a file")


def _exit(message: str) -> NoReturn:
    print(f"{program()}: {message}; see --help", file=sys.stderr)
    sys.exit(BadInput.exit_code)
