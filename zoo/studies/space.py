"""The space of a sweep as text, such as "learning_rate=log:1e-4..1e-1 dropout=0..0.5 optimizer=adamw|sgd"."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import BadInput, nearest

# What decides by which examples and by which metric trials are judged: all trials need the same.
_FIXED = ("metric", "metric_mode", "dataset", "train_file", "eval_file", "test_file", "split", "fold", "folds")
# Whole numbers that a grid takes without a number of points.
_MOST_WHOLE = 20
_FORM = "expected NAME=A|B|C, NAME=LOW..HIGH or NAME=log:LOW..HIGH"


class Dimension(NamedTuple):
    """One flag of the space.

    Attributes:
        name: name of the flag.
        choices: its values as texts; empty for a range.
        low: lower end of the range.
        high: upper end.
        log: whether the range is drawn on a logarithmic scale.
        points: points of the range in a grid; 0: not given.
        whole: whether the flag takes whole numbers.
    """

    name: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    points: int = 0
    whole: bool = False

    def grid(self) -> tuple[str, ...]:
        """The values in a grid, as texts.

        Raises:
            BadInput: it is a range without a number of points.
        """
        if self.choices:
            return self.choices
        if not self.points and not (self.whole and not self.log and self.high - self.low < _MOST_WHOLE):
            low, high = (value_text(end, self.whole) for end in (self.low, self.high))
            raise BadInput(
                f"--space: {self.name} is a range, a grid needs points: expected {self.name}="
                f"{'log:' if self.log else ''}{low}..{high}/5 or values, A|B|C"
            )
        count = self.points or int(self.high - self.low) + 1
        space = np.geomspace if self.log else np.linspace
        values = space(self.low, self.high, count)
        # Without rounding, 0.1 to 0.3 has 0.15000000000000002.
        texts = (value_text(float(f"{value:.6g}"), self.whole) for value in values)
        return tuple(dict.fromkeys(texts))

    def edges(self) -> tuple[str, ...]:
        """The values that a flag must accept for the whole dimension to be legal, as texts."""
        return self.choices or tuple(value_text(end, self.whole) for end in (self.low, self.high))


def value_text(value: Any, whole: bool = False) -> str:
    """A value of a trial as it is written on a command line."""
    if isinstance(value, str):
        return value
    return str(round(value)) if whole else repr(float(value))


def parse(text: str) -> list[Dimension]:
    """The dimensions of a space; names and types are not yet compared with an experiment's flags.

    Raises:
        BadInput: names the part that is wrong.
    """
    dimensions = [_dimension(part) for part in text.split()]
    if not dimensions:
        raise BadInput(f"--space is empty: {_FORM}, with blanks between them")
    names = [each.name for each in dimensions]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"--space has {name} twice: expected each flag once")
    return dimensions


def _dimension(part: str) -> Dimension:
    name, equals, values = part.removeprefix("--").partition("=")
    if not name or not equals or not values:
        raise BadInput(f"--space has {part!r}: {_FORM}")
    if "|" in values:
        choices = tuple(values.split("|"))
        if len(set(choices)) < len(choices):
            raise BadInput(f"--space has {part!r} with a value twice: expected different values")
        return Dimension(name, choices)
    if ".." not in values:
        raise BadInput(f"--space has {part!r}, one value: give it as a flag, --{name}={values}; {_FORM}")
    log, (low, _, rest) = values.startswith("log:"), values.removeprefix("log:").partition("..")
    high, slash, points = rest.partition("/")
    try:
        ends, count = (float(low), float(high)), int(points) if slash else 0
    except ValueError:
        raise BadInput(f"--space has {part!r}: expected two numbers, LOW..HIGH, for a grid LOW..HIGH/POINTS") from None
    if not all(map(math.isfinite, ends)) or ends[0] >= ends[1]:
        raise BadInput(f"--space has {part!r}: expected LOW < HIGH")
    if log and ends[0] <= 0:
        raise BadInput(f"--space has {part!r}: a logarithmic range starts above 0")
    if slash and count < 2:
        raise BadInput(f"--space has {part!r}: expected two points or more")
    return Dimension(name, (), *ends, log, count)


def checked(
    dimensions: Sequence[Dimension], kinds: Mapping[str, type], aliases: Mapping[str, str], sampler: str
) -> list[Dimension]:
    """The dimensions by the names and types of an experiment's flags.

    Args:
        dimensions: from `parse`.
        kinds: type of each flag by its name.
        aliases: names of flags by their second names.
        sampler: "grid", or one that draws from ranges.

    Raises:
        BadInput: an unknown flag, one that all trials must share, or a range of what is no number.
    """
    result = []
    for each in dimensions:
        name = aliases.get(each.name, each.name)
        if name in ("seed", "seeds"):
            raise BadInput(f"--space has {name}: a seed is not to be tuned; --seeds=3 runs each trial with three")
        if name in _FIXED:
            raise BadInput(f"--space has {name}: all trials are judged by one metric on the same validation split")
        if name not in kinds:
            raise BadInput(f"--space has {each.name}, which is not a flag: {nearest(each.name, sorted(kinds))}")
        kind = kinds[name]
        if not each.choices and kind not in (int, float):
            raise BadInput(f"--space has a range for {name}, which is no number: expected values, {name}=A|B")
        if not each.choices and kind is int and not (each.low.is_integer() and each.high.is_integer()):
            raise BadInput(f"--space: {name} is a whole number, the range is {each.low:g}..{each.high:g}")
        if each.points and sampler != "grid":
            raise BadInput(f"--space has {name} with /{each.points}: points are for --sampler=grid; leave them out")
        result.append(each._replace(name=name, whole=kind is int))
    if len({each.name for each in result}) < len(result):
        raise BadInput("--space has a flag under two names: expected each flag once")
    return result
