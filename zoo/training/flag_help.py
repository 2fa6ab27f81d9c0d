"""`--help` of an experiment: its docstring, and each flag with its default and the reason for it."""

import dataclasses
import shutil
import textwrap
from typing import Any

from zoo.config import Config
from zoo.errors import EXIT_CODES

ASKED = frozenset(("-h", "--h", "-help", "--help", "--helpshort"))
TRACEBACK = "Print the traceback of an error, too."
# Column where the help texts start; a longer flag has its own line.
_INDENT = 28


def text(about: str, config_class: type[Config], workdir: str) -> str:
    """The help text.

    Args:
        about: the experiment's docstring, printed as it is.
        config_class: the experiment's config.
        workdir: default of `--workdir`.

    Returns:
        The docstring, and lines that fit the terminal, at most 100 wide.
    """
    every_run = {field.name for field in dataclasses.fields(Config)}
    fields = dataclasses.fields(config_class)
    own = [_flag(field) for field in fields if field.name not in every_run]
    general = [_flag(field) for field in fields if field.name in every_run]
    folder = _entry(f"--workdir={workdir}", "Folder of the run. A stopped run continues there.")
    flagfile = _entry("--flagfile=RUN/flags.txt", "Flags from a file, to repeat a run. Flags after it override it.")
    every = _entry("--traceback", TRACEBACK)
    parts = [about.strip()]
    if own:
        parts.append("\n".join(["flags of this experiment:", *own]))
    parts.append("\n".join(["flags of every run:", folder, flagfile, every, *general]))
    return "\n\n".join([*parts, textwrap.fill(EXIT_CODES, _width())])


def _flag(field: dataclasses.Field) -> str:
    limits = field.metadata
    sentences = [limits.get("help", "")]
    if limits.get("choices"):
        sentences.append(f"One of {', '.join(limits['choices'])}.")
    if limits.get("alias"):
        sentences.append(f"Also --{limits['alias']}.")
    if field.default is None and "bool" in str(field.type):
        return _entry(f"--{field.name}, --no{field.name}", " ".join(sentences))
    if field.default is False or field.default is True:
        return _entry(f"--{'no' if field.default else ''}{field.name}", " ".join(sentences))
    return _entry(f"--{field.name}={_shown(field.default)}", " ".join(sentences))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def _entry(flag: str, description: str) -> str:
    lines = textwrap.wrap(description, _width() - _INDENT, break_on_hyphens=False)
    head = f"  {flag}"
    if len(head) >= _INDENT:
        return "\n".join([head, *(" " * _INDENT + line for line in lines)])
    first, *rest = lines or [""]
    return "\n".join([f"{head:<{_INDENT}}{first}", *(" " * _INDENT + line for line in rest)])


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 100)
