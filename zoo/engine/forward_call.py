"""Calls an experiment's `forward`; a mistake in it becomes one line with the experiment's file and line."""

import os
import re
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import tensorflow as tf

from zoo.errors import BadInput, ZooError, nearest
from zoo.terms import Output, Term

_LONGEST = 160
_ENGINE = os.path.dirname(__file__)
_INSTALLED = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python[^/\\]*)[/\\]|^<")
_STYLES = re.compile("\x1b\\[[0-9;]*m")


def call(forward, model: keras.Model, batch: Mapping[str, tf.Tensor], training: bool) -> dict[str, Term | Output]:
    """The terms and outputs of a slice of the batch.

    Raises:
        BadInput: `forward` raised an error, or returned something else than a dictionary of terms and outputs; names
            the file and the line.
    """
    columns = _Columns(batch)
    try:
        results = forward(model, columns, training)
    except ZooError as error:
        # Keras puts the arguments of the layer around it.
        line = _first_line(error)
        if line == str(error):
            raise
        raise type(error)(line) from error
    except Exception as error:
        place, is_users = _innermost(error)
        if not is_users:
            # A fault of the zoo's own is not the experiment's: it is reported as one.
            raise
        raise BadInput(f"forward{place}: {_explained(error, columns)}") from error
    _check(results, forward)
    return results


def place(frames: Iterable[traceback.FrameSummary]) -> str:
    """`" (file, line n)"` of the innermost frame outside of installed packages and of the engine; may be empty."""
    own = [each for each in frames if not _is_foreign(each.filename)]
    return "".join(_at(each.filename, each.lineno) for each in own[-1:])


def defined(function) -> str:
    """`" (file, line n)"` of a function's definition; empty where Python does not know it."""
    while hasattr(function, "func"):
        function = function.func
    code = getattr(function, "__code__", None)
    return "" if code is None else _at(code.co_filename, code.co_firstlineno)


class _Columns(dict):
    """The columns of a batch; remembers which name was asked for in vain."""

    missing: str | None = None

    def __missing__(self, name):
        self.missing = name
        raise KeyError(name)


def _check(results, forward) -> None:
    expected = "expected a dictionary of zoo.Term by name, one of them for each loss of the objective"
    if not isinstance(results, Mapping):
        shown = f"a tensor of shape {results.shape}" if tf.is_tensor(results) else type(results).__name__
        raise BadInput(f"forward{defined(forward)} returned {shown}: {expected}")
    for name, result in results.items():
        if not isinstance(name, str) or not name:
            raise BadInput(f"forward{defined(forward)} returned an entry named {name!r}: expected a name")
        if isinstance(result, keras.metrics.Metric):
            raise BadInput(
                f"forward{defined(forward)} returned the Keras metric {result.name!r} as {name!r}: it adds up outside "
                "of the engine; return the values of the examples as a zoo.Term"
            )
        if not isinstance(result, (Term, Output)):
            shown = f"a tensor of shape {result.shape}" if tf.is_tensor(result) else type(result).__name__
            raise BadInput(
                f"forward{defined(forward)} returned {shown} as {name!r}: expected zoo.Term(values, weights), with one "
                "value for each example"
            )


def _explained(error: Exception, columns: _Columns) -> str:
    """An error of a trace in words that say what to write instead."""
    text = _first_line(error)
    if columns.missing is not None and isinstance(error, KeyError):
        return f"there is no column {columns.missing!r} in the batch: {nearest(str(columns.missing), list(columns))}"
    if "as a Python `bool`" in text or isinstance(error, tf.errors.OperatorNotAllowedInGraphError):
        return (
            "Python's if, while, for, and, or need a value, which a tensor has only when the step runs; use tf.where, "
            "tf.cond or tf.while_loop"
        )
    if "numpy" in text and isinstance(error, (AttributeError, NotImplementedError)):
        return "NumPy needs a value, which a tensor has only when the step runs; use TensorFlow's or Keras' operations"
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{type(error).__name__}: {short}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in _STYLES.sub("", str(error)).splitlines() if line.strip()]
    # Keras puts a line of its own above the cause, and the arguments below it.
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):
        lines = lines[1:]
    return lines[0] if lines else type(error).__name__


def _innermost(error: Exception) -> tuple[str, bool]:
    """Place of the innermost line outside of installed packages, and whether it is outside of the zoo, too."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not _is_foreign(each.filename)]
    if not frames:
        return "", False
    package = os.path.dirname(_ENGINE)
    return place(frames[-1:]), not frames[-1].filename.startswith(package + os.sep)


def _is_foreign(filename: str) -> bool:
    return bool(_INSTALLED.search(filename)) or filename.startswith(_ENGINE + os.sep)


def _at(filename: str, line: int | None) -> str:
    path = Path(filename)
    here = Path.cwd()
    return f" ({path.relative_to(here) if path.is_relative_to(here) else path}, line {line})"
