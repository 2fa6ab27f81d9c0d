"""Worker of a race: runs in a contender's process and environment, and needs no package but the contender's.

    python -m benchmarks.harness.worker MODULE FUNCTION '{"batch_size": 32, ...}' SECONDS

Makes a `Training` by `MODULE.FUNCTION(**options)` and warms it up until a call lasts about SECONDS; after that, each
line `run` on the standard input runs one chunk of about that length. Answers are lines of JSON.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

_PACKAGES = ("zoo-keras", "tensorflow", "keras", "tf-models-official", "torch", "jax", "jaxlib", "optax", "numpy")

# Warm-up chunks, which do not count: early calls may still compile (a short last batch) or wait for threads to start.
_WARM_UP = 3
# Fraction of a chunk that runs before it, not counted: an idle process loses its caches and may lose pages of memory.
_WAKE_UP = 0.2


class Metrics(NamedTuple):
    """Means over the steps of a call."""

    loss: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Training:
    """A contender, ready to run.

    Attributes:
        first: runs the fewest steps possible, with all tracing and compilation before.
        train: runs a number of steps, a multiple of `quantum`, and returns when they are done.
        quantum: steps that can only run together.
    """

    first: Callable[[], Metrics]
    train: Callable[[int], Metrics]
    quantum: int = 1


def serve(module: str, function: str, options: dict[str, Any], seconds: float, answers: TextIO) -> None:
    """Answers the parent until it closes the pipe."""

    def answer(**message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        training = getattr(importlib.import_module(module), function)(**options)
    except ModuleNotFoundError as error:
        return answer(missing=error.name)
    training.first()
    answer(first_step_at=time.time())
    steps = _calibrated(training, seconds)
    answer(versions=versions())
    for _ in sys.stdin:
        training.train(_whole(steps * _WAKE_UP, training.quantum))
        answer(started=True)
        chunk = _chunk(training, steps)
        answer(**chunk)
        # If the machine was busy in the warm-up, all chunks would be too short.
        steps = _whole(steps * min(max(seconds / chunk["seconds"], 0.25), 4.0), training.quantum)


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that a figure may depend on."""
    by_package = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            by_package[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return by_package


def _calibrated(training: Training, seconds: float) -> int:
    """The number of steps that last about `seconds` after warm-up."""
    steps, total = training.quantum, 0.0
    while True:
        started = time.perf_counter()
        training.train(steps)
        lasted = time.perf_counter() - started
        total += lasted
        target = _whole(steps * min(seconds / lasted, 10.0), training.quantum)
        if total >= _WARM_UP * seconds and target <= 2 * steps:
            return target
        steps = target


def _whole(steps: float, quantum: int) -> int:
    return max(round(steps / quantum), 1) * quantum


def _chunk(training: Training, steps: int) -> dict[str, float]:
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    started, cpu = time.perf_counter(), time.process_time()
    metrics = training.train(steps)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "steps": steps,
        "seconds": seconds,
        "ms_per_step": seconds / steps * 1e3,
        "cpu_seconds": cpu,
        "peak_mb": _peak_mb(),
        # Page faults that wait for the disk: pages that the kernel took away from an idle process.
        "major_faults": resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults,
        **metrics._asdict(),
    }


def _peak_mb() -> float:
    """The most memory this process has had in RAM so far."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    # Whatever a framework prints goes to stderr: the pipe is for the answers only.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, function, options, seconds = sys.argv[1:]
    serve(module, function, json.loads(options), float(seconds), answers)


if __name__ == "__main__":
    # Imported by its own name, so that contenders share this module's classes.
    importlib.import_module("benchmarks.harness.worker").main()
