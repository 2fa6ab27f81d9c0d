"""Checks of a flag's value: its bounds, and what a flag file, a path and 64 bits can hold."""

import math
import operator
from collections.abc import Mapping
from typing import Any

from zoo.errors import BadInput, nearest

# Steps and counts are int64 on the device.
_LARGEST = 2**63 - 1
# Longest path of Linux (PATH_MAX); no name of a column, a class or a data set needs more.
_LONGEST = 4096
# Characters of a wrong value that are shown.
_SHOWN = 60


def check(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    """Refuses a value that is out of its bounds, or that no run can keep.

    Args:
        name: name of the flag.
        value: a text, a number, or several numbers.
        limits: `minimum`, `maximum`, `less_than` and `choices`, each of which may be missing.

    Raises:
        BadInput: says what was expected.
    """
    if limits.get("choices") and value not in limits["choices"]:
        raise BadInput(f"--{name} is {_short(repr(value))}: {nearest(str(value)[:_SHOWN], limits['choices'])}")
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, str):
            wrong = _wrong_text(each)
            if wrong:
                raise BadInput(f"--{name} is {_short(repr(each))}: {wrong}")
        elif isinstance(each, (int, float)) and not isinstance(each, bool):
            expected = _violated(each, limits)
            if expected:
                raise BadInput(f"--{name} is {_short(as_text(value))}: expected {' and '.join(expected)}")


def as_text(value: Any) -> str:
    """A value as it is written on a command line."""
    return ",".join(str(item) for item in value) if isinstance(value, (tuple, list)) else f"{value}"


def _wrong_text(text: str) -> str:
    """What makes a text unfit for a flag; empty where it is fit."""
    if "\0" in text:
        return "it holds a NUL character, which no path or name can; leave it out"
    if "\n" in text or "\r" in text:
        return "it holds a line break, which flags.txt cannot keep; rename the file or column"
    if any("\ud800" <= each <= "\udfff" for each in text):
        return "it is not valid UTF-8, as the files of a run are; rename the file or column"
    if len(text) > _LONGEST:
        return f"it has {len(text):,} characters, expected at most {_LONGEST:,}"
    return ""


def _violated(number: float, limits: Mapping[str, Any]) -> list[str]:
    """The bounds that a number violates."""
    checks = {
        ">=": (limits.get("minimum"), operator.ge),
        "<=": (limits.get("maximum"), operator.le),
        "<": (limits.get("less_than"), operator.lt),
    }
    wrong = [
        f"{sign} {bound}" if isinstance(bound, int) else f"{sign} {bound:g}"
        for sign, (bound, holds) in checks.items()
        if bound is not None and not holds(number, bound)
    ]
    if isinstance(number, int):
        return wrong or ([] if abs(number) <= _LARGEST else [f"a number of 64 bits, at most {_LARGEST}"])
    return wrong or ([] if math.isfinite(number) else ["a finite number"])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
