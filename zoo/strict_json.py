"""JSON as RFC 8259 has it: Python writes NaN and Infinity too, which no other reader takes."""

import json
import math
from typing import Any


def dumps(value: Any, indent: int | None = None) -> str:
    """A value as JSON; a number that is not finite is written as null.

    Args:
        value: dictionaries, lists, texts, numbers, booleans and None.
        indent: blanks per level, or None for one line.
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
