"""What an experiment's `--help` says: its docstring, and each flag with its default and the reason for it."""

import dataclasses
import shutil
import textwrap
from typing import Any

from zoo.config import Config
from zoo.errors import EXIT_CODES

ASKED = frozenset(("-h", "--h", "-help", "--help", "--helpshort"))
# What stands in front of a flag's help; a longer flag has a line of its own.
_INDENT = 28


def text(about: str, config_class: type[Config], workdir: str) -> str:
    """The whole help.

    Args:
        about: the experiment's docstring.
        config_class: the experiment's.
        workdir: default of `--workdir`.

    Returns:
        Lines for the terminal's width, at most 100 wide, where the docstring is no wider.
    """
    every_run = {field.name for field in dataclasses.fields(Config)}
    fields = dataclasses.fields(config_class)
    own = [_flag(field) for field in fields if field.name not in every_run]
    general = [_flag(field) for field in fields if field.name in every_run]
    place = _entry(f"--workdir={workdir}", "Folder of the run. A run that was stopped goes on there.")
    again = _entry("--flagfile=RUN/flags.txt", "Flags from a file: repeats a run. What follows it counts more.")
    parts = [about.strip()]
    if own:
        parts.append("\n".join(["flags of this experiment:", *own]))
    parts.append("\n".join(["flags of every run:", place, again, *general]))
    return "\n\n".join([*parts, textwrap.fill(EXIT_CODES, _width())])


def _flag(field: dataclasses.Field) -> str:
    limits = field.metadata
    said = [limits.get("help", "")]
    if limits.get("choices"):
        said.append(f"One of {', '.join(limits['choices'])}.")
    if limits.get("alias"):
        said.append(f"Also --{limits['alias']}.")
    if field.default is False or field.default is True:
        return _entry(f"--{'no' if field.default else ''}{field.name}", " ".join(said))
    return _entry(f"--{field.name}={_shown(field.default)}", " ".join(said))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def _entry(flag: str, said: str) -> str:
    lines = textwrap.wrap(said, _width() - _INDENT, break_on_hyphens=False)
    head = f"  {flag}"
    if len(head) >= _INDENT:
        return "\n".join([head, *(" " * _INDENT + line for line in lines)])
    first, *rest = lines or [""]
    return "\n".join([f"{head:<{_INDENT}}{first}", *(" " * _INDENT + line for line in rest)])


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 100)
