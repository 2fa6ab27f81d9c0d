"""Fields of a table that should be numbers and are not: what they look like, and what to do about them."""

import math
import re

import numpy as np

from zoo.data.datasets import class_labels

_LARGEST = float(np.finfo(np.float32).max)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(([,' \u00a0\u202f]\d{3})+(\.\d+)?|(\.\d{3}){2,}(,\d+)?|\.\d{3},\d+)")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2}.*)?")
_BOOLEANS = frozenset(("true", "false", "yes", "no", "t", "f", "y", "n", "on", "off"))


def not_a_number(text: str) -> str:
    """What is wrong with a field that is no finite number, and what to do about it."""
    try:
        value = float(text)
    except ValueError:
        return f"{text!r:.60} is not a number{_mend(text)}" if text else f"is empty{_mend(text)}"
    if abs(value) <= _LARGEST:
        return f"{text!r:.60} has a decimal point; expected a comma, as --decimal says"
    if math.isnan(value):
        return f"{text!r} is not a finite number{_mend(text)}"
    return f"{text!r} {'is too large for float32' if math.isfinite(value) else 'is not a finite number'}"


def _mend(text: str) -> str:
    """What to do about a field that is not a number."""
    if class_labels.is_missing(text) or text.lower() in ("na", "n/a", "none", "?", "-"):
        return ": fill empty cells in (with the column's median, say) or leave such rows out"
    if _THOUSANDS.fullmatch(text):
        return ": it seems to have thousands separators; write numbers without them"
    if _DECIMAL_COMMA.fullmatch(text):
        return f": it seems to have a decimal comma; write {text.replace(',', '.')}"
    if text.endswith("%"):
        return f": write percentages as numbers, {text[:-1].strip()}"
    if text.lower() in _BOOLEANS:
        return ": write yes and no as 1 and 0"
    if _DATE.fullmatch(text):
        return ": it seems to be a date; write it as a number (days since a first one, or year, month and day)"
    if text[:1] in "$€£¥" or text[-1:] in "$€£¥":
        return ": write amounts without a currency"
    return ": write categories as numbers (a column of 0 and 1 for each is best)"
