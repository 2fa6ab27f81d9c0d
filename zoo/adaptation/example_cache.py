"""Values of a stream's recent examples, of which only those of new examples are computed."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

# New examples are computed so many at a time while they are few: predictors pad to this number, and beyond it to 256.
_PART, _FEW = 16, 64
# Places at which the first of the recent examples is looked for among those before.
_TRIED = 3


class ExampleCache:
    """Remembers the values of the recent examples that it was asked for last.

    Args:
        compute: from examples to values `[examples, ...]`, each of which depends on its example only.
    """

    def __init__(self, compute: Callable[[Any], np.ndarray]):
        self._compute, self._examples, self._values = compute, None, None

    def __call__(self, examples: Any) -> np.ndarray:
        """Values `[examples, ...]` of one example or more, which may begin with the last ones of the call before."""
        kept = self._overlap(examples)
        new = examples[kept:]
        size = _PART if len(new) <= _FEW else len(new)
        parts = [self._compute(new[first : first + size]) for first in range(0, len(new), size)]
        if kept:
            parts.insert(0, self._values[len(self._values) - kept :])
        # A copy: a caller may fill the same array again.
        self._examples, self._values = copy.copy(examples), np.concatenate(parts)
        return self._values

    def _overlap(self, examples: Any) -> int:
        """How many of the first examples are the last of the call before."""
        before = self._examples
        if before is None:
            return 0
        for first in _places(examples[0], before)[:_TRIED]:
            length = len(before) - first
            if length <= len(examples) and _are_equal(before[first:], examples[:length]):
                return length
        return 0


def _places(example: Any, examples: Any) -> list[int]:
    """Indices of the examples that are equal to this one."""
    if isinstance(examples, np.ndarray):
        return np.flatnonzero((examples == example).reshape(len(examples), -1).all(axis=1)).tolist()
    return [number for number, other in enumerate(examples) if other == example]


def _are_equal(one: Any, other: Any) -> bool:
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other
