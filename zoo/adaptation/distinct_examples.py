"""How many different examples a stream has: repetitions say nothing new of its distribution."""

from typing import Any

import numpy as np


def distinct(examples: Any) -> int:
    """The number of different examples, of an array `[examples, ...]` or a list of texts or pairs."""
    return len({each.tobytes() if isinstance(each, np.ndarray) else each for each in examples})
